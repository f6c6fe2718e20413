"""Loading of a file's tensors: counted, refused if the encoder differs, classifier rows kept by class name."""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from network_fixtures import PlainEncoder
from torch import Tensor, nn
from torch.nn import functional as F

import imageseg
from imageseg import InputError, Label, LabelSpace, Recipe
from imageseg.checkpoint import write_checkpoint
from imageseg.models import build_untrained
from imageseg.models.base import Network
from imageseg.weight_files import WeightFile
from imageseg.weights.build import InitialWeights, is_pretrained, read_initial_weights
from imageseg.weights.implied_arguments import encoder_of, with_implied_arguments
from imageseg.weights.input_normalization import InputNormalization, adapt_first_convolution
from imageseg.weights.match import load_matching
from imageseg.weights.sources import SOURCES
from imageseg.weights.sources.source import Source

SMALL = {"encoder": "resnet10t", "pretrained": False, "decoder_channels": (8, 8, 8, 8, 8)}
LogLines = Callable[[], list[str]]
NAMES = ("sky", "road", "tree")


@pytest.fixture
def theirs(randomize: Callable[[nn.Module], nn.Module]) -> dict[str, Tensor]:
    """A state dict of SMP's Unet with three classes."""
    network = smp.Unet("tu-resnet10t", encoder_weights=None, classes=3, decoder_channels=(8, 8, 8, 8, 8))
    return randomize(network).state_dict()


def _file(state: Any, folder: Path, **metadata: Any) -> str:
    torch.save({"state_dict": state, **metadata}, folder / "weights.pth")
    return str(folder / "weights.pth")


def _built(path: str, num_classes: int, **arguments: Any) -> Any:
    return imageseg.build_model("UNet", num_classes, weights=path, **{**SMALL, **arguments})


def test_all_tensors_are_loaded_and_counted(theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines) -> None:
    network = _built(_file(theirs, tmp_path), 3)
    (line,) = log_lines()
    assert line.endswith("weights.pth: SMP's Unet; 122 of 122 tensors loaded (encoder 70 of 70)")
    assert network.pretrained
    assert torch.equal(network.classifier.weight, theirs["segmentation_head.0.weight"])


def test_other_classes_reinitialize_the_classifier_and_keep_the_decoder(
    theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    network = _built(_file(theirs, tmp_path), 5)
    (line,) = log_lines()
    assert "120 of 122 tensors loaded" in line
    assert "classifier re-initialized for other classes" in line
    assert network.classifier.weight.shape == (5, 8, 3, 3)
    assert network.classifier.weight.std() < 0.02, "it starts near a uniform prediction"
    assert torch.equal(network.blocks[4][1][0].weight, theirs["decoder.blocks.4.conv2.0.weight"])


@pytest.mark.parametrize("ours", [("Tree", "car", "sky", "road", "person"), ("tree", "sky", "water")])
def test_classifier_rows_are_kept_by_class_name(
    ours: tuple[str, ...], theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    path = _file(theirs, tmp_path, meta={"CLASSES": NAMES})
    network = _built(path, len(ours), class_names=list(ours))
    (line,) = log_lines()
    common = [name.lower() for name in ours if name.lower() in NAMES]
    assert f"{len(common)} classes kept by name" in line
    for row, name in enumerate(ours):
        kept = network.classifier.weight[row], network.classifier.bias[row]
        if name.lower() in NAMES:
            there = NAMES.index(name.lower())
            expected = theirs["segmentation_head.0.weight"][there], theirs["segmentation_head.0.bias"][there]
            assert all(torch.equal(one, other) for one, other in zip(kept, expected, strict=True))
        else:
            assert kept[1] == 0


def test_the_same_classes_keep_the_complete_classifier(
    theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    path = _file(theirs, tmp_path, meta={"CLASSES": NAMES})
    for names in (NAMES, None):
        network = _built(path, 3, class_names=names)
        (line,) = log_lines()
        assert "122 of 122" in line
        assert torch.equal(network.classifier.weight, theirs["segmentation_head.0.weight"])


@pytest.mark.parametrize(("classes", "carried"), [(4, True), (3, False)])
def test_class_names_of_published_weights_are_assumed_only_for_other_numbers_of_classes(
    classes: int, carried: bool
) -> None:
    state = build_untrained("UNet", 3, SMALL).state_dict()
    published = Source("somebody's", "UNet", (), (("", ""),), class_names=NAMES)
    names = ["road", "house", "sky", "river"][:classes]
    weights = InitialWeights(WeightFile("file.pth", state), published, SMALL)
    network, loaded = weights.load(classes, class_names=names)
    assert loaded.classes_kept == (2 if carried else 0)
    assert (loaded.loaded == loaded.total) == (not carried)
    assert torch.equal(network.classifier.weight[0], state["classifier.weight"][1 if carried else 0])


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto"])
def test_another_encoder_is_refused(encoder: str, theirs: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tensors of the encoder fit.*--network\.encoder") as refused:
        _built(_file(theirs, tmp_path), 3, encoder=encoder)
    assert "\n" not in refused.value.line()


def test_a_smaller_encoder_of_the_family_is_refused_though_it_could_be_filled(tmp_path: Path) -> None:
    state = smp.Unet("resnet34", encoder_weights=None, classes=3).state_dict()
    with pytest.raises(
        InputError, match="100 of 100 tensors of the encoder fit, and 80 encoder tensors of the file are unused"
    ):
        _built(_file(state, tmp_path), 3, encoder="resnet18", decoder_channels=(256, 128, 64, 32, 16))


def test_five_percent_of_the_encoder_may_be_missing(
    theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    names = [name for name in theirs if name.startswith("encoder.") and not name.endswith("num_batches_tracked")]
    kept = {name: value for name, value in theirs.items() if name not in names[:3]}
    _built(_file(kept, tmp_path), 3)
    assert "3 not in the file (encoder." in log_lines()[0]
    kept = {name: value for name, value in theirs.items() if name not in names[:4]}
    with pytest.raises(InputError, match="only 66 of 70"):
        _built(_file(kept, tmp_path), 3)


def test_tensors_that_do_not_fit_are_named(theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines) -> None:
    theirs["criterion.weight"] = torch.ones(3)
    _built(_file(theirs, tmp_path), 3, decoder_channels=(8, 8, 8, 8, 16))
    (line,) = log_lines()
    assert "of another shape (blocks.4.0.0.weight, ...)" in line
    assert line.endswith("1 in the file unused (criterion.weight)")


def test_another_network_is_refused_by_name(theirs: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SMP's Unet, which is UNet here and not DeepLabv3_plus; pass --model UNet"):
        imageseg.build_model("DeepLabv3_plus", 3, weights=_file(theirs, tmp_path))


def test_image_classifiers_are_refused_with_the_flag_for_encoders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without a decode head .*--network\.encoder_weights"):
        _built(_file({"conv1.weight": torch.ones(3), "fc.bias": torch.ones(3)}, tmp_path), 3)


def test_unknown_tensor_names_are_refused_with_the_known_sources(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"tensor names \(body\.weight, \.\.\.\) match no known source: .*torchvision's DeepLabV3"
    ):
        _built(_file({"body.weight": torch.ones(3)}, tmp_path), 3)


@pytest.mark.parametrize("name", [source.name for source in SOURCES if source.refusal])
def test_networks_that_cannot_be_held_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    keys = {
        "SMP's PSPNet": ("encoder.conv1.weight", "decoder.psp.blocks.0.pool.1.0.weight"),
        "mmsegmentation's PSPNet on ResNet-18 or 34": (
            "backbone.layer1.0.conv1.weight",
            "decode_head.psp_modules.0.1.conv.weight",
        ),
        "mmsegmentation's DeepLabV3 or V3+": ("backbone.conv1.weight", "decode_head.aspp_modules.0.conv.weight"),
        "mmsegmentation's SegFormer head": ("backbone.layers.0.weight", "decode_head.fusion_conv.conv.weight"),
        "mmsegmentation's FCN": ("backbone.conv1.weight", "decode_head.conv_cat.conv.weight"),
    }[name]
    with pytest.raises(InputError, match=rf"{re.escape(name)}: its? "):
        _built(_file({key: torch.ones(1) for key in keys}, tmp_path), 3)


def test_the_refusal_of_mmsegmentations_fcn_states_what_its_files_lack(tmp_path: Path) -> None:
    keys = ("backbone.conv1.weight", "decode_head.conv_cat.conv.weight")
    with pytest.raises(InputError, match=r"do not tell whether the head dilates \(FCN-D6, our variant 'd6'\) or not"):
        _built(_file({key: torch.ones(1) for key in keys}, tmp_path), 3)


def test_a_state_dict_of_imageseg_is_recognized(tmp_path: Path, log_lines: LogLines) -> None:
    network = imageseg.build_model("DeepLabv3_plus", 3, encoder="resnet10t", pretrained=False, decoder_convs=1)
    path = _file(network.state_dict(), tmp_path)
    again = imageseg.build_model("DeepLabv3_plus", 3, weights=path, encoder="resnet10t", decoder_convs=1)
    assert "a state dict of imageseg" in log_lines()[0]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_required_arguments_replace_defaults_and_are_reported() -> None:
    source = Source("somebody's", "DeepLabv3_plus", (), (), required_arguments={"decoder_convs": 1, "rates": (2, 4)})
    completed, flags = _completed(source, {})
    assert completed["decoder_convs"] == 1
    assert completed["rates"] == [2, 4]
    assert flags == ["--network.decoder_convs 1", "--network.rates '[2, 4]'"]
    assert _completed(source, completed)[1] == [], "nothing is added a second time"
    with pytest.raises(InputError, match=r"require --network\.decoder_convs 1 \(found 2\); leave out these arguments"):
        _completed(source, {"decoder_convs": 2})


def test_a_given_default_contradicts_as_any_other_value() -> None:
    source = Source(
        "somebody's",
        "DeepLabv3_plus",
        (),
        (),
        required_arguments={"decoder_convs": 1},
        training_arguments={"output_stride": 8},
    )
    with pytest.raises(InputError, match=r"require --network\.decoder_convs 1 \(found 2\)"):
        _completed(source, {"decoder_convs": 2})
    assert _completed(source, {"output_stride": 16})[0]["output_stride"] == 16
    assert _completed(source, {"decoder_convs": None})[0]["decoder_convs"] == 1, "None equals not given"


def test_given_arguments_override_training_arguments() -> None:
    source = Source("somebody's", "DeepLabv3_plus", (), (), training_arguments={"output_stride": 8, "dropout": 0.5})
    completed, flags = _completed(source, {"dropout": 0.3})
    assert completed == {"dropout": 0.3, "output_stride": 8}
    assert flags == ["--network.output_stride 8"]


def _completed(source: Source, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return with_implied_arguments(arguments, WeightFile("file.pth", {"decoder.weight": torch.ones(1)}), source)


def test_initial_weights_complete_the_given_arguments(tmp_path: Path, log_lines: LogLines) -> None:
    state = smp.Unet("resnet34", encoder_weights=None, classes=3).state_dict()
    path = _file(state, tmp_path)
    weights = read_initial_weights("unet", {"weights": path})
    assert weights is not None
    assert weights.arguments == {"encoder": "resnet34", "weights": path}
    assert "sets --network.encoder resnet34" in log_lines()[0]
    assert read_initial_weights("unet", {"encoder": "resnet50"}) is None


def _checkpoint(network: Any, arguments: dict[str, Any], folder: Path, *, model: str) -> str:
    labels = LabelSpace(tuple(Label(name, (index, 0, 0)) for index, name in enumerate(NAMES)))
    record = {"recipe": Recipe("VOC", model, network=arguments).to_dict(), "labels": labels.to_dict()}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    write_checkpoint({"imageseg": record, "state_dict": state}, folder / "ours.ckpt")
    return str(folder / "ours.ckpt")


TRAINED = {"encoder": "resnet10t", "channels": 16, "bins": [1, 2], "aux": False, "dropout": 0.1, "output_stride": 8}


@pytest.fixture
def ours(tmp_path: Path) -> str:
    """An imageseg checkpoint without an auxiliary head."""
    network = imageseg.build_model("PSPNet", 3, pretrained=False, **TRAINED)
    return _checkpoint(network, TRAINED, tmp_path, model="PSPNet")


def test_a_checkpoint_of_imageseg_sets_the_arguments_of_its_network(ours: str) -> None:
    weights = read_initial_weights("PSPNet", {"weights": ours})
    assert weights is not None
    takes = inspect.signature(imageseg.MODELS["PSPNet"]).parameters
    assert all(weights.arguments.get(name, takes[name].default) == value for name, value in TRAINED.items())
    with pytest.raises(InputError, match=r"require --network\.bins '\[1, 2\]' \(found '\[1, 3\]'\)"):
        imageseg.build_model("PSPNet", 3, weights=ours, bins=(1, 3))


def test_arguments_that_may_change_between_training_runs_can_be_given(ours: str, log_lines: LogLines) -> None:
    network = imageseg.build_model("PSPNet", 3, weights=ours, aux=True, dropout=0.7, output_stride=16)
    assert "7 not in the file (auxiliary.0.weight, ...)" in log_lines()[-1]
    assert network.auxiliary is not None
    assert network.encoder.strides[-1] == 16
    assert 0.7 in [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        ("PSPNet", {"pyramids": 3}, r"ours\.ckpt: holds a PSPNet with the argument 'pyramids', which this version"),
        ("PSPNet9", {}, r"ours\.ckpt: holds network 'PSPNet9', which this version"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(
    model: str, argument: dict[str, Any], message: str, tmp_path: Path
) -> None:
    network = build_untrained("UNetClassic", 3, {"channels": (4, 8)})
    path = _checkpoint(network, argument, tmp_path, model=model)
    with pytest.raises(InputError, match=message) as refused:
        imageseg.build_model("PSPNet", 3, weights=path)
    assert "\n" not in refused.value.line()


@pytest.mark.parametrize(
    "encoder",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnet50s",
        "resnet50c",
        "resnet50d",
        "wide_resnet50_2",
        *("vgg11", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19_bn"),
    ],
)
def test_an_encoder_is_recognized_by_its_shapes(encoder: str) -> None:
    with torch.device("meta"):
        state = imageseg.build_model("UNet", 2, encoder=encoder, pretrained=False).state_dict()
    assert encoder_of(state, Source("ours", "UNet", (), (("", ""),))) == encoder


@pytest.mark.parametrize("encoder", ["resnet10t", "seresnet50", "convnext_atto", "resnet50t"])
def test_an_encoder_of_another_family_is_not_guessed(encoder: str) -> None:
    with torch.device("meta"):
        state = imageseg.build_model("UNet", 2, encoder=encoder, pretrained=False).state_dict()
    assert encoder_of(state, Source("ours", "UNet", (), (("", ""),))) is None


class _Small(Network):
    """Two convolutions, whose names are not in the order of the layers."""

    def __init__(self, *, has_bias: bool) -> None:
        layers = {
            "z": nn.Conv2d(3, 4, 3, bias=has_bias),
            **({} if has_bias else {"y": nn.BatchNorm2d(4)}),
            "b": nn.Conv2d(4, 3, 3, bias=has_bias),
            "a": nn.BatchNorm2d(3),
        }
        super().__init__(2, PlainEncoder(OrderedDict(layers)))

    def coarse_logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.encoder(images)
        return logits


@pytest.mark.parametrize("by_alphabet", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_another_input_normalization_is_folded_into_the_first_convolution(
    order: str, has_bias: bool, by_alphabet: bool, randomize: Callable[[nn.Module], nn.Module]
) -> None:
    """Compared with the network on images with their normalization; safetensors sorts names alphabetically."""
    network = _Small(has_bias=has_bias)
    randomize(network).double().eval()
    normalization = InputNormalization(order, mean=(104.0, 117.0, 123.0), std=(1.0, 2.0, 3.0))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randint(0, 256, (1, 3, 9, 11)).double()
    swapped = images if order == "rgb" else images.flip(1)
    their_view = (swapped - torch.tensor(normalization.mean).view(1, 3, 1, 1)) / torch.tensor(normalization.std).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        expected, unchanged = network.coarse_logits(their_view), network.coarse_logits(network.normalize(images))
        names = sorted(state) if by_alphabet else list(state)
        network.load_state_dict(adapt_first_convolution({name: state[name] for name in names}, network, normalization))
        assert torch.allclose(network.coarse_logits(network.normalize(images)), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(unchanged, expected, rtol=1e-2, atol=1.0)


def test_input_normalization_of_one_channel_is_folded_too() -> None:
    network = build_untrained("UNetClassic", 2, {"channels": (4, 8), "in_channels": 1}).double()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    normalization = InputNormalization("bgr", mean=(0, 0, 0), std=(255, 255, 255))
    images = torch.rand(1, 1, 9, 11).double() * 255
    ours = adapt_first_convolution(state, network, normalization)

    def after(state: dict[str, Tensor], view: Tensor) -> Tensor:
        maps = F.conv2d(view, state["encoder.0.0.weight"])
        return maps - state["encoder.0.1.running_mean"].view(1, -1, 1, 1)

    assert torch.allclose(after(ours, network.normalize(images)), after(state, images / 255), atol=1e-6)
    three = build_untrained("UNetClassic", 2, {"channels": (4, 8)})
    assert adapt_first_convolution(state, three, normalization) is state, "another shape, which the caller reports"


def test_another_epsilon_is_folded_into_the_variances() -> None:
    network = build_untrained("UNet", 2, SMALL)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    file = WeightFile("file.pth", state)
    load_matching(network, file, Source("ours", "UNet", (), (("", ""),), encoder_epsilon=1e-3), extra_rows={})
    found = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            offset = 1e-3 - 1e-5 if name.startswith("encoder.") else 0
            assert torch.allclose(found[name], value + offset, atol=1e-7), name


def test_both_files_at_once_are_refused() -> None:
    with pytest.raises(InputError, match=r"--network\.weights holds an encoder too"):
        imageseg.build_model("UNet", 2, weights="a", encoder_weights="b")


def test_pretrained_weights_are_recognized_by_the_arguments() -> None:
    assert is_pretrained({"pretrained": True})
    assert is_pretrained({"pretrained": False, "weights": "file"})
    assert is_pretrained({"encoder_weights": "file"})
    assert not is_pretrained({"pretrained": False, "weights": None})
    assert not is_pretrained({"channels": 3})

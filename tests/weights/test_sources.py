"""Networks of other libraries loaded from their files: equal logits, and different ones without the implied arguments."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

import imageseg
from imageseg.registry import parameters_of
from imageseg.weight_files import read_weights
from imageseg.weights.build import InitialWeights, initial_weights, read_initial_weights
from imageseg.weights.recognize import recognize
from imageseg.weights.sources import SOURCES

Randomize = Callable[[nn.Module], nn.Module]
LogLines = Callable[[], list[str]]
CLASSES = 7


@dataclass(frozen=True)
class Case:
    """A network of another library, and the arguments that would be wrong if only its tensors were copied."""

    model: str
    build: Callable[[], nn.Module]
    wrong: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of our network that the file does not state."""
    tolerance: float = 1e-10


def _smp(kind: str, encoder: str, **arguments: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(smp, kind)(encoder, encoder_weights=None, classes=CLASSES, **arguments)


def _torchvision(kind: str, **arguments: Any) -> Callable[[], nn.Module]:
    make = getattr(torchvision.models.segmentation, kind)
    return lambda: make(weights=None, weights_backbone=None, num_classes=CLASSES, **arguments)


FULL, ALIGNED = {"first_block": "full"}, {"align_corners": True}
CONTRACT, NOT_ALIGNED = {"first_block": "contract"}, {"align_corners": False}
CASES = {
    "SMP's Unet": Case("UNet", _smp("Unet", "resnet18")),
    "SMP's Unet on timm": Case("UNet", _smp("Unet", "tu-resnet10t"), arguments={"encoder": "resnet10t"}),
    "SMP's Unet with scSE": Case("UNet", _smp("Unet", "resnet18", decoder_attention_type="scse")),
    "SMP's DeepLabV3Plus": Case("DeepLabv3_plus", _smp("DeepLabV3Plus", "resnet50"), CONTRACT),
    "SMP's DeepLabV3Plus, aligned": Case("DeepLabv3_plus", _smp("DeepLabV3Plus", "resnet18"), NOT_ALIGNED),
    "SMP's DeepLabV3Plus, rates": Case("DeepLabv3_plus", _smp("DeepLabV3Plus", "resnet18"), {"rates": (6, 12, 18)}),
    "SMP's DeepLabV3Plus on timm": Case("DeepLabv3_plus", _smp("DeepLabV3Plus", "tu-resnet18"), FULL),
    "SMP's DeepLabV3": Case("DeepLabV3", _smp("DeepLabV3", "resnet50"), CONTRACT),
    "SMP's DeepLabV3, aligned": Case("DeepLabV3", _smp("DeepLabV3", "resnet18"), NOT_ALIGNED),
    "SMP's DeepLabV3 on timm": Case("DeepLabV3", _smp("DeepLabV3", "tu-resnet18"), FULL),
    "SMP's FPN": Case("FPN", _smp("FPN", "resnet18"), NOT_ALIGNED),
    "SMP's UPerNet": Case("UPerNet", _smp("UPerNet", "resnet18"), NOT_ALIGNED, {"aux": False}),
    "SMP's Segformer": Case("SegFormer", _smp("Segformer", "mit_b0"), NOT_ALIGNED),
    "torchvision's DeepLabV3": Case(
        "DeepLabV3", _torchvision("deeplabv3_resnet50", aux_loss=True), FULL, {"aux": True}
    ),
    "torchvision's DeepLabV3, aligned": Case("DeepLabV3", _torchvision("deeplabv3_resnet50"), ALIGNED),
    "torchvision's DeepLabV3 on MobileNetV3": Case(
        # Its epsilon is folded into variances of single precision.
        "DeepLabV3",
        _torchvision("deeplabv3_mobilenet_v3_large"),
        CONTRACT,
        tolerance=1e-6,
    ),
    "torchvision's FCN": Case("FCN", _torchvision("fcn_resnet50", aux_loss=True), FULL, {"aux": True}),
    "torchvision's LRASPP": Case("LRASPP", _torchvision("lraspp_mobilenet_v3_large"), {"norm_epsilon": None}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def theirs(case: Case, randomize: Randomize) -> nn.Module:
    network = randomize(case.build()).eval()
    for layer in network.modules():  # which SMP initializes with zero
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.1)
    return network


@pytest.fixture
def path(theirs: nn.Module, tmp_path: Path) -> str:
    return _saved(theirs.state_dict(), tmp_path / "weights.pth")


def _saved(state: Mapping[str, Tensor], path: Path) -> str:
    if path.suffix == ".safetensors":  # which sorts names alphabetically
        safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(dict(state), path)
    return str(path)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    found = network(images)
    return found["out"] if isinstance(found, dict) else found  # type: ignore[no-any-return]


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the error of the logits relative to their variation over the image."""
    return float((found - expected).norm() / (expected - expected.mean(dim=(2, 3), keepdim=True)).norm())


def test_logits_equal_theirs(case: Case, theirs: nn.Module, path: str, log_lines: LogLines) -> None:
    weights = read_initial_weights(case.model, {**case.arguments, "weights": path})
    assert weights is not None
    ours = weights.build(CLASSES).double().eval()
    lines = log_lines()
    theirs.double()
    images = torch.randint(0, 256, (1, 3, 96, 128), generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        expected = _logits(theirs, ours.normalize(images))
        assert _relative(ours(images), expected) < case.tolerance
    assert ours.pretrained
    (loaded,) = [line for line in lines if "loaded" in line]
    whole = re.search(r"(\d+) of (\d+) tensors loaded", loaded)
    assert whole is not None
    assert whole[1] == whole[2], loaded

    if case.wrong:
        assert any(f"--network.{name} " in line for name in case.wrong for line in lines) or all(
            weights.arguments.get(name) != value for name, value in case.wrong.items()
        )
        wrong, _ = replace(weights, arguments={**weights.arguments, **case.wrong}).load(CLASSES)
        with torch.no_grad():
            assert _relative(wrong.double().eval()(images), expected) > 1e-3, "another network went unnoticed"


def test_the_order_of_the_tensors_does_not_matter(case: Case, theirs: nn.Module, tmp_path: Path) -> None:
    states = []
    for name in ("weights.pth", "weights.safetensors"):
        path = _saved(theirs.state_dict(), tmp_path / name)
        ours = imageseg.build_model(case.model, CLASSES, weights=path, **case.arguments)
        states.append(ours.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.arguments.get("aux")], indirect=True)
def test_auxiliary_logits_equal_torchvisions(case: Case, theirs: nn.Module, path: str) -> None:
    ours = imageseg.build_model(case.model, CLASSES, weights=path, **case.arguments).eval()
    images = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(ours.normalize(images))["aux"]
        _, (found,) = ours.forward_with_aux(images)
    assert _relative(found, expected) < 1e-5


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_implied_arguments_are_arguments_of_the_network(source: Any) -> None:
    implied = [source.required_arguments, source.training_arguments, *(more for _, more in source.required_if)]
    assert {name for arguments in implied for name in arguments} - set(_takes(source.model)) == set()
    assert source.refusal or source.rules


def _value(name: str) -> float:
    """Return a value that differs for every name."""
    return zlib.crc32(name.encode()) / 2**32 + 0.1


def _in_their_names(model: str, arguments: Mapping[str, Any], their_names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return a state dict of ours with the names of a project that is not installed, by independent rules."""
    with torch.device("meta"):
        network = imageseg.build_model(model, CLASSES, **arguments)
    renamed = {}
    for name, value in network.state_dict().items():
        for ours, theirs in their_names.items():
            if re.match(ours, name):
                renamed[re.sub(f"^{ours}", theirs, name)] = torch.full(value.shape, _value(name))
                break
    return renamed


RESNET = {r"encoder\.network\.": "backbone."}
DEEP = {
    r"encoder\.network\.bn1\.": "backbone.stem.7.",
    r"encoder\.network\.conv1\.": "backbone.stem.",
    **RESNET,
}


def _conv_module(ours: str, theirs: str) -> dict[str, str]:
    return {rf"{ours}\.0\.": f"{theirs}.conv.", rf"{ours}\.1\.": f"{theirs}.bn."}


MMSEG_PPM = _conv_module(r"pyramid\.branches\.(\d)", r"decode_head.psp_modules.\1.1") | _conv_module(
    "bottleneck", "decode_head.bottleneck"
)
MMSEG_ENDS = {
    r"classifier\.": "decode_head.conv_seg.",
    r"auxiliary\.4\.": "auxiliary_head.conv_seg.",
    **_conv_module("auxiliary", "auxiliary_head.convs.0"),
}
UNINSTALLED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "VainF's DeepLabV3+": (
        {"encoder": "resnet50", "decoder_convs": 1},
        {
            **RESNET,
            r"reduce\.": "classifier.project.",
            r"aspp\.pooled\.0\.": "classifier.aspp.convs.4.1.",
            r"aspp\.pooled\.1\.": "classifier.aspp.convs.4.2.",
            r"aspp\.": "classifier.aspp.",
            r"decoder\.0\.": "classifier.classifier.",
            r"classifier\.": "classifier.classifier.3.",
        },
    ),
    "VainF's DeepLabV3": (
        {"encoder": "resnet50"},
        {
            **RESNET,
            r"aspp\.pooled\.0\.": "classifier.classifier.0.convs.4.1.",
            r"aspp\.pooled\.1\.": "classifier.classifier.0.convs.4.2.",
            r"aspp\.": "classifier.classifier.0.",
            r"conv\.0\.": "classifier.classifier.1.",
            r"conv\.1\.": "classifier.classifier.2.",
            r"classifier\.": "classifier.classifier.4.",
        },
    ),
    "hszhao/semseg's PSPNet": (
        {"encoder": "resnet50s", "first_block": "full", "align_corners": True},
        {
            r"encoder\.network\.bn1\.": "layer0.7.",
            r"encoder\.network\.conv1\.": "layer0.",
            r"encoder\.network\.": "",
            r"pyramid\.branches\.(\d)\.0\.": r"ppm.features.\1.1.",
            r"pyramid\.branches\.(\d)\.1\.": r"ppm.features.\1.2.",
            r"bottleneck\.": "cls.",
            r"classifier\.": "cls.4.",
            r"auxiliary\.": "aux.",
        },
    ),
    "mmsegmentation's PSPNet": ({"encoder": "resnet50c"}, {**DEEP, **MMSEG_PPM, **MMSEG_ENDS}),
    "mmsegmentation's UPerNet": (
        {"encoder": "resnet18"},
        {
            **RESNET,
            **MMSEG_PPM,
            **_conv_module(r"laterals\.(\d)", r"decode_head.lateral_convs.\1"),
            **_conv_module(r"smooth\.(\d)", r"decode_head.fpn_convs.\1"),
            **_conv_module("fuse", "decode_head.fpn_bottleneck"),
            **MMSEG_ENDS,
        },
    ),
    "mmsegmentation's semantic FPN": (
        {"encoder": "resnet18", "norm": "bn"},
        {
            **RESNET,
            r"laterals\.(\d)\.": r"neck.lateral_convs.\1.conv.",
            r"smoothing\.(\d)\.": r"neck.fpn_convs.\1.conv.",
            **{
                rf"branches\.(\d)\.{step}\.{number}\.": rf"decode_head.scale_heads.\1.{2 * step}.{layer}."
                for step in range(3)
                for number, layer in enumerate(("conv", "bn"))
            },
            **MMSEG_ENDS,
        },
    ),
    "NVlabs' SegFormer": (
        {"encoder": "mit_b0"},
        {
            r"encoder\.network\.patch_embed\.": "backbone.patch_embed1.",
            **{
                rf"encoder\.network\.stages_{k}\.{ours}": f"backbone.{theirs}"
                for k in range(4)
                for ours, theirs in (
                    (r"blocks\.(\d+)\.mlp\.dwconv\.", rf"block{k + 1}.\1.mlp.dwconv.dwconv."),
                    (r"blocks\.", f"block{k + 1}."),
                    (r"norm\.", f"norm{k + 1}."),
                    (r"downsample\.", f"patch_embed{k + 1}."),
                )
            },
            **{rf"linears\.{i}\.": f"decode_head.linear_c{i + 1}.proj." for i in range(4)},
            **_conv_module("fuse", "decode_head.linear_fuse"),
            r"classifier\.": "decode_head.linear_pred.",
        },
    ),
    "milesial's UNet": (
        {"channels": (8, 16, 32, 64, 128)},
        {
            r"encoder\.0\.": "inc.double_conv.",
            **{rf"encoder\.{i}\.": f"down{i}.maxpool_conv.1.double_conv." for i in range(1, 5)},
            **{rf"ups\.{i}\.": f"up{i + 1}.up." for i in range(4)},
            **{rf"decoder\.{i}\.": f"up{i + 1}.conv.double_conv." for i in range(4)},
            r"classifier\.": "outc.conv.",
        },
    ),
    "wkentaro's FCN": (
        {"encoder": "vgg16", "pad": "caffe", "channels": 16},
        {
            **{
                rf"encoder\.network\.features_{layer}\.": f"conv{name}."
                for layer, name in zip(
                    (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
                    ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"),
                    strict=True,
                )
            },
            r"head\.fc": "fc",
            r"head\.scores\.0\.": "score_fr.",
            r"head\.scores\.1\.": "score_pool4.",
            r"head\.scores\.2\.": "score_pool3.",
        },
    ),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", UNINSTALLED)
def test_every_tensor_of_projects_that_are_not_installed_is_loaded(name: str, suffix: str, tmp_path: Path) -> None:
    given, their_names = UNINSTALLED[name]
    model = next(source.model for source in SOURCES if source.name == name)
    arguments = {**given, **({"pretrained": False} if "pretrained" in _takes(model) else {})}
    state = _in_their_names(model, arguments, their_names)
    path = _saved({f"module.{key}": value for key, value in state.items()}, tmp_path / f"file{suffix}")
    file = read_weights(path)
    source = recognize(file)
    assert source.name == name
    network, loaded = InitialWeights(file, replace(source, input_normalization=None), arguments).load(CLASSES)
    assert loaded.loaded == loaded.total, loaded.summary()
    assert loaded.unused == ()
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, torch.full_like(value, _value(key))), key
    completed = initial_weights(file, source, given).arguments
    assert all(completed[key] == value or list(completed[key]) == list(value) for key, value in given.items())


def test_milesials_unet_keeps_its_input_normalization_in_either_format(tmp_path: Path) -> None:
    """The first convolution is found by the network's order of tensors, not by the file's."""
    given, their_names = UNINSTALLED["milesial's UNet"]
    torch.manual_seed(0)
    network = imageseg.build_model("UNetClassic", CLASSES, **given)
    state = {}
    for name, value in network.state_dict().items():
        ours, theirs = next((ours, theirs) for ours, theirs in their_names.items() if re.match(ours, name))
        state[re.sub(f"^{ours}", theirs, name)] = value
    images = torch.randint(0, 256, (1, 3, 48, 64)).float()
    with torch.no_grad():
        expected = network.eval().coarse_logits(images / 255)[..., 16:32, 16:48]
        for suffix in (".pth", ".safetensors"):
            path = _saved(state, tmp_path / f"file{suffix}")
            found = imageseg.build_model("UNetClassic", CLASSES, weights=path, **given).eval()
            assert _relative(found(images)[..., 16:32, 16:48], expected) < 0.05, "the border alone may differ"


def _takes(model: str) -> list[str]:
    return parameters_of(imageseg.MODELS[model])

"""From flags and YAML files to a recipe: precedence, defaults and rejected input."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from imageseg import InputError
from imageseg.cli.arguments import recipe_from
from imageseg.training.resolve import resolve


def parse(*arguments: str):
    return recipe_from(arguments, program="imageseg train")


def complete(*arguments: str):
    return resolve(parse(*arguments)).recipe


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("use: VOCModule\nmodel: UNet\ndata: {batch_size: 4, crop_size: [64, 96]}\ntask: {lr: 1e-3}\n")
    return path


def test_a_complete_recipe_has_the_defaults_of_the_signatures() -> None:
    recipe = complete("--use", "VOCModule", "--model", "DeepLabv3_plus")
    assert (recipe.use, recipe.model) == ("VOC", "DeepLabv3_plus")
    assert recipe.data["year"] == "2012"
    assert recipe.data["crop_size"] == [512, 512]
    assert recipe.network["output_stride"] == 16
    assert recipe.task["optimizer"] == "sgd"
    assert recipe.trainer["precision"] == "auto"


def test_a_flag_overrides_the_file_in_any_order(config: Path) -> None:
    for arguments in (("--task.lr", "0.5", "--config", str(config)), ("--config", str(config), "--task.lr=0.5")):
        recipe = parse(*arguments)
        assert recipe.task["lr"] == 0.5
        assert recipe.data["batch_size"] == 4
        assert recipe.data["crop_size"] == [64, 96]


def test_a_file_overrides_the_default(config: Path) -> None:
    assert parse("--config", str(config)).task["lr"] == 0.001


@pytest.mark.parametrize("year", ["2007", "'2007'"])
def test_a_year_may_be_a_number_or_text(year: str, tmp_path: Path) -> None:
    path = tmp_path / "year.yaml"
    path.write_text(f"use: VOC\nmodel: UNet\ndata: {{year: {year}}}")
    assert str(parse("--config", str(path)).data["year"]) == "2007"
    assert str(parse("--use", "VOC", "--model", "UNet", "--data.year", "2007").data["year"]) == "2007"


def test_steps_of_augmentation_come_from_a_file_or_a_flag_and_are_written_out_as_they_came(tmp_path: Path) -> None:
    path = tmp_path / "steps.yaml"
    path.write_text(
        "use: VOC\nmodel: UNet\ndata:\n  augment: [{RandomGamma: {gamma_limit: [80, 120], p: 0.3}}, ToGray, {Blur: }]\n"
    )
    steps = [{"RandomGamma": {"gamma_limit": [80, 120], "p": 0.3}}, "ToGray", {"Blur": None}]
    recipe = parse("--config", str(path))
    assert recipe.data["augment"] == steps
    path.write_text(recipe.to_text())
    assert parse("--config", str(path)).data["augment"] == steps
    flags = ("--use", "VOC", "--model", "UNet", "--data.augment")
    assert parse(*flags, "street").data["augment"] == "street"
    assert parse(*flags, "[{ToGray: {p: 0.1}}]").data["augment"] == [{"ToGray": {"p": 0.1}}]
    assert complete(*flags[:4]).data["augment"] is None


def test_a_later_file_overrides_an_earlier_one_argument_by_argument(config: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("data: {batch_size: 2}\n")
    recipe = parse("--config", str(config), "--config", str(more))
    assert (recipe.data["batch_size"], recipe.data["crop_size"]) == (2, [64, 96])


def test_names_on_the_command_line_override_the_file(config: Path) -> None:
    assert parse("--config", str(config), "--model", "deeplabv3+").model == "DeepLabv3_plus"


def test_printed_config_is_the_recipe(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--config", str(config), "--print_config", "--data.flip", "0.25", "--trainer.name", "1e5")
    assert stopped.value.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert yaml.safe_load(printed.read_text())["data"]["flip"] == 0.25
    assert parse("--config", str(printed)) == complete(
        "--config", str(config), "--data.flip", "0.25", "--trainer.name", "1e5"
    )


def test_help_with_both_names_lists_their_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--use", "VOC", "--model", "DeepLabv3_plus", "--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--data.year", "--data.crop_size", "--data.batch_size", "--network.output_stride", "--task.lr"):
        assert flag in text
    assert "--data.augment+" not in text
    assert "Coarsest stride of the encoder" in " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("use: VOC\nmodel: UNet\nnetwork: {output_stride: 8}", "no argument 'output_stride'"),
        ("use: VOC\nmodel: UNet\nnetwrk: {}", "unknown key 'netwrk' .did you mean 'network'"),
        ("use: VOC\nmodel: UNet\ndata: 5", "'data' must map argument names to values"),
        ("use: VOC\nuse: CamVid\nmodel: UNet", "the key 'use' is given twice"),
        ("use: VOC\nmodel: UNet\ntask: {lr: quick}", "task.lr must be a number, found 'quick'"),
        ("use: VOC\nmodel: UNet\ntask: {lr: null}", "task.lr must be a number, found null"),
        ("use: VOC\nmodel: UNet\ndata: {balance: }", "data.balance must be one of none, .*, found null"),
        ("use: VOC\nmodel: UNet\ntask: {loss: tversky}", "task.loss must be one of cross_entropy, .*, found 'tversky'"),
        ("use: !!python/object/apply:os.system ['true']\nmodel: UNet", "not valid YAML"),
        ("- use: VOC", "must map keys to values"),
    ],
)
def test_invalid_files_are_rejected(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        parse("--config", str(path))


def test_a_null_root_means_the_default_folder(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("use: VOC\nmodel: UNet\ndata: {root: }")
    assert parse("--config", str(path)).data["root"] is None


def test_a_class_path_in_a_recipe_is_text_and_imports_nothing(tmp_path: Path) -> None:
    path = tmp_path / "class_path.yaml"
    path.write_text("use: VOC\nmodel: UNet\ntask: {class_path: antigravity.X}")
    with pytest.raises(InputError, match="no argument 'class_path'"):
        parse("--config", str(path))
    import sys

    assert "antigravity" not in sys.modules


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Of SMP's FPN, which aligns corners and has no smoothing convolutions."""
    torch.save(smp.FPN("resnet18", encoder_weights=None, classes=2).state_dict(), tmp_path / "fpn.pth")
    return str(tmp_path / "fpn.pth")


FPN = ["--use", "ToyScenes", "--model", "FPN"]


def test_arguments_implied_by_weights_replace_defaults_in_print_config(
    weights: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = parse(*FPN, "--network.weights", weights, "--network.dropout", "0.1")
    assert given.network == {"weights": weights, "dropout": 0.1}, "defaults come after what the weights presume"
    assert given.task == {}
    with caplog.at_level("INFO", logger="imageseg"), pytest.raises(SystemExit):
        parse(*FPN, "--network.weights", weights, "--print_config")
    network = yaml.safe_load(capsys.readouterr().out)["network"]
    assert (network["encoder"], network["align_corners"], network["dropout"]) == ("resnet18", True, 0.2)
    assert network.keys() > {"in_channels", "pretrained", "encoder_weights"}
    assert "sets --network." in caplog.text


@pytest.mark.parametrize("by_file", [True, False])
def test_a_given_default_that_contradicts_weights_is_an_error(by_file: bool, weights: str, tmp_path: Path) -> None:
    arguments = [*FPN, "--network.weights", weights, "--print_config"]
    if by_file:
        (tmp_path / "a.yaml").write_text("network: {align_corners: false}")
        arguments += ["--config", str(tmp_path / "a.yaml")]
    else:
        arguments += ["--network.align_corners=false"]
    with pytest.raises(
        InputError, match=r"require --network\.align_corners true \(found false\); leave out these arguments"
    ):
        parse(*arguments)

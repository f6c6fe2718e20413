"""The README: short, its links lead somewhere, and its commands do what it says on tiny data."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes import write_fake
from PIL import Image

from imageseg import DATASETS, MODELS, LabelSpace, build_dataset
from imageseg.cli import main
from imageseg.images import image_size

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What makes a command of the README small enough for a test; its own flags stay.
QUICK = shlex.split(
    "--network.encoder resnet10t --network.pretrained false --data.crop_size '[32, 32]' --data.batch_size 2 "
    "--data.num_workers 0 --trainer.max_steps 2 --trainer.val_every 2 --trainer.progress_bar false --trainer.accelerator cpu"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


TRAIN = [command for command in commands() if "run.py" in command]
WITH_CHECKPOINT = [command for command in commands() if "CHECKPOINT" in command]
WITH_DATA = [command for command in commands() if command.startswith("imageseg ") and "CHECKPOINT" not in command]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the README's reader has it: the recipes, and tiny data where the commands look for them."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("VOC", "CamVid"):
        write_fake(name, tmp_path / "data" / name)
    toys = write_fake("ToyScenes", tmp_path / "data")
    (tmp_path / "data" / "ToyScenes").exists() or shutil.move(toys["root"], tmp_path / "data" / "ToyScenes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) < 150
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAIN)
def test_the_training_commands_train(command: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    arguments = words[words.index("run.py") + 1 :]
    if "ToyScenesModule" in arguments:
        arguments += ["--data.size", "[64, 64]", "--data.counts", "[2, 1, 1]"]
    assert main(["train", *arguments, *QUICK]) == 0
    assert re.fullmatch(r"(test|val) mIoU \d\.\d{3} \(\w+ on \w+\)", capsys.readouterr().out.splitlines()[-1])
    assert list(desk.glob("runs/*/checkpoints/best-*.ckpt"))


@pytest.mark.slow
def test_the_commands_and_the_code_for_a_checkpoint_use_it(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--use", "CamVid", "--model", "UNet", *QUICK]) == 0
    checkpoint = next(desk.glob("runs/*/checkpoints/last.ckpt"))
    picture = next((desk / "data" / "CamVid").rglob("*.jpg"))
    for folder in ("photos", "more"):
        (desk / folder).mkdir()
    shutil.copy(picture, desk / "photos" / "one.jpg")
    shutil.copy(picture, desk / "more" / "two.jpg")
    assert len(WITH_CHECKPOINT) == 2
    for command in WITH_CHECKPOINT:
        assert main(shlex.split(command.replace("CHECKPOINT", str(checkpoint)))[1:]) == 0, command
    assert len(list((desk / "out").glob("*_overlay.png"))) == 2
    shutil.copy(picture, desk / "street.jpg")
    shutil.copy(checkpoint, desk / "last.ckpt")
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert (desk / "street_overlay.png").exists()


@pytest.fixture
def shelf(desk: Path) -> Path:
    """The desk with more data, and predictions of CamVid's val and Cityscapes' test."""
    write_fake("COCO", desk / "data" / "COCO")
    shutil.rmtree(desk / "data" / "COCO" / "mask")
    cityscapes = build_dataset("Cityscapes", **write_fake("Cityscapes", desk / "data" / "Cityscapes"))
    camvid = build_dataset("CamVid", desk / "data" / "CamVid")
    for folder, pairs in (("out", camvid.pairs("val")), ("results", cityscapes.pairs("test"))):
        (desk / folder).mkdir()
        for pair in pairs:
            Image.fromarray(np.zeros(image_size(pair.image), np.uint8)).save(desk / folder / f"{pair.image.stem}.png")
    return desk


@pytest.mark.parametrize("command", WITH_DATA)
def test_the_commands_for_data_work(command: str, shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err


def test_every_dataset_is_in_the_table() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    assert [re.findall(r"`(\w+)`", row)[0] for row in rows if row.count("|") == 6] == list(DATASETS)


def test_every_network_is_named() -> None:
    assert all(f"`{name}`" in README for name in MODELS)


def test_the_label_table_is_one() -> None:
    (table,) = blocks("yaml")
    space = LabelSpace.from_dict(yaml.safe_load(table))
    assert space.names == ["road", "car"]
    assert space.ignored_values == (0, 255)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_runs_what_the_readme_says() -> None:
    """A dry run: the tests run inside ``make test``, and the demo is too long for one."""
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo", "test"], cwd=ROOT, capture_output=True, text=True
    )
    assert plan.returncode == 0, plan.stderr
    without_make = next(command for command in TRAIN if ".venv" in command)
    assert set(shlex.split(without_make)) <= set(shlex.split(plan.stdout))
    assert "-m pytest" in plan.stdout

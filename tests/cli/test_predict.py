"""imageseg predict: what it finds, what it writes, and what it skips."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imageseg import Label, LabelSpace, Predictor, Recipe, build_model
from imageseg.checkpoint import RUN_KEY, write_checkpoint
from imageseg.cli import main
from imageseg.cli.predict import find_images

LABELS = LabelSpace((Label("road", (128, 64, 128), (7,)), Label("sky", (70, 130, 180), (23,))))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = {"encoder": "resnet10t", "pretrained": False, "decoder_channels": (8, 8, 8, 8, 8)}
    network = build_model("UNet", len(LABELS), **arguments)
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    record = {"recipe": Recipe("Folder", "UNet", network=arguments).to_dict(), "labels": LABELS.to_dict()}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    write_checkpoint({"state_dict": state, RUN_KEY: record, "global_step": 3}, path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "deep/c.png"):
        Image.fromarray(generator.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_files_folders_and_patterns_are_found_once(pictures: Path) -> None:
    found = find_images([str(pictures / "b.png"), str(pictures), str(pictures / "*.jpg")])
    assert [path.name for path in found] == ["b.png", "a.jpg", "c.png"]


def test_writes_class_maps_overlays_and_confidence(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(pictures), "-o", str(out), "--save-confidence"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}{kind}.png" for name in "abc" for kind in ("", "_overlay", "_confidence")
    )
    written = Image.open(out / "a.png")
    assert written.mode == "P"
    expected = Predictor.from_checkpoint(checkpoint)(pictures / "a.jpg")
    assert np.array_equal(np.asarray(written), expected.classes)
    assert written.getpalette()[:6] == [128, 64, 128, 70, 130, 180]


def test_a_broken_image_is_reported_and_skipped(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.jpg").write_bytes(b"no picture")
    assert main(["predict", str(checkpoint), str(pictures), "-o", str(tmp_path / "out"), "--no-overlay"]) == 3
    captured = capsys.readouterr()
    assert "broken.jpg: is not an image" in captured.err
    assert captured.out == (
        f"3 predictions in {tmp_path / 'out'}, 1 image skipped; "
        "their pixels are class indices ('imageseg score --stored classes')\n"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]


def test_images_of_the_same_name_are_written_separately(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(pictures / "a.jpg", tmp_path / folder)
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(out)]) == 0
    assert {"one_a_jpg.png", "two_a_jpg.png"} <= {path.name for path in out.iterdir()}


def test_a_prediction_never_overwrites_an_image(
    checkpoint: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pictures / "b.png").read_bytes()
    assert main(["predict", str(checkpoint), str(pictures / "b.png"), "-o", str(pictures)]) == 2
    assert "b.png: a prediction would overwrite it. Pass another folder" in capsys.readouterr().err
    assert (pictures / "b.png").read_bytes() == before


def test_two_files_of_one_name_are_refused(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(pictures / "b.png", pictures / "a_overlay.png")
    assert main(["predict", str(checkpoint), str(pictures), "-o", str(tmp_path / "out")]) == 2
    assert "a_overlay.png: several images would write this file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_what_will_be_written_is_in_the_way(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "b.png", pictures / "a_overlay.png")
    assert main(["predict", str(checkpoint), str(pictures), "-o", str(tmp_path / "out"), "--no-overlay"]) == 0


def test_one_image_spelt_twice_is_one(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    assert find_images(["a.jpg", str(pictures / "a.jpg"), "deep/../a.jpg"]) == [Path("a.jpg")]


def test_hidden_files_are_no_images(pictures: Path) -> None:
    shutil.copy(pictures / "a.jpg", pictures / "._a.jpg")
    assert "._a.jpg" not in [path.name for path in find_images([str(pictures)])]


def test_an_output_that_cannot_be_is_one_line(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["predict", str(checkpoint), str(pictures), "-o", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path / "file") in error

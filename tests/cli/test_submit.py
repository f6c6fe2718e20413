"""imageseg submit: from a checkpoint or a folder to a pack, the check of packs, and what is refused in one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_voc
from PIL import Image

import imageseg.datasets
from imageseg import Label, LabelSpace, Predictor, Recipe, build_model
from imageseg.checkpoint import RUN_KEY, write_checkpoint
from imageseg.cli import main
from imageseg.datasets.base import SegmentationDataset, existing_folder, listing_of
from imageseg.datasets.pairs import Listing, Pair
from imageseg.registry import NameTable
from imageseg.submission import formats as submission_formats

IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
STEMS = [f"berlin_00000{number}_000019_leftImg8bit" for number in (1, 2, 3)]
SIZE = (32, 64)


class Streets(SegmentationDataset):
    """Stands for Cityscapes: images only, in leftImg8bit/<split>/<city>."""

    labels = LabelSpace(tuple(Label(f"class {value}", (value, 9, 255 - value), (value,)) for value in IDS))

    def __init__(self, root: str = "data/Cityscapes", *, camera: str = "leftImg8bit") -> None:
        self.root, self.camera = Path(root), camera

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val", "test")

    def listing(self, split: str) -> Listing:
        where = f"{self.camera}/{split}"
        folder = existing_folder(self.root, [where], dataset="Cityscapes", expected=where, source="its owners")
        return listing_of(Pair(path, None, path.stem) for path in sorted(folder.rglob("*.png")))


class Marked(Streets):
    """Stands for a dataset without server, with the same images."""


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    classes = {
        "Cityscapes": f"{__name__}:Streets",
        "Marked": f"{__name__}:Marked",
        "VOC": "imageseg.datasets.voc.dataset:VOC",
    }
    spellings = {"CityscapeModule": "Cityscapes"}
    monkeypatch.setattr(imageseg.datasets, "DATASETS", NameTable("dataset", classes, spellings=spellings))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of the test split, one of val."""
    generator = np.random.default_rng(5)
    for split, stem in [*(("test", stem) for stem in STEMS), ("val", "lindau_000000_000019_leftImg8bit")]:
        path = tmp_path / "cityscapes" / "leftImg8bit" / split / stem.partition("_")[0] / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*SIZE, 3), np.uint8)).save(path)
    return tmp_path / "cityscapes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prediction of each, as class indices."""
    path = tmp_path / "out"
    path.mkdir()
    for number, stem in enumerate(STEMS):
        classes = ((np.arange(SIZE[0] * SIZE[1]) + number) % 19).astype(np.uint8).reshape(SIZE)
        Image.fromarray(classes).save(path / f"{stem}.png")
    return path


@pytest.fixture(scope="module")
def network_record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    arguments = {"encoder": "resnet10t", "pretrained": False, "decoder_channels": (8, 8, 8, 8, 8)}
    network = build_model("UNet", 19, **arguments)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    return {"state": state, "arguments": arguments}


def write_run(
    path: Path, record: dict[str, Any], *, use: str = "Cityscapes", root: Path | None = None, **data: Any
) -> Path:
    data |= {"root": str(root)} if root else {}
    recipe = Recipe(use, "UNet", data={"crop_size": [32, 32], **data}, network=record["arguments"])
    run = {"recipe": recipe.to_dict(), "labels": Streets.labels.to_dict()}
    write_checkpoint({"state_dict": record["state"], RUN_KEY: run, "global_step": 3}, path)
    return path


def told(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], *, code: int = 0) -> tuple[str, str]:
    assert main(["submit", *map(str, arguments), "--workers", "1"]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    out, error = told(capsys, arguments, code=2)
    assert out == ""
    lines = error.splitlines()
    assert len(lines) == 1, error
    return lines[0]


def values_in(pack: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(pack) as archive:
        return {name: np.asarray(Image.open(archive.open(name))) for name in archive.namelist()}


def test_a_folder_becomes_a_pack(root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, error = told(capsys, [folder, "--use", "CityscapeModule", "--root", root])
    pack = tmp_path / "cityscapes_test.zip"
    # Nobody should send three images where the server wants 1525, and so nobody is told to.
    assert out == f"cityscapes_test.zip: 3 predictions, {pack.stat().st_size / 1e3:.1f} kB, checked\n"
    assert "note: the server scores 1525 images, and there are 3 here" in error
    assert "note: the server's images have 2048 x 1024 pixels, but 3 of these have another size" in error
    values = values_in(pack)
    assert list(values) == [f"{stem}.png" for stem in STEMS]
    for number, found in enumerate(values.values()):
        assert np.array_equal(found.ravel(), np.array(IDS)[(np.arange(found.size) + number) % 19])
    out, _ = told(capsys, ["--check", pack, "--use", "Cityscapes", "--root", root])
    assert out == f"{pack}, for Cityscapes: good: 3 predictions\n"


def test_a_checkpoint_knows_its_dataset(
    root: Path, tmp_path: Path, network_record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, root=root)
    told(capsys, [run, "-o", tmp_path / "deep" / "mine.zip"])
    predictor = Predictor.from_checkpoint(run)
    for name, found in values_in(tmp_path / "deep" / "mine.zip").items():
        classes = predictor(root / "leftImg8bit" / "test" / "berlin" / name).classes
        assert np.array_equal(found, np.array(IDS)[classes])


def test_predict_and_then_submit_gives_the_same_bytes(
    root: Path, tmp_path: Path, network_record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, root=root)
    told(capsys, [run, "-o", "one.zip"])
    assert main(["predict", str(run), str(root / "leftImg8bit" / "test"), "-o", "shots", "--save-confidence"]) == 0
    assert len(list(Path("shots").iterdir())) == 9  # with overlays and confidences
    capsys.readouterr()
    told(capsys, ["shots", "--use", "Cityscapes", "--root", root, "-o", "two.zip"])
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()


def test_a_checkpoint_of_another_dataset_takes_its_own_root_and_arguments(
    root: Path, tmp_path: Path, network_record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, use="Marked", root=tmp_path / "elsewhere")
    assert "Marked has no benchmark server" in refused(capsys, [run])
    told(capsys, [run, "--use", "Cityscapes", "--root", root, "--dry-run"])
    own = write_run(tmp_path / "own.ckpt", network_record, root=root, camera="rightImg8bit")
    assert "rightImg8bit/test" in refused(capsys, [own])
    told(capsys, [own, "--camera", "leftImg8bit", "--dry-run"])
    told(capsys, ["--camera", "leftImg8bit", own, "--dry-run"])  # the source may come last
    assert not list(tmp_path.glob("*.zip"))


def test_classes_of_another_name_are_refused(
    root: Path,
    tmp_path: Path,
    network_record: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, root=root)
    others = tuple(Label(f"kind {value}", (value, 9, 9), (value,)) for value in IDS)
    monkeypatch.setattr(Streets, "labels", LabelSpace(others))
    line = refused(capsys, [run])
    assert "best.ckpt: has the classes class 7, class 8" in line
    assert "the server scores kind 7, kind 8" in line


def test_json_is_all_that_standard_output_gets(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, error = told(capsys, [folder, "--use", "Cityscapes", "--root", root, "--json"])
    made = json.loads(out)
    assert error == ""
    assert {key: made[key] for key in ("pack", "dataset", "split", "competition", "images", "version")} == {
        "pack": "cityscapes_test.zip",
        "dataset": "Cityscapes",
        "split": "test",
        "competition": None,
        "images": 3,
        "version": 1,
    }
    assert made["bytes"] == Path("cityscapes_test.zip").stat().st_size
    assert len(made["notes"]) == 2
    out, _ = told(capsys, ["--check", "cityscapes_test.zip", "--use", "Cityscapes", "--root", root, "--json"])
    assert json.loads(out)["good"] is True
    with zipfile.ZipFile("cityscapes_test.zip", "a") as archive:
        archive.writestr("bonn_000000_000019.png", b"")
    arguments = ["--check", "cityscapes_test.zip", "--use", "Cityscapes", "--root", root, "--json"]
    out, _ = told(capsys, arguments, code=1)
    found = json.loads(out)
    assert found["pack"] == "cityscapes_test.zip"
    assert found["dataset"] == "Cityscapes"
    assert found["good"] is False
    assert found["files"] == 4
    assert found["faults"] == [
        {
            "kind": "extra",
            "count": 1,
            "names": ["bonn_000000_000019.png"],
            "message": "1 file belongs to no image: bonn_000000_000019.png",
        }
    ]


def test_a_broken_pack_is_exit_code_1_with_a_line_per_kind(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile("bad.zip", "w") as archive:
        for number, stem in enumerate(STEMS[:2]):
            with archive.open(f"{stem}.png", "w") as file:
                Image.new("L", (64, 32 - number), 5).save(file, "PNG")
    out, _ = told(capsys, ["--check", "bad.zip", "--use", "Cityscapes", "--root", root], code=1)
    assert out.splitlines() == [
        f"missing     1 image has no prediction: {STEMS[2]}",
        f"size        1 prediction has another size than its image: {STEMS[1]}.png (64 x 31 instead of 64 x 32)",
        f"lookalike   1 prediction contains ids of another kind: {STEMS[0]}.png; they look like trainIds (road 0, sky 10); "
        "the server expects labelIds (road 7, sky 23)",
        "bad.zip, for Cityscapes: 3 kinds of fault",
    ]


def test_without_the_dataset_the_official_rules_hold(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, [folder, "--use", "Cityscapes", "--root", root])
    out, error = told(capsys, ["--check", "cityscapes_test.zip", "--use", "Cityscapes"], code=1)
    assert "the number of predictions is wrong: 3 images, and the test split has 1525" in out
    assert "(64 x 32 instead of 2048 x 1024)" in out
    assert "names and sizes were compared with the official pattern only" in error
    arguments = ["--check", "cityscapes_test.zip", "--use", "Cityscapes", "--root", "nowhere"]
    assert "nowhere does not exist" in refused(capsys, arguments)


def test_a_dry_run_writes_nothing(root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(tmp_path.rglob("*"))
    arguments = [folder, "--use", "Cityscapes", "--root", root, "--dry-run"]
    out, _ = told(capsys, arguments)
    assert out == "3 predictions fit the server of Cityscapes; nothing was written\n"
    assert json.loads(told(capsys, [*arguments, "--json"])[0])["pack"] is None
    Image.new("L", (64, 32), 19).save(folder / f"{STEMS[0]}.png")
    assert "contains values that are no class" in refused(capsys, arguments)
    assert set(tmp_path.rglob("*")) == before


def test_a_refused_folder_leaves_the_old_pack(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, [folder, "--use", "Cityscapes", "--root", root])
    old = Path("cityscapes_test.zip").read_bytes()
    Image.new("L", (64, 32), 255).save(folder / f"{STEMS[2]}.png")
    line = refused(capsys, [folder, "--use", "Cityscapes", "--root", root])
    assert line == (
        f"imageseg: error: {folder}: 1 prediction contains 255, which marks ignored pixels of the ground truth; "
        f"every pixel needs a class: {STEMS[2]}.png"
    )
    assert Path("cityscapes_test.zip").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cityscapes", "cityscapes_test.zip", "out"]


def test_the_full_official_set_may_be_sent(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = replace(submission_formats.FORMATS["Cityscapes"], count=3, size=SIZE)
    monkeypatch.setitem(submission_formats.FORMATS, "Cityscapes", rules)
    out, error = told(capsys, [folder, "--use", "Cityscapes", "--root", root])
    assert out.endswith("kB, checked; submit it to https://www.cityscapes-dataset.com/submit/\n")
    assert error == ""
    _, error = told(capsys, ["--check", "cityscapes_test.zip", "--use", "Cityscapes"])  # without the images, too
    assert error.count("\n") == 1


def test_another_split_is_packed_with_a_note(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    Image.new("L", (64, 32), 11).save(folder / "lindau_000000_000019.png")  # stored values
    arguments = [folder, "--use", "Cityscapes", "--root", root, "--split", "val", "--stored", "table"]
    _, error = told(capsys, arguments)
    assert error == "imageseg: note: the server scores the test split, and this is val\n"
    assert [set(values.ravel().tolist()) for values in values_in(Path("cityscapes_val.zip")).values()] == [{11}]


def test_voc_with_its_own_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path / "voc")
    folder = tmp_path / "out"
    folder.mkdir()
    Image.new("L", (6, 4), 20).save(folder / "2008_000003.png")
    voc = ["--use", "VOCModule", "--root", tmp_path / "voc"]
    _, error = told(capsys, [folder, *voc])
    assert "comp5 is for networks trained on VOC images only" in error
    _, error = told(capsys, [folder, *voc, "--competition", "comp6", "-o", "comp6.tgz"])
    assert "comp5 is for" not in error
    out, _ = told(capsys, ["--check", "voc_test_comp5.tar.gz", *voc])
    assert out == "voc_test_comp5.tar.gz, for VOC: good: 1 predictions\n"
    told(capsys, ["--check", "comp6.tgz", *voc, "--competition", "comp6"])
    out, _ = told(capsys, ["--check", "comp6.tgz", *voc, "--competition", "comp5"], code=1)
    assert "1 file is in the wrong folder" in out
    assert "VOC2007 are public" in refused(capsys, [folder, *voc, "--year", "2007"])
    assert "expects a tar.gz. Use the suffix .tar.gz" in refused(capsys, [folder, *voc, "-o", "voc.zip"])
    assert "no competition 'comp7'; it has comp5 and comp6" in refused(capsys, [folder, *voc, "--competition", "comp7"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a checkpoint, a folder of predictions, or --check ARCHIVE; see imageseg submit --help"),
        (["out"], "the dataset of a prediction folder is unknown: pass --use"),
        (["out", "--use", "Cityscaeps"], "no dataset is called 'Cityscaeps' (did you mean 'Cityscapes'?)"),
        (
            ["out", "--use", "Marked"],
            "Marked has no benchmark server that accepts predictions; Cityscapes, VOC, BDD100K",
        ),
        (["no.ckpt"], "no.ckpt: no such checkpoint"),
        (
            ["pack.zip", "--use", "VOC"],
            "pack.zip: is an archive already. Check it with 'imageseg submit --check pack.zip'",
        ),
        (["out", "--use", "Cityscapes", "--root", "nowhere"], "nowhere does not exist"),
        (["out", "--use", "Cityscapes", "--root", "cityscapes", "--split", "testing"], "leftImg8bit/testing"),
        (["out", "more", "--use", "Cityscapes"], "expected one source, found two: 'out' and 'more'"),
        (["out", "--use", "Cityscapes", "--camra", "x"], "Cityscapes has a flag --camra; Cityscapes has --camera"),
        (["out", "-x", "--use", "Cityscapes"], "no flag -x"),
        (["out", "--use", "Cityscapes", "--stored", "colors"], "invalid choice: 'colors'"),
        (["out", "--use", "Cityscapes", "-o", "pack.tar.gz"], "pack.tar.gz: the server of Cityscapes expects a zip"),
        (["out", "--use", "Cityscapes", "--root", "cityscapes", "--competition", "comp6"], "no competition 'comp6'"),
        (["out", "--check", "pack.zip", "--use", "VOC"], "'out' and --check cannot be combined"),
        (["--check", "pack.zip"], "--check needs --use"),
        (["--check", "pack.zip", "--use", "Marked"], "Marked has no benchmark server"),
        (["--check", "none.zip", "--use", "Cityscapes"], "none.zip: no such file"),
        (
            ["--check", "x.tgz", "--use", "VOC", "--competition", "comp7"],
            "no competition 'comp7'; it has comp5 and comp6",
        ),
        (["--check", "out", "--use", "Cityscapes"], "out: is a folder, not an archive"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    assert message in refused(capsys, arguments)
    assert set(tmp_path.rglob("*")) == before


def test_a_checkpoint_takes_no_stored_values(
    root: Path, tmp_path: Path, network_record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, root=root)
    assert "--stored applies to prediction folders only" in refused(capsys, [run, "--stored", "table"])


def test_an_image_that_breaks_off_leaves_nothing(
    root: Path, tmp_path: Path, network_record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "best.ckpt", network_record, root=root)
    last = root / "leftImg8bit" / "test" / "berlin" / f"{STEMS[2]}.png"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 255  # the header is whole, the pixels are not
    last.write_bytes(bytes(data))
    Path("cityscapes_test.zip").write_text("the old pack")
    assert f"{STEMS[2]}.png: cannot be read as an image" in refused(capsys, [run])
    assert Path("cityscapes_test.zip").read_text() == "the old pack"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "cityscapes", "cityscapes_test.zip"]

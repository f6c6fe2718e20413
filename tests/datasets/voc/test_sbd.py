"""SBD's MATLAB files, and the split train_aug that VOC2012 and they make together."""

from pathlib import Path

import numpy as np
import pytest
from fakes import write_sbd, write_voc
from PIL import Image
from scipy.io import loadmat, savemat

from imageseg.cli import main
from imageseg.datasets.text_files import read_names
from imageseg.datasets.voc.dataset import VOC
from imageseg.datasets.voc.sbd import find_sbd, read_mat
from imageseg.errors import InputError
from imageseg.labels import voc_color

TRAIN, VAL = "2007_000001", "2007_000002"  # as write_voc lists them
SBD_MASK = [[0] * 6, [0, 0, 0, 0, 0, 15], [0, 0, 7, 0, 0, 15], [0] * 6]


@pytest.fixture
def voc(tmp_path: Path) -> VOC:
    """VOC's fake with SBD's tree beside it. SBD knows VOC's train and val images too, and two of its own."""
    arguments = write_voc(tmp_path)
    place = tmp_path / "SBD" / "benchmark_RELEASE" / "dataset"
    write_sbd(place, names=(TRAIN, "2008_000010"), split="train")
    write_sbd(place, names=(VAL, "2010_000020"), split="val")
    return VOC(**arguments)


def devkit(dataset: VOC) -> Path:
    return dataset.root / "VOCdevkit" / "VOC2012"


def test_the_fake_is_nested_as_sbd_is(tmp_path: Path) -> None:
    """The published way to read SBD's files: GTcls[0]['Segmentation'][0]."""
    write_sbd(tmp_path, names=("a",))
    mat = loadmat(tmp_path / "cls/a.mat")
    assert mat["GTcls"].shape == (1, 1)
    assert mat["GTcls"][0]["Segmentation"][0].tolist() == SBD_MASK
    assert read_mat(tmp_path / "cls/a.mat").tolist() == SBD_MASK
    assert read_mat(tmp_path / "cls/a.mat").dtype == np.uint8


def test_train_aug_is_all_of_both_less_vocs_val(voc: VOC) -> None:
    assert voc.splits == ("train", "val", "test", "trainval")
    voc.prepare(workers=1)
    assert voc.splits == ("train", "val", "test", "trainval", "train_aug")
    pairs = voc.pairs("train_aug")
    assert [pair.name for pair in pairs] == [TRAIN, "2008_000010", "2010_000020"]
    assert [pair.mask and pair.mask.parent.name for pair in pairs] == [
        "SegmentationClass",  # VOC's own: it has the border
        "SegmentationClassAug",
        "SegmentationClassAug",
    ]
    samples = voc.samples("train_aug")
    assert 255 in samples[0]["mask"]
    assert samples[1]["mask"].tolist() == SBD_MASK
    assert sorted(path.stem for path in (devkit(voc) / "SegmentationClassAug").iterdir()) == [
        "2008_000010",
        "2010_000020",
    ]


def test_masks_are_palette_files_in_vocs_colors(voc: VOC) -> None:
    voc.prepare(workers=1)
    with Image.open(devkit(voc) / "SegmentationClassAug" / "2008_000010.png") as mask:
        assert mask.mode == "P"
        palette = mask.getpalette()
    assert palette is not None
    assert [tuple(palette[3 * value : 3 * value + 3]) for value in (7, 15, 255)] == [
        voc_color(value) for value in (7, 15, 255)
    ]


def test_images_come_from_voc_and_else_from_sbd(voc: VOC) -> None:
    voc.prepare(workers=1)
    Image.new("RGB", (6, 4)).save(devkit(voc) / "JPEGImages" / "2008_000010.jpg")
    images = {pair.name: pair.image for pair in voc.pairs("train_aug")}
    assert images["2008_000010"] == devkit(voc) / "JPEGImages" / "2008_000010.jpg"
    assert images["2010_000020"] == voc.root / "SBD/benchmark_RELEASE/dataset/img/2010_000020.jpg"


def test_preparing_goes_on_where_it_was_and_leaves_what_is_there(voc: VOC) -> None:
    folder = devkit(voc) / "SegmentationClassAug"
    folder.mkdir()
    Image.new("L", (6, 4), 3).save(folder / "2008_000010.png")
    seen: list[tuple[int, int]] = []
    voc.prepare(workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert voc.samples("train_aug")[1]["mask"].unique().tolist() == [3]
    once = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    voc.prepare(workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == once


def test_processes_make_the_same(voc: VOC) -> None:
    write_sbd(voc.root / "SBD/benchmark_RELEASE/dataset", names=("2009_000001", "2009_000002"))
    voc.prepare(workers=2)
    assert len(voc.pairs("train_aug")) == 5


@pytest.mark.parametrize("list_name", ["train_aug.txt", "trainaug.txt"])
def test_a_list_counts_but_never_names_of_val(voc: VOC, list_name: str) -> None:
    lines = f"/JPEGImages/2008_000010.jpg /SegmentationClassAug/2008_000010.png\n/JPEGImages/{VAL}.jpg\n{TRAIN}\n"
    (devkit(voc) / "ImageSets/Segmentation" / list_name).write_text(lines)
    voc.prepare(workers=1)
    assert [pair.name for pair in voc.pairs("train_aug")] == [TRAIN, "2008_000010"]


def test_shared_masks_do_without_sbd_and_without_a_list(tmp_path: Path) -> None:
    """SegmentationClassAug as people share it: it contains VOC's val as well."""
    voc = VOC(**write_voc(tmp_path))
    (devkit(voc) / "SegmentationClassAug").mkdir()
    for name in (TRAIN, VAL, "2008_000010"):
        Image.new("L", (6, 4)).save(devkit(voc) / "SegmentationClassAug" / f"{name}.png")
        Image.new("RGB", (6, 4)).save(devkit(voc) / "JPEGImages" / f"{name}.jpg")
    voc.prepare()
    assert "train_aug" in voc.splits
    pairs = voc.pairs("train_aug")
    assert [(pair.name, pair.mask and pair.mask.parent.name) for pair in pairs] == [
        (TRAIN, "SegmentationClass"),
        ("2008_000010", "SegmentationClassAug"),
    ]


def test_without_any_source_one_line_says_what_to_get(tmp_path: Path) -> None:
    voc = VOC(**write_voc(tmp_path))
    with pytest.raises(InputError) as refused:
        voc.pairs("train_aug")
    line = refused.value.line()
    assert "\n" not in line
    assert line.startswith(
        f"VOC2012 train_aug: {devkit(voc) / 'SegmentationClassAug'} contains no masks; download them, or download https://"
    )
    assert line.endswith(f"benchmark.tgz, unpack it in {tmp_path} and run 'imageseg prepare VOC'")


def test_with_sbd_unprepared_the_line_says_so(voc: VOC) -> None:
    with pytest.raises(InputError, match=r"SBD is in .*dataset: 'imageseg prepare VOC' converts them"):
        voc.pairs("train_aug")


def test_2007_has_none(tmp_path: Path) -> None:
    voc = VOC(**write_voc(tmp_path, year="2007"))
    voc.prepare()
    assert "train_aug" not in voc.splits
    with pytest.raises(InputError, match="VOC2007 has no split 'train_aug': SBD's masks belong to images of VOC2012"):
        voc.pairs("train_aug")


@pytest.mark.parametrize(
    "place",
    ["", "SBD", "sbd", "benchmark_release/DATASET", "SBD/benchmark_RELEASE/dataset", "SBD/dataset", "vocdevkit/sbd"],
)
def test_sbd_is_found_in_any_usual_place(tmp_path: Path, place: str) -> None:
    assert find_sbd([tmp_path]) is None
    write_sbd(tmp_path / place, names=("a",), split="train")
    write_sbd(tmp_path / place, names=("b",), split="val")
    sbd = find_sbd([tmp_path / "nowhere", tmp_path])
    assert sbd is not None
    assert sbd.folder == tmp_path / place
    assert sbd.names() == {"a", "b"}


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    mask = np.zeros((3, 4), np.uint8)
    contents = {
        "text": lambda: path.write_bytes(b"no matlab file"),
        "empty": lambda: path.write_bytes(b""),
        "another variable": lambda: savemat(path, {"GTinst": {"Segmentation": mask}}),
        "another field": lambda: savemat(path, {"GTcls": {"Boundaries": mask}}),
        "no struct": lambda: savemat(path, {"GTcls": mask}),
        "a pickle": lambda: path.write_bytes(b"\x80\x04N."),
        "cut": lambda: (savemat(path, {"GTcls": {"Segmentation": mask}}), path.write_bytes(path.read_bytes()[:200])),
    }
    for what, write in contents.items():
        write()
        with pytest.raises(InputError) as refused:
            read_mat(path)
        assert refused.value.line().startswith(f"{path}: does not contain GTcls.Segmentation as SBD's files do ("), what
        assert "\n" not in refused.value.line()
    for wrong in (
        np.full((3, 4), 21, np.uint8),
        np.zeros((3, 4)),
        np.zeros((3, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
    ):
        savemat(path, {"GTcls": {"Segmentation": wrong}})
        with pytest.raises(InputError, match="is not a mask of the classes 0 to 20"):
            read_mat(path)
    with pytest.raises(InputError, match=r"b\.mat: no such file"):
        read_mat(tmp_path / "b.mat")


def test_a_broken_mask_stops_prepare_with_its_name(voc: VOC, capsys: pytest.CaptureFixture[str]) -> None:
    (voc.root / "SBD/benchmark_RELEASE/dataset/cls/2010_000020.mat").write_bytes(b"?")
    assert main(["prepare", "VOC", "--root", str(voc.root), "--workers", "1"]) == 2
    assert "2010_000020.mat: does not contain GTcls.Segmentation" in capsys.readouterr().err
    assert [path.name for path in (devkit(voc) / "SegmentationClassAug").iterdir()] == ["2008_000010.png"]


def test_the_command_prepares_and_counts(voc: VOC, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "VOC", "--root", str(voc.root), "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"VOC in {voc.root}: 1 train, 1 val, 1 test, 2 trainval, 3 train_aug\n"


def test_a_list_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a text file with a list of names"):
        read_names(tmp_path / "train.txt")

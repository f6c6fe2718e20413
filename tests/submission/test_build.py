"""Packs for benchmark servers: from predictions to an archive, read back by other means, whole or not at all."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archives import (
    IDS,
    LABELS,
    B,
    C,
    V,
    classes_of,
    images_of,
    kinds,
    pack,
    plan_of,
    pngs_of,
    suffix,
    unpacked,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imageseg.errors import InputError
from imageseg.images import encode_mask, read_mask, write_mask
from imageseg.labels import LabelSpace, voc_color, voc_palette
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.submission.build import (
    Plan,
    encode_classes,
    encode_files,
    match_predictions,
    plan_submission,
    write_archive,
)
from imageseg.submission.check import ExpectedImage, check_archive, inspect_png
from imageseg.submission.formats import FORMATS, format_for

every_server = pytest.mark.parametrize("name", list(FORMATS))


@every_server
def test_a_pack_holds_what_the_server_wants(name: str, tmp_path: Path) -> None:
    files = unpacked(pack(tmp_path / f"pack{suffix(name)}", name))
    folder = "results/VOC2012/Segmentation/comp5_test_cls/" if name == "VOC" else ""
    assert list(files) == [f"{folder}{image.name}.png" for image in images_of(name)]
    stored = {"Cityscapes": IDS, "BDD100K": range(19), "ADE20K": range(1, 151), "VOC": range(21)}[name]
    for image, classes in zip(files.values(), classes_of(name), strict=True):
        assert image.format == "PNG"
        assert image.mode == ("P" if name == "VOC" else "L")
        assert np.array_equal(np.asarray(image), np.array(stored)[classes])
        if name == "VOC":
            assert image.getpalette() == [channel for value in range(256) for channel in voc_color(value)]


@every_server
def test_scores_are_the_same_before_and_after(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    labels, maps = LABELS[name], classes_of(name)
    truth = [np.where(generator.random(m.shape) < 0.3, 255, np.roll(m, 1)).astype(np.uint8) for m in maps]
    truth = [np.where(generator.random(m.shape) < 0.5, m, t) for m, t in zip(maps, truth, strict=True)]
    before, after = ConfusionMatrix(len(labels)), ConfusionMatrix(len(labels))
    files = unpacked(pack(tmp_path / f"pack{suffix(name)}", name))
    for classes, image, mask in zip(maps, files.values(), truth, strict=True):
        before.update(classes, mask)
        after.update(labels.encode(np.asarray(image)), mask)
    assert np.array_equal(before.matrix, after.matrix)
    assert 0 < before.scores().miou < 1
    assert before.scores().miou == after.scores().miou


@every_server
def test_the_same_input_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    one, two = (pack(tmp_path / f"{which}{suffix(name)}", name).read_bytes() for which in ("one", "two"))
    assert one == two


def test_no_clock_and_no_user_is_in_a_pack(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(tmp_path / "pack.zip", C)) as archive:
        assert {(info.date_time, info.create_system) for info in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 3)}
    path = pack(tmp_path / "pack.tar.gz", V)
    assert path.read_bytes()[4:8] == bytes(4)  # gzip's own time
    with tarfile.open(path) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar} == {
            (0, 0, 0, "", 0o644)
        }


@pytest.mark.parametrize("competition", ["comp5", "comp6"])
def test_voc_has_two_competitions(competition: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "pack.tgz", "VOC", competition=competition)
    assert {str(Path(name).parent) for name in unpacked(path)} == {
        f"results/VOC2012/Segmentation/{competition}_test_cls"
    }
    rules, images = FORMATS["VOC"], images_of("VOC")
    assert kinds(check_archive(path, rules, images=images)) == []
    assert kinds(check_archive(path, rules, images=images, competition=competition)) == []
    other = "comp6" if competition == "comp5" else "comp5"
    [fault] = check_archive(path, rules, images=images, competition=other).faults
    assert fault.kind == "folder"
    assert f"the server expects results/VOC2012/Segmentation/{other}_test_cls/" in fault.message


def test_only_four_datasets_have_a_server() -> None:
    assert list(FORMATS) == ["Cityscapes", "VOC", "BDD100K", "ADE20K"]
    assert all(format_for(name).dataset == name for name in FORMATS)
    with pytest.raises(
        InputError, match=r"CamVid has no benchmark server .* Cityscapes, VOC, BDD100K, ADE20K have one"
    ):
        format_for("CamVid")


def test_the_tables_contain_the_rules_of_the_servers() -> None:
    assert {name: rules.count for name, rules in FORMATS.items()} == {
        "Cityscapes": 1525,
        "VOC": 1456,
        "BDD100K": 2000,
        "ADE20K": None,
    }
    assert FORMATS["Cityscapes"].values == set(IDS)
    assert FORMATS["Cityscapes"].values | FORMATS["Cityscapes"].unscored == set(range(34))
    key = FORMATS["Cityscapes"].key_of
    assert key("munich_000123_000019_leftImg8bit") == key("munich_000123_000019") == "munich_000123_000019"
    assert key("munich_000123_000019") != key("munich_000123_000018_x")
    assert FORMATS["VOC"].key_of("2008_000001_x") == "2008_000001_x"  # VOC's server compares the whole name


def write_pictures(folder: Path, name: str) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for image in reversed(images_of(name)):  # a list in no order
        path = folder / f"{image.name}.png"
        Image.fromarray(np.zeros((*image.size, 3), np.uint8)).save(path)
        paths.append(path)
    return paths


def write_predictions(folder: Path, name: str, *, stored: bool = False) -> Path:
    folder.mkdir(parents=True)
    for image, classes in zip(images_of(name), classes_of(name), strict=True):
        values = LABELS[name].decode(classes) if stored else classes
        write_mask(folder / f"{image.name}.png", values, LABELS[name].palette)
        for other in ("overlay", "confidence"):
            (folder / f"{image.name}_{other}.png").write_bytes(b"not looked at")
    (folder / ".hidden.png").write_bytes(b"not looked at")
    return folder


@every_server
@pytest.mark.parametrize("stored", [False, True])
def test_from_a_folder_to_a_pack(name: str, stored: bool, tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[name], LABELS[name], write_pictures(tmp_path / "images", name))
    assert plan.images == images_of(name)
    paths = match_predictions(write_predictions(tmp_path / "out", name, stored=stored), plan)
    path = tmp_path / f"pack{suffix(name)}"
    write_archive(path, plan, encode_files(paths, plan, stored=stored, workers=1))
    assert path.read_bytes() == pack(tmp_path / f"other{suffix(name)}", name).read_bytes()


def test_several_processes_write_the_same(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    paths = match_predictions(write_predictions(tmp_path / "out", C), plan)
    write_archive(tmp_path / "two.zip", plan, encode_files(paths, plan, workers=2))
    assert (tmp_path / "two.zip").read_bytes() == pack(tmp_path / "one.zip", C).read_bytes()


def test_predictions_are_matched_as_the_server_would(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = tmp_path / "out" / "berlin"
    folder.mkdir(parents=True)
    for image, classes in zip(images_of(C), classes_of(C), strict=True):
        write_mask(folder / f"{image.name[:20]}_mine.png", classes, LABELS[C].palette)
    assert [path.name for path in match_predictions(tmp_path / "out", plan)] == [
        f"berlin_00000{number}_000019_mine.png" for number in (1, 2, 3)
    ]


def test_faults_of_names_and_sizes_are_one_line_together(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    first, second, third = (folder / f"{image.name}.png" for image in images_of(C))
    first.unlink()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(second)
    (folder / "again").mkdir()
    shutil.copy(third, folder / "again")
    shutil.copy(third, folder / "x.png")
    with pytest.raises(InputError) as refused:
        match_predictions(folder, plan)
    assert str(refused.value) == (
        f"{folder}: 1 image has more than one prediction: berlin_000003_000019 "
        "(again/berlin_000003_000019_leftImg8bit.png and berlin_000003_000019_leftImg8bit.png); "
        "1 image has no prediction: berlin_000001_000019_leftImg8bit; "
        "1 file belongs to no image: x.png; "
        "1 prediction has another size than its image: berlin_000002_000019_leftImg8bit.png (8 x 8 instead of 3 x 5)"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (255, "1 prediction contains 255"),
        (23, r"\(23\); class indices are 0 to 18; for stored values pass --stored table"),
    ],
)
def test_values_that_are_no_class_are_refused(values: int, message: str, tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    write_mask(folder / f"{plan.images[1].name}.png", np.full((5, 3), values), LABELS[C].palette)
    paths = match_predictions(folder, plan)
    with pytest.raises(InputError, match=message):
        list(encode_files(paths, plan, workers=1))


def test_stored_values_that_the_table_lacks_are_refused(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    paths = match_predictions(write_predictions(tmp_path / "out", C), plan)  # class indices, not stored values
    with pytest.raises(InputError, match=r"berlin_000001.*png: value 0 .* not in the label table"):
        list(encode_files(paths, plan, stored=True, workers=1))


def test_colors_and_16_bits_are_rejected(tmp_path: Path) -> None:
    plan = plan_submission(FORMATS[C], LABELS[C], write_pictures(tmp_path / "images", C))
    folder = write_predictions(tmp_path / "out", C)
    first, second, _ = (folder / f"{image.name}.png" for image in plan.images)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(first)
    Image.fromarray(np.full((5, 3), 700, np.uint16)).save(second)
    with pytest.raises(InputError, match=r"1 PNG contains colors.*; 1 prediction contains values .* \(700 to 700\)"):
        list(encode_files(match_predictions(folder, plan), plan, workers=1))
    Image.fromarray(np.full((5, 3), 7, np.uint16)).save(second)  # small values in 16 bits are plain enough
    first.write_bytes(encode_mask(classes_of(C)[0]))
    assert inspect_png("a.png", list(encode_files([first, second, _], plan, workers=1))[1], (5, 3)) == [20]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.zeros((6, 4), np.uint8), "prediction: 1 prediction has another size .*4 x 6 instead of 6 x 4"),
        (np.full((4, 6), 19), "contains? values that are no class: berlin_000001_000019_leftImg8bit \\(19\\)"),
        (np.full((4, 6), -1), "-1 to -1"),
        (np.full((4, 6), 255), "contains 255"),
    ],
)
def test_a_prediction_in_memory_is_checked_too(classes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode_classes(classes, images_of(C)[0], plan_of(C))


def test_a_plan_refuses_what_no_server_would_understand(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", C)
    with pytest.raises(
        InputError, match="the label space stores 0, 1, 2, 3, 4, which the server of Cityscapes does not"
    ):
        plan_submission(FORMATS[C], LABELS[B], images)
    with pytest.raises(InputError, match="Cityscapes has no competition 'comp6'; it has none"):
        plan_submission(FORMATS[C], LABELS[C], images, competition="comp6")
    with pytest.raises(InputError, match="VOC has no competition 'comp3'; it has comp5 and comp6"):
        plan_submission(FORMATS[V], LABELS[V], images, competition="comp3")
    with pytest.raises(InputError, match="several images have this name"):
        plan_submission(FORMATS[C], LABELS[C], [*images, images[0]])
    with pytest.raises(InputError, match="the split has no images"):
        plan_submission(FORMATS[C], LABELS[C], [])
    images[1].write_bytes(b"no picture")
    with pytest.raises(InputError, match="is not an image in a known format"):
        plan_submission(FORMATS[C], LABELS[C], images)


# --- whole or not at all ---


def broken_off(good: list[bytes]) -> Iterator[bytes]:
    yield from good[:2]
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", [C, V])
def test_what_breaks_off_leaves_the_old_pack_and_nothing_else(name: str, tmp_path: Path) -> None:
    path, plan = tmp_path / f"pack{suffix(name)}", plan_of(name)
    pngs = pngs_of(plan)
    path.write_text("the old pack")
    with pytest.raises(KeyboardInterrupt):
        write_archive(path, plan, broken_off(pngs))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        write_archive(path, plan, pngs[:2])
    with pytest.raises(InputError, match=r"the written archive has a fault \(1 prediction has another size"):
        write_archive(path, plan, [pngs[0], pngs[0], pngs[2]])
    assert path.read_text() == "the old pack"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "wrong"), [(C, "pack.tar.gz"), (V, "pack.zip"), (V, "pack.tar"), (C, "pack")])
def test_a_pack_is_named_after_its_kind(name: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{wrong}: the server of {name} expects a "):
        write_archive(tmp_path / wrong, plan_of(name), [])
    assert not list(tmp_path.iterdir())


# --- the parts ---


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.data())
def test_a_png_keeps_its_values(height: int, width: int, palette: bool, data: st.DataObject) -> None:
    flat = data.draw(st.lists(st.integers(0, 255), min_size=height * width, max_size=height * width))
    values = np.array(flat, np.uint8).reshape(height, width)
    image = Image.open(io.BytesIO(written := encode_mask(values, voc_palette() if palette else None)))
    assert np.array_equal(np.asarray(image), values)
    assert inspect_png("a.png", written, (height, width)) == np.unique(values).tolist()
    assert image.getpalette() == (voc_palette().ravel().tolist() if palette else None)


@pytest.mark.samples
def test_real_truth_as_prediction_scores_one(samples: Path, tmp_path: Path) -> None:
    """Real masks of Cityscapes, packed as predictions with ignored pixels filled, score 1 after packing."""
    labels = LabelSpace(LABELS[C].labels, ignored_values=tuple(set(range(34)) - set(IDS)))
    masks = sorted((samples / "cityscapes" / "gtFine" / "val").rglob("*_labelIds.png"))[:3]
    truth = {mask.name.replace("gtFine_labelIds.png", "leftImg8bit"): labels.encode(read_mask(mask)) for mask in masks}
    plan = Plan(FORMATS[C], labels, tuple(ExpectedImage(name, (1024, 2048)) for name in truth))
    filled = [np.where(mask == 255, 0, mask).astype(np.uint8) for mask in truth.values()]
    pngs = [encode_classes(classes, image, plan) for classes, image in zip(filled, plan.images, strict=True)]
    write_archive(tmp_path / "pack.zip", plan, pngs)
    confusion = ConfusionMatrix(19)
    for image, mask in zip(unpacked(tmp_path / "pack.zip").values(), truth.values(), strict=True):
        confusion.update(labels.encode(np.asarray(image)), mask)
    assert confusion.scores().miou == 1

"""Checking packs: every broken one told apart in one line, whoever made it and whatever it does to a reader."""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archives import (
    IDS,
    SIZES,
    A,
    C,
    V,
    changed,
    classes_of,
    files_of,
    images_of,
    kinds,
    pack,
    png,
    saved,
    suffix,
    unpacked,
    zipped,
)
from broken_archives import BROKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imageseg.errors import InputError
from imageseg.submission.check import ExpectedImage, check_archive, notes_on
from imageseg.submission.faults import SENTENCES
from imageseg.submission.formats import FORMATS

every_server = pytest.mark.parametrize("name", list(FORMATS))


@every_server
def test_a_good_pack_is_good(name: str, tmp_path: Path) -> None:
    path = pack(tmp_path / f"pack{suffix(name)}", name)
    seen: list[tuple[int, int]] = []
    report = check_archive(
        path,
        FORMATS[name],
        images=images_of(name),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.faults == []
    assert report.files == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert report.to_dict()["good"] is True


def test_palette_files_and_longer_names_of_other_tools_are_good(tmp_path: Path) -> None:
    """Cityscapes' evaluator takes <city>_<sequence>_<frame>*.png in any folder, and reads palettes as indices."""
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for number, (height, width) in enumerate(SIZES, start=1):
            image = Image.fromarray(np.full((height, width), 7, np.uint8))
            image.putpalette([5] * 768)
            archive.writestr(f"results/berlin/berlin_{number:06d}_000019_pred_labelIds.png", saved(image))
            archive.mkdir(f"folder{number}")
    assert kinds(check_archive(tmp_path / "pack.zip", FORMATS["Cityscapes"], images=images_of("Cityscapes"))) == []


def test_without_the_pictures_names_and_number_are_the_official_ones(tmp_path: Path) -> None:
    path = pack(tmp_path / "pack.tar.gz", "VOC")
    [fault] = check_archive(path, FORMATS["VOC"]).faults
    assert fault.message == "the number of predictions is wrong: 3 images, and the test split has 1456"
    path = pack(tmp_path / "pack.zip", "ADE20K")
    report = check_archive(path, FORMATS["ADE20K"])
    assert report.faults == []  # no source says how many images there are
    assert "the number of images are not" in report.notes[0]
    path = pack(tmp_path / "bdd.zip", "BDD100K")
    assert kinds(check_archive(path, FORMATS["BDD100K"])) == ["count", "size"]
    path = zipped(tmp_path / "other.zip", {"other.png": png(np.full((2, 2), 3))})
    [fault] = check_archive(path, FORMATS["ADE20K"]).faults
    assert fault.message == "1 file has a name that no test image has: other.png"


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_pack_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    name, make, expected, line = BROKEN[case]
    path = make(tmp_path / f"pack{suffix(name)}")
    report = check_archive(path, FORMATS[name], images=images_of(name))
    assert kinds(report) == expected, [fault.message for fault in report.faults]
    first = report.faults[0].message if expected[-1] != "lookalike" or len(expected) > 1 else report.faults[-1].message
    assert line in first or re.search(line, first), first
    assert all("\n" not in fault.message for fault in report.faults)
    assert report.to_dict()["good"] is False


def test_there_are_cases_of_every_kind_of_fault() -> None:
    tested = {kind for _, _, expected, _ in BROKEN.values() for kind in expected}
    others = {"names", "count"}  # test_without_the_images_names_and_number_are_the_official_ones
    assert tested | others == set(SENTENCES)


def test_names_from_strangers_are_safe_to_print(tmp_path: Path) -> None:
    evil = "\x1b[2Jberlin\n.png"
    report = check_archive(zipped(tmp_path / "pack.zip", {**files_of(C), evil: b""}), FORMATS[C], images=images_of(C))
    assert kinds(report) == ["extra"]
    assert report.faults[0].message.isprintable()


def test_ids_that_never_score_are_a_note(tmp_path: Path) -> None:
    path = zipped(tmp_path / "pack.zip", changed(C, lambda v: png(np.array([[1, 4, 7, 26, 26, 26]] * 4))))
    report = check_archive(path, FORMATS[C], images=images_of(C))
    assert report.faults == []
    assert report.notes == ["1 predictions contain ids that are allowed but never score: 1, 4"]


def test_a_missing_pack_or_a_folder_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check_archive(tmp_path / "pack.zip", FORMATS[C])
    with pytest.raises(InputError, match="is a folder, not an archive"):
        check_archive(tmp_path, FORMATS[C])


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    return {name: pack(folder / f"pack{suffix(name)}", name).read_bytes() for name in (C, V)}


@given(data=st.data(), name=st.sampled_from([C, V]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_pack_it_is_reported(
    data: st.DataObject, name: str, good_bytes: dict[str, bytes], tmp_path: Path
) -> None:
    raw = bytearray(good_bytes[name])
    if data.draw(st.booleans()) and name == V:  # behind the compression, where a flip is not caught by its checksum
        raw = bytearray(gzip.decompress(bytes(raw)))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        raw[place] = value
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))]
    path = tmp_path / "pack"
    path.write_bytes(bytes(raw) if raw[:1] != b"r" else gzip.compress(bytes(raw)))
    report = check_archive(path, FORMATS[name], images=images_of(name))
    assert all(fault.message.isprintable() for fault in report.faults)
    if not report.faults and name == C:
        files = unpacked(Path(shutil.copy(path, tmp_path / "pack.zip")))
        for image, classes in zip(files.values(), classes_of(name), strict=True):
            assert np.array_equal(np.asarray(image), np.array(IDS)[classes])


def test_other_pictures_than_the_servers_are_noted() -> None:
    notes = notes_on(images_of(C), FORMATS[C], split="test")
    assert notes == [
        "the server scores 1525 images, and there are 3 here",
        "the server's images have 2048 x 1024 pixels, but 3 of these have another size (berlin_000001_000019_leftImg8bit: 6 x 4)",
    ]
    assert notes_on([ExpectedImage("mine", (9, 9))], FORMATS[A], split="test") == [
        "1 images are not named as the server's are (mine)"
    ]
    assert notes_on([], FORMATS[A], split="val") == ["the server scores the test split, and this is val"]

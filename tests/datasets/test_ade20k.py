"""ADE20K's tree in its places, and its table of 150 classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import write_ade20k
from PIL import Image

from imageseg import build_dataset
from imageseg.datasets.ade20k import ADE20K, LABELS
from imageseg.errors import InputError


def test_zero_is_ignored_and_the_others_move_down_by_one(tmp_path: Path) -> None:
    dataset = ADE20K(**write_ade20k(tmp_path))
    stored = np.arange(151, dtype=np.uint8)[None]
    assert LABELS.encode(stored)[0].tolist() == [255, *range(150)]
    assert dataset.samples("train")[0]["mask"].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 255, 255, 255, 0, 149],
        [0, 255, 2, 255, 0, 149],
        [0, 0, 0, 0, 0, 0],
    ]
    path = tmp_path / "ADEChallengeData2016/annotations/training/ADE_train_00000001.png"
    Image.new("L", (6, 4), 151).save(path)
    with pytest.raises(InputError, match=r"value 151 \(24 pixels\) is not in the label table"):
        dataset.samples("train")[0]


def test_the_table_is_the_benchmarks() -> None:
    """Rows of objectInfo150.txt (its numbers start at 1), colors of the benchmark's palette."""
    assert len(LABELS) == 150
    rows = {1: "wall", 2: "building", 8: "bed", 14: "earth", 15: "door", 45: "chest of drawers", 90: "television"}
    rows |= {96: "bannister", 117: "minibike", 124: "trade name", 137: "traffic light", 143: "plate", 150: "flag"}
    assert {number: LABELS.names[number - 1] for number in rows} == rows
    colors = {1: (120, 120, 120), 2: (180, 120, 120), 3: (6, 230, 230), 21: (0, 102, 200), 48: (0, 163, 255)}
    colors |= {100: (255, 112, 0), 137: (41, 0, 255), 148: (25, 194, 194), 150: (92, 0, 255)}
    assert {number: LABELS.labels[number - 1].color for number in colors} == colors
    # One figure for all of them, from mmsegmentation's table: each channel's sum, and that of its products with the row
    palette = LABELS.palette[:150].astype(np.int64)
    assert palette.sum(axis=0).tolist() == [17965, 20212, 20250]
    assert (palette * np.arange(1, 151)[:, None]).sum(axis=0).tolist() == [1268542, 1551769, 1649040]


@pytest.mark.parametrize("base", ["ADEChallengeData2016", "", "adechallengedata2016"])
def test_the_tree_is_found_in_its_places(tmp_path: Path, base: str) -> None:
    write_ade20k(tmp_path, base=base)
    for root in {tmp_path, tmp_path / base}:
        dataset = ADE20K(str(root))
        assert dataset.splits == ("train", "val", "test")
        assert dataset.pairs("train")[0].name == "ADE_train_00000001"
        assert dataset.pairs("test")[0].mask is None


def test_without_the_test_images(tmp_path: Path) -> None:
    dataset = ADE20K(**write_ade20k(tmp_path))
    shutil.rmtree(tmp_path / "release_test")
    assert dataset.splits == ("train", "val")
    assert dataset.scored_split == "val"
    with pytest.raises(InputError, match=r"has no split 'test'; it has train, val"):
        dataset.pairs("test")


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ADE20K: .* has no ADEChallengeData2016.images, images; expected"):
        ADE20K(str(tmp_path)).pairs("train")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="images contains neither training nor validation"):
        ADE20K(str(tmp_path)).pairs("train")


@pytest.mark.parametrize("name", ["ADE20K", "ade20k", "ADE", "ADE20K150", "ADE20K-150", "ADE20KModule"])
def test_every_spelling(name: str) -> None:
    assert isinstance(build_dataset(name), ADE20K)


def test_objects_are_not_told_apart_and_the_archive_is_the_owners(tmp_path: Path) -> None:
    dataset = ADE20K(**write_ade20k(tmp_path))
    assert dataset.objects(dataset.pairs("train")[0]) is None
    (archive,) = dataset.archives()
    assert archive.url.endswith("/ADEChallengeData2016.zip")

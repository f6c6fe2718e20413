"""Counting a split: by hand on fakes, against plain numpy, in processes, and again from the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import EXPECTED, FOLDER_COLORS, write_camvid, write_fake, write_folder, write_voc
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imageseg import DATASETS, Label, LabelSpace, build_dataset
from imageseg.datasets.statistics import counts as statistics
from imageseg.datasets.statistics.counts import ClassCounts, count_mask, count_objects, count_per_image
from imageseg.errors import InputError


def count_classes(*args: Any, **arguments: Any) -> ClassCounts:
    return count_per_image(*args, **arguments).total()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imageseg" / "statistics"


def plain(counts: ClassCounts) -> dict[str, object]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(counts).items()}


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_is_counted_as_its_fake_was_by_hand(tmp_path: Path, name: str) -> None:
    dataset = build_dataset(name, **write_fake(name, tmp_path / "data"))
    for split, expected in EXPECTED[name].items():
        if any(sample.pixels is None for sample in expected):
            continue
        counts = count_classes(dataset, dataset.pairs(split), split=split, workers=1, cache=False)
        for index in range(len(dataset.labels)):
            assert counts.pixels[index] == sum((sample.pixels or {}).get(index, 0) for sample in expected)
            assert counts.images[index] == sum(index in (sample.pixels or {}) for sample in expected)
        assert counts.ignored == sum((sample.pixels or {}).get(255, 0) for sample in expected)
        assert counts.masks == len(expected)


def test_images_are_counted_one_by_one(tmp_path: Path, cache: Path) -> None:
    """trainval of the fake, by its letters: person 15 and car 7 in the first of its list, or the second."""
    dataset = build_dataset("VOC", **write_voc(tmp_path / "voc"))
    pairs = dataset.pairs("trainval")
    expected = {"2007_000001": ({0: 16, 7: 1, 15: 2}, 5), "2007_000002": ({0: 13}, 2)}
    for _ in range(2):  # counted, then as they were kept
        counts = count_per_image(dataset, pairs, split="trainval", workers=1)
        assert counts.pixels.shape == (2, 21)
        for pair, pixels, ignored in zip(pairs, counts.pixels, counts.ignored, strict=True):
            assert ({int(index): int(pixels[index]) for index in np.flatnonzero(pixels)}, ignored) == expected[
                pair.name
            ]
        assert plain(counts.total()) == plain(count_classes(dataset, pairs, split="trainval", workers=1))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"picture": [0], "class": [3], "pixels": [5]},  # of three classes
        {"picture": [1], "class": [0], "pixels": [5]},  # of one image
        {"picture": [0]},
        {"ignored": [1, 2]},
        {"ignored": None},
    ],
)
def test_kept_counts_of_another_form_are_counted_again(
    change: dict[str, object], tmp_path: Path, cache: Path, calls: list[Path]
) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    first = count_train(root)
    [path] = cache.iterdir()
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"values": record["values"] | change}))
    assert count_train(root) == first
    assert len(calls) == 2


def test_image_pixels_are_those_of_the_images_in_which_a_class_occurs(tmp_path: Path) -> None:
    """trainval of the fake: 24 pixels with 5 of border, and 15 with 2; only the first has the car."""
    dataset = build_dataset("VOC", **write_voc(tmp_path / "voc"))
    counts = count_classes(dataset, dataset.pairs("trainval"), split="trainval", workers=1)
    occurring = {index: int(counts.image_pixels[index]) for index in np.flatnonzero(counts.image_pixels)}
    assert occurring == {0: 19 + 13, 7: 19, 15: 19}
    assert (counts.valid, counts.ignored, counts.masks) == (32, 7, 2)


def test_two_processes_count_as_one_and_progress_is_told(tmp_path: Path) -> None:
    dataset = build_dataset("CamVid", **write_camvid(tmp_path / "camvid", tree="colors"))  # reads masks in its own way
    pairs = [pair for split in dataset.splits for pair in dataset.pairs(split)]
    seen: list[tuple[int, int]] = []
    counted = [
        plain(
            count_classes(
                dataset, pairs, split="all", workers=workers, cache=False, progress=lambda *done: seen.append(done)
            )
        )
        for workers in (1, 2)
    ]
    assert counted[0] == counted[1]
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


SPACE = LabelSpace(
    (Label("a", (1, 2, 3), (0, 9)), Label("b", (4, 5, 6), (300,)), Label("c", (7, 8, 9), (2,))), ignored_values=(255, 4)
)


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([0, 9, 300, 2, 255, 4]))
)
def test_counting_values_is_counting_encoded_pixels(stored: np.ndarray) -> None:
    classes = SPACE.encode(stored)
    expected = [int((classes == index).sum()) for index in (0, 1, 2, 255)]
    for kind in (stored, stored.astype(np.int32)):
        assert count_mask(lambda _, kind=kind: kind, SPACE, Path("x")).tolist() == expected


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_counting_colors_is_counting_encoded_pixels(indices: np.ndarray) -> None:
    stored = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 0)], np.uint8)[indices]
    classes = SPACE.encode(stored)
    expected = [int((classes == index).sum()) for index in (0, 1, 2, 255)]
    assert count_mask(lambda _: stored, SPACE, Path("x")).tolist() == expected


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.full((2, 3), 7, np.uint8), r"x\.png: value 7 \(6 pixels\) is not in the label table"),
        (np.full((2, 3), -1, np.int32), r"x\.png: stored values are outside 0 to 65535"),
        (np.full((2, 3), 70000, np.int32), r"x\.png: stored values are outside 0 to 65535"),
        (np.full((2, 3, 3), 9, np.uint8), r"x\.png: color \(9, 9, 9\) \(6 pixels\) is not in the label table"),
    ],
)
def test_undeclared_values_are_the_error_of_training(stored: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_mask(lambda _: stored, SPACE, Path("x.png"))


def test_a_masks_own_process_needs_no_torch() -> None:
    script = "import sys, imageseg.datasets.statistics.counts, imageseg.datasets.voc.sbd; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The masks that were counted."""
    counted: list[Path] = []
    count = statistics.count_mask

    def counting(read_stored: object, labels: LabelSpace, mask: Path) -> np.ndarray:
        counted.append(mask)
        return count(read_stored, labels, mask)

    monkeypatch.setattr(statistics, "count_mask", counting)
    return counted


def count_train(root: Path, *, cache: bool = True) -> dict[str, object]:
    dataset = build_dataset("Folder", root)
    return plain(count_classes(dataset, dataset.pairs("train"), split="train", workers=1, cache=cache))


def test_the_same_files_are_counted_once(tmp_path: Path, cache: Path, calls: list[Path]) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    first = count_train(root)
    assert count_train(root) == first
    assert len(calls) == 1
    assert len(list(cache.iterdir())) == 1
    count_train(root, cache=False)
    assert len(calls) == 2


def test_what_changed_is_counted_again(tmp_path: Path, cache: Path, calls: list[Path]) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    mask = root / "masks/train/train_1.png"
    count_train(root)
    Image.new("L", (6, 4), 26).save(mask)  # another content
    assert count_train(root)["pixels"] == [0, 0, 24]
    os.utime(mask, ns=(1, 1))  # another time alone
    count_train(root)
    table = root / "labels.yaml"
    table.write_text(table.read_text().replace("name: car", "name: bus"))  # another table
    count_train(root)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):  # another file
        path = root / kind / f"train/train_1.{suffix}"
        path.with_stem("train_2").write_bytes(path.read_bytes())
    assert count_train(root)["masks"] == 2
    assert len(calls) == 6
    assert len(list(cache.iterdir())) == 1  # each took the place of the one before


def test_splits_and_roots_are_kept_apart(tmp_path: Path, cache: Path, calls: list[Path]) -> None:
    for name in ("a", "b"):
        dataset = build_dataset("Folder", **write_folder(tmp_path / name))
        for split in ("train", "val"):
            for _ in range(2):
                count_classes(dataset, dataset.pairs(split), split=split, workers=1)
    assert len(calls) == len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"seen": 3}', "damaged", "RIGHT KEY, WRONG VALUES"])
def test_a_damaged_cache_is_counted_over(tmp_path: Path, cache: Path, calls: list[Path], content: str) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    first = count_train(root)
    (path,) = cache.iterdir()
    if content.startswith("RIGHT"):
        content = json.dumps(json.loads(path.read_text()) | {"values": {"pixels": "many"}})
    path.write_text(content)
    assert count_train(root) == first
    assert len(calls) == 2
    assert count_train(root) == first
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_is_fine(
    tmp_path: Path, cache: Path, calls: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert count_train(root)["masks"] == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert count_train(root)["masks"] == 1
    assert len(calls) == 2


def write_objects(root: Path, values: dict[str, list[int]]) -> None:
    """SegmentationObject of VOC's fake: these values, then background."""
    target = root / "VOCdevkit/VOC2012/SegmentationObject"
    target.mkdir(exist_ok=True)
    for name, stored in values.items():
        Image.fromarray(np.array([stored + [0] * (6 - len(stored))], np.uint8)).save(target / f"{name}.png")


def test_objects_are_counted_by_hand(tmp_path: Path) -> None:
    dataset = build_dataset("VOC", **write_voc(tmp_path / "voc"))
    pairs = dataset.pairs("trainval")
    assert count_objects(dataset, pairs, split="trainval") is None
    write_objects(dataset.root, {"2007_000001": [1, 2, 2, 255, 3]})
    assert count_objects(dataset, pairs, split="trainval") == statistics.Objects(3, 1)  # of one of the two
    write_objects(dataset.root, {"2007_000002": [255, 1]})
    seen: list[tuple[int, int]] = []
    found = count_objects(dataset, pairs, split="trainval", progress=lambda *done: seen.append(done))
    assert found == statistics.Objects(4, 2)
    assert seen == [(1, 2), (2, 2)]


def test_objects_are_kept_until_their_own_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build_dataset("VOC", **write_voc(tmp_path / "voc"))
    write_objects(dataset.root, {"2007_000001": [1, 2]})
    asked: list[str] = []
    real = type(dataset).objects

    def objects(self: object, pair: object) -> int | None:
        asked.append(pair.name)
        return real(self, pair)

    monkeypatch.setattr(type(dataset), "objects", objects)
    for _ in range(2):
        assert count_objects(dataset, dataset.pairs("train"), split="train") == statistics.Objects(2, 1)
    assert len(asked) == 1
    write_objects(dataset.root, {"2007_000001": [1, 2, 3]})
    assert count_objects(dataset, dataset.pairs("train"), split="train") == statistics.Objects(3, 1)
    assert len(asked) == 2
    count_objects(dataset, dataset.pairs("train"), split="train", cache=False)
    assert len(asked) == 3


def test_folders_without_objects_are_not_asked(tmp_path: Path) -> None:
    dataset = build_dataset("Folder", **write_folder(tmp_path / "data"))
    assert count_objects(dataset, dataset.pairs("train"), split="train") is None


def test_color_masks_are_counted_too(tmp_path: Path) -> None:
    assert set(FOLDER_COLORS) == set("rcpv")
    dataset = build_dataset("Folder", **write_folder(tmp_path / "data", kind="RGB"))
    counts = count_classes(dataset, dataset.pairs("train"), split="train", workers=1)
    assert (counts.pixels.tolist(), counts.ignored) == ([16, 2, 1], 5)


@pytest.mark.samples
def test_the_real_camvid_against_plain_numpy(samples: Path) -> None:
    dataset = build_dataset("CamVid", samples / "camvid")
    pairs = dataset.pairs("val")
    counts = count_classes(dataset, pairs, split="val", workers=2, cache=False)
    stored = np.stack([np.asarray(Image.open(pair.mask)) for pair in pairs])
    assert counts.pixels.tolist() == [int((stored == value).sum()) for value in range(11)]
    assert counts.ignored == int((stored == 11).sum())
    assert counts.images.tolist() == [int((stored == value).any(axis=(1, 2)).sum()) for value in range(11)]

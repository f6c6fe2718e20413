"""PackedSamples: packed, unpacked and whole images are the same bytes; what is not packed is read from its own files."""

from __future__ import annotations

import logging
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import EXPECTED, write_fake, write_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imageseg.datasets import DATASETS, build_dataset
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.pairs import Pair
from imageseg.datasets.samples import PairSamples
from imageseg.errors import InputError
from imageseg.images import write_image
from imageseg.labels import Label, LabelSpace
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.crop import Box, OpenPair
from imageseg.pipeline.loader import Loading, evaluation_loader, training_loader
from imageseg.pipeline.store.build import build_store
from imageseg.pipeline.store.dataset import PackedSamples

LABELS = LabelSpace(tuple(Label(f"class {value}", (value, 0, 0), (value,)) for value in range(20)), ignored_colors=())
SIZE = (41, 58)


def packed_now(dataset: SegmentationDataset, split: str) -> PackedSamples:
    return PackedSamples.build(dataset, split, dataset.samples(split), workers=1)


def some_box(data: st.DataObject, size: tuple[int, int]) -> Box:
    top, left = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    return Box(top, left, data.draw(st.integers(top + 1, size[0])), data.draw(st.integers(left + 1, size[1])))


def check_box(opened: OpenPair, whole: tuple[np.ndarray, np.ndarray], box: Box) -> None:
    assert opened.size == whole[1].shape
    part = np.s_[box.top : box.bottom, box.left : box.right]
    for _ in range(2):  # a mask is kept, an image is not
        np.testing.assert_array_equal(opened.mask(box), whole[1][part])
        np.testing.assert_array_equal(opened.image(box), whole[0][part])


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_is_the_same_packed(name: str, tmp_path: Path) -> None:
    dataset = build_dataset(name, **write_fake(name, tmp_path))
    checked = 0
    for split in EXPECTED[name]:
        samples = dataset.samples(split)
        if samples.pairs[0].mask is None:
            continue
        store = packed_now(dataset, split)
        assert len(store) == len(samples)
        for index in range(len(samples)):
            whole = samples.read(index)
            height, width = whole[1].shape
            for box in (Box(0, 0, height, width), Box(1, 1, height - 1, width), Box(height - 1, 0, height, 2)):
                check_box(samples.open(index), whole, box)
                check_box(store.open(index), whole, box)
            one, other = samples[index], store[index]
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["mask"], other["mask"])
            assert one["name"] == other["name"] == store.name(index)
            checked += 1
    assert checked >= 2
    assert (dataset.root / ".imageseg").is_dir()
    assert all(len(dataset.pairs(split)) == len(expected) for split, expected in EXPECTED[name].items())


def turned(mode: str) -> dict[str, Image.Exif]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif} if mode == "turned" else {}


@pytest.fixture(scope="module")
def modes(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairSamples, PackedSamples]:
    """An image of every pixel mode and format, with masks of two modes."""
    root = tmp_path_factory.mktemp("modes")
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (*SIZE, 3), np.uint8)
    deep = Image.fromarray(generator.integers(0, 65536, SIZE, np.uint16))
    pictures = {
        "rgb.jpg": Image.fromarray(colors),
        "grey.jpg": Image.fromarray(colors[..., 0]),
        "cmyk.jpg": Image.fromarray(colors).convert("CMYK"),
        "turned.jpg": Image.fromarray(colors),
        "rgb.png": Image.fromarray(colors),
        "grey.png": Image.fromarray(colors[..., 0]),
        "palette.png": Image.fromarray(colors).quantize(16),
        "alpha.png": Image.fromarray(colors).convert("RGBA"),
        "deep.png": deep,
        "rgb.tif": Image.fromarray(colors),
        "rgb.webp": Image.fromarray(colors),
    }
    pairs = []
    for name, picture in pictures.items():
        picture.save(root / name, **turned(Path(name).stem))
        size = SIZE[::-1] if name == "turned.jpg" else SIZE
        mask = Image.fromarray(generator.integers(0, 20, size, np.uint8))
        if "rgb" in name:
            mask.putpalette(bytes(range(60)))
        mask.save(root / f"{name}_mask.png")
        pairs.append(Pair(root / name, root / f"{name}_mask.png", name))
    samples = PairSamples(pairs, LABELS)
    build_store(root / "store", pairs, LABELS, samples.read_stored, workers=1)
    return samples, PackedSamples(root / "store", samples)


@given(st.data(), st.integers(0, 10))
def test_every_box_of_every_mode_is_the_same(
    modes: tuple[PairSamples, PackedSamples], data: st.DataObject, index: int
) -> None:
    whole = modes[0].read(index)
    box = some_box(data, whole[1].shape)
    for samples in modes:
        check_box(samples.open(index), whole, box)


def test_a_mask_is_only_judged_where_it_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    values = np.zeros((4, 6), np.uint8)
    values[3, 5] = 77
    write_image(tmp_path / "m.png", values)
    opened = PairSamples([Pair(tmp_path / "a.png", tmp_path / "m.png", "a")], LABELS).open(0)
    assert opened.mask(Box(0, 0, 3, 6)).shape == (3, 6)
    with pytest.raises(InputError, match=r"m\.png: value 77 \(1 pixel\) is not in the label table"):
        opened.mask(Box(2, 4, 4, 6))


def test_a_mask_of_another_size_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    write_image(tmp_path / "m.png", np.zeros((6, 4), np.uint8))
    opened = PairSamples([Pair(tmp_path / "a.png", tmp_path / "m.png", "a")], LABELS).open(0)
    with pytest.raises(InputError, match=r"m\.png: is 4 x 6 pixels, its image .* is 6 x 4; they are rotated"):
        opened.mask(Box(0, 0, 1, 1))


def test_what_changed_since_or_vanished_is_read_from_its_own_files_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = build_dataset("ToyScenes", **write_fake("ToyScenes", tmp_path))
    samples = dataset.samples("train")
    store = packed_now(dataset, "train")
    write_image(samples.pairs[0].image, np.full((64, 64, 3), 7, np.uint8))
    with caplog.at_level(logging.WARNING):
        changed = PackedSamples(store.folder, samples)
        for _ in range(2):
            assert (changed.read(0)[0] == 7).all()
        assert (store.read(0)[0] != 7).any()  # opened before the change: as it was
    assert [record.message for record in caplog.records] == [
        f"{samples.pairs[0].image}: is not packed, or was changed since; it is read from its own files until it is packed again"
    ]
    for path in store.folder.glob("*.pair"):
        path.unlink()
    for index in range(2):
        np.testing.assert_array_equal(store.read(index)[1], samples.read(index)[1])
    assert len(packed_now(dataset, "train")) == 2


def test_what_goes_to_a_worker_maps_its_files_there(tmp_path: Path) -> None:
    dataset = build_dataset("ToyScenes", **write_fake("ToyScenes", tmp_path))
    store = packed_now(dataset, "train")
    store.open(0).image(Box(0, 0, 9, 9))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(1)[0], store.read(1)[0])


@pytest.mark.parametrize("is_packed", [False, True])
def test_loaders_work_with_spawned_workers(tmp_path: Path, is_packed: bool) -> None:
    dataset = build_dataset("Folder", **write_folder(tmp_path))
    samples = packed_now(dataset, "train") if is_packed else dataset.samples("train")
    batches = {}
    for workers in (0, 1):
        loading = Loading(batch_size=2, num_workers=workers, prefetch_factor=3)
        training = training_loader(samples, Augmentation(crop_size=(4, 4)), loading=loading, seed=3)
        scoring = evaluation_loader(samples, len(samples), num_workers=workers)
        if workers:
            assert training.prefetch_factor == 3
            training.multiprocessing_context = scoring.multiprocessing_context = "spawn"
        batches[workers] = [*islice(training, 2), *scoring]
    assert len(batches[0]) == len(batches[1]) == 3
    for one, other in zip(batches[0], batches[1], strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])

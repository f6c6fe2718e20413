"""Packing and StreamData: what is trained on is packed if asked for, and the files themselves where there is no room."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from fakes import write_fake

from imageseg.datasets import build_dataset
from imageseg.errors import InputError
from imageseg.images import write_image
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.training.data import StreamData
from imageseg.training.packed_splits import Packing


def data_of(root: Path, said: list[str], **loading: object) -> StreamData:
    dataset = build_dataset("CamVid", root)
    packing = Packing(lambda: nullcontext(lambda done, total: said.append(f"{done}/{total}")), said.append)
    data = StreamData(dataset, Augmentation(crop_size=(4, 4)), Loading(**loading), seed=0)  # type: ignore[arg-type]
    data.pack(packing)
    return data


def test_both_splits_are_packed_and_the_scored_one_is_not(tmp_path: Path) -> None:
    write_fake("CamVid", tmp_path)
    said: list[str] = []
    data = data_of(tmp_path, said, pack=True)
    assert isinstance(data.train_samples, PackedSamples)
    assert isinstance(data.val_samples, PackedSamples)
    assert not isinstance(data.test_samples, PackedSamples)
    assert said == ["1/1", "1/1"]
    plain = data_of(tmp_path, said)
    for packed, read in ((data.train_samples, plain.train_samples), (data.val_samples, plain.val_samples)):
        for one, other in zip(packed.read(0), read.read(0), strict=True):
            np.testing.assert_array_equal(one, other)
    data_of(tmp_path, said, pack=True)
    assert said == ["1/1", "1/1"]
    assert data_of(tmp_path, said, pack=True, test_split="val").test_samples.__class__ is PackedSamples


def test_without_room_training_goes_on_and_says_so(tmp_path: Path) -> None:
    write_fake("CamVid", tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    data = data_of(tmp_path / "data", said, pack=True, pack_folder=str(tmp_path / "file"))
    assert not isinstance(data.train_samples, PackedSamples)
    assert [line.partition(" (")[0] for line in said] == [
        f"{tmp_path / 'file'}{rest}" for rest in _rests(tmp_path / "data", tmp_path / "file")
    ]
    assert all("training goes on without" in line for line in said)


def _rests(root: Path, folder: Path) -> list[str]:
    from imageseg.pipeline.store.build import store_folder

    dataset = build_dataset("CamVid", root)
    stores = [store_folder(dataset, split, folder) for split in ("train", "val")]
    return [f"{str(store).removeprefix(str(folder))}: cannot be written" for store in stores]


def test_a_faulty_mask_stops_as_it_does_without_packing(tmp_path: Path) -> None:
    write_fake("CamVid", tmp_path)
    dataset = build_dataset("CamVid", tmp_path)
    write_image(dataset.pairs("train")[0].mask or "", np.full((4, 6), 99, np.uint8))
    with pytest.raises(InputError, match="value 99"):
        data_of(tmp_path, [], pack=True)

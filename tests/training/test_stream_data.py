"""StreamData: it packs, balances and mixes by itself, as its settings say, in any Lightning trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes import write_fake

from imageseg.datasets import build_dataset
from imageseg.datasets.statistics.counts import count_per_image
from imageseg.errors import InputError
from imageseg.images import write_image
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.balance import RareClassOrder
from imageseg.pipeline.loader import Loading, training_loader
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.training.data import StreamData


def data_of(root: Path, **loading: object) -> StreamData:
    augmentation = Augmentation(crop_size=(4, 4))
    data = StreamData(build_dataset("CamVid", root), augmentation, Loading(**loading), seed=0)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def test_both_splits_are_packed_and_the_scored_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake("CamVid", tmp_path)
    said: list[str] = []

    @contextmanager
    def progress(name: str, *, lines_in_logs: bool) -> Iterator[Callable[[int, int], None]]:
        assert (name, lines_in_logs) == ("pack", True)
        yield lambda done, total: said.append(f"{done}/{total}")

    monkeypatch.setattr("imageseg.training.data.file_progress", progress)

    def shown(**loading: object) -> StreamData:
        dataset, augmentation = build_dataset("CamVid", tmp_path), Augmentation(crop_size=(4, 4))
        data = StreamData(dataset, augmentation, Loading(**loading), seed=0, show_progress=True)  # type: ignore[arg-type]
        data.setup()
        return data

    data = shown(pack=True)
    assert isinstance(data.train_samples, PackedSamples)
    assert isinstance(data.val_samples, PackedSamples)
    assert not isinstance(data.test_samples, PackedSamples)
    assert said == ["1/1", "1/1"]
    plain = shown()
    for packed, read in ((data.train_samples, plain.train_samples), (data.val_samples, plain.val_samples)):
        for one, other in zip(packed.read(0), read.read(0), strict=True):
            np.testing.assert_array_equal(one, other)
    shown(pack=True)
    assert said == ["1/1", "1/1"]
    assert shown(pack=True, test_split="val").test_samples.__class__ is PackedSamples


def test_without_room_training_continues_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_fake("CamVid", tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    data = data_of(tmp_path / "data", pack=True, pack_folder=str(tmp_path / "file"))
    said = [record.getMessage() for record in caplog.records if record.name == "imageseg.training.data"]
    assert not isinstance(data.train_samples, PackedSamples)
    assert [line.partition(" (")[0] for line in said] == [
        f"{tmp_path / 'file'}{rest}" for rest in _rests(tmp_path / "data", tmp_path / "file")
    ]
    assert all("training continues without packing" in line for line in said)


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
        data_of(tmp_path, pack=True)


def scenes(root: Path, **loading: object) -> tuple[StreamData, Augmentation]:
    dataset = build_dataset("ToyScenes", root, size=(64, 64), counts=(6, 2, 2))
    augmentation = Augmentation(crop_size=(16, 16), class_mix=0.5, copy_paste=0.5)
    data = StreamData(dataset, augmentation, Loading(batch_size=2, num_workers=0, **loading), seed=5)  # type: ignore[arg-type]
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)  # type: ignore[assignment]
    return data, augmentation


def test_it_prepares_packs_balances_and_mixes_by_itself(tmp_path: Path) -> None:
    data, augmentation = scenes(tmp_path, balance="rcs", pack=True)
    data.prepare_data()
    data.setup("fit")
    pixels = count_per_image(data.dataset, data.dataset.pairs("train"), split="train", workers=1).pixels
    order = RareClassOrder(pixels, seed=5)
    assert isinstance(data.train_samples, PackedSamples)
    assert data.class_pixels is not None
    np.testing.assert_array_equal(data.class_pixels, pixels.sum(axis=0))
    assert data.draws_per_epoch == 6
    expected = training_loader(
        data.dataset.samples("train"),
        augmentation,
        loading=data.loading,
        seed=5,
        order=order,
        mixing=augmentation.mixing,
    )
    unmixed = training_loader(data.train_samples, augmentation, loading=data.loading, seed=5, order=order)
    batches = list(islice(data.train_dataloader(), 6))
    for one, other in zip(batches, islice(expected, 6), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
    drawn = list(chain.from_iterable(order.draws(epoch) for epoch in range(2)))
    names = [pair.name for pair in data.dataset.pairs("train")]
    assert [name for batch in batches for name in batch["name"]] == [names[draw.sample] for draw in drawn]
    assert not all(torch.equal(one["mask"], other["mask"]) for one, other in zip(batches, unmixed, strict=False))


def test_other_stages_than_fit_only_list_the_files(tmp_path: Path) -> None:
    data, _ = scenes(tmp_path, balance="rcs", pack=True)
    data.prepare_data()
    data.setup("test")
    assert not isinstance(data.train_samples, PackedSamples)
    assert data.class_pixels is None
    assert len(list(data.test_dataloader())) == 2


def test_a_second_setup_changes_nothing(tmp_path: Path) -> None:
    data, _ = scenes(tmp_path, pack=True)
    data.prepare_data()
    data.setup()
    packed = data.train_samples
    data.prepare_data()
    data.setup("fit")
    assert data.train_samples is packed


@pytest.mark.parametrize("balance", ["repeat", "focus", "auto"])
def test_a_removed_class_balance_names_its_replacement(tmp_path: Path, balance: str) -> None:
    with pytest.raises(InputError, match=rf"data\.balance '{balance}' was removed.*; use rcs"):
        scenes(tmp_path, balance=balance)

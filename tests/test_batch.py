"""Samples share the memory of what was read; batches are channels_last without rearranging pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imageseg.batch import make_sample, stack


def _sample(seed: int, height: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, 5, 3), dtype=np.uint8), rng.integers(0, 9, (height, 5), dtype=np.uint8)


def test_a_sample_shares_its_memory() -> None:
    image, mask = _sample(0)
    sample = make_sample(image, mask, "one")
    assert sample["image"].shape == (3, 4, 5)
    image[1, 2] = (7, 8, 9)
    mask[3, 4] = 200
    assert sample["image"][:, 1, 2].tolist() == [7, 8, 9]
    assert sample["mask"][3, 4] == 200


def test_a_batch_holds_its_samples_in_channels_last_order() -> None:
    arrays = [_sample(seed) for seed in range(3)]
    batch = stack([make_sample(*pair, f"sample {index}") for index, pair in enumerate(arrays)])
    assert batch["image"].shape == (3, 3, 4, 5)
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["name"] == ["sample 0", "sample 1", "sample 2"]
    for index, (image, mask) in enumerate(arrays):
        assert np.array_equal(batch["image"][index].permute(1, 2, 0).numpy(), image)
        assert np.array_equal(batch["mask"][index].numpy(), mask)
    assert batch["image"].contiguous(memory_format=torch.channels_last).data_ptr() == batch["image"].data_ptr()


def test_samples_of_different_sizes_do_not_stack() -> None:
    with pytest.raises(RuntimeError, match="equal size"):
        stack([make_sample(*_sample(0), "a"), make_sample(*_sample(1, height=6), "b")])

"""Counting of pixels per class and of objects in a split, in parallel; the results are cached per set of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.labels import LabelSpace
from imageseg.parallel import Progress, in_processes
from imageseg.user_cache import cached, content_key, file_states

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Objects:
    """Number of objects in a split."""

    count: int
    images: int
    """Number of images whose number of objects is known."""


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Pixel counts of each mask of a split, in the order of its pairs."""

    pixels: IntArray
    """Number of pixels of each class, shape (N, C)."""
    ignored: IntArray
    """Number of ignored pixels, shape (N,)."""

    def total(self) -> ClassCounts:
        """The total counts of the split."""
        there = self.pixels > 0
        return ClassCounts(
            pixels=self.pixels.sum(axis=0),
            images=there.sum(axis=0),
            image_pixels=self.pixels.sum(axis=1) @ there,
            ignored=int(self.ignored.sum()),
            masks=len(self.pixels),
        )


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Total pixel counts of the masks of a split; the arrays have shape (C,) and dtype int64."""

    pixels: IntArray
    images: IntArray
    """Number of images in which the class occurs."""
    image_pixels: IntArray
    """Number of valid pixels of the images in which the class occurs."""
    ignored: int
    """Number of ignored pixels."""
    masks: int

    @property
    def valid(self) -> int:
        """Number of pixels that are not ignored."""
        return int(self.pixels.sum())


def count_per_image(
    dataset: SegmentationDataset,
    pairs: Sequence[Pair],
    *,
    split: str,
    workers: int | None = None,
    progress: Progress | None = None,
    cache: bool = True,
) -> ImageCounts:
    """Count the pixels of each class in each mask.

    Args:
        dataset: Dataset to which the pairs belong.
        pairs: Files of the split; those without a mask are skipped.
        split: Name of the split, for the cache.
        workers: Number of worker processes. If not set, one per CPU core.
        progress: Function called with (masks done, total number of masks); not called if the counts were cached.
        cache: Whether to use a cached count of the same files, and to cache this one.

    Raises:
        InputError: A mask is unreadable, or contains a value that the labels do not declare.
    """
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    classes = len(dataset.labels)

    def count() -> dict[str, Any]:
        return _as_lists(_counted(dataset, masks, workers=workers, progress=progress))

    def read(values: dict[str, Any]) -> ImageCounts:
        return _from_lists(values, masks=len(masks), classes=classes)

    if not cache:
        return read(count())
    seen = content_key(dataset.labels.to_dict(), file_states(masks))
    return read(cached(_key(dataset, split, "classes"), seen, count, read))


def count_objects(
    dataset: SegmentationDataset,
    pairs: Sequence[Pair],
    *,
    split: str,
    progress: Progress | None = None,
    cache: bool = True,
) -> Objects | None:
    """Count the objects in all images; None if the dataset does not distinguish objects.

    Threads are used instead of processes: a dataset may hold large tables of its objects, and reading files releases the GIL.

    Args:
        dataset: Dataset to which the pairs belong.
        pairs: Files of the split.
        split: Name of the split, for the cache.
        progress: Function called with (images done, total number of images).
        cache: Whether to use a cached count of the same files, and to cache this one.
    """
    if type(dataset).objects is SegmentationDataset.objects:
        return None

    def count() -> dict[str, Any]:
        found: list[int] = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for done, objects in enumerate(threads.map(dataset.objects, pairs), start=1):
                if objects is not None:
                    found.append(objects)
                if progress is not None:
                    progress(done, len(pairs))
        return asdict(Objects(sum(found), len(found)))

    if cache:
        seen = content_key([pair.name for pair in pairs], file_states(_around(pairs)))
        objects = _objects(cached(_key(dataset, split, "objects"), seen, count, _objects))
    else:
        objects = _objects(count())
    return objects if objects.images else None


def count_mask(read_stored: Callable[[Path], npt.NDArray[Any]], labels: LabelSpace, mask: Path) -> IntArray:
    """Count the pixels per class of one mask: a histogram of the stored values, then one look-up per distinct value.

    Returns:
        Counts of shape (C + 1,), int64; the last one is the number of ignored pixels.

    Raises:
        InputError: As ``read_stored`` and ``labels.encode``.
    """
    stored = read_stored(mask)
    values, counts = _histogram(stored)
    try:
        classes = labels.encode(values, mask)[0]
    except InputError:
        labels.encode(stored, mask)  # the same error, with the number of pixels
        raise
    by_class = np.zeros(256, np.int64)
    np.add.at(by_class, classes, counts)
    return np.append(by_class[: len(labels)], by_class[labels.ignore_index])


def _histogram(stored: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], IntArray]:
    """The distinct values, as a mask of one row, and the number of pixels of each."""
    if stored.ndim == 3:
        packed = stored.astype(np.int32) @ np.array([65536, 256, 1], np.int32)  # (H, W)
        found, counts = np.unique(packed, return_counts=True)
        return np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(np.uint8)[None], counts
    if stored.dtype.itemsize > 2:
        found, counts = np.unique(stored, return_counts=True)
        return found[None], counts
    histogram = np.bincount(stored.ravel())
    values = np.flatnonzero(histogram)
    return values[None], histogram[values]


def _counted(
    dataset: SegmentationDataset, masks: Sequence[Path], *, workers: int | None, progress: Progress | None
) -> ImageCounts:
    labels = dataset.labels
    count = partial(count_mask, dataset.plain_reader, labels)
    counts = np.zeros((len(masks), len(labels) + 1), np.int64)
    for index, row in enumerate(in_processes(count, masks, workers=workers, progress=progress)):
        counts[index] = row
    return ImageCounts(counts[:, :-1], counts[:, -1])


def _around(pairs: Sequence[Pair]) -> list[Path]:
    """The files in the folders of the masks and images, and in the folders next to them.

    A dataset does not declare which files contain its objects, but they are there: VOC's SegmentationObject is next to
    SegmentationClass, Cityscapes' instanceIds next to labelIds.
    """
    folders = {(pair.mask or pair.image).parent for pair in pairs}
    adjacent = {
        folder for parent in {folder.parent for folder in folders} for folder in parent.iterdir() if folder.is_dir()
    }
    return sorted(path for folder in adjacent | folders for path in folder.iterdir() if path.is_file())


def _key(dataset: SegmentationDataset, split: str, what: str) -> list[Any]:
    """The cache key of a count, which replaces an earlier one with the same key."""
    arguments = {name: str(value) for name, value in sorted(vars(dataset).items()) if _is_plain(value)}
    return [type(dataset).__name__, str(dataset.root.resolve()), arguments, split, what]


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | tuple) or value is None


def _as_lists(counts: ImageCounts) -> dict[str, Any]:
    """The nonzero counts only: an image contains few of a hundred classes."""
    image, label = np.nonzero(counts.pixels)
    entries = {"picture": image, "class": label, "pixels": counts.pixels[image, label], "ignored": counts.ignored}
    return {name: values.tolist() for name, values in entries.items()}


def _from_lists(values: dict[str, Any], *, masks: int, classes: int) -> ImageCounts:
    image, label, pixels, ignored = (
        np.array(values[name], np.int64) for name in ("picture", "class", "pixels", "ignored")
    )
    counts = np.zeros((masks, classes), np.int64)
    if ignored.shape != (masks,) or not image.shape == label.shape == pixels.shape:
        raise ValueError("counts of other files")
    try:
        counts[image, label] = pixels
    except IndexError as error:
        raise ValueError("counts of other files") from error
    return ImageCounts(counts, ignored)


def _objects(values: dict[str, Any]) -> Objects:
    return Objects(int(values["count"]), int(values["images"]))

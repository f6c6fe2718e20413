"""SBD, the Semantic Boundaries Dataset (Hariharan et al. 2011): masks for more images of VOC2012, in MATLAB files."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imageseg.datasets.base import find_folder
from imageseg.datasets.text_files import read_names
from imageseg.errors import InputError
from imageseg.images import write_mask
from imageseg.parallel import Progress, in_processes

_PLACES = (
    "",
    "SBD",
    "benchmark_RELEASE/dataset",
    "SBD/benchmark_RELEASE/dataset",
    "SBD/dataset",
    "dataset",
    "VOCdevkit/SBD",
)


class Sbd(NamedTuple):
    """The folder of SBD, with ``cls/*.mat``, ``img/*.jpg``, ``train.txt`` and ``val.txt``."""

    folder: Path

    def names(self) -> set[str]:
        """Names of all images of both splits, which include VOC's val.

        Raises:
            InputError: A list is missing or empty.
        """
        return {name for split in ("train", "val") for name in read_names(self.folder / f"{split}.txt")}

    def image(self, name: str) -> Path:
        """Path of SBD's copy of an image."""
        return self.folder / "img" / f"{name}.jpg"


def find_sbd(roots: Iterable[Path]) -> Sbd | None:
    """Find SBD below one of the roots, in any of its common locations."""
    for root in roots:
        masks = find_folder(root, [str(Path(place, "cls")) for place in _PLACES])
        if masks is not None:
            return Sbd(masks.parent)
    return None


def read_mat(path: Path) -> npt.NDArray[np.uint8]:
    """Read a mask of SBD from a MATLAB file: (H, W) uint8, VOC's indices 0 to 20, no border.

    Raises:
        InputError: The file is missing or contains something else.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        mask = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    # scipy raises many kinds of exceptions for damaged or unexpected files.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: does not contain GTcls.Segmentation as SBD's files do ({reason}); download SBD again"
        ) from error
    if mask.ndim != 2 or mask.dtype.kind not in "ui" or not mask.size or not 0 <= mask.min() <= mask.max() <= 20:
        raise InputError(f"{path}: GTcls.Segmentation is not a mask of the classes 0 to 20; download SBD again")
    return mask.astype(np.uint8)


def convert(
    sbd: Sbd,
    names: Iterable[str],
    folder: Path,
    *,
    palette: npt.NDArray[np.uint8],
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Convert the masks of the named images to palette PNGs in ``folder``; existing ones are kept.

    Raises:
        InputError: A MATLAB file is missing or damaged, or the folder cannot be written.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    jobs = [
        (sbd.folder / "cls" / f"{name}.mat", folder / f"{name}.png") for name in names if f"{name}.png" not in there
    ]
    for _ in in_processes(partial(_convert_one, palette), jobs, workers=workers, progress=progress):
        pass


def _convert_one(palette: npt.NDArray[np.uint8], job: tuple[Path, Path]) -> None:
    source, target = job
    mask = read_mat(source)
    try:
        write_mask(target, mask, palette)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror or error}); make {target.parent} writable, or put ready-made "
            "masks (SegmentationClassAug) there"
        ) from error

"""What each dataset's own benchmark does: its dialect, and how it pairs predictions with the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.images import read_mask
from imageseg.scoring.folders.pairing import Key, ScoredPair, Truth, frame_of, paired, stem_of, truth_files


@dataclass(frozen=True)
class Benchmark:
    """Rules beside those of counting.

    Attributes:
        dialect: the key of ``DIALECTS`` whose figures its evaluator prints.
        key: which files belong together.
        endings: of the truth's file names, where not every picture in its folder is a mask; the first that is there.
        missing_allowed: a picture without prediction is scored as all misses; elsewhere it is refused.
        instances: replaces the first text by the second in a mask's name to get the file of its instances.
    """

    dialect: str = "default"
    key: Key = stem_of
    endings: Sequence[str] = ("",)
    missing_allowed: bool = False
    instances: tuple[str, str] | None = None

    def truth_in(self, folder: Path) -> list[Truth]:
        """The masks below a folder, sorted; their names are those of the files.

        Raises:
            InputError: no such folder, or no mask in it.
        """
        return [Truth(path, self.key(path)) for path in truth_files(folder, self.endings)]

    def pairs(self, truth: Iterable[Truth], predictions: Path) -> list[ScoredPair]:
        """Masks and their predictions.

        Args:
            truth: the masks, and what pictures they are of.
            predictions: a folder.

        Raises:
            InputError: a folder that is not there, a mask without prediction or with several.
        """
        return paired(truth, predictions, key=self.key, missing_allowed=self.missing_allowed)

    def read_instances(self, mask: Path, size: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """The file of instances beside a mask, if there is one.

        Args:
            mask: the file.
            size: (H, W) that it must have.

        Raises:
            InputError: it cannot be read or is of another size.
        """
        if self.instances is None:
            return None
        path = mask.with_name(mask.name.replace(*self.instances))
        if path == mask or not path.is_file():
            return None
        instances = read_mask(path)
        if instances.shape != size:
            raise InputError(f"{path}: is no map of instances of the size of {mask.name}")
        return instances


_BENCHMARKS = {
    "VOC": Benchmark("voc"),
    "COCO": Benchmark("coco21"),
    "Cityscapes": Benchmark(
        "cityscapes",
        key=frame_of,
        endings=("_labelIds", "_labelTrainIds"),
        instances=("labelIds", "instanceIds"),
    ),
    "BDD100K": Benchmark("bdd100k", missing_allowed=True),
    "CamVid": Benchmark("camvid"),
    "ADE20K": Benchmark("ade20k"),
}


def benchmark_of(dataset: str) -> Benchmark:
    """By the dataset's name in ``DATASETS``; the default rules where nobody else has any."""
    return _BENCHMARKS.get(dataset, Benchmark())

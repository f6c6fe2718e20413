"""Rules of each dataset's own benchmark: metric protocol, and pairing of predictions with ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.images import read_mask
from imageseg.scoring.folders.pairing import GroundTruth, Key, ScoredPair, frame_of, paired, stem_of, truth_files


@dataclass(frozen=True)
class Benchmark:
    """Rules of one benchmark.

    Attributes:
        dialect: Metric protocol of its evaluator; a key of ``DIALECTS``.
        key: Function from a path to the name that a mask and its prediction share.
        endings: Endings of ground truth file names if not every file in the folder is a mask; the first found is used.
        missing_allowed: Score an image without prediction as all misses instead of raising an error.
        instances: Pair (old, new) that turns the name of a mask into the name of its instance map.
    """

    dialect: str = "default"
    key: Key = stem_of
    endings: Sequence[str] = ("",)
    missing_allowed: bool = False
    instances: tuple[str, str] | None = None

    def truth_in(self, folder: Path) -> list[GroundTruth]:
        """List the masks below a folder, sorted.

        Raises:
            InputError: The folder does not exist or contains no mask.
        """
        return [GroundTruth(path, self.key(path)) for path in truth_files(folder, self.endings)]

    def pairs(self, truth: Iterable[GroundTruth], predictions: Path) -> list[ScoredPair]:
        """Pair masks with their predictions.

        Args:
            truth: Masks and the names of their predictions.
            predictions: Folder of predictions.

        Raises:
            InputError: The folder does not exist, or a mask has no prediction or several.
        """
        return paired(truth, predictions, key=self.key, missing_allowed=self.missing_allowed)

    def read_instances(self, mask: Path, size: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """Read the instance map next to a mask; None if there is none.

        Args:
            mask: Path of the mask.
            size: Expected (H, W) of the instance map.

        Raises:
            InputError: The file cannot be read or has another size.
        """
        if self.instances is None:
            return None
        path = mask.with_name(mask.name.replace(*self.instances))
        if path == mask or not path.is_file():
            return None
        instances = read_mask(path)
        if instances.shape != size:
            raise InputError(f"{path}: is not an instance map of the same size as {mask.name}")
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
    """Return the benchmark of a dataset by its name in ``DATASETS``, or default rules if it has no benchmark."""
    return _BENCHMARKS.get(dataset, Benchmark())

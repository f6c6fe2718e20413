"""What each dataset's own benchmark does: its dialect, and how it pairs predictions with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imageseg.scoring.pairing import Key, ScoredPair, frame_of, paired, stem_of, truth_files


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

    def pairs(self, truth: Path | Sequence[Path], predictions: Path) -> list[ScoredPair]:
        """Masks and their predictions.

        Args:
            truth: a folder of masks, or the masks themselves.
            predictions: a folder.

        Raises:
            InputError: a folder that is not there or empty, a mask without prediction or with several.
        """
        files = truth_files(truth, self.endings) if isinstance(truth, Path) else truth
        return paired(files, predictions, key=self.key, missing_allowed=self.missing_allowed)

    def instances_of(self, mask: Path) -> Path | None:
        """The file of instances beside a mask, if there is one."""
        if self.instances is None:
            return None
        path = mask.with_name(mask.name.replace(*self.instances))
        return path if path != mask and path.is_file() else None


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

"""imageseg score: score folders of predictions against ground truth, under any metric protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imageseg.cli.arguments import OneLineParser
from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset
    from imageseg.scoring.folders.benchmarks import Benchmark
    from imageseg.scoring.folders.pairing import GroundTruth, ScoredPair
    from imageseg.scoring.folders.score_files import ScoredFiles, ScoringOptions


def run(arguments: Sequence[str]) -> int:
    """Score predictions and print a table or JSON."""
    given, flags = _parser().parse_known_args(list(arguments))
    if not given.truth and not given.root:
        raise InputError("imageseg score needs --truth, a folder of masks, or --root, the dataset's own folder")
    if given.tolerance is not None and not given.boundary:
        raise InputError("--tolerance requires --boundary; pass both")
    if given.tolerance is not None and not 0 <= given.tolerance < 1e6:
        raise InputError(f"--tolerance must be a number of pixels, 0 or more, found {given.tolerance}")
    from imageseg.cli.dataset_arguments import dataset_from
    from imageseg.cli.score_report import ScoreReport
    from imageseg.datasets import DATASETS
    from imageseg.scoring.dialects import dialect_named
    from imageseg.scoring.folders.benchmarks import benchmark_of

    dataset = dataset_from(given.dataset, given.root or given.truth, flags, program="imageseg score")
    benchmark = benchmark_of(DATASETS.resolve(given.dataset))
    dialect = given.dialect or benchmark.dialect
    dialect_named(dialect)
    if given.against and dialect == "per_image":
        raise InputError("--against compares mIoU over complete sets, not per image. Omit --dialect per_image")
    truth = benchmark.truth_in(Path(given.truth)) if given.truth else _own_truth(dataset, given.split)
    options = _scoring_options(given, dataset, benchmark, truth)
    pairs = benchmark.pairs(truth, Path(given.predictions))
    scored = _scored(pairs, options, given, "score")
    against = None
    if given.against:
        # The comparison needs only their counts.
        plain = replace(options, boundary=False, calibration=False)
        against = _scored(benchmark.pairs(truth, Path(given.against)), plain, given, "against")
    _warn(pairs, scored, options)
    report = ScoreReport(scored, options.labels, dialect, against=against, explained=given.explain)
    if given.json:
        print(json.dumps(report.to_dict()))
    else:
        report.show(given.predictions, given.against)
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="imageseg score",
        description="Score predictions on disk against the ground truth as the dataset's own evaluator does, or under another\n"
        "metric protocol. Predictions contain the dataset's stored values (Cityscapes: labelIds), or class indices with\n"
        "--stored classes, as written by 'imageseg predict'.",
        epilog="examples:\n"
        "  imageseg score --dataset Cityscapes --truth data/Cityscapes/gtFine/val --predictions results --json\n"
        "  imageseg score --dataset VOC --root data/VOC --split val --predictions out --stored classes --explain",
    )
    parser.add_argument(
        "--dataset",
        "--use",
        dest="dataset",
        required=True,
        help="dataset that defines labels, file pairing and metric protocol, for example Cityscapes",
    )
    parser.add_argument(
        "--predictions", required=True, metavar="FOLDER", help="folder of prediction PNGs, searched recursively"
    )
    parser.add_argument("--truth", metavar="FOLDER", help="folder of ground truth masks, all of which are scored")
    parser.add_argument(
        "--root", metavar="FOLDER", help="folder of the dataset; without --truth, its --split is scored"
    )
    parser.add_argument("--split", default="val", help="split of the dataset in --root (default: val)")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="labels.yaml for ground truth and predictions (default: label table of the dataset)",
    )
    parser.add_argument(
        "--stored",
        choices=("table", "classes", "trainIds"),
        default="table",
        help="content of predictions: stored values of the label table (default) or class indices (trainIds is the same)",
    )
    parser.add_argument("--dialect", help="metric protocol (default: that of the dataset's own evaluator)")
    parser.add_argument("--explain", action="store_true", help="show all metric protocols and explain why they differ")
    parser.add_argument(
        "--against", metavar="FOLDER", help="other predictions of the same images, for a paired significance test"
    )
    parser.add_argument(
        "--boundary",
        action="store_true",
        help="compute boundary IoU, boundary F-score and mIoU by distance to boundaries",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="PIXELS",
        help="tolerance of the boundary F-score (default: 0.75 %% of the diagonal)",
    )
    parser.add_argument(
        "--calibration", action="store_true", help="compute calibration from NAME_confidence.png next to each NAME.png"
    )
    parser.add_workers()
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    return parser


def _own_truth(dataset: SegmentationDataset, split: str) -> list[GroundTruth]:
    from imageseg.scoring.folders.pairing import GroundTruth

    # Predictions are named after images, whose names may differ from those of the masks.
    truth = [GroundTruth(pair.mask, pair.name) for pair in dataset.pairs(split) if pair.mask is not None]
    if not truth:
        raise InputError(f"{dataset.root}: the split '{split}' has no public masks; only its server can score it")
    return truth


def _scoring_options(
    given: argparse.Namespace, dataset: SegmentationDataset, benchmark: Benchmark, truth: Sequence[GroundTruth]
) -> ScoringOptions:
    from imageseg.labels import LabelSpace
    from imageseg.recipe import read_yaml
    from imageseg.scoring.folders.score_files import ScoringOptions

    return ScoringOptions(
        LabelSpace.from_dict(read_yaml(given.labels), given.labels)
        if given.labels
        else dataset.labels_of(truth[0].mask),
        class_indices=given.stored != "table",
        read_truth=dataset.read_stored,
        read_instances=benchmark.read_instances if benchmark.instances else None,
        boundary=given.boundary,
        tolerance=given.tolerance,
        calibration=given.calibration,
    )


def _scored(pairs: Sequence[ScoredPair], options: ScoringOptions, given: argparse.Namespace, what: str) -> ScoredFiles:
    from imageseg.progress_bars import file_progress
    from imageseg.scoring.folders.score_files import score_files

    with file_progress(what) as progress:
        return score_files(pairs, options, workers=given.workers, progress=progress)


def _warn(pairs: Sequence[ScoredPair], scored: ScoredFiles, options: ScoringOptions) -> None:
    from imageseg.scoring.folders.score_files import wrong_encoding_advice

    missing = [pair for pair in pairs if pair.prediction is None]
    if missing:
        print(
            f"imageseg: {len(missing)} images have no prediction and count as missed, the first is {missing[0].truth}",
            file=sys.stderr,
        )
    if advice := wrong_encoding_advice(scored, options):
        print(f"imageseg: {advice}", file=sys.stderr)

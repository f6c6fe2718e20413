"""imageseg evaluate: evaluate a checkpoint on a split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from imageseg.cli.arguments import OneLineParser


def run(arguments: Sequence[str]) -> int:
    """Evaluate a checkpoint and print a table or JSON."""
    parser = OneLineParser(
        prog="imageseg evaluate", description="Evaluate a checkpoint on a complete split at the original image size."
    )
    parser.add_argument("checkpoint", help="checkpoint of a training run")
    parser.add_argument("--split", help="split to evaluate (default: the one that training evaluates)")
    parser.add_argument(
        "--use", metavar="DATASET", help="dataset with the same labels (default: that of the checkpoint)"
    )
    parser.add_argument(
        "--root",
        "--data.root",
        dest="root",
        metavar="FOLDER",
        help="folder of the dataset (default: the folder used in training)",
    )
    parser.add_argument(
        "--dialect", help="metric protocol, see 'imageseg score' (default: that of the dataset's own evaluator)"
    )
    parser.add_argument(
        "--calibration",
        action="store_true",
        help="report calibration errors (ECE and others) and the reliability table",
    )
    parser.add_argument("--device", default="auto", help="device that runs the network: auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    given = parser.parse_args(list(arguments))
    from imageseg.checkpoint import read_record
    from imageseg.cli.score_table import print_calibration, print_scores
    from imageseg.inference.evaluation import evaluate, split_to_score
    from imageseg.progress_bars import file_progress
    from imageseg.scoring.calibration import Calibration

    recipe, labels = read_record(given.checkpoint)
    if given.use:
        recipe = replace(recipe, use=given.use, data={})
    if given.root:
        recipe = replace(recipe, data=recipe.data | {"root": given.root})
    split = given.split or split_to_score(recipe)
    calibration = Calibration(len(labels)) if given.calibration else None
    with file_progress("evaluate") as progress:
        scores = evaluate(
            recipe,
            given.checkpoint,
            split=split,
            dialect=given.dialect,
            calibration=calibration,
            device=given.device,
            progress=progress,
        )
    if given.json:
        report = {"version": 1, "checkpoint": given.checkpoint, "split": split, **scores.to_dict(labels.names)}
        if calibration is not None:
            report["calibration"] = calibration.scores().to_dict(labels.names)
        print(json.dumps(report))
        return 0
    print_scores(scores, labels, f"{recipe.model} on {recipe.use} {split} (metric protocol: {scores.dialect})")
    if calibration is not None:
        print_calibration(calibration.scores())
    return 0

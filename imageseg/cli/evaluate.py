"""imageseg evaluate: score a checkpoint on a split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from imageseg.cli.arguments import OneLineParser


def run(arguments: Sequence[str]) -> int:
    """Scores, and prints a table or JSON."""
    parser = OneLineParser(
        prog="imageseg evaluate", description="Scores a checkpoint over a whole split, every picture at its own size."
    )
    parser.add_argument("checkpoint", help="of a training run")
    parser.add_argument("--split", help="unset, the one that training would score")
    parser.add_argument("--use", help="another dataset of the same labels; unset, the one of the checkpoint's recipe")
    parser.add_argument(
        "--root",
        "--data.root",
        dest="root",
        metavar="FOLDER",
        help="where the dataset lies; unset, where it lay in training",
    )
    parser.add_argument("--dialect", help="another evaluator's rules (see imageseg score); unset, the dataset's own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args(list(arguments))
    from imageseg.checkpoint import read_record
    from imageseg.cli.score_table import print_scores
    from imageseg.inference.evaluation import evaluate, split_to_score
    from imageseg.progress_bars import file_progress

    recipe, labels = read_record(given.checkpoint)
    if given.use:
        recipe = replace(recipe, use=given.use, data={})
    if given.root:
        recipe = replace(recipe, data=recipe.data | {"root": given.root})
    split = given.split or split_to_score(recipe)
    with file_progress("evaluate") as progress:
        scores = evaluate(
            recipe, given.checkpoint, split=split, dialect=given.dialect, device=given.device, progress=progress
        )
    if given.json:
        print(json.dumps({"checkpoint": given.checkpoint, "split": split, **scores.to_dict(labels.names)}))
        return 0
    print_scores(scores, labels, f"{recipe.model} on {recipe.use} {split} by the rules of {scores.dialect}")
    return 0

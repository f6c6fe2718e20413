"""imageseg train: train a network on a dataset, then evaluate its best checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imageseg.cli.arguments import recipe_from

if TYPE_CHECKING:
    from imageseg.training.run_folder import TrainedRun


def run(arguments: Sequence[str]) -> int:
    """Train, then print the scores and where the results are stored."""
    as_json = "--json" in arguments
    recipe = recipe_from([argument for argument in arguments if argument != "--json"], program="imageseg train")
    from imageseg.training.fit import train

    title = f"{recipe.model} on {recipe.use}"
    if sys.stderr.isatty():
        print(f"training {title}", file=sys.stderr)
    trained = train(recipe)
    if trained.main_process:
        (_print_json if as_json else _print_report)(trained, title)
    return 0


def _print_json(trained: TrainedRun, title: str) -> None:
    places = {"checkpoint": str(trained.checkpoint), "folder": str(trained.folder), "split": trained.split}
    print(json.dumps({**places, **trained.scores.to_dict(trained.labels.names)}))


def _print_report(trained: TrainedRun, title: str) -> None:
    from imageseg.cli.score_table import print_scores

    print_scores(trained.scores, trained.labels, f"{title} {trained.split}")
    print(f"best checkpoint  {trained.checkpoint}")
    print(f"scores           {trained.folder / 'scores.json'}")
    print(f"recipe           {trained.folder / 'config.yaml'}")
    if (overlays := trained.folder / "predictions").exists():
        print(f"overlays         {overlays}")
    print(f"TensorBoard      tensorboard --logdir {trained.folder.parent}")
    print(f"{trained.split} mIoU {trained.scores.miou:.3f} ({title})")

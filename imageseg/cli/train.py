"""imageseg train: train a network, then score its best checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from imageseg.cli.arguments import recipe_from


def run(arguments: Sequence[str]) -> int:
    """Trains and prints where everything lies."""
    as_json = "--json" in arguments
    recipe = recipe_from([argument for argument in arguments if argument != "--json"], program="imageseg train")
    from imageseg.cli.score_table import print_scores
    from imageseg.training.fit import train

    if sys.stderr.isatty():
        print(f"training {recipe.model} on {recipe.use}", file=sys.stderr)
    trained = train(recipe)
    if not trained.main_process:
        return 0
    if as_json:
        figures = trained.scores.to_dict(trained.labels.names)
        print(
            json.dumps(
                {
                    "checkpoint": str(trained.checkpoint),
                    "folder": str(trained.folder),
                    "split": trained.split,
                    **figures,
                }
            )
        )
        return 0
    print_scores(trained.scores, trained.labels, f"{recipe.model} on {recipe.use} {trained.split}")
    print(f"best checkpoint  {trained.checkpoint}")
    print(f"scores           {trained.folder / 'scores.json'}")
    print(f"recipe           {trained.folder / 'config.yaml'}")
    if (overlays := trained.folder / "predictions").exists():
        print(f"overlays         {overlays}")
    print(f"TensorBoard      tensorboard --logdir {trained.folder.parent}")
    print(f"{trained.split} mIoU {trained.scores.miou:.3f} ({recipe.model} on {recipe.use})")
    return 0

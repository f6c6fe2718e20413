"""evaluate: the scores of a checkpoint over a whole split, every picture at its own size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imageseg.datasets import DATASETS, build_dataset
from imageseg.datasets.base import SegmentationDataset
from imageseg.errors import InputError
from imageseg.inference.predictor import Predictor
from imageseg.names import arguments_for
from imageseg.pipeline.loader import Loading, evaluation_loader
from imageseg.recipe import Recipe
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.scores import Scores


def evaluate(
    recipe: Recipe,
    checkpoint: str | Path,
    *,
    split: str | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Scores a checkpoint on the dataset of a recipe.

    Args:
        recipe: names the dataset, its root and its splits.
        checkpoint: of a training run; its labels must be the dataset's.
        split: what to score; unset, the one that training would.
        device: where to run.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: the checkpoint does not fit, or the data are not there.
    """
    predictor = Predictor.from_checkpoint(checkpoint, device=device)
    dataset = _dataset(recipe)
    loading = Loading(**arguments_for(Loading, recipe.data))
    if dataset.labels.names != predictor.labels.names:
        raise InputError(
            f"{checkpoint}: knows {', '.join(predictor.labels.names)}; {recipe.use} has {', '.join(dataset.labels.names)}"
        )
    samples = dataset.samples(split or split_to_score(recipe))
    confusion = ConfusionMatrix(len(dataset.labels), ignore_index=dataset.labels.ignore_index)
    for done, sample in enumerate(evaluation_loader(samples, len(samples), num_workers=loading.workers), start=1):
        image = sample["image"][0].permute(1, 2, 0).numpy()
        confusion.update(predictor(image).classes, sample["mask"][0].numpy())
        if progress is not None:
            progress(done, len(samples))
    return confusion.scores()


def split_to_score(recipe: Recipe) -> str:
    """The split that a run of this recipe is scored on: the one it names, or the dataset's own."""
    return Loading(**arguments_for(Loading, recipe.data)).test_split or _dataset(recipe).scored_split


def _dataset(recipe: Recipe) -> SegmentationDataset:
    return build_dataset(recipe.use, **arguments_for(DATASETS[recipe.use], recipe.data))

"""evaluate: the scores of a checkpoint over a whole split, every picture at its own size."""

from __future__ import annotations

from pathlib import Path

from imageseg.datasets import DATASETS, build_dataset
from imageseg.datasets.base import SegmentationDataset
from imageseg.errors import InputError
from imageseg.inference.predictor import Predictor
from imageseg.parallel import Progress
from imageseg.pipeline.loader import Loading, evaluation_loader
from imageseg.recipe import Recipe
from imageseg.registry import arguments_for
from imageseg.scoring.cityscapes_instances import InstanceCounts, label_ids
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.dialects import dialect_named
from imageseg.scoring.folders.benchmarks import benchmark_of
from imageseg.scoring.scores import Scores


def evaluate(
    recipe: Recipe,
    checkpoint: str | Path,
    *,
    split: str | None = None,
    dialect: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Scores a checkpoint on the dataset of a recipe.

    Args:
        recipe: names the dataset, its root and its splits.
        checkpoint: of a training run; its labels must be the dataset's.
        split: what to score; unset, the one that training would.
        dialect: by whose rules; unset, those of the dataset's own evaluator.
        device: where to run.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: the checkpoint does not fit, the data are not there, or nobody knows the dialect.
    """
    benchmark = benchmark_of(DATASETS.resolve(recipe.use))
    rules = dialect_named(dialect or benchmark.dialect)
    predictor = Predictor.from_checkpoint(checkpoint, device=device)
    dataset = _dataset(recipe)
    loading = Loading(**arguments_for(Loading, recipe.data))
    if dataset.labels.names != predictor.labels.names:
        raise InputError(
            f"{checkpoint}: knows {', '.join(predictor.labels.names)}; {recipe.use} has {', '.join(dataset.labels.names)}"
        )
    samples = dataset.samples(split or split_to_score(recipe))
    confusion = ConfusionMatrix(len(dataset.labels), ignore_index=dataset.labels.ignore_index)
    for index, sample in enumerate(evaluation_loader(samples, len(samples), num_workers=loading.workers)):
        image = sample["image"][0].permute(1, 2, 0).numpy()
        classes = predictor(image).classes
        confusion.update(classes, sample["mask"][0].numpy())
        mask = samples.pairs[index].mask
        if mask is not None and (instances := benchmark.read_instances(mask, classes.shape)) is not None:
            confusion.instances = confusion.instances or InstanceCounts()
            confusion.instances.update(label_ids(classes), label_ids(sample["mask"][0].numpy()), instances)
        if progress is not None:
            progress(index + 1, len(samples))
    return rules.score(confusion.counts())


def split_to_score(recipe: Recipe) -> str:
    """The split that a run of this recipe is scored on: the one it names, or the dataset's own."""
    return Loading(**arguments_for(Loading, recipe.data)).scored_split(_dataset(recipe))


def _dataset(recipe: Recipe) -> SegmentationDataset:
    return build_dataset(recipe.use, **arguments_for(DATASETS[recipe.use], recipe.data))

"""evaluate: the scores of a checkpoint on a complete split at the original image size."""

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
from imageseg.scoring.calibration import Calibration
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
    calibration: Calibration | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Scores:
    """Evaluate a checkpoint on the dataset of a recipe, at the original image size.

    Args:
        recipe: Recipe that names the dataset, its root and its splits.
        checkpoint: Checkpoint of a training run with the labels of the dataset.
        split: Split to evaluate (default: the one that training evaluates).
        dialect: Metric protocol (default: that of the dataset's own evaluator).
        calibration: Accumulator that is updated with the class probabilities of every image, if given.
        device: Device that runs the network.
        progress: Callback with the number of finished images and the number of all images.

    Raises:
        InputError: The checkpoint does not fit the dataset, files are missing, or the protocol is unknown.
    """
    benchmark = benchmark_of(DATASETS.resolve(recipe.use))
    rules = dialect_named(dialect or benchmark.dialect)
    predictor = Predictor.from_checkpoint(checkpoint, device=device)
    dataset = _dataset(recipe)
    loading = Loading(**arguments_for(Loading, recipe.data))
    if dataset.labels.names != predictor.labels.names:
        raise InputError(
            f"{checkpoint}: has the classes {', '.join(predictor.labels.names)}; {recipe.use} has {', '.join(dataset.labels.names)}"
        )
    samples = dataset.samples(split or split_to_score(recipe))
    confusion = ConfusionMatrix(len(dataset.labels), ignore_index=dataset.labels.ignore_index)
    for index, sample in enumerate(evaluation_loader(samples, len(samples), num_workers=loading.workers)):
        image = sample["image"][0].permute(1, 2, 0).numpy()
        true = sample["mask"][0].numpy()
        classes = predictor(image).classes
        confusion.update(classes, true)
        if calibration is not None:
            calibration.update_probabilities(predictor.probabilities(image), true)
        mask = samples.pairs[index].mask
        if mask is not None and (instances := benchmark.read_instances(mask, classes.shape)) is not None:
            confusion.instances = confusion.instances or InstanceCounts()
            confusion.instances.update(label_ids(classes), label_ids(true), instances)
        if progress is not None:
            progress(index + 1, len(samples))
    return rules.score(confusion.counts())


def split_to_score(recipe: Recipe) -> str:
    """Return the split on which a run of this recipe is evaluated: the one it names, or the dataset's default."""
    return Loading(**arguments_for(Loading, recipe.data)).scored_split(_dataset(recipe))


def _dataset(recipe: Recipe) -> SegmentationDataset:
    return build_dataset(recipe.use, **arguments_for(DATASETS[recipe.use], recipe.data))

"""imageseg convert: converts weights of other libraries to a checkpoint for prediction, evaluation and training."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imageseg.cli.arguments import OneLineParser, network_arguments_from
from imageseg.errors import InputError, counted

if TYPE_CHECKING:
    from imageseg.labels import LabelSpace


logger = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> int:
    """Convert one file and report what was loaded."""
    parser = OneLineParser(
        prog="imageseg convert",
        description="Convert the weights of a network of torchvision, segmentation_models_pytorch, hszhao/semseg, VainF,\n"
        "wkentaro, milesial, mmsegmentation or Lightning to an imageseg checkpoint. No code in the file is run. Network\n"
        "arguments that the weights require, such as dilation or align_corners, are set and reported.",
        epilog="The --network.* flags of imageseg train set what the file does not state, for example --network.encoder.\n\n"
        "example:\n  imageseg convert deeplabv3_resnet50_coco-cd0a2569.pth -o deeplabv3.safetensors --use VOC",
    )
    parser.add_argument(
        "file", help="weights: .pth, .pt, .bin, .ckpt or .safetensors, or a folder written by save_pretrained"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="checkpoint to write")
    parser.add_argument("--model", help="network of imageseg (default: recognized by the file's tensor names)")
    parser.add_argument(
        "--num_classes",
        type=int,
        help="number of classes of a new, random classifier (default: keep the file's classifier)",
    )
    parser.add_argument(
        "--use", metavar="DATASET", help="dataset that the weights were trained on, for class names and colors"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    given, flags = parser.parse_known_args(list(arguments))
    _check_output(given.output, given.file)
    from imageseg.models import MODELS
    from imageseg.registry import parameters_of
    from imageseg.weight_files import read_weights
    from imageseg.weights.build import initial_weights
    from imageseg.weights.recognize import recognize

    model = MODELS.resolve(given.model) if given.model else None
    file = read_weights(given.file)
    model = model or recognize(file).model
    by_flag, defaults = network_arguments_from(flags, model, program="imageseg convert")
    source = recognize(file, model, by_flag)
    weights = initial_weights(file, source, by_flag)
    network_arguments = {**defaults, **weights.arguments}
    if "aux" in parameters_of(MODELS[model]) and "aux" not in by_flag:
        network_arguments["aux"] = weights.has_auxiliary_head()
    weights = replace(weights, arguments=network_arguments)
    classes = given.num_classes or weights.num_classes()
    if classes is None:
        raise InputError(
            f"{given.file}: {source.name}, but no classifier; pass the number of classes with --num_classes"
        )
    labels = _labels(given.use, file.class_names or source.class_names, classes)
    network, loaded = weights.load(classes, class_names=labels.names)
    if loaded.missing or loaded.mismatched:
        raise InputError(
            f"{loaded.summary()}; the other tensors would be random. Pass the --network flags that the file was trained with"
        )
    if loaded.reinitialized and loaded.classes_kept < classes and given.num_classes is None:
        raise InputError(
            f"{given.file}: only {loaded.classes_kept} of the {classes} classes of --use {given.use} have the same name in the "
            "file, the others would be random; leave out --use, or request a new classifier with --num_classes"
        )
    _write(given.output, network.state_dict(), labels, use=given.use, model=model, arguments=network_arguments)
    if given.json:
        print(
            json.dumps(
                {
                    "checkpoint": given.output,
                    "source": source.name,
                    "model": model,
                    "network": network_arguments,
                    "classes": labels.names,
                    "loaded": loaded.loaded,
                    "dropped": list(loaded.unused),
                    "renewed": list(loaded.reinitialized),
                }
            )
        )
        return 0
    logger.info(loaded.summary())
    named = ", ".join([*labels.names[:3], "..."] if classes > 3 else labels.names)
    print(f"checkpoint  {given.output} ({model}, {counted(classes, 'class', 'classes')}: {named})")
    train = ("train", "--use", given.use or "DATASET", "--model", model, "--network.weights", given.output)
    print(f"predict     {shlex.join(('imageseg', 'predict', given.output, 'IMAGE'))}")
    print(f"train on    {shlex.join(('imageseg', *train))}")
    return 0


def _check_output(output: str, file: str) -> None:
    path = Path(output)
    if path.is_dir():
        raise InputError(f"{output}: is a folder; pass a file name, for example {path / 'converted.safetensors'}")
    if path.exists() and path.resolve() == Path(file).resolve():
        raise InputError(f"{output}: would overwrite the file that is converted; pass another --output")
    blocking = next((parent for parent in path.parents if parent.exists()), None)
    if blocking is not None and not blocking.is_dir():
        raise InputError(f"{output}: cannot be written, because {blocking} is not a folder; pass another --output")


def _labels(use: str | None, names: Sequence[str] | None, classes: int) -> LabelSpace:
    """Return the labels of the dataset, else labels with these names, else numbered ones."""
    from imageseg.labels import Label, LabelSpace, voc_color
    from imageseg.weight_files import numbered_classes

    if use is not None:
        from imageseg.datasets import DATASETS, build_dataset

        labels = build_dataset(use, None).labels
        if len(labels) != classes:
            raise InputError(
                f"{DATASETS.resolve(use)} has {len(labels)} classes and the file {classes}; leave out --use or pass another dataset"
            )
        return labels
    if names is None or len(names) != classes:
        names = numbered_classes(classes)
    return LabelSpace(tuple(Label(name, voc_color(index), (index,)) for index, name in enumerate(names)))


def _write(
    output: str, state: dict[str, Any], labels: LabelSpace, *, use: str | None, model: str, arguments: dict[str, Any]
) -> None:
    from imageseg._version import __version__
    from imageseg.checkpoint import NETWORK_PREFIX, RUN_KEY, WEIGHTS_KEY, write_checkpoint
    from imageseg.datasets import DATASETS
    from imageseg.recipe import Recipe

    recipe = Recipe(DATASETS.resolve(use) if use else "Folder", model, network=arguments)
    record = {"recipe": recipe.to_dict(), "labels": labels.to_dict(), "version": __version__}
    weights = {f"{NETWORK_PREFIX}{name}": value for name, value in state.items()}
    write_checkpoint({RUN_KEY: record, WEIGHTS_KEY: weights, "global_step": 0}, output)

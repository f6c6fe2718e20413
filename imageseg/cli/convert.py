"""imageseg convert: weights of other libraries as a checkpoint of ours, which predicts, is scored, and trains on."""

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
    """Converts one file, and says what became of it."""
    parser = OneLineParser(
        prog="imageseg convert",
        description="Turns a network's weights of torchvision, segmentation_models_pytorch, hszhao/semseg, VainF, wkentaro,\n"
        "milesial, mmsegmentation or Lightning into a checkpoint of imageseg. Nothing in the file is run. The settings that\n"
        "the weights presume (dilation, aligned corners, rates) are set and printed.",
        epilog="--network.* flags as for imageseg train set what the file does not tell, such as --network.encoder\n\n"
        "example:\n  imageseg convert deeplabv3_resnet50_coco-cd0a2569.pth -o deeplabv3.safetensors --use VOC",
    )
    parser.add_argument("file", help=".pth, .pt, .bin, .ckpt or .safetensors, or a folder that save_pretrained wrote")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument("--model", help="our network; unset, the one that the file's names give away")
    parser.add_argument(
        "--num_classes", type=int, help="of another classifier, which is made anew; unset, the file's own"
    )
    parser.add_argument(
        "--use", metavar="DATASET", help="the dataset whose classes the file knows, for names and colours"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
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
            f"{given.file}: {source.name} without a classifier; pass the number of classes with --num_classes"
        )
    labels = _labels(given.use, file.class_names or source.class_names, classes)
    network, loaded = weights.load(classes, class_names=labels.names)
    if loaded.missing or loaded.mismatched:
        raise InputError(
            f"{loaded.line()}; what is not the file's would be random: pass the --network flags that it was trained with"
        )
    if loaded.renewed and loaded.carried < classes and given.num_classes is None:
        raise InputError(
            f"{given.file}: its classes are others than those of --use {given.use}, {loaded.carried} of {classes} by name, and "
            "the rest of the classifier would be random; leave out --use, or ask for that with --num_classes"
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
                    "dropped": list(loaded.dropped),
                    "renewed": list(loaded.renewed),
                }
            )
        )
        return 0
    logger.info(loaded.line())
    named = ", ".join([*labels.names[:3], "..."] if classes > 3 else labels.names)
    print(f"checkpoint  {given.output} ({model}, {counted(classes, 'class', 'classes')}: {named})")
    train = ("train", "--use", given.use or "DATASET", "--model", model, "--network.weights", given.output)
    print(f"predict     {shlex.join(('imageseg', 'predict', given.output, 'PICTURE'))}")
    print(f"train on    {shlex.join(('imageseg', *train))}")
    return 0


def _check_output(output: str, file: str) -> None:
    path = Path(output)
    if path.is_dir():
        raise InputError(f"{output}: is a folder; name the checkpoint to write, as {path / 'converted.safetensors'}")
    if path.exists() and path.resolve() == Path(file).resolve():
        raise InputError(f"{output}: would take the place of the file that is converted; pass another --output")
    blocking = next((parent for parent in path.parents if parent.exists()), None)
    if blocking is not None and not blocking.is_dir():
        raise InputError(f"{output}: cannot be written, {blocking} is no folder; pass another --output")


def _labels(use: str | None, names: Sequence[str] | None, classes: int) -> LabelSpace:
    """The dataset's, or those of these names, or numbered ones."""
    from imageseg.labels import Label, LabelSpace, voc_color
    from imageseg.weight_files import numbered_classes

    if use is not None:
        from imageseg.datasets import DATASETS, build_dataset

        labels = build_dataset(use, None).labels
        if len(labels) != classes:
            raise InputError(
                f"{DATASETS.resolve(use)} has {len(labels)} classes, the file {classes}; leave out --use, or pass another"
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

"""Checkpoints: nested plain values and tensors in one safetensors file, written atomically and read without pickle.

The checkpoint of a training framework is a tree of dictionaries and lists with tensors as some of its leaves. The tensors
are stored as those of the file, and the tree, with a reference in place of each tensor, as JSON in its header. Nothing in
the file can name code, so a checkpoint from a stranger is as safe to read as an image. The tree and each tensor have a
checksum, so that files damaged by a disk or a copy are rejected.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from imageseg.atomic_files import replacing
from imageseg.errors import InputError
from imageseg.labels import LabelSpace
from imageseg.recipe import Recipe

_FORMAT = "imageseg-checkpoint-1"
RUN_KEY = "imageseg"
WEIGHTS_KEY = "state_dict"
NETWORK_PREFIX = "network."


@dataclass(frozen=True)
class TrainedNetwork:
    """Contents of a checkpoint that prediction needs."""

    recipe: Recipe
    labels: LabelSpace
    weights: dict[str, Tensor]
    """State dict of the network."""
    step: int


def write_checkpoint(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested dictionaries, lists, tuples, plain values and tensors.

    An older file at ``path`` stays unchanged until the new one is complete.

    Raises:
        TypeError: A value has another type; the message contains its position in the tree.
        OSError: The disk is full or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_to_json(tree, tensors, "checkpoint"))
    metadata = {"format": _FORMAT, "tree": skeleton, "checksum": str(zlib.crc32(skeleton.encode()))}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # the library's own error, also for a full disk
            raise OSError(f"{path}: cannot be written ({error})") from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the tree that ``write_checkpoint`` wrote, with its tensors on the CPU.

    Raises:
        InputError: The file is missing, damaged, or not a checkpoint of imageseg.
    """
    with _opened(path) as file:
        tree: dict[str, Any] = _from_json(_skeleton(file, path), file)
        return tree


def read_record(path: str | Path) -> tuple[Recipe, LabelSpace]:
    """Read the recipe and the labels of a training run's checkpoint, without its tensors.

    Raises:
        InputError: The file is missing, damaged, or not the checkpoint of a training run.
    """
    with _opened(path) as file:
        return _record(_run_skeleton(file, path), file, path)


def read_network(path: str | Path) -> TrainedNetwork:
    """Read recipe, labels and weights of a training run's checkpoint, without the state of the optimizer.

    Raises:
        InputError: The file is missing, damaged, or not the checkpoint of a training run.
    """
    with _opened(path) as file:
        skeleton = _run_skeleton(file, path)
        recipe, labels = _record(skeleton, file, path)
        state = _from_json(skeleton[WEIGHTS_KEY], file)
        step = int(skeleton.get("global_step", 0))
    weights = {
        name.removeprefix(NETWORK_PREFIX): value for name, value in state.items() if name.startswith(NETWORK_PREFIX)
    }
    return TrainedNetwork(recipe, labels, weights, step)


def _run_skeleton(file: Any, path: str | Path) -> dict[Any, Any]:
    skeleton = dict(_skeleton(file, path)["dict"])
    if RUN_KEY not in skeleton or WEIGHTS_KEY not in skeleton:
        raise InputError(f"{path}: contains no network of a training run")
    return skeleton


def _record(skeleton: dict[Any, Any], file: Any, path: str | Path) -> tuple[Recipe, LabelSpace]:
    run = _from_json(skeleton[RUN_KEY], file)
    return Recipe.from_dict(run["recipe"], path), LabelSpace.from_dict(run["labels"], path)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    if Path(path).is_dir():
        inside = sorted(Path(path).glob("**/*.ckpt"))
        hint = f"; pass one of its checkpoints, such as {inside[0]}" if inside else ", and contains no checkpoint"
        raise InputError(f"{path}: is a folder{hint}")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except InputError:
        raise
    # The last four: the file is intact, but its tree is not one that write_checkpoint produces.
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a checkpoint of imageseg, or is damaged ({error})") from error


def _skeleton(file: Any, path: str | Path) -> Any:
    metadata = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        raise InputError(f"{path}: is a safetensors file, but not a checkpoint of imageseg")
    if metadata["checksum"] != str(zlib.crc32(metadata["tree"].encode())):
        raise ValueError("its tree does not match the checksum")
    return json.loads(metadata["tree"])


def _to_json(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """Convert a value to JSON. Tensors go to ``tensors`` and leave a reference; all containers but lists are tagged."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Tensor):
        name = f"{len(tensors)}.{place}"
        channels_last = (
            value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        )
        # A clone, because safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        reference = {"tensor": name, "checksum": _checksum(tensors[name])}
        return reference | {"channels_last": True} if channels_last else reference
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {"dict": [[_key(key, place), _to_json(item, tensors, f"{place}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_to_json(item, tensors, f"{place}.{index}") for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(f"{place}: a {type(value).__name__} cannot be stored in a checkpoint")


def _key(key: Any, place: str) -> str | int:
    if isinstance(key, str | int):
        return key
    raise TypeError(f"{place}: a key of type {type(key).__name__} cannot be stored in a checkpoint")


def _from_json(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item, file) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = file.get_tensor(value["tensor"])
        if _checksum(tensor) != value["checksum"]:
            raise ValueError(f"the tensor {value['tensor']} does not match its checksum")
        # A clone, because the file may be mapped: it could not be replaced on Windows while its tensors live.
        tensor = tensor.clone()
        return tensor.contiguous(memory_format=torch.channels_last) if value.get("channels_last") else tensor
    if "tuple" in value:
        return tuple(_from_json(item, file) for item in value["tuple"])
    return {key: _from_json(item, file) for key, item in value["dict"]}


def _checksum(tensor: Tensor) -> int:
    start = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, start)

"""Reading of weights files: tensors by name, from any common format and nesting, without running code of the file."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from imageseg.errors import InputError

_TENSOR_KEYS = ("state_dict", "model_state", "model_state_dict", "model", "network", "net", "params")
"""Keys under which training scripts store tensors: Lightning and mmsegmentation, VainF, pytorch-fcn and others."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""Prefixes that DataParallel, torch.compile and the attributes of a LightningModule add to every name."""
_OUR_TENSOR = re.compile(r"\d+\.checkpoint\.state_dict\.network\.(.+)")
"""The name of a network's tensor in an imageseg checkpoint, as imageseg.checkpoint writes it."""
_CODE = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name, and what the file records about them."""

    path: str
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None
    model: str | None = None
    """Name of the network if the file is an imageseg checkpoint."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of that network, or those that a config.json next to the file states."""


def read_weights(path: str | Path) -> WeightFile:
    """Read the tensors of a .safetensors, .pth, .pt, .bin or .ckpt file, or of a folder that ``save_pretrained`` wrote.

    Raises:
        InputError: The file is missing or damaged, has no tensors, or can only be read by running code.
    """
    path = Path(path)
    arguments = _config_arguments(path) if path.is_dir() else {}
    file = _file_in(path)
    if _is_safetensors(file):
        found = _read_safetensors(file)
    else:
        tree = _read_pickle(file)
        found = WeightFile(str(path), _tensors_in(tree, file), _class_names(tree))
    tensors = _without_prefix(found.tensors)
    return WeightFile(str(path), tensors, found.class_names, found.model, arguments | found.arguments)


def _file_in(path: Path) -> Path:
    if path.is_dir():
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (path / name).is_file():
                return path / name
        raise InputError(f"{path}: is a folder without model.safetensors or pytorch_model.bin; pass the weights file")
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    return path


def _config_arguments(folder: Path) -> dict[str, Any]:
    """Return the encoder, by timm's name, that the config.json of ``save_pretrained`` states."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    name = config.get("encoder_name") if isinstance(config, dict) else None
    return {"encoder": name.removeprefix("tu-")} if isinstance(name, str) else {}


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged or not a safetensors file ({_short(error)})") from error
    ours = {match[1]: tensors[name] for name in tensors if (match := _OUR_TENSOR.fullmatch(name))}
    if not ours:
        return WeightFile(str(path), tensors)
    try:
        names, model, arguments = _checkpoint_record(metadata.get("tree", "{}"))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: looks like a checkpoint of imageseg, but its record is damaged ({type(error).__name__}: {error})"
        ) from error
    return WeightFile(str(path), ours, names, model, arguments)


def _checkpoint_record(tree: str) -> tuple[tuple[str, ...] | None, str, dict[str, Any]]:
    """Return the class names, the network and its arguments that an imageseg checkpoint records."""
    record = _decoded(dict(json.loads(tree)["dict"])["imageseg"])
    names = tuple(label["name"] for label in record["labels"]["labels"])
    model, arguments = record["recipe"]["model"], record["recipe"]["network"]
    if (
        not isinstance(model, str)
        or not isinstance(arguments, dict)
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError("a name or the arguments of the network have the wrong type")
    # Numbered names mean that the names were unknown when the file was converted.
    return (None if names == numbered_classes(len(names)) else names), model, arguments


def numbered_classes(count: int) -> tuple[str, ...]:
    """Return placeholders for unknown class names."""
    return tuple(f"class {index}" for index in range(count))


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_decoded(item) for item in value["tuple"])
    return {key: _decoded(item) for key, item in value["dict"]}


class _Ignored:
    """Placeholder for an object that training scripts store next to the tensors; it accepts any values and drops them."""

    def __new__(cls, *_: Any) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_IGNORED_CLASSES = [
    "argparse.Namespace",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32")),
]
"""Classes that checkpoints of well-known projects contain besides tensors. None is called; _Ignored replaces them."""


def _read_pickle(path: Path) -> Any:
    try:
        # One placeholder serves all classes: torch looks it up by the name in the file.
        with torch.serialization.safe_globals([(_Ignored, name) for name in _IGNORED_CLASSES]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except UnpicklingError as error:
        if code := _CODE.search(str(error)):
            raise InputError(
                f"{path}: can only be read by running code ({code[1]}), which imageseg does not do; "
                "use a file of tensors only, as torch.save(model.state_dict(), file) or safetensors write it"
            ) from error
        raise InputError(f"{path}: is not a weights file or is damaged ({_short(error)})") from error
    # The unpickler can raise any error on arbitrary bytes.
    except Exception as error:
        raise InputError(f"{path}: is not a weights file or is damaged ({_short(error)})") from error


def _tensors_in(tree: Any, path: Path) -> dict[str, Tensor]:
    if found := _find_tensors(tree):
        return found
    mappings = (
        [str(name) for name, inner in tree.items() if isinstance(inner, Mapping)] if isinstance(tree, Mapping) else []
    )
    if mappings:
        raise InputError(
            f"{path}: contains no named tensors, neither at the top level nor in {', '.join(mappings[:5])}"
        )
    shown = ", ".join(map(str, list(tree)[:5])) if isinstance(tree, Mapping) else type(tree).__name__
    raise InputError(f"{path}: contains no named tensors, found {shown or 'nothing'}")


def _find_tensors(tree: Any, depth: int = 3) -> dict[str, Tensor]:
    """Return the tensors under a known key, else those of the mapping with the most: a score next to it may be a tensor too."""
    if not isinstance(tree, Mapping) or depth == 0:
        return {}
    for name in _TENSOR_KEYS:
        if found := _find_tensors(tree.get(name), depth - 1):
            return found
    candidates = (
        {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        for inner in (tree, *tree.values())
        if isinstance(inner, Mapping)
    )
    return max(candidates, key=len)


def _class_names(tree: Any) -> tuple[str, ...] | None:
    """Return the class names in mmsegmentation's ``meta``, in the spelling of its versions 0 and 1."""
    meta = tree.get("meta") if isinstance(tree, Mapping) else None
    if not isinstance(meta, Mapping):
        return None
    names = meta.get("CLASSES")
    if names is None and isinstance(meta.get("dataset_meta"), Mapping):
        names = meta["dataset_meta"].get("classes")
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that over 90 % of the names have; other names, such as a loss's weights, stay."""
    for prefix in _PREFIXES:
        with_it = [name for name in tensors if name.startswith(prefix)]
        if len(with_it) > 0.9 * len(tensors):
            shorter = {name.removeprefix(prefix): value for name, value in tensors.items()}
            return _without_prefix(shorter) if len(shorter) == len(tensors) else tensors
    return tensors


def _short(error: Exception) -> str:
    # A KeyError's text is only the key, which explains nothing without its class.
    words = " ".join(str(error).split())[:200]
    return words if " " in words else f"{type(error).__name__} {words}".rstrip()

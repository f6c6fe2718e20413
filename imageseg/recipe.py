"""Recipe: one run as plain values; what a YAML file says and what a checkpoint keeps."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from imageseg.atomic_files import replacing
from imageseg.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """One run. ``use`` and ``model`` are names; the four sections hold the arguments of the classes they stand for.

    A section may leave out any argument: the default in the signature holds.
    """

    use: str
    model: str
    data: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str | Path = "recipe") -> Recipe:
        """Raises:
        InputError: an unknown key, no ``use`` or ``model``, or a section that is no mapping.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(
                    f"{source}: unknown key '{key}'{did_you_mean(str(key), known)}; a recipe has {', '.join(known)}"
                )
        for key in ("use", "model"):
            if not isinstance(values.get(key), str):
                raise InputError(f"{source}: '{key}' is missing; write for example 'use: VOCModule' and 'model: UNet'")
        for key in known[2:]:
            if not isinstance(values.get(key) or {}, Mapping):
                raise InputError(f"{source}: '{key}' must hold names and values, found {values[key]!r}")
        return cls(values["use"], values["model"], *(dict(values.get(key) or {}) for key in known[2:]))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """The recipe in a YAML file."""
        return cls.from_dict(read_yaml(path), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nested by section."""
        return asdict(self)

    def to_yaml(self, path: str | Path) -> None:
        """Writes the recipe, so that ``--config`` on the file repeats the run."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_text(), encoding="utf-8")

    def to_text(self) -> str:
        """The recipe as YAML."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping of plain values.

    Raises:
        InputError: missing, empty, not UTF-8, not YAML, a key given twice, or no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    # Values that only look like dates raise ValueError, a thousand brackets RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {_explained(error, text)}") from error
    if values is None:
        raise InputError(f"{path}: is empty")
    if values and isinstance(values, list) and all(map(_is_label, values)):
        raise InputError(f"{path}: is a list; 'labels:' must stand above it")
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold names and values, found {type(values).__name__}")
    return values


def _is_label(row: object) -> bool:
    """Whether it is a row of a label table, whose names are the only ones that anybody leaves out."""
    return isinstance(row, dict) and bool({"name", "color"} & row.keys())


def _explained(error: Exception, text: str) -> str:
    """What is wrong with a text that is no YAML, and in which line.

    A tab before the first word is what people cannot see, and what YAML's own message does not name.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return f"line {number}: begins with a tab; indent with spaces"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = " ".join(f"{error.problem or error.context}".split())
        if "'\\t'" in problem:
            return f"line {error.problem_mark.line + 1}: has a tab where only spaces may be"
        return f"is not valid YAML ({problem}, line {error.problem_mark.line + 1})"
    return f"is not valid YAML ({' '.join(str(error).split())})"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML otherwise takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`, which may come more than once
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that the loader would read as a number."""


# YAML 1.1 reads 1e-4 as text, because it has no point; everyone who writes it means a number.
for _either in (_UniqueKeyLoader, _Dumper):
    _either.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"(?:[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+|[-+]?\.\d+)$"),
        list("-+0123456789."),
    )

"""Recipe: one training run as plain values, as a YAML file describes it and a checkpoint stores it."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

import yaml

from imageseg.atomic_files import replacing
from imageseg.errors import InputError, did_you_mean

logger = logging.getLogger(__name__)

SECTIONS = ("data", "network", "task", "trainer")

RENAMED = {"trainer": {"pictures": "images"}}
"""Section -> former name of an argument -> its name today."""


@dataclass(frozen=True)
class Recipe:
    """Description of one training run.

    A section holds arguments of the classes that it configures. An argument that is left out has the default of the signature.

    Args:
        use: Name of the dataset.
        model: Name of the network.
        data: Arguments of the dataset, the augmentation and the loaders.
        network: Arguments of the network, and files of weights to start from.
        task: Arguments of the loss, the optimizer and the learning rate schedule.
        trainer: Length of the run, devices, precision, and where the results are stored.
    """

    use: str
    model: str
    data: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str | Path = "recipe") -> Recipe:
        """Create a recipe from a mapping with the keys of this class.

        Args:
            values: Names and sections. Former names of arguments are accepted and logged.
            source: Name of the file, for error messages.

        Raises:
            InputError: A key is unknown, ``use`` or ``model`` is missing, or a section is not a mapping.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(
                    f"{source}: unknown key '{key}'{did_you_mean(str(key), known)}; a recipe has {', '.join(known)}"
                )
        for key in ("use", "model"):
            if not isinstance(values.get(key), str):
                raise InputError(f"{source}: '{key}' is missing; write for example 'use: VOC' and 'model: UNet'")
        sections = {key: with_current_names(key, _mapping(values.get(key), key, source)) for key in SECTIONS}
        return cls(values["use"], values["model"], **sections)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Read a recipe from a YAML file."""
        return cls.from_dict(read_yaml(path), path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, nested by section."""
        return asdict(self)

    def to_yaml(self, path: str | Path) -> None:
        """Write a YAML file. ``--config`` with this file repeats the run."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_text(), encoding="utf-8")

    def to_text(self) -> str:
        """Return the recipe as YAML."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False)


def merged(recipes: Sequence[Mapping[str, Any]], sources: Sequence[str | Path]) -> dict[str, Any]:
    """Merge the contents of several recipe files, argument by argument; a later file overrides an earlier one.

    Raises:
        InputError: A section is not a mapping.
    """
    result: dict[str, Any] = {}
    for recipe, source in zip(recipes, sources, strict=True):
        for key, value in recipe.items():
            if key in SECTIONS:
                result[key] = result.get(key, {}) | with_current_names(key, _mapping(value, key, source))
            else:
                result[key] = value
    return result


def with_current_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section in which arguments of earlier versions have their current names; each change is logged.

    Raises:
        InputError: An argument is given under both names.
    """
    result = dict(values)
    for former, current in RENAMED.get(section, {}).items():
        if former not in result:
            continue
        if current in result:
            raise InputError(f"{section}.{former} is the former name of {section}.{current}; give only the latter")
        logger.warning("%s.%s is now called %s.%s; its value is used", section, former, section, current)
        result[current] = result.pop(former)
    return result


def _mapping(values: Any, section: str, source: str | Path) -> Mapping[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        raise InputError(f"{source}: '{section}' must map argument names to values, found {values!r}")
    return values or {}


def plain(value: Any) -> Any:
    """Convert tuples to lists and paths to text, also within dictionaries and lists, as YAML returns them."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain values.

    Raises:
        InputError: The file is missing, empty, not UTF-8 or not YAML, a key is given twice, or it holds no mapping.
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
        raise InputError(f"{path}: is a list; write 'labels:' above it")
    if not isinstance(values, dict):
        raise InputError(f"{path}: must map keys to values ('key: value'), found a {type(values).__name__}")
    return values


def _is_label(row: object) -> bool:
    """Return whether this is a row of a label table, the only kind of file in which users leave out the top-level key."""
    return isinstance(row, dict) and bool({"name", "color"} & row.keys())


def _explained(error: Exception, text: str) -> str:
    """Describe why a text is not valid YAML, with the line number.

    Tabs in the indentation are invisible, and the parser's own message does not mention them.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return f"line {number}: starts with a tab; indent with spaces"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = " ".join(f"{error.problem or error.context}".split())
        if "'\\t'" in problem:
            return f"line {error.problem_mark.line + 1}: contains a tab where only spaces are allowed"
        return f"is not valid YAML ({problem}, line {error.problem_mark.line + 1})"
    return f"is not valid YAML ({' '.join(str(error).split())})"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Loader that rejects duplicate keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor` may occur more than once
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
    """Dumper that quotes text which the loader would read as a number."""


# YAML 1.1 reads 1e-4 as text because it has no decimal point; whoever writes it means a number.
for _class in (_UniqueKeyLoader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"(?:[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+|[-+]?\.\d+)$"),
        list("-+0123456789."),
    )

"""From the command line and YAML files to a recipe of what was given: names first, then the flags of the named classes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import TYPE_CHECKING, Any, NoReturn

from imageseg.cli.argument_values import allowed_words, checked_value, kind, parsed_word
from imageseg.errors import InputError, closest
from imageseg.recipe import RENAMED, Recipe, merged, plain, read_yaml, with_current_names

if TYPE_CHECKING:
    from imageseg.registry import Argument

_NULL_ALLOWED = "data.root"
"""Null means the dataset's own default folder, whatever the type in its signature."""


class OneLineParser(argparse.ArgumentParser):
    """Argument parser that reports errors in one line, without the usage text."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)

    def add_workers(self) -> None:
        """Add the flag of commands that use several processes."""
        self.add_argument(
            "--workers", type=int, action=_OneOrMore, help="number of worker processes (default: one per CPU core)"
        )

    def error(self, message: str) -> NoReturn:
        """Raises:
        InputError: Always, with the name of the program that has the help.
        """
        raise InputError(f"{message}; see {self.prog} --help")


class _OneOrMore(argparse.Action):
    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if values < 1:
            raise InputError(f"{option_string} must be 1 or more, found {values}")
        setattr(namespace, self.dest, values)


def recipe_from(arguments: Sequence[str], *, program: str) -> Recipe:
    """Return the recipe that flags and YAML files give. A flag overrides a file, and a later file an earlier one.

    The recipe holds exactly what was given, with canonical names and checked values. Defaults, and the arguments that a
    weights file implies, are added later, in ``imageseg.training.resolve``.

    Prints and exits if ``--help`` or ``--print_config`` is given.

    Raises:
        InputError: A name, flag or key is unknown, or a value has the wrong type.
    """
    names_parser = _names_parser(program)
    names, words = names_parser.parse_known_args(list(arguments))
    values = merged([read_yaml(path) for path in names.config], names.config)
    values |= {key: value for key, value in (("use", names.use), ("model", names.model)) if value}
    missing = [key for key in ("use", "model") if key not in values]
    if missing and names.help:
        names_parser.print_help()
        sys.exit(0)
    if missing:
        raise InputError(f"{program} needs --{missing[0]}, for example --use VOC --model UNet; see {program} --help")
    in_files = Recipe.from_dict(values, ", ".join(names.config) or "recipe")

    from imageseg.training.resolve import arguments_of_sections, resolve, with_canonical_names

    in_files = with_canonical_names(in_files)
    declared = arguments_of_sections(in_files.use, in_files.model)
    if names.help:
        _flags_parser(declared, program, parents=[names_parser]).print_help()
        sys.exit(0)
    by_flag = _flag_values(words, declared, owner=f"{in_files.use} with {in_files.model}", program=program)
    sections = {section: _checked(section, getattr(in_files, section), declared[section]) for section in declared}
    given = Recipe(
        in_files.use, in_files.model, **{section: sections[section] | by_flag[section] for section in declared}
    )
    if names.print_config:
        print(resolve(given).recipe.to_text(), end="")
        sys.exit(0)
    return given


def network_arguments_from(flags: Sequence[str], model: str, *, program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a network that ``--network.*`` flags describe.

    Returns:
        The arguments that were given, and all arguments including defaults.

    Raises:
        InputError: The network has no such flag, or a value has the wrong type.
    """
    from imageseg.models import MODELS
    from imageseg.registry import declared_arguments

    declared = declared_arguments(MODELS[model])
    given = _flag_values(flags, {"network": declared}, owner=model, program=program)["network"]
    return given, {name: argument.default for name, argument in declared.items()} | given


def add_flags(parser: argparse.ArgumentParser, title: str, arguments: Mapping[str, Argument], prefix: str = "") -> None:
    """Add one flag per declared argument, with its description, type and default as help.

    The flags store the word that the user has typed, under the argument's name; ``parsed_word`` converts it.
    """
    group = parser.add_argument_group(title)
    for name, (expected, default, description) in arguments.items():
        words = allowed_words(expected)
        notes = [] if words else [kind(expected)]
        notes += [] if default is Parameter.empty else [f"default: {_as_yaml(default)}"]
        group.add_argument(
            f"--{prefix}{name}",
            default=argparse.SUPPRESS,
            metavar=f"{{{','.join(words)}}}" if words else name.upper(),
            help=f"{description} ({'; '.join(notes)})".replace("``", "").replace("%", "%%").strip(),
        )


def _names_parser(program: str) -> OneLineParser:
    """Return the parser of the flags that are read first, because the others depend on them."""
    from imageseg.datasets import DATASETS
    from imageseg.models import MODELS

    parser = OneLineParser(
        prog=program,
        add_help=False,
        epilog="With --use and --model, --help lists every flag of the dataset and the network.\n\n"
        f"example:\n  {program} --use VOC --model UNet --data.root data/VOC",
    )
    parser.add_argument("--use", metavar="DATASET", help=f"dataset: {', '.join(DATASETS)}")
    parser.add_argument("--model", metavar="NETWORK", help=f"network: {', '.join(MODELS)}")
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="recipe in YAML; flags override its values"
    )
    parser.add_argument("--print_config", action="store_true", help="print the complete recipe of the run and exit")
    parser.add_argument("-h", "--help", action="store_true", help="show this help and exit")
    return parser


def _flags_parser(
    declared: Mapping[str, Mapping[str, Argument]], program: str, *, parents: Sequence[argparse.ArgumentParser] = ()
) -> OneLineParser:
    parser = OneLineParser(
        prog=program,
        add_help=False,
        parents=parents,
        usage=f"{program} --use DATASET --model NETWORK [--config FILE] [flags]",
        epilog="further flags:\n  --json   print one JSON object to standard output\n"
        "  --debug  show the complete traceback of an error",
    )
    for section, arguments in declared.items():
        add_flags(parser, section, arguments, prefix=f"{section}.")
        for former in RENAMED.get(section, {}):
            parser.add_argument(f"--{section}.{former}", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _flag_values(
    words: Sequence[str], declared: Mapping[str, Mapping[str, Argument]], *, owner: str, program: str
) -> dict[str, dict[str, Any]]:
    """Return the values that flags give, by section.

    Raises:
        InputError: A flag is unknown, a word belongs to no flag, or a value has the wrong type.
    """
    given, rest = _flags_parser(declared, program).parse_known_args(list(words))
    known = [f"--{section}.{name}" for section, arguments in declared.items() for name in arguments]
    for word in rest:
        if not word.startswith("--"):
            raise InputError(f"'{word}' belongs to no flag; write a list as one word, such as '[256, 512]'")
        flag = word.partition("=")[0]
        # Compared without the section, which is rarely what was misspelled.
        by_name = {name.rpartition(".")[2]: name for name in reversed(known)}
        meant = closest(flag.rpartition(".")[2].removeprefix("--"), by_name)
        hint = f" (did you mean '{by_name[meant]}'?)" if meant else ""
        raise InputError(f"{owner} has no flag {flag}{hint}; --help lists all flags")
    values = {}
    for section, arguments in declared.items():
        prefix = f"{section}."
        typed = {key.removeprefix(prefix): word for key, word in vars(given).items() if key.startswith(prefix)}
        values[section] = {
            name: plain(parsed_word(word, arguments[name].type, f"{prefix}{name}"))
            for name, word in with_current_names(section, typed).items()
        }
    return values


def _checked(section: str, values: Mapping[str, Any], arguments: Mapping[str, Argument]) -> dict[str, Any]:
    checked = {}
    for name, value in values.items():
        key = f"{section}.{name}"
        is_default_root = key == _NULL_ALLOWED and value is None
        checked[name] = None if is_default_root else plain(checked_value(value, arguments[name].type, key))
    return checked


def _as_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)

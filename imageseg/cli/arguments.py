"""From command line and YAML to a recipe: names first, then the flags that the named classes' signatures have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from imageseg.cli.value_errors import refuse_nulls, typed_values
from imageseg.errors import InputError, closest
from imageseg.recipe import Recipe, read_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_SECTIONS = ("data", "network", "task", "trainer")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, no usage text."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)

    def add_workers(self) -> None:
        """The flag of commands that work in several processes."""
        self.add_argument("--workers", type=int, action=_OneOrMore, help="processes; unset, one per processor")

    def error(self, message: str) -> NoReturn:
        """Raises:
        InputError: always.
        """
        raise InputError(f"{message}; see {self.prog} --help")


class _OneOrMore(argparse.Action):
    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if values < 1:
            raise InputError(f"{option_string} must be 1 or more, found {values}")
        setattr(namespace, self.dest, values)


def recipe_from(arguments: Sequence[str], *, program: str) -> Recipe:
    """The recipe that flags and YAML files describe: a flag beats a file, a later file an earlier one.

    Every default is written out, those of a network that begins with ``weights`` aside: what the weights presume takes
    the place of its defaults, and contradicts what is given.

    Prints and exits where ``--help`` or ``--print_config`` asks for it.

    Raises:
        InputError: an unknown name, flag or key, or a value of the wrong kind.
    """
    names = _first_pass(program)
    given, flags = names.parse_known_args(list(arguments))
    asks_help = given.help
    merged = _merged([read_yaml(path) for path in given.config], given.config)
    merged |= {key: value for key, value in (("use", given.use), ("model", given.model)) if value}
    missing = [key for key in ("use", "model") if key not in merged]
    if missing and asks_help:
        names.print_help()
        sys.exit(0)
    if missing:
        raise InputError(
            f"{program} needs --{missing[0]}, for example --use VOCModule --model UNet; see {program} --help"
        )
    recipe = Recipe.from_dict(merged, ", ".join(given.config) or "recipe")
    return _second_pass(recipe, flags, program=program, asks_help=asks_help, print_config=given.print_config)


def _first_pass(program: str) -> OneLineParser:
    """Finds the names. It is plain argparse: jsonargparse cannot leave flags for later."""
    from imageseg.datasets import DATASETS
    from imageseg.models import MODELS

    parser = OneLineParser(
        prog=program,
        add_help=False,
        epilog="with --use and --model given, --help lists every flag that the two have\n\n"
        f"example:\n  {program} --use VOCModule --model UNet --data.root data/VOC",
    )
    parser.add_argument("--use", help=f"the dataset: {', '.join(DATASETS)}")
    parser.add_argument("--model", help=f"the network: {', '.join(MODELS)}")
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="a recipe in YAML; flags beat it")
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe that would run, and stop")
    parser.add_argument("-h", "--help", action="store_true", help="this text")
    return parser


def _merged(recipes: list[dict[str, Any]], paths: Sequence[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for recipe, path in zip(recipes, paths, strict=True):
        for key, value in recipe.items():
            if key in _SECTIONS and isinstance(value, dict):
                merged[key] = merged.get(key, {}) | value
            elif key in _SECTIONS and value is not None:
                raise InputError(f"{path}: '{key}' must hold names and values, found {value!r}")
            else:
                merged[key] = value
    return merged


def _second_pass(recipe: Recipe, flags: list[str], *, program: str, asks_help: bool, print_config: bool) -> Recipe:
    from imageseg.training.resolve import completed, takers
    from imageseg.weights.build import read_initial_weights

    given = {*recipe.network, *_given(flags, "network")}
    recipe = completed(recipe)
    classes_of = takers(recipe.use, recipe.model)
    parser = _typed_parser(classes_of, program)
    if asks_help:
        parser.print_help()
        sys.exit(0)
    _check_flags(flags, classes_of, f"{recipe.use} with {recipe.model}")
    with typed_values(parser):
        defaults = parser.parse_object({section: getattr(recipe, section) for section in classes_of})
        values = parser.parse_args(flags, namespace=defaults).as_dict()
    refuse_nulls(values, parser)
    recipe = completed(Recipe(recipe.use, recipe.model, **{section: values[section] for section in classes_of}))
    if recipe.network["weights"] is not None:
        network = {name: value for name, value in recipe.network.items() if name in given}
        recipe = replace(recipe, network=network)
    if print_config:
        if recipe.trainer["resume"] is None and (weights := read_initial_weights(recipe.model, recipe.network)):
            recipe = replace(recipe, network=weights.arguments)
        print(completed(recipe).to_text(), end="")
        sys.exit(0)
    return recipe


def _given(flags: Sequence[str], section: str) -> set[str]:
    """The names of a section's arguments for which there is a flag."""
    names = (word.partition("=")[0] for word in flags)
    return {name.removeprefix(f"--{section}.") for name in names if name.startswith(f"--{section}.")}


def network_arguments_from(flags: Sequence[str], model: str, *, program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a network that ``--network.*`` flags describe.

    Returns:
        Those for which there is a flag, and all with every default written out.

    Raises:
        InputError: a flag that the network lacks, or a value of the wrong kind.
    """
    from imageseg.models import MODELS

    classes_of: dict[str, list[Any]] = {"network": [MODELS[model]]}
    _check_flags(list(flags), classes_of, model)
    parser = _typed_parser(classes_of, program)
    with typed_values(parser):
        values: dict[str, Any] = parser.parse_args(list(flags)).as_dict()["network"]
    given = _given(flags, "network")
    return {name: value for name, value in values.items() if name in given}, values


def _typed_parser(takers: dict[str, list[Any]], program: str) -> ArgumentParser:
    import jsonargparse

    from imageseg.registry import NOT_IN_RECIPES

    parser = jsonargparse.ArgumentParser(
        prog=program, exit_on_error=False, usage=f"{program} --use NAME --model NAME [--config FILE] [flags]"
    )
    parser.epilog = "and --config FILE (a recipe in YAML; flags beat it), --print_config, --json, --debug"
    for section, classes in takers.items():
        group = parser.add_argument_group(f"{section} ({', '.join(takes.__name__ for takes in classes)})")
        for takes in classes:
            parser.add_class_arguments(takes, section, as_group=False, skip=set(NOT_IN_RECIPES))
        # jsonargparse lets only one class fill a group; which group an action is in matters to the help text alone.
        ours = [action for action in parser._optionals._group_actions if action.dest.startswith(f"{section}.")]
        for action in ours:  # no second flag that appends to a list: a list is given whole
            action.option_strings = [flag for flag in action.option_strings if not flag.endswith("+")]
        parser._optionals._group_actions[:] = [a for a in parser._optionals._group_actions if a not in ours]
        group._group_actions.extend(ours)
    return parser


def _check_flags(flags: list[str], takers: dict[str, list[Any]], owner: str) -> None:
    """Raises:
    InputError: a flag that the two names do not have, or a word that belongs to no flag.
    """
    from imageseg.registry import parameters_of

    known = [
        f"--{section}.{name}"
        for section, classes in takers.items()
        for takes in classes
        for name in parameters_of(takes)
    ]
    expects_value = False
    for word in flags:
        flag = word.partition("=")[0]
        if flag.startswith("--"):
            if flag not in known:
                # Close in the last word: the sections are few and rarely what was misspelt.
                by_name = {name.rpartition(".")[2]: name for name in reversed(known)}
                meant = closest(flag.rpartition(".")[2].removeprefix("--"), by_name)
                hint = f" (did you mean '{by_name[meant]}'?)" if meant else ""
                raise InputError(f"{owner} has no flag {flag}{hint}; --help lists them")
            expects_value = "=" not in word
        elif expects_value:
            expects_value = False
        else:
            raise InputError(f"'{word}' belongs to no flag; lists are written as one word, '[256, 512]'")

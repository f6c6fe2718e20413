"""The arguments of commands that work on a dataset: its name, its root, and the flags that its signature has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from imageseg.cli.arguments import OneLineParser
from imageseg.cli.value_errors import typed_values
from imageseg.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from imageseg.datasets.base import SegmentationDataset


class DatasetParser(OneLineParser):
    """A parser of ``NAME [--root FOLDER] [flags of the command] [flags of the dataset]``."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"a dataset's own arguments are flags too, as in '{prog} VOC --year 2007'; '{prog} VOC --help' lists them",
        )
        self.add_argument("use", metavar="DATASET", help="its name, for example VOC, Cityscapes, Folder")
        self.add_argument(
            "--root", "--data.root", dest="root", help="where its files lie or will; unset, its default below data/"
        )

    def parse(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, SegmentationDataset]:
        """The command's own values, and the dataset.

        The values have one more, ``dataset_flags``: the words of the dataset's own flags, so that a report can suggest
        commands on the same data.

        Raises:
            InputError: an unknown dataset or flag, or a value of the wrong kind.
        """
        if {"-h", "--help"} & set(arguments):
            self._explain(arguments)
        given, flags = self.parse_known_args(list(arguments))
        given.dataset_flags = flags
        return given, dataset_from(given.use, given.root, flags, program=self.prog)

    def _explain(self, arguments: Sequence[str]) -> NoReturn:
        """Prints the help, with the flags of the dataset where one is named."""
        from imageseg.datasets import DATASETS

        print(self.format_help().rstrip())
        named = next((word for word in arguments if word in DATASETS), None)
        if named is not None:
            print(_flags_of(DATASETS[named], usage=argparse.SUPPRESS).format_help().rstrip())
        self.exit()


def dataset_from(use: str, root: str | None, flags: Sequence[str], *, program: str) -> SegmentationDataset:
    """The dataset of that name, its other arguments read from flags by the types in its signature."""
    from imageseg.datasets import DATASETS, build_dataset
    from imageseg.registry import parameters_of

    name, takes = DATASETS.resolve(use), DATASETS[use]
    if not flags:
        return build_dataset(name, root)
    known = [f"--{argument}" for argument in parameters_of(takes) if argument != "root"]
    wrong = [flag for flag in flags if flag.startswith("--") and flag.partition("=")[0] not in known]
    if wrong:
        has = f"has {', '.join(known)}" if known else "has none of its own"
        raise InputError(f"neither {program} nor {name} has a flag {wrong[0].partition('=')[0]}; {name} {has}")
    parser = _flags_of(takes, prog=program)
    with typed_values(parser, f"; see {program} --help"):
        values = parser.parse_args(list(flags)).as_dict()
    return build_dataset(name, root, **values)


def _flags_of(takes: type[SegmentationDataset], **arguments: Any) -> ArgumentParser:
    import jsonargparse

    from imageseg.registry import NOT_IN_RECIPES

    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, **arguments)
    parser.add_class_arguments(takes, skip={*NOT_IN_RECIPES, "root"})
    return parser

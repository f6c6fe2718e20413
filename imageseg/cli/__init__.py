"""The command line: one file per command, imported when it is asked for."""

from __future__ import annotations

import importlib
import io
import os
import select
import sys
from collections.abc import Sequence

from imageseg._version import __version__
from imageseg.errors import InputError, unknown_name

COMMANDS = {
    "prepare": "fetch a dataset, and make what it needs once",
    "check": "find the faults of a dataset, in pictures, masks and labels, before a training does",
    "stats": "count a dataset's images, objects and classes; suggest class weights",
    "train": "train a network on a dataset, then score the best checkpoint",
    "evaluate": "score a checkpoint on a split",
    "predict": "predict pictures with a checkpoint: class maps and overlays",
    "models": "list the networks, and encoders for them",
    "convert": "turn weights of other libraries into a checkpoint of ours",
    "score": "score folders of predictions as any benchmark's own evaluator does",
    "submit": "pack predictions for a benchmark's server, or check a pack",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 done, 1 the check found faults, 2 wrong use or input, 3 done but some inputs were skipped, 130 interrupted.
    """
    _wait_without_spinning()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a test's or a notebook's own
            stream.reconfigure(errors="replace")  # a Windows log file knows few letters
    try:
        exit_code = _dispatch(given)
        sys.stdout.flush()
        return exit_code
    except InputError as error:
        if debug:
            raise
        return _refuse(error.line())
    except KeyboardInterrupt as interrupt:
        print(f"imageseg: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return 0
        if debug:
            raise
        return _refuse(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _wait_without_spinning() -> None:
    """Lets torch's threads sleep where they wait for each other; read when torch is imported, which is later.

    OpenMP's default is to spin for milliseconds. Where other programs use the processor too, a thread then spins for one that
    is not even running: a training step on two busy cores took 1.3 to 11 s in place of 0.7.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Of GNU's runtime: some microseconds, since the next step is often near.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _refuse(line: str) -> int:
    print(f"imageseg: error: {line}", file=sys.stderr)
    return 2


def _reader_has_left() -> bool:
    """Whether our output goes nowhere any more, as under ``| head``; a loader's broken pipe is another matter."""
    if os.name == "nt":  # cannot ask a pipe
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    if not poll.poll(0):
        return False
    # Python would complain at exit otherwise.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0
    if given[0] == "--version":
        print(f"imageseg {__version__}")
        return 0
    command = given[0]
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    exit_code: int = importlib.import_module(f"imageseg.cli.{command}").run(given[1:])
    return exit_code


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: imageseg COMMAND ...        (python -m imageseg is the same)\n\n"
        f"commands:\n{rows}\n\n"
        "options:\n"
        "  -h, --help  this text; 'imageseg COMMAND --help' for a command's own\n"
        "  --version   print the version\n"
        "  --debug     show the whole traceback of an error\n\n"
        "example:\n"
        "  imageseg train --use ToyScenes --model DeepLabv3_plus --network.encoder resnet18 --network.pretrained false"
    )

"""The command line, one module per command: the dispatcher here imports the one that is asked for.

Read ``train.py`` with ``arguments.py`` (flags and YAML to a recipe) and ``argument_values.py`` (types and errors) first;
commands that work on a dataset share ``dataset_arguments.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import select
import sys
from collections.abc import Iterator, Sequence

from imageseg._version import __version__
from imageseg.errors import InputError, unknown_name

COMMANDS = {
    "prepare": "download a dataset and create the files that are needed only once",
    "check": "find errors in the images, masks and labels of a dataset before training",
    "stats": "count images, objects and classes of a dataset, and suggest class weights",
    "train": "train a network on a dataset, then evaluate its best checkpoint",
    "evaluate": "evaluate a checkpoint on a split of a dataset",
    "predict": "apply a checkpoint to images, and write class maps and overlays",
    "models": "list the networks and the encoders that they can use",
    "convert": "convert weights of other libraries to a checkpoint of imageseg",
    "score": "score folders of predictions exactly as the official evaluators do",
    "submit": "create an archive of predictions for a benchmark server, or check one",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words of the command line after the program's name (default: those of this process).

    Returns:
        Exit code: 0 done, 1 the check found faults, 2 invalid usage or input, 3 done but some inputs were skipped,
        130 interrupted.
    """
    _wait_without_spinning()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not replaced by a test or a notebook
            stream.reconfigure(errors="replace")  # the encoding of a Windows log file has few characters
    try:
        with _log_lines_on_standard_error():
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


@contextlib.contextmanager
def _log_lines_on_standard_error() -> Iterator[None]:
    """Print what the package logs as ``imageseg: MESSAGE`` until the block ends."""
    logger, handler = logging.getLogger("imageseg"), _StandardError()
    handler.setFormatter(logging.Formatter("imageseg: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _StandardError(logging.Handler):
    """Handler that prints each line once, although a command may read the same file twice.

    It looks up ``sys.stderr`` for each line, because a live progress bar replaces it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        line = self.format(record)
        if line not in self._printed:
            self._printed.add(line)
            print(line, file=sys.stderr)


def _wait_without_spinning() -> None:
    """Let threads of torch sleep while they wait for each other. Torch reads these variables when it is imported.

    By default OpenMP spins for milliseconds. If other programs use the CPU too, a thread spins for another one that is not
    running: a training step on two busy cores took 1.3 to 11 s instead of 0.7 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # GNU's runtime: spin for some microseconds only.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _refuse(line: str) -> int:
    print(f"imageseg: error: {line}", file=sys.stderr)
    return 2


def _reader_has_left() -> bool:
    """Return whether nothing reads our output any more, as in ``| head``. The broken pipe may also be a loader's."""
    if os.name == "nt":  # pipes cannot be polled
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    if not poll.poll(0):
        return False
    # Otherwise Python reports an error at exit.
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
        "  -h, --help  show this help; 'imageseg COMMAND --help' shows that of a command\n"
        "  --version   print the version\n"
        "  --debug     show the complete traceback of an error\n\n"
        "example:\n"
        "  imageseg train --use ToyScenes --model DeepLabv3_plus --network.encoder resnet18 --network.pretrained false"
    )

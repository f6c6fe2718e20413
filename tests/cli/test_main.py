"""The command line: help is fast, log lines go to standard error, invalid usage is one line and exit code 2."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from imageseg.cli import COMMANDS, main
from imageseg.training.process_state import restored_process_state

ROOT = Path(__file__).parents[2]


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("training ")]
    assert len(lines) == 1, captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trane"], "no command is called 'trane' (did you mean 'train'?)"),
        (["train"], "imageseg train needs --use"),
        (["train", "--use", "VOC"], "imageseg train needs --model"),
        (["train", "--use", "vco", "--model", "unet"], "no dataset is called 'vco' (did you mean 'VOC'?)"),
        (["train", "--use", "VOC", "--model", "UNte"], "no network is called 'UNte' (did you mean 'UNet'?)"),
        (
            ["train", "--use", "VOC", "--model", "UNet", "--task.lrr", "1"],
            "no flag --task.lrr (did you mean '--task.lr'?)",
        ),
        (
            ["train", "--use", "VOC", "--model", "UNet", "--network.output_stride", "8"],
            "no flag --network.output_stride",
        ),
        (["train", "--use", "VOC", "--model", "UNet", "--task.lr", "fast"], "task.lr must be a number, found 'fast'"),
        (["train", "--use", "VOC", "--model", "UNet", "--data.crop_size", "256", "512"], "'512' belongs to no flag"),
        (["train", "--use", "VOC", "--model", "UNet", "--config", "no.yaml"], "no.yaml: no such file"),
        (["train", "--use", "Folder", "--model", "UNet", "--data.root", "nowhere"], "nowhere does not exist"),
        (["evaluate", "no.ckpt"], "no.ckpt: no such checkpoint"),
        (["evaluate"], "the following arguments are required: checkpoint"),
        (["predict", "no.ckpt", "no.jpg"], "no.jpg: no such file, folder or pattern"),
        (["prepare", "VOC", "--root", "nowhere"], "VOC2012: nowhere does not exist"),
        (["prepare", "VOC", "--year", "2010"], "VOC supports the years 2007 and 2012"),
        (["prepare", "CamVid", "--year", "2010"], "CamVid has no flags of its own"),
        (["prepare", "ToyScenes", "--seed", "x"], "seed must be an integer, found 'x'"),
        (["prepare", "ToyScenes", "--download"], "ToyScenes is not offered for download"),
        (["prepare", "VOC", "--rot", "x"], "neither imageseg prepare nor VOC has a flag --rot; VOC has --year"),
        (["check", "VOC", "more"], "imageseg check accepts one dataset; 'more' belongs to no flag"),
    ],
)
def test_invalid_usage_is_reported_in_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_of(arguments, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("use", "name"), [("CityscapeModule", "Cityscapes"), ("COCOModule", "COCO"), ("BDD100KModule", "BDD100K")]
)
def test_datasets_report_the_expected_layout(
    use: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = str(tmp_path / "nowhere")
    message = error_of(["train", "--use", use, "--model", "DeepLabv3_plus", "--data.root", root], capsys)
    assert message.startswith(f"imageseg: error: {name}: {root} does not exist; expected ")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="no command is called"):
        main(["trane", "--debug"])


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "train"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: imageseg {command}")


def test_help_imports_no_heavy_library() -> None:
    script = "import sys; from imageseg.cli import main; main(['--help']); print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "cv2", "jsonargparse", "pytorch_lightning"} & set(answer.stdout.split())


def test_a_closed_pipe_is_no_error() -> None:
    command = f'"{sys.executable}" -m imageseg --help | true; exit ${{PIPESTATUS[0]}}'
    if os.name == "nt":
        pytest.skip("needs bash")
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert answer.stderr == ""


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(
    given: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    for name in ("OMP_WAIT_POLICY",) * (given is None) + ("GOMP_SPINCOUNT",):
        monkeypatch.delenv(name)
    assert main(["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    capsys.readouterr()


@pytest.fixture
def logging_command(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a command that logs a line at each level."""
    logger = logging.getLogger("imageseg.somewhere.deep")

    def run(_: list[str]) -> int:
        logger.debug("not shown")
        logger.info("for the user")
        logger.info("for the user")
        logger.warning("careful")
        return 0

    monkeypatch.setitem(COMMANDS, "logging", "")
    monkeypatch.setitem(sys.modules, "imageseg.cli.logging", SimpleNamespace(run=run))
    return "logging"


def test_log_lines_appear_once_on_standard_error_however_often_main_runs(
    logging_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("imageseg")
    before = list(logger.handlers), logger.level
    for _ in range(2):
        assert main([logging_command]) == 0
        captured = capsys.readouterr()
        assert captured.err.splitlines() == ["imageseg: for the user", "imageseg: careful"]
        assert captured.out == ""
    assert (list(logger.handlers), logger.level) == before


def test_other_processes_of_a_run_log_nothing(
    logging_command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imageseg.training.process_state.is_main_process", lambda: False)
    run = sys.modules["imageseg.cli.logging"].run
    monkeypatch.setattr(sys.modules["imageseg.cli.logging"], "run", restored_process_state()(run))
    assert main([logging_command]) == 0
    assert capsys.readouterr().err == ""


def test_the_command_line_does_not_import_torch() -> None:
    code = "import imageseg.cli, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

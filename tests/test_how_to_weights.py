"""docs/how-to/weights-from-elsewhere.md: it names every source that is known, and its commands are ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imageseg.cli import COMMANDS
from imageseg.models.weights.tables import SOURCES

PAGE = (Path(__file__).parents[1] / "docs/how-to/weights-from-elsewhere.md").read_text(encoding="utf-8")
PROJECTS = {"SMP": "segmentation_models_pytorch", "NVlabs": "NVlabs/SegFormer"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_has_its_place(source: object) -> None:
    name = source.name  # type: ignore[attr-defined]
    project = re.split(r"'s? ", name)[0]
    assert PROJECTS.get(project, project) in PAGE
    assert source.refusal or source.model in PAGE  # type: ignore[attr-defined]


def test_its_commands_are_there() -> None:
    commands = re.findall(r"^imageseg (\w+)|`imageseg (\w+) ", PAGE, flags=re.M)
    assert len(commands) >= 6
    assert {one or other for one, other in commands} <= set(COMMANDS)


def test_is_a_page() -> None:
    assert len(PAGE.splitlines()) < 120
    assert not [line for line in PAGE.splitlines() if len(line) > 200 and not line.startswith("|")]

"""One word for one thing, in US spelling, in every text that a user may read: messages, help, docstrings and pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import docstring_parser
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "imageseg").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

WORDS = {
    r"pictures?(?!\.tsv)": "image",
    r"(?-i:figures?)": "score, metric, result or number; Figure only for a drawing",
    r"begins? (?:with weights|with a file of weights|pretrained|at random|alike)": "starts from",
    r"gradients are cut|cut(?:s|ting)? (?:the )?gradients": "gradient clipping",
    r"unset[,;]": "If not set, ... or (default: ...)",
    r"mend(?:s|ed|ing)?": "fix",
    r"planted|planters?": "injected",
    r"floors": "layers",
    r"say=": "logging",
    r"processors?": "CPU",
    r"graphics cards?": "GPU",
    r"(?:lies|lie|lay) (?:in|below|on|under)": "is in, is stored in",
    r"beside": "next to, besides or compared with",
    r"likewise": "a complete sentence",
    r"trainings|a training(?=[,.;:]| of)": "training run",
    r"by the rules of": "metric protocol",
    r"is told": "receives, is informed",
    r"the usual way": "the name of what it is",
    r"looked at with": "inspected visually",
    r"comes? out right": "is correct",
    r"\w*(?:optimis|normalis|initialis|synchronis|recognis|minimis|maximis|organis|summaris|quantis)\w*": "-iz-",
    r"\w*(?:colour|behaviour|neighbour|favour)\w*": "-or-",
    r"gr[e]y\w*": "gray",
    r"centre[sd]?": "center",
    r"(?:un)?labelled|labelling|travelled|modelling|cancelled": "one l",
    r"licences?": "license",
    r"artefacts?": "artifact",
}
ALLOWED = {
    # Former names, which recipes, checkpoints, files on disk and scripts that read --json may contain.
    "imageseg/cli/models.py": {"licence"},
    "imageseg/recipe.py": {"pictures"},
    "imageseg/datasets/masks/cache.py": {"pictures"},
    "imageseg/datasets/statistics/counts.py": {"picture"},
    # A class name in users' label tables, in both spellings.
    "imageseg/checking/label_values.py": {"unlabelled"},
}
OPENINGS = ("of", "whose", "likewise", "as", "where", "to", "from")


def test_pages_use_the_words_of_the_field() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {fault}"
        for path in PAGES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for fault in misused(line, set())
    ]
    assert faults == []


def test_messages_help_and_docstrings_use_the_words_of_the_field() -> None:
    faults = []
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        for number, text in strings(path):
            faults += [f"{name}:{number}: {fault}" for fault in misused(text, ALLOWED.get(name, set()))]
    assert faults == []


def test_descriptions_of_arguments_are_noun_phrases() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {name}: {description[:60]}"
        for path in SOURCES
        for number, name, description in descriptions(path)
        if re.match(rf"(?:{'|'.join(OPENINGS)})\b", description, re.IGNORECASE)
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("3 pictures", "pictures"),
        ("--workers: unset, one per core", "unset,"),
        ("The Optimiser's state", "Optimiser"),
        ("it lies in the folder", "lies in"),
        ("a training, then", "a training"),
    ],
)
def test_a_wrong_word_is_found(text: str, word: str) -> None:
    assert [fault.partition(" -> ")[0] for fault in misused(text, set())] == [word]


@pytest.mark.parametrize("text", ["a training run", "images", "optimizer", "processing", "a configured name", "floor"])
def test_a_right_word_is_not(text: str) -> None:
    assert misused(text, set()) == []


def misused(text: str, allowed: set[str]) -> list[str]:
    """Return each word that should not be used, with what to write."""
    faults = []
    for pattern, instead in WORDS.items():
        found = re.findall(rf"(?<![\w.])(?:{pattern})(?!\w)", text, re.IGNORECASE)
        faults += [f"{word} -> {instead}" for word in found if word not in allowed]
    return faults


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every string literal, docstrings and parts of f-strings included, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def descriptions(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and description of every documented argument, and of every flag of argparse."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for entry in docstring_parser.parse(ast.get_docstring(node) or "").params:
                yield node.lineno, entry.arg_name, entry.description or ""
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            for keyword in node.keywords:
                if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                    yield node.lineno, ast.unparse(node.args[0]), str(keyword.value.value)

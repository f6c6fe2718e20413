"""Rules for the package as a whole: light imports, public names, sizes and names of modules, names of classes."""

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import imageseg

PACKAGE = Path(imageseg.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "albumentations", "cv2", "numpy", "PIL")


def modules_after(code):
    """The heavy modules that a fresh interpreter holds after running ``code``, and what it printed."""
    ending = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    ended = subprocess.run([sys.executable, "-c", f"{code}\n{ending}"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *printed, modules = ended.stdout.splitlines()
    return json.loads(modules), printed


def test_importing_the_package_imports_nothing_heavy():
    assert modules_after("import imageseg; dir(imageseg); imageseg.__version__")[0] == []


def test_the_names_can_be_listed_without_the_classes():
    heavy, _ = modules_after("import imageseg; list(imageseg.MODELS); 'unet' in imageseg.MODELS; imageseg.InputError")
    assert "torch" not in heavy


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["no-such-command"]], ids=str)
def test_help_imports_nothing_heavy(arguments):
    heavy, printed = modules_after(f"from imageseg.cli import main; main({arguments})")
    assert heavy == []
    if arguments != ["no-such-command"]:
        assert "imageseg" in printed[0]


def test_every_public_name_is_there():
    assert {"MODELS", "DATASETS", "build_model", "build_dataset", "ConfusionMatrix", "Predictor"} <= set(
        imageseg.__all__
    )
    assert {"Prediction", "train", "evaluate", "InputError", "Label", "LabelSpace", "Recipe"} <= set(imageseg.__all__)
    assert all(getattr(imageseg, name) is not None for name in imageseg.__all__)
    assert dir(imageseg) == sorted(imageseg.__all__)
    with pytest.raises(AttributeError, match="module 'imageseg' has no attribute 'Predictr'"):
        imageseg.Predictr  # noqa: B018


def test_no_module_is_named_for_odds_and_ends():
    odd = {"utils", "util", "common", "core", "misc", "helpers"}
    assert [path for path in SOURCES if odd & {path.stem, *path.relative_to(PACKAGE).parts}] == []


def test_every_module_is_short_and_has_a_docstring():
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in SOURCES}
    assert len(lines) > 30
    assert {str(path): len(text) for path, text in lines.items() if len(text) > 400} == {}
    assert [str(path) for path, text in lines.items() if not text or not text[0].startswith('"""')] == []


REMAINING_HOMONYMS: set[str] = set()
"""Names that two public classes still share. Only removals are allowed."""


def test_no_two_public_classes_share_a_name():
    names = Counter(
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == REMAINING_HOMONYMS

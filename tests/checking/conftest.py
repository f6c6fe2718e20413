"""A clean tree to inject faults in."""

import shutil
from pathlib import Path

import pytest
from injected_faults import Tree, clean_tree


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return clean_tree(tmp_path_factory.mktemp("clean") / "tree")


@pytest.fixture
def tree(pattern: Tree, tmp_path: Path) -> Tree:
    return Tree(Path(shutil.copytree(pattern.root, tmp_path / "tree")))

"""Every fault is found where it was planted, with its code, and nothing else is; clean sets raise no alarm."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FAKES, write_fake
from planting import PLANTERS, Expected, Tree, clean_tree

from imageseg.checking.faults import FAULTS, findings
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import scan
from imageseg.datasets import build_dataset

# For a picture of nearly a gigapixel only its header may be read.
WITHOUT_PLACE = {"no_label_table", "class_never_seen", "missing_split", "no_split", "unlistable_split"}


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return clean_tree(tmp_path_factory.mktemp("clean") / "tree")


@pytest.fixture
def tree(pattern: Tree, tmp_path: Path) -> Tree:
    return Tree(Path(shutil.copytree(pattern.root, tmp_path / "tree")))


def check(root: Path, name: str = "Folder") -> list[Finding]:
    return findings(scan(build_dataset(name, root), workers=1))


def places(found: list[Finding], root: Path) -> Expected:
    return {
        finding.code: {str(place.path.relative_to(root)) for place in finding.places if place.path != root}
        for finding in found
    }


def test_a_clean_tree_is_clean(tree: Tree) -> None:
    assert check(tree.root) == []


@pytest.mark.parametrize("plant", PLANTERS.values(), ids=PLANTERS)
def test_a_planted_fault_is_found_and_nothing_else(tree: Tree, plant: Callable[[Tree], Expected]) -> None:
    expected = plant(tree)
    found = check(tree.root)
    assert places(found, tree.root) == expected
    for finding in found:
        assert finding.places
        assert finding.meaning.endswith(".")
        assert finding.mend.endswith(".")
        assert "\n" not in finding.meaning + finding.mend + "".join(place.detail for place in finding.places)


def test_every_fault_has_a_planter(pattern: Tree, tmp_path: Path) -> None:
    planted: set[str] = set()
    for name, plant in PLANTERS.items():
        planted |= set(plant(Tree(Path(shutil.copytree(pattern.root, tmp_path / name)))))
    assert planted == {fault.__name__ for fault in FAULTS}


def test_several_faults_at_once(tree: Tree) -> None:
    together = ("missing_mask", "missing_picture", "no_picture_at_all", "other_size", "unturned_mask", "jpeg_mask")
    together += ("unknown_ids", "rgba_bitmask", "nearly_empty", "resized", "twins", "float_mask", "huge")
    tree_of = {name: PLANTERS[name] for name in ("missing_mask", "other_size", "unturned_mask", "jpeg_mask", "rgba_bitmask")}
    expected: Expected = {}
    for plant in tree_of.values():
        expected |= plant(tree)
    assert places(check(tree.root), tree.root) == expected


@pytest.mark.parametrize("name", FAKES)
def test_the_fakes_have_no_errors_and_no_warnings(name: str, tmp_path: Path) -> None:
    dataset = build_dataset(name, **write_fake(name, tmp_path))
    found = findings(scan(dataset, workers=1))
    assert [finding for finding in found if finding.severity is not Severity.NOTE] == []

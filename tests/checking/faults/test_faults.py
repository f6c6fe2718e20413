"""Every injected fault is found in its file, with its code, and nothing else is; clean datasets have no false positives."""

import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from fakes import FAKES, write_fake, write_folder
from injected_faults import INJECTORS, Expected, Tree, drawing, huge_png, photo, trimap
from PIL import Image

from imageseg.checking.faults.table import FAULTS, findings
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import scan
from imageseg.datasets import build_dataset
from imageseg.datasets.base import SegmentationDataset, listing_of
from imageseg.datasets.pairs import Listing, Pair
from imageseg.datasets.voc.dataset import LABELS

# Each injects into files of its own, so that they can be combined.
APART = (
    *("missing_mask", "missing_image", "other_size", "unrotated_mask", "square_with_tag", "jpeg_mask", "rgba_bitmask"),
    *("nearly_empty", "palette"),
)


def check(root: Path, name: str = "Folder") -> list[Finding]:
    return findings(scan(build_dataset(name, root), workers=1))


def places(found: list[Finding], root: Path) -> Expected:
    return {
        finding.code: {str(place.path.relative_to(root)) for place in finding.places if place.path != root}
        for finding in found
    }


def test_a_clean_tree_is_clean(tree: Tree) -> None:
    assert check(tree.root) == []


@pytest.mark.parametrize("inject", INJECTORS.values(), ids=INJECTORS)
def test_a_planted_fault_is_found_and_nothing_else(tree: Tree, inject: Callable[[Tree], Expected]) -> None:
    expected = inject(tree)
    found = check(tree.root)
    assert places(found, tree.root) == expected
    for finding in found:
        assert finding.places
        assert finding.meaning.endswith(".")
        assert finding.fix.endswith(".")
        assert "\n" not in finding.meaning + finding.fix + "".join(place.detail for place in finding.places)


def test_every_fault_has_a_planter(pattern: Tree, tmp_path: Path) -> None:
    injected: set[str] = set()
    for name, inject in INJECTORS.items():
        injected |= set(inject(Tree(Path(shutil.copytree(pattern.root, tmp_path / name)))))
    assert injected == {fault.__name__ for fault in FAULTS}


@pytest.mark.parametrize("names", [APART, *combinations(APART[:5], 2)], ids="+".join)
def test_several_faults_at_once(tree: Tree, names: tuple[str, ...]) -> None:
    expected: Expected = {}
    for name in names:
        for code, files in INJECTORS[name](tree).items():
            expected[code] = expected.get(code, set()) | files
    assert places(check(tree.root), tree.root) == expected


@pytest.mark.parametrize("values", ["binary", "shifted", "label_ids", "rgb", "antialiased"])
def test_faults_of_values_are_found_next_to_damaged_files(tree: Tree, values: str) -> None:
    expected = INJECTORS[values](tree)
    damaged = INJECTORS["not_an_image_at_all"](tree) | INJECTORS["missing_mask"](tree)
    gone = tree.masks("val_1", "train_3")  # neither has readable values any more
    expected = {code: files - gone for code, files in expected.items()} | damaged
    assert places(check(tree.root), tree.root) == expected


@pytest.mark.parametrize("name", FAKES)
def test_the_fakes_have_no_errors_and_no_warnings(name: str, tmp_path: Path) -> None:
    dataset = build_dataset(name, **write_fake(name, tmp_path))
    found = findings(scan(dataset, workers=1))
    serious = {finding.code for finding in found if finding.severity is not Severity.NOTE}
    assert serious - {"class_not_in_train"} == set()  # two images cannot show every class


def test_toyscenes_are_clean(tmp_path: Path) -> None:
    dataset = build_dataset("ToyScenes", str(tmp_path / "toys"), size=(64, 64), counts=(16, 8, 8))
    dataset.prepare()
    assert [
        finding.code for finding in findings(scan(dataset, workers=1)) if finding.severity is not Severity.NOTE
    ] == []


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "RGB"])
def test_a_folder_of_every_kind_of_mask_has_only_notes(kind: str, tmp_path: Path) -> None:
    write_folder(tmp_path, kind=kind)
    codes = {finding.code for finding in check(tmp_path)}
    assert codes - {"nearly_empty_mask"} == {"L": set(), "P": {"palette_mask"}, "I;16": {"sixteen_bit_mask"}}.get(
        kind, set()
    )


def test_a_bomb_is_not_decoded(tree: Tree) -> None:
    """Its pixels are damaged as well, so that decoding it would be reported."""
    for name in tree.names()[:6]:
        tree.image(name).unlink()
        tree.image(name).with_suffix(".png").write_bytes(huge_png())
    found = check(tree.root)
    assert [finding.code for finding in found] == ["oversized_file"]
    assert found[0].places[0].detail == "60000 x 60000 pixels"


def test_worker_processes_find_the_same(tree: Tree) -> None:
    for name in APART:
        INJECTORS[name](tree)
    dataset = build_dataset("Folder", tree.root)
    assert findings(scan(dataset, workers=1)) == findings(scan(dataset, workers=2))


def test_details_name_what_was_found(tree: Tree) -> None:
    for name in ("unrotated_mask", "unknown_ids", "resized"):
        INJECTORS[name](tree)
    found = {finding.code: finding for finding in check(tree.root)}
    assert found["rotated_mask"].places[0].detail.endswith("its EXIF tag 6 means: rotated by 90 degrees")
    assert found["unknown_ids"].places[0].detail.startswith("77 (")
    assert (
        found["near_duplicate_image"].places[0].detail == "in val; shows the same as images/train/train_2.jpg in train"
    )
    assert [finding.severity for finding in found.values()] == sorted(
        (finding.severity for finding in found.values()), key=list(Severity).index
    )


def test_an_ignored_region_in_masks_of_two_classes_is_no_binary_mask(tree: Tree) -> None:
    tree.map_values({2: 1})  # 0, 1, and a border of 255 around 1
    tree.map_values({1: 255}, "train_1")  # one object is ignored as a whole
    tree.write_table([[0], [1]])
    assert {finding.code for finding in check(tree.root)} == {"nearly_empty_mask"}


def test_a_thin_line_of_255_is_a_border_even_where_nothing_else_is(tree: Tree) -> None:
    tree.map_values({2: 1, 255: 0})
    tree.write_table([[0], [1]])
    contour = np.zeros((48, 64), np.uint8)
    contour[10, 10:40] = contour[30, 10:40] = 255
    tree.store("train_1", contour)
    assert {finding.code for finding in check(tree.root)} == {"nearly_empty_mask"}


@pytest.mark.parametrize(
    ("first", "code"), [("road", "shifted_ids"), ("background", "unknown_ids"), ("Void", "unknown_ids")]
)
def test_a_rare_zero_is_other_unless_the_table_calls_it_so(tree: Tree, first: str, code: str) -> None:
    INJECTORS["ade_style"](tree)
    table = (tree.root / "labels.yaml").read_text()
    (tree.root / "labels.yaml").write_text(table.replace("name: road", f"name: {first}"))
    assert [finding.code for finding in check(tree.root)] == [code]


def test_a_trimap_under_a_table_is_recognized(tree: Tree) -> None:
    for name in tree.names():
        trimap = np.full((48, 64), 2, np.uint8)
        trimap[10:40, 10:50] = 3
        trimap[14:36, 14:46] = 1
        tree.store(name, trimap)
    (shifted,) = check(tree.root)
    assert shifted.code == "shifted_ids"
    assert "3 separates the two others everywhere" in shifted.meaning


@pytest.mark.parametrize("border", [1, 2, 3, 4])
@pytest.mark.parametrize("order", [{1: 1, 2: 2, 3: 3}, {1: 3, 2: 1, 3: 2}, {1: 2, 2: 1, 3: 3}], ids=str)
def test_trimaps_with_borders_of_any_width_are_not_smoothed(border: int, order: dict[int, int], tree: Tree) -> None:
    """Also where the border's id lies between the two others, as that of every smoothed border does."""
    tree.write_table([[1], [2], [3]])
    for seed, name in enumerate(tree.names()):
        mask = trimap(seed, border)
        tree.store(name, np.array([0, *(order[value] for value in (1, 2, 3))], np.uint8)[mask])
    assert check(tree.root) == []


def test_a_single_mask_that_looks_smoothed_among_many_is_not_reported(tree: Tree) -> None:
    INJECTORS["smoothed_trimaps"](tree)
    for seed, name in enumerate(tree.names()[1:]):
        tree.store(name, trimap(seed))
    assert check(tree.root) == []


class ListedVOC(SegmentationDataset):
    """A devkit without lists: every image is in train."""

    labels = LABELS

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    def listing(self, split: str) -> Listing:
        base = self.root / "VOCdevkit/VOC2012"
        images = sorted((base / "JPEGImages").glob("*.jpg")) if split == "train" else []
        return listing_of(Pair(p, base / f"SegmentationClass/{p.stem}.png", p.stem) for p in images)


@pytest.mark.samples
def test_the_voc_sample_lacks_a_mask(samples: Path) -> None:
    found = findings(scan(ListedVOC(samples / "voc_sample"), workers=1))
    assert [(finding.code, finding.severity) for finding in found if finding.severity is not Severity.NOTE] == [
        ("missing_mask", "error")
    ]
    assert [place.path.name for place in found[0].places] == ["2011_003353.jpg"]
    assert "palette_mask" not in {finding.code for finding in found}  # official palettes


def test_a_dataset_whose_trainval_is_train_and_val_has_no_duplicates(tmp_path: Path) -> None:
    arguments = write_fake("VOC", tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012"
    for seed, name in enumerate(("2007_000001", "2007_000002")):
        Image.fromarray(photo(seed)).save(base / f"JPEGImages/{name}.jpg")
        Image.fromarray(drawing(seed)).save(base / f"SegmentationClass/{name}.png")
    assert {finding.severity for finding in findings(scan(build_dataset("VOC", **arguments), workers=1))} == {"note"}

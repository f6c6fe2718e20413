"""What prevents training is an error with a fix for that dataset; files that cannot be paired are counted too."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from fakes import write_fake
from injected_faults import COUNTS, INJECTORS, Tree

from imageseg.checking.faults.table import findings
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import Scan, scan
from imageseg.datasets import build_dataset
from imageseg.errors import InputError


def scanned(root: Path, name: str = "Folder", splits: Iterable[str] = (), **arguments: object) -> Scan:
    return scan(build_dataset(name, root, **arguments), list(splits), workers=1)


def found(root: Path, code: str, name: str = "Folder", **arguments: object) -> Finding:
    return next(finding for finding in findings(scanned(root, name, **arguments)) if finding.code == code)


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in findings(scan)]


def write_lists(tree: Tree, line: str, **names: str) -> None:
    """A list per split, under its name or another."""
    for split in COUNTS:
        rows = [line.format(split=split, name=name) for name in tree.names() if name.startswith(split)]
        (tree.root / f"{names.get(split, split)}.txt").write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("split", "other"), [("val", "valid"), ("val", "Validation"), ("train", "training"), ("train", "Training")]
)
def test_a_split_with_another_common_name(split: str, other: str, tree: Tree) -> None:
    for folder in ("images", "masks"):
        (tree.root / folder / split).rename(tree.root / folder / other)
    missing = found(tree.root, "missing_split")
    assert missing.severity is Severity.ERROR
    assert missing.fix == (
        f"Rename images/{other} and masks/{other} to {split}, or train with --data.{split}_split {other}."
    )
    dataset = build_dataset("Folder", tree.root)
    with pytest.raises(InputError, match=f"has no split '{split}'"):  # where training would stop
        dataset.samples(split)
    assert len(dataset.samples(other)) == COUNTS[split]  # the second fix works


def test_no_val_at_all(tree: Tree) -> None:
    for folder in ("images", "masks"):
        shutil.rmtree(tree.root / folder / "val")
    missing = found(tree.root, "missing_split")
    assert missing.places[0].detail == "no val; existing split: train"
    assert missing.fix == "Move 10 to 20 % of the images to images/val, and their masks to masks/val."
    assert codes(scanned(tree.root, splits=["train"])) == ["missing_split"]  # all that there is


def test_neither_train_nor_val(tree: Tree) -> None:
    for folder in ("images", "masks"):
        (tree.root / folder / "val").rename(tree.root / folder / "one")
        (tree.root / folder / "train").rename(tree.root / folder / "two")
    missing = found(tree.root, "missing_split")
    assert [place.detail for place in missing.places] == [
        "no train; existing splits: one, two",
        "no val; existing splits: one, two",
    ]
    assert missing.fix.startswith("Move the images to learn from to images/train, and their masks to masks/train. ")


def test_a_check_of_one_split_does_not_report_the_other_as_missing(tree: Tree) -> None:
    assert codes(scanned(tree.root, splits=["train"])) == []


def test_lists_of_another_name(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png", val="valid")
    assert found(tree.root, "missing_split").fix == "Rename valid.txt to val.txt."
    (tree.root / "valid.txt").unlink()
    assert found(tree.root, "missing_split").fix == "Create val.txt and move 10 to 20 % of the existing lines to it."


def test_lists_of_images_without_masks_show_the_line_to_write(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg")
    alone = found(tree.root, "split_without_masks")
    assert [(place.path.name, place.detail) for place in alone.places] == [
        ("train.txt", "12 images without a mask, such as images/train/train_0.jpg"),
        ("val.txt", "6 images without a mask, such as images/val/val_0.jpg"),
    ]
    assert alone.fix.startswith(
        "Add the mask after each image in train.txt, as in 'images/train/train_0.jpg masks/train/train_0.png'. "
    )
    line = alone.fix.partition("as in '")[2].partition("'")[0]
    (tree.root / "train.txt").write_text(line)
    assert len(build_dataset("Folder", tree.root).samples("train")) == 1


def test_a_list_of_images_without_masks_is_fine_for_test(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png")
    (tree.root / "images/test").mkdir()
    tree.image("val_0").rename(tree.root / "images/test/one.jpg")
    text = (tree.root / "val.txt").read_text()
    (tree.root / "val.txt").write_text(text[text.index("\n") + 1 :])
    (tree.root / "test.txt").write_text("images/test/one.jpg")
    assert codes(scanned(tree.root)) == []


def test_published_datasets_are_unpacked_not_moved(tmp_path: Path) -> None:
    arguments = write_fake("Cityscapes", tmp_path)
    for folder in ("leftImg8bit", "gtFine"):
        shutil.rmtree(tmp_path / folder / "val")
    missing = found(tmp_path, "missing_split", "Cityscapes", **{k: v for k, v in arguments.items() if k != "root"})
    assert missing.severity is Severity.ERROR
    assert missing.fix == "Unpack the files of val too, or train on other splits: --data.val_split NAME."


def test_a_devkit_without_lists(tmp_path: Path) -> None:
    arguments = write_fake("VOC", tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit/VOC2012/ImageSets")
    missing = found(tmp_path, "missing_split", "VOC", **{k: v for k, v in arguments.items() if k != "root"})
    assert missing.severity is Severity.ERROR
    assert [place.detail for place in missing.places] == ["no ImageSets/Segmentation/train.txt and val.txt"]
    assert "Unpack ImageSets" in missing.fix


def test_images_one_folder_too_deep_are_counted_and_found(tree: Tree) -> None:
    for folder in ("images", "masks"):
        for split in COUNTS:
            place = tree.root / folder / split
            place.rename(tree.root / "all")
            place.mkdir()
            (tree.root / "all").rename(place / "all")
    files = scanned(tree.root)
    assert files.file_counts == (18, 18)
    places = found(tree.root, "unlistable_split").places
    for place, count in zip(places, (12, 6), strict=True):
        assert place.detail.endswith(f"; its folder 'all' contains {count}: move them up")


@pytest.mark.parametrize("other", ["annotations", "labels", "annot", "Annot"])
def test_masks_in_a_folder_of_another_name(other: str, tree: Tree) -> None:
    (tree.root / "masks").rename(tree.root / other)
    finding = found(tree.root, "unlistable_split")
    assert finding.places[0].detail.endswith(f"; {tree.root / other} contains annotations: rename it to masks")
    assert "docs/how-to/custom-dataset.md" in finding.fix


def test_a_folder_of_masks_hides_no_other(tree: Tree) -> None:
    (tree.root / "masks/val").rename(tree.root / "annot")
    assert "annotations" not in found(tree.root, "unlistable_split").places[0].detail


def test_masks_without_partner_are_counted_too(tree: Tree) -> None:
    INJECTORS["missing_image"](tree)
    tree.image("val_3").unlink()
    INJECTORS["same_names"](tree)
    assert scanned(tree.root).file_counts == (17, 19)  # two images less and one twice; one mask twice


def test_files_next_to_an_unreadable_list_are_counted(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png and more")
    assert scanned(tree.root).file_counts == (18, 18)


def test_images_of_no_split_are_counted(tree: Tree) -> None:
    INJECTORS["no_split"](tree)
    assert scanned(tree.root).file_counts == (0, 18)


def test_no_class_is_reported_as_absent_if_a_split_cannot_be_listed(tree: Tree) -> None:
    tree.write_table([[0], [1], [2], [3]])
    shutil.rmtree(tree.root / "images/train")
    (tree.root / "images/train").mkdir()
    assert codes(scanned(tree.root)) == ["unlistable_split"]


def test_classes_missing_in_train_differ_from_those_in_no_mask(tree: Tree) -> None:
    tree.write_table([[0], [1], [2], [3]])
    INJECTORS["never_seen_in_train"](tree)
    tree.write_table([[0], [1], [2], [3]])
    late, never = findings(scanned(tree.root))
    assert (late.code, late.severity, late.places[0].detail) == (
        "class_not_in_train",
        Severity.WARNING,
        "in val, but not in train: person",
    )
    assert "to train" in late.fix
    assert (never.code, never.severity) == ("class_never_seen", Severity.NOTE)
    assert never.places[0].detail == "in no mask: more_3"
    assert codes(scanned(tree.root, splits=["val"])) == ["class_never_seen"]


def test_classes_of_a_published_table_are_not_removed(tree: Tree) -> None:
    assert "remove these classes" not in found(tree.root, "class_never_seen", "CamVid").fix
    tree.write_table([[0], [1], [2], [3]])
    assert "remove these classes from the table" in found(tree.root, "class_never_seen").fix


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("label: []", "unknown key 'label' (did you mean 'labels'?)"),
        ("", "is empty"),
        ("- {name: a, color: [1, 2, 3]}", "is a list; write 'labels:' above it"),
        ("labels:\n\t- {name: a}", "line 2: starts with a tab; indent with spaces"),
        ("labels: [{name: a, values: [0]}]", "label 'a' has no color, for example color: [128, 64, 128]"),
        ("labels: [{name: a, color: [0, 0, 0]}, {name: a, color: [0, 0, 1]}]", "the label table uses the name a twice"),
    ],
)
def test_a_table_with_a_mistake_is_not_a_missing_one(text: str, error: str, tree: Tree) -> None:
    (tree.root / "labels.yaml").write_text(text)
    wrong = found(tree.root, "wrong_label_table")
    assert wrong.places[0].detail.startswith(f"{tree.root}/labels.yaml: {error}")
    assert (
        wrong.fix
        == "Correct what the line above reports; --fix-config would write a new table without your class names."
    )


def test_a_table_in_another_encoding(tree: Tree) -> None:
    (tree.root / "labels.yaml").write_bytes("labels: [{name: straße}]".encode("latin-1"))
    assert found(tree.root, "wrong_label_table").places[0].detail.endswith("is not UTF-8 text; save it as UTF-8")


def test_a_table_of_another_suffix(tree: Tree) -> None:
    INJECTORS["misnamed_table"](tree)
    wrong = found(tree.root, "wrong_label_table")
    assert wrong.places[0].detail.endswith("labels.yml: rename it to labels.yaml")
    assert wrong.fix.startswith("Rename labels.yml to labels.yaml; ")


def test_no_table_is_offered_if_no_mask_can_be_read(tree: Tree) -> None:
    INJECTORS["no_table_and_no_readable_mask"](tree)
    none = found(tree.root, "no_label_table")
    assert not none.fixable
    assert none.fix == "No mask can be read yet. Fix the masks first, then use --fix-config to write a table for them."

"""What keeps a training from starting is an error, with the mend that fits the dataset; and what lies there is counted."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from fakes import write_fake
from planting import COUNTS, PLANTERS, Tree

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
def test_a_split_of_another_usual_name(split: str, other: str, tree: Tree) -> None:
    for folder in ("images", "masks"):
        (tree.root / folder / split).rename(tree.root / folder / other)
    missing = found(tree.root, "missing_split")
    assert missing.severity is Severity.ERROR
    assert missing.mend == (
        f"Rename images/{other} and masks/{other} to {split}, or train with --data.{split}_split {other}."
    )
    dataset = build_dataset("Folder", tree.root)
    with pytest.raises(InputError, match=f"has no split '{split}'"):  # which is where a training would stop
        dataset.samples(split)
    assert len(dataset.samples(other)) == COUNTS[split]  # and what would make it go


def test_no_val_at_all(tree: Tree) -> None:
    for folder in ("images", "masks"):
        shutil.rmtree(tree.root / folder / "val")
    missing = found(tree.root, "missing_split")
    assert missing.places[0].detail == "no val; there is train"
    assert missing.mend == "Move a tenth to a fifth of the pictures into images/val, and their masks into masks/val."
    assert codes(scanned(tree.root, splits=["train"])) == ["missing_split"]  # all that there is


def test_neither_train_nor_val(tree: Tree) -> None:
    for folder in ("images", "masks"):
        (tree.root / folder / "val").rename(tree.root / folder / "one")
        (tree.root / folder / "train").rename(tree.root / folder / "two")
    missing = found(tree.root, "missing_split")
    assert [place.detail for place in missing.places] == ["no train; there are one, two", "no val; there are one, two"]
    assert missing.mend.startswith(
        "Move the pictures to learn from into images/train, and their masks into masks/train. "
    )


def test_a_check_of_one_split_does_not_miss_the_other(tree: Tree) -> None:
    assert codes(scanned(tree.root, splits=["train"])) == []


def test_lists_of_another_name(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png", val="valid")
    assert found(tree.root, "missing_split").mend == "Rename valid.txt to val.txt."
    (tree.root / "valid.txt").unlink()
    assert (
        found(tree.root, "missing_split").mend == "Write val.txt: move a tenth to a fifth of the lines there into it."
    )


def test_lists_of_pictures_alone_name_the_line_to_write(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg")
    alone = found(tree.root, "split_without_masks")
    assert [(place.path.name, place.detail) for place in alone.places] == [
        ("train.txt", "12 pictures alone, such as images/train/train_0.jpg"),
        ("val.txt", "6 pictures alone, such as images/val/val_0.jpg"),
    ]
    assert alone.mend.startswith(
        "Write each picture's mask after it in train.txt, as in 'images/train/train_0.jpg masks/train/train_0.png'. "
    )
    line = alone.mend.partition("as in '")[2].partition("'")[0]
    (tree.root / "train.txt").write_text(line)
    assert len(build_dataset("Folder", tree.root).samples("train")) == 1


def test_a_list_of_pictures_alone_for_test_is_fine(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png")
    (tree.root / "images/test").mkdir()
    tree.image("val_0").rename(tree.root / "images/test/one.jpg")
    text = (tree.root / "val.txt").read_text()
    (tree.root / "val.txt").write_text(text[text.index("\n") + 1 :])
    (tree.root / "test.txt").write_text("images/test/one.jpg")
    assert codes(scanned(tree.root)) == []


def test_published_sets_are_to_be_unpacked_not_moved_about(tmp_path: Path) -> None:
    arguments = write_fake("Cityscapes", tmp_path)
    for folder in ("leftImg8bit", "gtFine"):
        shutil.rmtree(tmp_path / folder / "val")
    missing = found(tmp_path, "missing_split", "Cityscapes", **{k: v for k, v in arguments.items() if k != "root"})
    assert missing.severity is Severity.ERROR
    assert missing.mend == "Unpack the files of val too, or train on other splits: --data.val_split NAME."


def test_a_devkit_without_lists(tmp_path: Path) -> None:
    arguments = write_fake("VOC", tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit/VOC2012/ImageSets")
    missing = found(tmp_path, "missing_split", "VOC", **{k: v for k, v in arguments.items() if k != "root"})
    assert missing.severity is Severity.ERROR
    assert [place.detail for place in missing.places] == ["no ImageSets/Segmentation/train.txt and val.txt"]
    assert "Unpack ImageSets" in missing.mend


def test_pictures_a_folder_too_deep_are_counted_and_found(tree: Tree) -> None:
    for folder in ("images", "masks"):
        for split in COUNTS:
            place = tree.root / folder / split
            place.rename(tree.root / "all")
            place.mkdir()
            (tree.root / "all").rename(place / "all")
    files = scanned(tree.root)
    assert files.lying == (18, 18)
    places = found(tree.root, "unlistable_split").places
    for place, count in zip(places, (12, 6), strict=True):
        assert place.detail.endswith(f"; its folder all holds {count}: move them up")


@pytest.mark.parametrize("other", ["annotations", "labels", "annot", "Annot"])
def test_masks_in_a_folder_of_another_name(other: str, tree: Tree) -> None:
    (tree.root / "masks").rename(tree.root / other)
    finding = found(tree.root, "unlistable_split")
    assert finding.places[0].detail.endswith(f"; {tree.root / other} contains annotations: rename it to masks")
    assert "docs/how-to/custom-dataset.md" in finding.mend


def test_a_folder_of_masks_hides_no_other(tree: Tree) -> None:
    (tree.root / "masks/val").rename(tree.root / "annot")
    assert "annotations" not in found(tree.root, "unlistable_split").places[0].detail


def test_masks_without_partner_are_counted_too(tree: Tree) -> None:
    PLANTERS["missing_picture"](tree)
    tree.image("val_3").unlink()
    PLANTERS["twins"](tree)
    assert scanned(tree.root).lying == (17, 19)  # two pictures less and one twice; one mask twice


def test_what_lies_beside_a_list_that_cannot_be_read_is_counted(tree: Tree) -> None:
    write_lists(tree, "images/{split}/{name}.jpg masks/{split}/{name}.png and more")
    assert scanned(tree.root).lying == (18, 18)


def test_pictures_of_no_split_are_counted(tree: Tree) -> None:
    PLANTERS["no_split"](tree)
    assert scanned(tree.root).lying == (0, 18)


def test_no_class_is_missed_in_a_split_that_could_not_be_listed(tree: Tree) -> None:
    tree.write_table([[0], [1], [2], [3]])
    shutil.rmtree(tree.root / "images/train")
    (tree.root / "images/train").mkdir()
    assert codes(scanned(tree.root)) == ["unlistable_split"]


def test_classes_that_train_lacks_are_apart_from_those_of_no_mask(tree: Tree) -> None:
    tree.write_table([[0], [1], [2], [3]])
    PLANTERS["never_seen_in_train"](tree)
    tree.write_table([[0], [1], [2], [3]])
    late, never = findings(scanned(tree.root))
    assert (late.code, late.severity, late.places[0].detail) == (
        "class_not_in_train",
        Severity.WARNING,
        "in val, but not in train: person",
    )
    assert "into train" in late.mend
    assert (never.code, never.severity) == ("class_never_seen", Severity.NOTE)
    assert never.places[0].detail == "in no mask: more_3"
    assert codes(scanned(tree.root, splits=["val"])) == ["class_never_seen"]


def test_nobody_takes_classes_out_of_a_published_table(tree: Tree) -> None:
    assert "take these classes out" not in found(tree.root, "class_never_seen", "CamVid").mend
    tree.write_table([[0], [1], [2], [3]])
    assert "take these classes out of the table" in found(tree.root, "class_never_seen").mend


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label: []", "unknown key 'label' (did you mean 'labels'?)"),
        ("", "is empty"),
        ("- {name: a, color: [1, 2, 3]}", "is a list; 'labels:' must stand above it"),
        ("labels:\n\t- {name: a}", "line 2: begins with a tab; indent with spaces"),
        ("labels: [{name: a, values: [0]}]", "label 'a' has no color, for example color: [128, 64, 128]"),
        ("labels: [{name: a, color: [0, 0, 0]}, {name: a, color: [0, 0, 1]}]", "the label table uses the name a twice"),
    ],
)
def test_a_table_with_a_mistake_is_no_missing_one(text: str, says: str, tree: Tree) -> None:
    (tree.root / "labels.yaml").write_text(text)
    wrong = found(tree.root, "wrong_label_table")
    assert wrong.places[0].detail.startswith(f"{tree.root}/labels.yaml: {says}")
    assert wrong.mend == "Correct what the line says; --fix-config would write a new table without your names."


def test_a_table_in_another_encoding(tree: Tree) -> None:
    (tree.root / "labels.yaml").write_bytes("labels: [{name: straße}]".encode("latin-1"))
    assert found(tree.root, "wrong_label_table").places[0].detail.endswith("is not UTF-8 text; save it as UTF-8")


def test_a_table_of_another_suffix(tree: Tree) -> None:
    PLANTERS["misnamed_table"](tree)
    wrong = found(tree.root, "wrong_label_table")
    assert wrong.places[0].detail.endswith("labels.yml: rename it to labels.yaml")
    assert wrong.mend.startswith("Rename labels.yml to labels.yaml; ")


def test_no_table_is_promised_where_no_mask_can_be_read(tree: Tree) -> None:
    PLANTERS["no_table_and_no_readable_mask"](tree)
    none = found(tree.root, "no_label_table")
    assert not none.mendable
    assert none.mend == "No mask can be read yet: mend the masks first; then --fix-config writes a table for them."

"""imageseg check: one line for a clean dataset, a report otherwise, JSON for programs, and nothing is overwritten."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes import write_coco, write_fake
from injected_faults import INJECTORS, Tree, clean_tree

from imageseg.cli import main
from imageseg.cli.arguments import recipe_from
from imageseg.datasets import build_dataset
from imageseg.labels import LabelSpace


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return clean_tree(tmp_path / "tree")


def check(tree: Tree, *more: str) -> int:
    return main(["check", "Folder", "--root", str(tree.root), "--workers", "1", *more])


def test_a_clean_dataset_is_one_line(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree) == 0
    captured = capsys.readouterr()
    assert captured.out == f"Folder in {tree.root}: clean, 18 images, 18 masks, 3 classes (12 train, 6 val)\n"
    assert captured.err == ""


def test_a_report_reads_from_verdict_to_next_command(
    tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("unknown_ids", "missing_mask", "nearly_empty", "resized", "palette", "all_ignored"):
        INJECTORS[name](tree)
    assert check(tree) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Folder in {tree.root}: 2 errors, 2 warnings, 2 notes in 18 images, 17 masks")
    heads = [line.split()[0] for line in lines if line.startswith(("error", "warning", "note"))]
    assert heads == ["error", "error", "warning", "warning", "note", "note"]
    assert "    images/train/train_3.jpg: no masks/train/train_3.png" in lines
    assert lines[-2].startswith("Next: fix missing_mask by hand, and write a label table that fixes unknown_ids")
    assert lines[-1].startswith(f"  imageseg check Folder --root {tree.root} --workers 1 --fix-config ")
    assert max(map(len, lines[1:-1])) <= 100


def test_many_files_are_one_finding(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for name in tree.names():
        tree.mask(name).write_bytes(b"")
    assert check(tree) == 1
    report = capsys.readouterr().out
    assert report.count("empty_file") == 2  # its heading, and what to do next
    assert "empty_file  18 files" in report
    assert "and 15 more" in report


def test_warnings_alone_are_no_failure(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["all_ignored"](tree)
    assert check(tree) == 0
    assert "1 warning in" in capsys.readouterr().out


def test_json_lists_every_file(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for name in tree.names():
        tree.mask(name).write_bytes(b"")
    assert check(tree, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["errors"], answer["warnings"], answer["notes"]) == (1, 0, 0)
    assert answer["splits"] == {"train": 12, "val": 6}
    (finding,) = answer["findings"]
    assert (finding["code"], finding["severity"], finding["count"]) == ("empty_file", "error", 18)
    assert {file["path"] for file in finding["files"]} == {str(tree.mask(name)) for name in tree.names()}


def test_json_of_a_clean_dataset(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["version"], answer["dataset"], answer["findings"]) == (1, "Folder", [])
    assert (answer["images"], answer["masks"]) == (18, 18)


def test_fix_config_writes_a_table_that_ends_the_error(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["shifted"](tree)
    table = tree.root / "labels_proposed.yaml"
    assert check(tree, "--fix-config", str(table)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"move it to {tree.root}/labels.yaml" in " ".join(lines[-4:])
    assert lines[-1] == f"  imageseg check Folder --root {tree.root} --workers 1"  # not the file again
    assert LabelSpace.from_dict(yaml.safe_load(table.read_text())).labels[0].values == (1,)
    table.replace(tree.root / "labels.yaml")
    assert check(tree) == 0


def test_fix_config_reports_what_it_wrote_and_does_not_advise_it(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    INJECTORS["no_table"](tree)
    INJECTORS["missing_mask"](tree)
    table = tree.root / "labels.yaml"
    assert check(tree, "--fix-config", str(table)) == 1
    report = capsys.readouterr().out
    assert f"\nwrote {table}: fixes no_label_table\n" in report
    assert "--fix-config" not in report
    assert "no label table;" not in report
    assert f"Next: read {table}, name its classes, fix missing_mask by hand, then check again:" in " ".join(
        report.split()
    )


def test_a_wrong_table_is_fixed_by_hand_unless_a_new_one_is_requested(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    INJECTORS["broken_table"](tree)
    assert check(tree) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "Next: fix wrong_label_table by hand, then check again (--json lists every file):"
    assert lines[-1] == f"  imageseg check Folder --root {tree.root} --workers 1"
    table = tree.root / "new.yaml"
    assert check(tree, "--fix-config", str(table)) == 1
    report = capsys.readouterr().out
    assert f"wrote {table}: fixes wrong_label_table" in report
    assert "by hand" not in report
    assert table.is_file()


def test_fix_config_without_a_readable_mask_offers_nothing(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["no_table_and_no_readable_mask"](tree)
    target = tree.root / "labels.yaml"
    assert check(tree, "--fix-config", str(target)) == 1
    captured = capsys.readouterr()
    assert (
        captured.err
        == f"{target}: not written; no mask can be read yet, so that it is unknown what a label table should declare\n"
    )
    assert "nothing that can be read" not in captured.out
    assert "Next: fix jpeg_mask, no_label_table by hand" in captured.out


def test_the_next_commands_carry_the_flags_of_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "a set"
    arguments = write_fake("COCO", root)
    build_dataset("COCO", **(arguments | {"overlap": "void"})).prepare(replace=True)
    flags = ["--overlap", "void", *(f"--{key}={value}" for key, value in arguments.items() if key != "root")]
    assert main(["check", "COCO", "--root", str(root), *flags, "--workers", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    data = [word if word == "void" else f"--data.{word.removeprefix('--')}" for word in flags]
    assert shlex.split(last) == [
        *("imageseg", "train", "--use", "COCO", "--model", "DeepLabv3_plus", "--data.root", str(root), *data)
    ]
    recipe = recipe_from(shlex.split(last)[2:], program="imageseg train")  # and train accepts them
    assert (recipe.data["root"], recipe.data["overlap"]) == (str(root), "void")
    next(root.rglob("*.jpg")).write_bytes(b"")
    assert main(["check", "COCO", "--root", str(root), *flags, "--workers", "1"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last) == ["imageseg", "check", "COCO", "--root", str(root), *flags, "--workers", "1"]


def test_a_check_of_one_split_names_that_split(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["palette"](tree)
    assert check(tree, "--split", "val") == 0
    assert "Next: nothing in val prevents training; start it with:" in capsys.readouterr().out


@pytest.mark.parametrize("inject", ["no_val", "valid", "lists_of_images_alone"])
def test_what_prevents_training_is_an_error(inject: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS[inject](tree)
    assert check(tree) == 1
    assert "nothing here prevents" not in capsys.readouterr().out


def test_a_split_that_was_not_listed_has_no_number(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["folder_without_images"](tree)
    assert check(tree) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("1 error in 18 images, 18 masks, 3 classes (12 train, 6 val, test not listed)")


def test_no_numbers_where_nothing_was_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, prepared=False)
    assert main(["check", "COCO", "--root", str(tmp_path)]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"COCO in {tmp_path}: 1 error, 21 classes (train not listed, val not listed)"


def test_singular_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = clean_tree(tmp_path / "tree")
    assert check(tree, "--split", "val") == 0
    for name in tree.names()[13:]:
        tree.image(name).unlink()
        tree.mask(name).unlink()
    stored = np.full((48, 64), 255, np.uint8)
    stored[0, 0] = 1
    tree.store("val_0", stored)
    capsys.readouterr()
    check(tree, "--split", "val")
    report = capsys.readouterr().out
    assert "in 1 image, 1 mask, 3 classes (1 val)" in report
    assert "1 of 3072 pixels has a label" in report


def test_zero_workers_are_rejected(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "Folder", "--root", str(tree.root), "--workers", "0"]) == 2
    assert "--workers must be 1 or more, found 0" in capsys.readouterr().err


def test_fix_config_overwrites_nothing(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["shifted"](tree)
    before = (tree.root / "labels.yaml").read_text()
    assert check(tree, "--fix-config", str(tree.root / "labels.yaml")) == 2
    assert "already exists" in capsys.readouterr().err
    assert (tree.root / "labels.yaml").read_text() == before


@pytest.mark.parametrize("inject", ["missing_mask", "blank"])
def test_fix_config_reports_that_no_table_helps(inject: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS[inject](tree)
    target = tree.root / "new.yaml"
    check(tree, "--fix-config", str(target))
    assert capsys.readouterr().err == f"{target}: not written; there is nothing that a label table can fix\n"
    assert not target.exists()


def test_fix_config_reports_that_a_published_table_is_fixed(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.map_values({0: 77}, "train_1")
    target = tree.root / "new.yaml"
    assert main(["check", "CamVid", "--root", str(tree.root), "--workers", "1", "--fix-config", str(target)]) == 1
    captured = capsys.readouterr()
    assert "unknown_ids" in captured.out
    assert "the label table of CamVid is fixed" in captured.err
    assert not target.exists()


def test_one_split(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    INJECTORS["missing_mask"](tree)
    assert check(tree, "--split", "val") == 0
    assert "(6 val)" in capsys.readouterr().out
    assert check(tree, "--split", "val", "--split", "train") == 1


def test_an_unknown_split_is_invalid_usage(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree, "--split", "vall") == 2
    assert "has no split 'vall'; it has train, val" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["", "images"])
def test_a_wrong_folder_names_the_right_one(wrong: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree.root / wrong if wrong else tree.root.parent
    assert main(["check", "Folder", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert f"{tree.root} has images and masks: did you mean that?" in error
    assert error.count("\n") == 1

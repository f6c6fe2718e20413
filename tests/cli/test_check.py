"""imageseg check as a user runs it: quiet when clean, clear when not, JSON for programs, and nothing overwritten."""

import json
from pathlib import Path

import pytest
import yaml
from planting import PLANTERS, Tree, clean_tree

from imageseg.cli import main
from imageseg.labels import LabelSpace


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return clean_tree(tmp_path / "tree")


def check(tree: Tree, *more: str) -> int:
    return main(["check", "Folder", "--root", str(tree.root), "--workers", "1", *more])


def test_a_clean_set_is_one_line(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree) == 0
    captured = capsys.readouterr()
    assert captured.out == f"Folder in {tree.root}: clean, 18 pictures, 18 masks, 3 classes (12 train, 6 val)\n"
    assert captured.err == ""


def test_a_report_reads_from_verdict_to_next_command(
    tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("unknown_ids", "missing_mask", "nearly_empty", "resized", "palette", "all_ignored"):
        PLANTERS[name](tree)
    assert check(tree) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Folder in {tree.root}: 2 errors, 2 warnings, 2 notes in 18 pictures, 17 masks")
    heads = [line.split()[0] for line in lines if line.startswith(("error", "warning", "note"))]
    assert heads == ["error", "error", "warning", "warning", "note", "note"]
    assert "    images/train/train_3.jpg: no masks/train/train_3.png" in lines
    assert lines[-2].startswith(
        "Next: mend missing_mask by hand, and let a label table be written that mends unknown_ids"
    )
    assert lines[-1].startswith(f"  imageseg check Folder --root {tree.root} --workers 1 --fix-config ")
    assert max(map(len, lines[1:-1])) <= 100


def test_many_files_are_one_finding(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    for name in tree.names():
        tree.mask(name).write_bytes(b"")
    assert check(tree) == 1
    report = capsys.readouterr().out
    assert report.count("empty_file") == 2  # its head, and what to do next
    assert "empty_file  18 files" in report
    assert "and 15 more" in report


def test_warnings_alone_are_no_failure(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTERS["all_ignored"](tree)
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


def test_json_of_a_clean_set(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["dataset"], answer["pictures"], answer["masks"], answer["findings"]) == ("Folder", 18, 18, [])


def test_fix_config_writes_a_table_that_ends_the_error(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTERS["shifted"](tree)
    table = tree.root / "labels_proposed.yaml"
    assert check(tree, "--fix-config", str(table)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"put it in the place of {tree.root}/labels.yaml" in " ".join(lines[-4:])
    assert lines[-1] == f"  imageseg check Folder --root {tree.root} --workers 1"  # not the file again
    assert LabelSpace.from_dict(yaml.safe_load(table.read_text())).labels[0].values == (1,)
    table.replace(tree.root / "labels.yaml")
    assert check(tree) == 0


def test_fix_config_overwrites_nothing(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTERS["shifted"](tree)
    before = (tree.root / "labels.yaml").read_text()
    assert check(tree, "--fix-config", str(tree.root / "labels.yaml")) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tree.root / "labels.yaml").read_text() == before


@pytest.mark.parametrize("plant", ["missing_mask", "blank"])
def test_fix_config_says_where_no_table_helps(plant: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTERS[plant](tree)
    target = tree.root / "new.yaml"
    check(tree, "--fix-config", str(target))
    assert capsys.readouterr().err == f"{target}: not written; nothing here can be mended by a label table\n"
    assert not target.exists()


def test_fix_config_of_a_published_set_says_that_its_table_is_fixed(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.map_values({0: 77}, "train_1")
    target = tree.root / "new.yaml"
    assert main(["check", "CamVid", "--root", str(tree.root), "--workers", "1", "--fix-config", str(target)]) == 1
    captured = capsys.readouterr()
    assert "unknown_ids" in captured.out
    assert "the label table of CamVid is fixed" in captured.err
    assert not target.exists()


def test_one_split(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTERS["missing_mask"](tree)
    assert check(tree, "--split", "val") == 0
    assert "(6 val)" in capsys.readouterr().out
    assert check(tree, "--split", "val", "--split", "train") == 1


def test_an_unknown_split_is_wrong_use(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree, "--split", "vall") == 2
    assert "has no split 'vall'; it has train, val" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["", "images"])
def test_a_wrong_folder_names_the_right_one(wrong: str, tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree.root / wrong if wrong else tree.root.parent
    assert main(["check", "Folder", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert f"{tree.root} has images and masks: did you mean that?" in error
    assert error.count("\n") == 1

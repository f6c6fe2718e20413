"""docs/how-to/custom-dataset.md: its commands run, its table is a label table, and it names every fault."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from injected_faults import INJECTORS, Tree, clean_tree

from imageseg.checking.faults.table import FAULTS
from imageseg.cli import main
from imageseg.images import MAX_PIXELS
from imageseg.labels import LabelSpace

PAGE = (Path(__file__).parents[1] / "docs/how-to/custom-dataset.md").read_text(encoding="utf-8")
QUICK = shlex.split(
    "--network.encoder resnet10t --network.pretrained false --data.crop_size '[32, 32]' --data.batch_size 2 "
    "--data.num_workers 0 --trainer.max_steps 2 --trainer.val_every 2 --trainer.progress_bar false --trainer.accelerator cpu"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """The reader's folder, as yet without a table."""
    monkeypatch.chdir(tmp_path)
    tree = clean_tree(Path("data/custom"))
    (tree.root / "labels.yaml").unlink()
    return tree


def test_the_page_names_every_fault_and_no_other() -> None:
    table = PAGE[PAGE.index("## Common faults") :]
    named = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", table)) - {"ignored_values"}
    assert named == {fault.__name__ for fault in FAULTS}
    assert f"{MAX_PIXELS:,}" in table


def test_the_label_table_is_one() -> None:
    (table,) = blocks("yaml")
    space = LabelSpace.from_dict(yaml.safe_load(table))
    assert (space.names, space.labels[1].values) == (["background", "car"], (26, 27))
    assert (space.ignored_values, space.ignored_colors) == ((255,), ((255, 255, 255),))


@pytest.mark.slow
def test_the_commands_lead_from_a_folder_to_a_trained_network(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, train = (shlex.split(block)[1:] for block in blocks("bash"))
    assert main(first) == 1
    assert "no_label_table" in capsys.readouterr().out
    assert (tree.root / "labels.yaml").is_file()
    assert main(second) == 0
    assert capsys.readouterr().out == "Folder in data/custom: clean, 18 images, 18 masks, 3 classes (12 train, 6 val)\n"
    assert main([*train, *QUICK]) == 0
    assert "val mIoU" in capsys.readouterr().out


def test_the_starred_faults_are_those_that_a_table_fixes(tmp_path: Path) -> None:
    from imageseg.checking.faults.table import findings
    from imageseg.checking.scan import scan
    from imageseg.datasets import build_dataset

    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    starred = {code for row in rows if row[3].rstrip().endswith("*") for code in re.findall(r"`(\w+)`", row[1])}
    fixable = set()
    pattern = clean_tree(tmp_path / "clean")
    for name, inject in INJECTORS.items():
        tree = Tree(Path(shutil.copytree(pattern.root, tmp_path / name)))
        inject(tree)
        found = findings(scan(build_dataset("Folder", tree.root), workers=1))
        fixable |= {finding.code for finding in found if finding.fixable}
    assert starred == fixable

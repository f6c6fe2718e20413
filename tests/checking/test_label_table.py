"""The proposed label table is valid, gives a reason per row, and the check finds nothing once it is used."""

import numpy as np
import pytest
import yaml
from injected_faults import COLORS, INJECTORS, Tree
from PIL import Image

from imageseg.checking.faults.table import findings
from imageseg.checking.finding import Severity
from imageseg.checking.label_table import distant_color, labels_text
from imageseg.checking.scan import scan
from imageseg.datasets import build_dataset
from imageseg.labels import LabelSpace, voc_color

FIXABLE = (
    *(
        "no_table",
        "broken_table",
        "misnamed_table",
        "binary",
        "binary_with_foreground_only",
        "some_binary",
        "shifted",
        "ade_style",
    ),
    *(
        "label_ids",
        "unknown_ids",
        "one_id_too_many",
        "ignore_not_declared",
        "sixteen_bit_ids",
        "rgb",
        "one_color_too_many",
    ),
    "ids_in_three_channels",
)


def proposal(tree: Tree) -> str | None:
    scanned = scan(build_dataset("Folder", tree.root), workers=1)
    return labels_text(scanned, findings(scanned))


def space(text: str | None) -> LabelSpace:
    assert text is not None
    return LabelSpace.from_dict(yaml.safe_load(text))


@pytest.mark.parametrize("name", FIXABLE)
def test_the_check_is_clean_once_the_table_is_used(tree: Tree, name: str) -> None:
    INJECTORS[name](tree)
    text = proposal(tree)
    labels = space(text)
    assert all("  # " in row for row in str(text).splitlines() if row.startswith("  - "))
    (tree.root / "labels.yaml").write_text(str(text))
    (tree.root / "labels.yml").unlink(missing_ok=True)
    dataset = build_dataset("Folder", tree.root)
    left = [finding.code for finding in findings(scan(dataset, workers=1)) if finding.severity is not Severity.NOTE]
    assert left == []
    assert dataset.labels == labels
    dataset.samples("train")[0]  # it can be read as training reads it


@pytest.mark.parametrize("name", [name for name in INJECTORS if name not in FIXABLE])
def test_faults_that_no_table_fixes_get_none(tree: Tree, name: str) -> None:
    INJECTORS[name](tree)
    if name == "instance_ids":  # these could be classes; only the user can tell
        assert "value_26001" in space(proposal(tree)).names
    else:
        assert proposal(tree) is None


def test_binary_masks_become_background_and_foreground(tree: Tree) -> None:
    INJECTORS["binary"](tree)
    (tree.root / "labels.yaml").unlink()
    labels = space(proposal(tree))
    assert [(label.name, label.values) for label in labels.labels] == [("background", (0,)), ("foreground", (255,))]
    assert labels.ignored_values == ()


def test_a_table_of_one_class_gets_a_background(tree: Tree) -> None:
    INJECTORS["binary_with_foreground_only"](tree)
    assert [(label.name, label.values) for label in space(proposal(tree)).labels] == [
        ("background", (0,)),
        ("road", (1, 255)),
    ]


def test_shifted_ids_keep_their_names_and_colors(tree: Tree) -> None:
    INJECTORS["shifted"](tree)
    before = build_dataset("Folder", tree.root).labels
    after = space(proposal(tree))
    assert (after.names, [label.color for label in after.labels]) == (
        before.names,
        [label.color for label in before.labels],
    )
    assert [label.values for label in after.labels] == [(1,), (2,), (3,)]
    assert set(after.ignored_values) == {0, 255}


def test_label_ids_get_cityscapes_values(tree: Tree) -> None:
    INJECTORS["label_ids"](tree)
    labels = space(proposal(tree))
    assert [label.values[0] for label in labels.labels][:6] == [7, 8, 11, 12, 13, 17]
    assert len(labels.ignored_values) == 34 - 19 + 1


def test_unknown_ids_are_added_and_void_is_ignored(tree: Tree) -> None:
    INJECTORS["unknown_ids"](tree)
    assert space(proposal(tree)).names == ["road", "car", "person", "value_9", "value_77"]


def test_an_undeclared_zero_below_all_ids_is_ignored(tree: Tree) -> None:
    tree.map_values({0: 4, 255: 0})
    tree.write_table([[1], [2], [4]])
    labels = space(proposal(tree))
    assert len(labels) == 3
    assert set(labels.ignored_values) == {0, 255}


def test_pet_trimaps_become_background_foreground_and_an_ignored_border(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    for name in tree.names():
        trimap = np.full((48, 64), 2, np.uint8)
        trimap[10:40, 10:50] = 3
        trimap[14:36, 14:46] = 1
        tree.store(name, trimap)
    labels = space(proposal(tree))
    assert [(label.name, label.values) for label in labels.labels] == [("background", (2,)), ("foreground", (1,))]
    assert 3 in labels.ignored_values


def paint(tree: Tree, colors: dict[int, tuple[int, int, int]]) -> None:
    """The masks with a palette."""
    palette = np.zeros((256, 3), np.uint8)
    for value, color in colors.items():
        palette[value] = color
    for name in tree.names():
        image = Image.fromarray(tree.stored(name))
        image.putpalette(palette.tobytes())
        image.save(tree.mask(name))


def test_a_table_uses_the_colors_of_the_masks_own_palette(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    paint(tree, {0: (250, 250, 250), 1: (10, 200, 30), 2: (200, 10, 30), 255: (1, 2, 3)})
    text = proposal(tree)
    labels = space(text)
    assert [label.color for label in labels.labels] == [(250, 250, 250), (10, 200, 30), (200, 10, 30)]
    assert labels.ignored_colors == ((1, 2, 3),)
    assert "VOC" not in str(text)


def test_vocs_palette_is_recognized(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    paint(tree, {value: voc_color(value) for value in (0, 1, 2, 255)})
    text = proposal(tree)
    labels = space(text)
    assert [label.color for label in labels.labels] == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert labels.ignored_colors == ((224, 224, 192),)  # not black, which is a class
    assert "# The colors are those of VOC's palette" in str(text)


@pytest.mark.parametrize("alike", [{0: (0, 0, 0), 1: (1, 1, 1), 2: (2, 2, 2), 255: (255, 255, 255)}, {}])
def test_a_palette_whose_colors_look_alike_is_not_used(alike: dict[int, tuple[int, int, int]], tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    paint(tree, alike)
    colors = np.array([label.color for label in space(proposal(tree)).labels])
    assert min(np.abs(colors[a] - colors[b]).sum() for a, b in ((0, 1), (0, 2), (1, 2))) > 100


def test_a_value_whose_palettes_disagree_gets_a_new_color(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    paint(tree, {0: (0, 0, 0), 1: (200, 10, 30), 2: (0, 0, 200), 255: (255, 255, 255)})
    image = Image.open(tree.mask("val_0"))
    palette = list(image.getpalette() or ())
    palette[3:6] = [30, 200, 10]
    image.putpalette(palette)
    image.save(tree.mask("val_0"))
    first, second, third = space(proposal(tree)).labels
    assert (first.color, third.color) == ((0, 0, 0), (0, 0, 200))
    assert second.color not in ((200, 10, 30), (30, 200, 10))


def test_black_is_the_background_and_no_ignored_color(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    labels = space(proposal(tree))
    assert (labels.names[0], labels.labels[0].color) == ("value_0", (0, 0, 0))
    assert labels.ignored_colors == ((255, 255, 255),)
    assert (255, 255, 255) not in [label.color for label in labels.labels]


def test_an_ignored_zero_is_drawn_black(tree: Tree) -> None:
    (tree.root / "labels.yaml").unlink()
    tree.map_values({0: 1, 1: 2, 2: 4, 255: 3})
    labels = space(proposal(tree))
    assert labels.names == ["value_1", "value_2", "value_3", "value_4"]
    assert labels.ignored_colors == ((0, 0, 0),)
    assert (0, 0, 0) not in [label.color for label in labels.labels]


def test_an_undeclared_value_gets_its_color_in_the_palette(tree: Tree) -> None:
    tree.map_values({2: 77})
    paint(tree, {0: (250, 250, 250), 1: (10, 200, 30), 77: (200, 10, 30), 255: (1, 2, 3)})
    labels = space(proposal(tree))
    assert labels.names == ["road", "car", "person", "value_77"]
    assert labels.labels[3].color == (200, 10, 30)
    assert labels.labels[0].color == COLORS[0]  # what the user's table says stays
    assert labels.ignored_colors == ((0, 0, 0),)


def test_colors_of_masks_become_rows_and_black_is_a_class(tree: Tree) -> None:
    INJECTORS["rgb"](tree)
    (tree.root / "labels.yaml").unlink()
    labels = space(proposal(tree))
    assert {label.color for label in labels.labels} == {(10, 200, 10), (200, 10, 10), (10, 10, 200), (0, 0, 0)}
    assert labels.ignored_colors == ()


@pytest.mark.parametrize("name", ["yes", "a: b", "traffic light", "1.5", "x,y", "#1", "null"])
def test_names_survive_yaml(tree: Tree, name: str) -> None:
    INJECTORS["unknown_ids"](tree)
    table = yaml.safe_load((tree.root / "labels.yaml").read_text())
    table["labels"][0]["name"] = name
    (tree.root / "labels.yaml").write_text(yaml.safe_dump(table))
    assert space(proposal(tree)).names[0] == name


def test_colors_are_well_apart() -> None:
    colors = [(0, 0, 0)]
    for _ in range(30):
        colors.append(distant_color(colors))
    differences = np.abs(np.array(colors)[:, None] - np.array(colors)[None]).sum(-1) + 999 * np.eye(31)
    assert differences.min() >= 60

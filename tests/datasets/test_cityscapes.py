"""Cityscapes: both trees, the three sources of masks, and polygons drawn as cityscapesScripts draws them."""

import json
import shutil

import numpy as np
import pytest
from fakes import CITYSCAPES_FRAMES, PLAIN_PIXELS, SCENE_PIXELS, write_cityscapes, write_cityscapes_polygons
from PIL import Image

from imageseg import build_dataset
from imageseg.cli import main
from imageseg.datasets.cityscapes.dataset import Cityscapes
from imageseg.datasets.cityscapes.labels import ID_OF, IDS, TRAIN_IDS
from imageseg.datasets.cityscapes.polygons import draw, write_label_ids
from imageseg.errors import InputError

FRAME = CITYSCAPES_FRAMES["train"]


def counts_of(dataset, split):
    values, counts = np.unique(dataset.samples(split)[0]["mask"].numpy(), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


SCENE_CLASSES = {0: SCENE_PIXELS["r"], 11: SCENE_PIXELS["p"], 13: SCENE_PIXELS["c"], 255: SCENE_PIXELS["v"]}
PLAIN_CLASSES = {0: PLAIN_PIXELS["r"], 255: PLAIN_PIXELS["v"]}


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds", "polygons"])
@pytest.mark.parametrize("tree", ["", "_trainvaltest"])
def test_every_tree_and_source_gives_the_same_classes(tmp_path, tree, kind):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path, tree=tree, kind=kind))
    dataset.prepare()
    assert dataset.splits == ("train", "val", "test")
    assert counts_of(dataset, "train") == SCENE_CLASSES
    assert counts_of(dataset, "val") == PLAIN_CLASSES
    assert dataset.labels.names == IDS.names == TRAIN_IDS.names
    ending = "labelTrainIds" if kind == "labelTrainIds" else "labelIds"
    assert dataset.pairs("val")[0].mask.name == f"{CITYSCAPES_FRAMES['val']}_gtFine_{ending}.png"


def test_the_test_split_has_no_masks_though_dummies_are_there(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path))
    (pair,) = dataset.pairs("test")
    assert (pair.name, pair.mask) == (CITYSCAPES_FRAMES["test"], None)
    assert dataset.objects(pair) is None


def test_objects_are_the_instances_and_not_the_groups(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path))
    (pair,) = dataset.pairs("train")
    assert dataset.objects(pair) == 2
    path = pair.mask.with_name(f"{FRAME}_gtFine_instanceIds.png")
    Image.fromarray(np.array([[26, 26000, 26001, 33999, 7, 26000, 999, 1000]], np.uint16)).save(path)
    assert dataset.objects(pair) == 4
    path.unlink()
    assert dataset.objects(pair) is None


def test_the_source_can_be_chosen(tmp_path):
    write_cityscapes(tmp_path)
    masks = tmp_path / "gtFine" / "train" / "aachen"
    Image.fromarray(np.full((4, 6), 18, np.uint8)).save(masks / f"{FRAME}_gtFine_labelTrainIds.png")
    assert counts_of(Cityscapes(str(tmp_path)), "train") == SCENE_CLASSES
    assert counts_of(Cityscapes(str(tmp_path), masks="labelIds"), "train") == SCENE_CLASSES
    chosen = Cityscapes(str(tmp_path), masks="labelTrainIds")
    assert counts_of(chosen, "train") == {18: 24}
    assert chosen.labels is TRAIN_IDS
    with pytest.raises(InputError, match="auto, labelIds or labelTrainIds, found 'color'"):
        Cityscapes(masks="color")


def test_only_polygons_name_the_command(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path, kind="polygons"))
    with pytest.raises(InputError) as refused:
        dataset.pairs("train")
    assert "1 of 1 images of train have polygons and no labelIds file" in str(refused.value)
    assert f"'imageseg prepare Cityscapes --root {tmp_path}' draws them" in str(refused.value)


def test_train_extra_has_coarse_masks(tmp_path):
    write_cityscapes(tmp_path)
    name = "erfurt_000000_000000"
    below = tmp_path / "leftImg8bit" / "train_extra" / "erfurt"
    below.mkdir(parents=True)
    shutil.copy(tmp_path / "leftImg8bit/train/aachen" / f"{FRAME}_leftImg8bit.png", below / f"{name}_leftImg8bit.png")
    masks = tmp_path / "gtCoarse" / "train_extra" / "erfurt"
    write_cityscapes_polygons(masks / f"{name}_gtCoarse_polygons.json", ("rrrrrr", "rvvvrp", "rvcvrp", "rrrrrr"))
    dataset = Cityscapes(str(tmp_path))
    assert dataset.splits == ("train", "val", "test", "train_extra")
    dataset.prepare()
    assert dataset.pairs("train_extra")[0].mask == masks / f"{name}_gtCoarse_labelIds.png"
    assert counts_of(dataset, "train_extra") == SCENE_CLASSES
    assert dataset.objects(dataset.pairs("train_extra")[0]) is None


def test_files_without_partner_are_listed_where_they_should_be(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path))
    images, masks = tmp_path / "leftImg8bit/train/aachen", tmp_path / "gtFine/train/aachen"
    shutil.copy(images / f"{FRAME}_leftImg8bit.png", images / "aachen_000001_000250_leftImg8bit.png")
    shutil.copy(masks / f"{FRAME}_gtFine_labelIds.png", masks / "aachen_000002_000019_gtFine_labelIds.png")
    listing = dataset.listing("train")
    assert [pair.name for pair in listing.pairs] == [FRAME]
    (without_mask,), (without_image,) = listing.without_mask, listing.without_image
    assert without_mask.mask == masks / "aachen_000001_000250_gtFine_labelIds.png"
    assert without_image.image == images / "aachen_000002_000019_leftImg8bit.png"
    with pytest.raises(InputError, match="1 image without mask"):
        dataset.pairs("train")


def test_hidden_files_and_other_kinds_are_no_frames(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path))
    images, masks = tmp_path / "leftImg8bit/train", tmp_path / "gtFine/train"
    (images / ".DS_Store").write_bytes(b"")
    (images / "aachen" / f"._{FRAME}_leftImg8bit.png").write_bytes(b"")
    (masks / "aachen" / f"._{FRAME}_gtFine_labelIds.png").write_bytes(b"")
    (masks / "aachen" / f"{FRAME}_gtFine_color.png").write_bytes(b"")
    assert len(dataset.pairs("train")) == 1


def test_two_images_of_one_frame_are_refused(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path))
    images = tmp_path / "leftImg8bit/train"
    shutil.copytree(images / "aachen", images / "aachen (1)")
    with pytest.raises(InputError, match="are the same frame; keep one of them"):
        dataset.pairs("train")


def test_the_archives_are_refused_with_the_steps(capsys):
    assert main(["prepare", "Cityscapes", "--download"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for step in ("cityscapes-dataset.com/register", "csDownload leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip"):
        assert step in line


def test_the_tables_hold_every_id_once():
    assert len(IDS) == len(TRAIN_IDS) == 19
    assert sorted(v for label in IDS.labels for v in label.values) + sorted(IDS.ignored_values) != []
    stored = sorted([v for label in IDS.labels for v in label.values] + [v for v in IDS.ignored_values if v != 255])
    assert stored == list(range(34))
    # cityscapesScripts, helpers/labels.py: the ids of the train ids 0 to 18, and some colors.
    assert [label.values[0] for label in IDS.labels] == [
        7,
        8,
        11,
        12,
        13,
        17,
        19,
        20,
        21,
        22,
        23,
        24,
        25,
        26,
        27,
        28,
        31,
        32,
        33,
    ]
    assert IDS.encode(np.array([[-1]], np.int8).view(np.uint8)).tolist() == [[255]]
    assert [label.values for label in TRAIN_IDS.labels] == [(index,) for index in range(19)]
    colors = {label.name: label.color for label in IDS.labels}
    assert colors["sky"] == (70, 130, 180)
    assert colors["traffic light"] == (250, 170, 30)
    assert [label.color for label in IDS.labels] == [label.color for label in TRAIN_IDS.labels]
    assert len(ID_OF) == 35
    assert ID_OF["license plate"] == -1


# --- polygons ---

GOLDEN = [
    ("road", [[-5, 40], [100, 38], [100, 70], [-5, 70]], {}),
    ("sky", [[0, 0], [95, 0], [95, 15], [48, 22], [0, 12]], {}),
    ("building", [[0, 12], [30, 18], [33, 39], [0, 41]], {"deleted": 0}),
    ("vegetation", [[60, 10], [90, 14], [85, 36], [62, 38]], {"deleted": 1}),
    ("car", [[20, 36], [44, 35], [50, 44], [47, 52], [18, 53]], {}),
    ("license plate", [[22, 48], [30, 48], [30, 51], [22, 51]], {}),
    ("persongroup", [[70, 30], [80, 29], [82, 50], [69, 51]], {}),
    ("polegroup", [[10.5, 5.5], [12.5, 5.5], [12.4, 45.2], [10.6, 45.6]], {}),
    ("ego vehicle", [[0, 60], [96, 58], [96, 64], [0, 64]], {}),
    ("pole", [[88, 2], [89, 60]], {}),
]


def polygon_file(tmp_path, objects, size=(64, 96)):
    path = tmp_path / "aachen_000000_000019_gtFine_polygons.json"
    entries = [{"label": label, "polygon": polygon, **others} for label, polygon, others in objects]
    path.write_text(json.dumps({"imgHeight": size[0], "imgWidth": size[1], "objects": entries}))
    return path


def test_polygons_are_drawn_as_the_official_tool_draws_them(tmp_path):
    """Counts of json2labelImg of cityscapesScripts 2.3.0 (Pillow 13.0.0) on the same polygons."""
    values, counts = np.unique(draw(polygon_file(tmp_path, GOLDEN)), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        **{0: 1074, 1: 430, 7: 1307, 11: 679, 17: 58, 18: 123, 23: 1701, 24: 265, 26: 507}
    }


def test_what_is_there_is_not_touched_and_what_is_missing_is_drawn(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path, kind="polygons"))
    theirs = tmp_path / "gtFine/train/aachen" / f"{FRAME}_gtFine_labelIds.png"
    theirs.write_bytes(b"somebody's")
    seen = []
    dataset.prepare(workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert theirs.read_bytes() == b"somebody's"
    with Image.open(dataset.pairs("val")[0].mask) as drawn:
        assert drawn.mode == "L"
    write_label_ids(theirs.with_name(f"{FRAME}_gtFine_polygons.json"))  # another process may have been faster
    assert theirs.read_bytes() == b"somebody's"
    assert not (tmp_path / "gtFine/test/berlin" / f"{CITYSCAPES_FRAMES['test']}_gtFine_labelIds.png").exists()


def test_train_ids_are_enough(tmp_path):
    dataset = build_dataset("Cityscapes", **write_cityscapes(tmp_path, kind="labelTrainIds"))
    dataset.prepare()
    assert not list(tmp_path.rglob("*_labelIds.png"))
    Cityscapes(str(tmp_path), masks="labelIds").prepare()
    assert len(list(tmp_path.rglob("*_labelIds.png"))) == 2


def test_an_interrupted_run_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    from imageseg.datasets.cityscapes import dataset as cityscapes

    write_cityscapes(tmp_path, kind="polygons")

    def interrupted(path):
        if "frankfurt" in path.name:
            raise KeyboardInterrupt
        write_label_ids(path)

    with monkeypatch.context() as patched:
        patched.setattr(cityscapes, "write_label_ids", interrupted)
        assert main(["prepare", "Cityscapes", "--root", str(tmp_path), "--workers", "1"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "imageseg: interrupted; 1 of 2 masks are drawn; the same command continues from there\n"
    assert main(["prepare", "Cityscapes", "--root", str(tmp_path), "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"Cityscapes in {tmp_path}: 1 train, 1 val, 1 test\n"


SQUARE = [[0, 0], [2, 0], [2, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([], "is not a polygon file of Cityscapes"),
        ({"imgHeight": 3, "imgWidth": 4}, "is not a polygon file"),
        ({"imgWidth": 4, "objects": []}, "imgWidth 4 and imgHeight None are not an image size"),
        ({"imgHeight": 0, "imgWidth": 4, "objects": []}, "imgWidth 4 and imgHeight 0 are not an image size"),
        ({"imgHeight": 10**6, "imgWidth": 10**6, "objects": []}, "are not an image size"),
        ([1], "objects[0]: is not an object"),
        ([{"polygon": SQUARE}], "objects[0]: has no label"),
        ([{"label": "raod", "polygon": SQUARE}], "no label of Cityscapes is called 'raod' (did you mean 'road'?)"),
        ([{"label": "group", "polygon": SQUARE}], "no label of Cityscapes is called 'group'"),
        ([{"label": "car"}], "objects[0]: a polygon is a list of at least two points [x, y]"),
        ([{"label": "car", "polygon": [[1, 1]]}], "objects[0]: a polygon is a list of at least two points"),
        ([{"label": "car", "polygon": [[1, 1], [2]]}], "objects[0]: a polygon is"),
        ([{"label": "car", "polygon": [[1, 1], [2, "2"]]}], "objects[0]: a polygon is"),
        ([{"label": "car", "polygon": [[1, 1], [2, float("nan")]]}], "objects[0]: a polygon is"),
        ([{"label": "car", "polygon": [[1, 1], [2, 10**400]]}], "objects[0]: a polygon is"),
        ([{"label": "car", "polygon": [[1, 1], [1e300, 5]]}], "objects[0]: a polygon is"),
    ],
)
def test_broken_polygons_name_the_place(tmp_path, content, message):
    if isinstance(content, list) and content:
        content = {"imgHeight": 3, "imgWidth": 4, "objects": content}
    path = tmp_path / "x_gtFine_polygons.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as refused:
        write_label_ids(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.samples
def test_real_masks(samples, tmp_path):
    """Four frames of aachen, their masks and instances; the official ids, not the train ids."""
    shutil.copytree(samples / "cityscapes" / "leftImg8bit", tmp_path / "leftImg8bit")
    dataset = Cityscapes(str(tmp_path))
    for path in sorted((tmp_path / "leftImg8bit").rglob("*_leftImg8bit.png")):
        name = path.stem.removesuffix("_leftImg8bit")
        for kind in ("labelIds", "instanceIds"):
            below = f"gtFine/train/aachen/{name}_gtFine_{kind}.png"
            (tmp_path / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(samples / "cityscapes" / below, tmp_path / below)
    pairs = dataset.pairs("train")
    assert [pair.name for pair in pairs] == [f"aachen_00000{index}_000019" for index in range(4)]
    assert [dataset.objects(pair) for pair in pairs] == [13, 14, 9, 11]
    sample = dataset.samples("train")[0]
    assert sample["mask"].shape == (1024, 2048)
    assert set(sample["mask"].unique().tolist()) <= {*range(19), 255}
    assert (sample["mask"] == 0).float().mean() > 0.2  # road

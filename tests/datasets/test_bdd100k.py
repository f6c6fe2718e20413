"""BDD100K: every release's tree, every kind of masks, and Scalabel's polygons drawn as the release was."""

import json
import shutil
import sys

import numpy as np
import pytest
from fakes import BDD_FRAMES, PLAIN, SCENE, coco_counts, scalabel_frame, write_bdd100k
from PIL import Image

from imageseg import build_dataset
from imageseg.cli import main
from imageseg.datasets.bdd100k.dataset import BDD100K
from imageseg.datasets.bdd100k.labels import INSTANCES, PANOPTIC, SEMANTIC, TRAIN_ID_OF
from imageseg.datasets.bdd100k.scalabel import Frame, paint, read_frames
from imageseg.errors import InputError

SCENE_CLASSES = {0: 16, 255: 5, 13: 1, 11: 2}


def counts_of(dataset, split="train"):
    values, counts = np.unique(dataset.samples(split)[0]["mask"].numpy(), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["sem_seg/masks", "sem_seg/colormaps", "sem_seg/bitmasks"])
@pytest.mark.parametrize("tree", ["", "bdd100k", "bdd100k/bdd100k"])
def test_every_tree_and_kind_of_train_ids(tmp_path, tree, kind):
    dataset = build_dataset("BDD100K", **write_bdd100k(tmp_path, tree=tree, kind=kind))
    assert dataset.splits == ("train", "val", "test")
    assert counts_of(dataset) == SCENE_CLASSES
    (pair,) = dataset.pairs("train")
    assert pair.mask == tmp_path / tree / "labels" / kind / "train" / f"{BDD_FRAMES['train']}.png"
    (test,) = dataset.pairs("test")
    assert (test.name, test.mask) == (BDD_FRAMES["test"], None)


@pytest.mark.parametrize("below", ["", "seg"])
@pytest.mark.parametrize("tree", ["seg", "bdd100k/seg"])
def test_the_release_before_2021(tmp_path, tree, below):
    write_bdd100k(tmp_path, tree=tree)
    root = tmp_path / tree if below else tmp_path
    dataset = BDD100K(str(root))
    assert counts_of(dataset) == SCENE_CLASSES
    (pair,) = dataset.pairs("train")
    assert pair.name == BDD_FRAMES["train"]
    assert pair.mask == tmp_path / tree / "labels" / "train" / f"{pair.name}_train_id.png"


def test_masks_go_before_colormaps(tmp_path):
    write_bdd100k(tmp_path)
    write_bdd100k(tmp_path, kind="sem_seg/colormaps")

    def folder(**chosen):
        return BDD100K(str(tmp_path), **chosen).pairs("train")[0].mask.parents[1].name

    assert folder() == folder(masks="masks") == "masks"
    assert folder(masks="colormaps") == "colormaps"
    with pytest.raises(InputError, match="ins_seg or pan_seg, found 'bitmasks'"):
        BDD100K(masks="bitmasks")


@pytest.mark.parametrize("kind", ["ins_seg", "pan_seg"])
def test_bitmasks_are_never_guessed_at(tmp_path, kind):
    write_bdd100k(tmp_path, kind=f"{kind}/bitmasks")
    with pytest.raises(InputError) as refused:
        BDD100K(str(tmp_path)).pairs("train")
    assert f"{kind}/bitmasks/train contains RGBA bitmasks, which may be instances or panoptic" in str(refused.value)
    assert "--masks ins_seg or --masks pan_seg" in str(refused.value)


@pytest.mark.parametrize("folder", ["ins_seg", "sem_seg"])
def test_instances_are_nine_classes_and_ignored_ones_are_void(tmp_path, folder):
    write_bdd100k(tmp_path, kind="ins_seg/bitmasks")
    (tmp_path / "labels" / "ins_seg").rename(tmp_path / "labels" / folder)
    dataset = BDD100K(str(tmp_path), masks="ins_seg")
    assert dataset.labels.names[:3] == ["other", "pedestrian", "rider"]
    assert len(dataset.labels) == 9
    assert counts_of(dataset) == {0: 21, 1: 2, 255: 1}


@pytest.mark.parametrize("folder", ["pan_seg", "sem_seg"])
def test_panoptic_ids_become_classes(tmp_path, folder):
    write_bdd100k(tmp_path, kind="pan_seg/bitmasks")
    (tmp_path / "labels" / "pan_seg").rename(tmp_path / "labels" / folder)
    dataset = BDD100K(str(tmp_path), masks="pan_seg")
    assert dataset.labels.names == SEMANTIC.names
    assert counts_of(dataset) == SCENE_CLASSES


def test_alpha_is_data(tmp_path):
    """Values lie in red where alpha is 0, 1, 128 and 255; a reader that blends or multiplies loses them."""
    write_bdd100k(tmp_path, kind="pan_seg/bitmasks")
    dataset = BDD100K(str(tmp_path), masks="pan_seg")
    path = dataset.pairs("train")[0].mask
    pixels = np.array([[[35, 8, 1, 0], [31, 4, 0, 1], [7, 0, 0, 128], [30, 2, 9, 255]]], np.uint8)
    Image.fromarray(pixels).save(path)
    assert dataset.read_stored(path).tolist() == [[35, 31, 7, 30]]


def test_a_wanted_kind_that_is_not_there_is_named(tmp_path):
    write_bdd100k(tmp_path)
    for kind in ("colormaps", "ins_seg", "pan_seg"):
        with pytest.raises(InputError, match=f"with masks of the kind '{kind}'"):
            BDD100K(str(tmp_path), masks=kind).pairs("train")
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(InputError, match=r"contains no images/10k/.* and labels/sem_seg/masks/\{train,val\}"):
        BDD100K(str(tmp_path)).pairs("train")


@pytest.mark.parametrize("masks", ["masks", "ins_seg"])
def test_a_file_of_the_wrong_kind_among_them_is_named(tmp_path, masks):
    kind = "sem_seg/masks" if masks == "masks" else "ins_seg/bitmasks"
    write_bdd100k(tmp_path, kind=kind)
    dataset = BDD100K(str(tmp_path), masks=masks)
    path = dataset.pairs("train")[0].mask
    mode, wrong = ("RGBA", (4, 6, 4)) if masks == "masks" else ("L", (4, 6))
    Image.fromarray(np.ones(wrong, np.uint8)).save(path)
    with pytest.raises(InputError, match=rf"{path.name}: pixel mode {mode}"):
        dataset.read_stored(path)


def test_the_releases_own_gaps_are_left_out_and_no_others(tmp_path):
    dataset = build_dataset("BDD100K", **write_bdd100k(tmp_path))
    images, masks = tmp_path / "images/10k", tmp_path / "labels/sem_seg/masks"
    image, mask = (images / "val" / f"{BDD_FRAMES['val']}.jpg", masks / "val" / f"{BDD_FRAMES['val']}.png")
    for name in ("80a9e37d-e4548ac1", "9342e334-33d167eb", "3d581db5-2564fb7e"):  # the third is one of train
        shutil.copy(image, images / "val" / f"{name}.jpg")
    for name in ("ff55861e-a06b953c", "ff7b98c7-3cb964ac", "fee92217-63b3f87f"):
        shutil.copy(mask, masks / "val" / f"{name}.png")
    listing = dataset.listing("val")
    assert [pair.name for pair in listing.pairs] == [BDD_FRAMES["val"]]
    assert [pair.name for pair in listing.without_mask] == ["3d581db5-2564fb7e"]
    assert [pair.name for pair in listing.without_image] == ["fee92217-63b3f87f"]
    assert listing.without_image[0].image == images / "val" / "fee92217-63b3f87f.jpg"


def test_a_known_gap_that_somebody_filled_is_a_pair(tmp_path):
    dataset = build_dataset("BDD100K", **write_bdd100k(tmp_path))
    for folder, ending in ((tmp_path / "images/10k/val", ".jpg"), (tmp_path / "labels/sem_seg/masks/val", ".png")):
        shutil.copy(folder / f"{BDD_FRAMES['val']}{ending}", folder / f"80a9e37d-e4548ac1{ending}")
    assert [pair.name for pair in dataset.pairs("val")] == [BDD_FRAMES["val"], "80a9e37d-e4548ac1"]


def test_the_archives_are_refused_with_the_steps(capsys):
    assert main(["prepare", "BDD100K", "--download"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for step in ("https://bdd-data.berkeley.edu", "'10K Images' and 'Semantic Segmentation'", "unpack both in"):
        assert step in line


def test_the_tables():
    assert len(TRAIN_ID_OF) == 41
    assert sorted(set(TRAIN_ID_OF.values())) == [*range(19), 255]
    assert {TRAIN_ID_OF[name] for name in ("parking sign", "ego vehicle", "street light", "caravan")} == {255}
    # Ids of bdd100k/label/label.py, which differ from Cityscapes'.
    ids = {
        "road": 7,
        "building": 10,
        "fence": 11,
        "wall": 15,
        "traffic light": 25,
        "person": 31,
        "bicycle": 33,
        "truck": 40,
    }
    assert {label.name: label.values[0] for label in PANOPTIC.labels if label.name in ids} == ids
    assert sorted([v for label in PANOPTIC.labels for v in label.values] + [*PANOPTIC.ignored_values]) == [
        *range(41),
        255,
    ]
    expected = ["other", "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert [(label.name, label.values) for label in INSTANCES.labels] == [(n, (i,)) for i, n in enumerate(expected)]
    assert INSTANCES.labels[3].color == (0, 0, 142)


# --- drawing ---


@pytest.mark.parametrize("tree", ["", "bdd100k/bdd100k"])
@pytest.mark.parametrize("kind", ["polygons", "rles"])
def test_masks_are_drawn_once_where_there_are_none(tmp_path, tree, kind):
    dataset = build_dataset("BDD100K", **write_bdd100k(tmp_path, tree=tree, kind=kind))
    with pytest.raises(
        InputError, match=r"there are no masks of train yet, only .*sem_seg_train\.json; 'imageseg prepare"
    ):
        dataset.pairs("train")
    dataset.prepare()
    assert counts_of(dataset) == SCENE_CLASSES
    (pair,) = dataset.pairs("train")
    assert pair.mask == tmp_path / tree / "labels/sem_seg/masks/train" / f"{pair.name}.png"
    assert BDD100K(str(tmp_path), masks="masks").pairs("val")


def test_masks_that_are_there_are_left_alone(tmp_path):
    write_bdd100k(tmp_path, kind="polygons")
    write_bdd100k(tmp_path, kind="sem_seg/colormaps")
    BDD100K(str(tmp_path)).prepare()
    assert not (tmp_path / "labels/sem_seg/masks").exists()
    write_bdd100k(tmp_path)
    before = sorted((tmp_path / "labels/sem_seg/masks").rglob("*"))
    BDD100K(str(tmp_path), masks="masks").prepare()
    assert sorted((tmp_path / "labels/sem_seg/masks").rglob("*")) == before


def test_an_interrupted_drawing_is_not_read(tmp_path):
    dataset = build_dataset("BDD100K", **write_bdd100k(tmp_path, kind="polygons"))
    dataset.prepare()
    note = tmp_path / "labels/sem_seg/masks/train/imageseg.json"
    note.write_text(note.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(
        InputError, match=r"masks/train does not contain all masks yet; 'imageseg prepare BDD100K --root"
    ):
        dataset.pairs("train")
    dataset.prepare()
    assert dataset.pairs("train")


def test_two_ways_of_writing_one_scene(tmp_path):
    for drawing in (SCENE, PLAIN):
        entries = [scalabel_frame(f"{runs}.jpg", drawing, runs=runs) for runs in (False, True)]
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"frames": entries, "config": None}))
        masks = [paint(frame, source=path).mask.tolist() for frame in read_frames(path)]
        assert masks[0] == masks[1]


def box(left, top, right, bottom):
    return {"vertices": [[left, top], [right, top], [right, bottom], [left, bottom]], "types": "LLLL", "closed": True}


def frame_of(*labels, size=(4, 6)):
    return Frame("a.jpg", *size, tuple(labels))


def rows(*labels, **others):
    return paint(frame_of(*labels, **others), source="x.json").mask.tolist()


def test_later_labels_cover_earlier_ones_and_void_covers_too():
    road, void = (
        {"category": "road", "poly2d": [box(0, 0, 6, 2)]},
        {"category": "ego vehicle", "poly2d": [box(0, 1, 6, 3)]},
    )
    assert rows(road, void) == [[0] * 6, [255] * 6, [255] * 6, [255] * 6]
    assert rows(void, road) == [[0] * 6, [0] * 6, [255] * 6, [255] * 6]
    assert (
        rows({"category": "road"}, {"category": "car", "poly2d": None}, {"category": "car", "poly2d": []})
        == [[255] * 6] * 4
    )


def test_lower_scores_lie_beneath():
    def scored(category, score):
        return {"category": category, "poly2d": [box(0, 0, 6, 4)], "score": score}

    assert rows(scored("car", 0.9), scored("road", 0.2)) == [[13] * 6] * 4
    assert rows(scored("car", 0.2), scored("road", 0.9)) == [[0] * 6] * 4
    assert rows(scored("car", 0.5), scored("road", 0.5)) == [[0] * 6] * 4  # the list's order


def test_run_lengths_go_before_polygons_and_mix_with_them():
    half = np.zeros((4, 6), np.uint8)
    half[:, :3] = 1
    rle = {"counts": coco_counts(half), "size": [4, 6]}
    road = {"category": "road", "poly2d": [box(0, 0, 6, 4)]}
    car = {"category": "car", "poly2d": [box(0, 0, 6, 4)], "rle": rle}
    person = {"category": "person", "poly2d": [box(2, 0, 4, 4)]}
    assert rows(road, car, person)[0] == [13, 13, 11, 11, 0, 0]
    assert rows(person, car, road)[0] == [0] * 6
    assert rows(road, person, car)[0] == [13, 13, 13, 11, 0, 0]


def test_parts_of_one_label_are_united():
    assert rows({"category": "sky", "poly2d": [box(0, 0, 4, 4), box(2, 0, 6, 4)]}) == [[10] * 6] * 4


def test_curves_are_curves():
    """Half an ellipse: the control points lie a third higher than it reaches; as corners they would be part of it."""
    curve = {"vertices": [[10, 90], [10, 10], [90, 10], [90, 90]], "types": "LCCL", "closed": False}
    mask = np.array(rows({"category": "car", "poly2d": [curve]}, size=(100, 100)))
    top = np.flatnonzero((mask == 13).any(axis=1)).min()
    assert top == 30  # of the cubic at its middle: 90/8 + 3*10/8 + 3*10/8 + 90/8
    # The integral of y(t) x'(t) is 0.6 of the square of 80; the outline is some 210 pixels long. As corners: the whole square.
    assert abs((mask == 13).sum() - 0.6 * 80 * 80) < 105
    closing = {"vertices": [[10, 90], [90, 90], [90, 10], [10, 10]], "types": "LLCC", "closed": True}
    other = np.array(rows({"category": "car", "poly2d": [closing]}, size=(100, 100)))
    assert (other != mask).sum() < 20  # drawn the other way round


def test_sizes_come_from_the_frame_the_file_or_the_set(tmp_path):
    path = tmp_path / "a.json"
    frames = [{"name": "a.jpg", "labels": None}, {"name": "b.jpg", "size": {"height": 2, "width": 3}}]
    path.write_text(json.dumps(frames))
    assert [(f.height, f.width, f.labels) for f in read_frames(path)] == [(720, 1280, ()), (2, 3, ())]
    path.write_text(json.dumps({"frames": frames, "config": {"imageSize": {"height": 5, "width": 7}}}))
    assert [(f.height, f.width) for f in read_frames(path)] == [(5, 7), (2, 3)]


def test_without_matplotlib_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(InputError, match=r"needs matplotlib, .*pip install 'matplotlib>=3\.9'"):
        rows({"category": "car", "poly2d": [box(0, 0, 2, 2)]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ({"images": []}, "is not a Scalabel file"),
        ([7], "frames[0]: the name None is not a plain file name"),
        ([{"name": "../a.jpg"}], "frames[0]: the name '../a.jpg' is not a plain file name"),
        ([{"name": ""}], "is not a plain file name"),
        ([{"name": "a.jpg"}, {"name": "a.png"}], "frames[1]: the name a is there twice"),
        ([{"name": "a.jpg", "labels": {"x": 1}}], "frames[0]: the labels of a.jpg are not a list of objects"),
        ([{"name": "a.jpg", "labels": [3]}], "frames[0]: the labels of a.jpg are not a list of objects"),
        ([{"name": "a.jpg", "size": {"height": -1, "width": 3}}], "frames[0]: the size"),
        ([{"name": "a.jpg", "size": [3, 4]}], "frames[0]: the size [3, 4] is invalid"),
    ],
)
def test_broken_files_name_the_frame(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as refused:
        read_frames(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


CORNERS = [[0, 0], [2, 0], [2, 2]]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({}, "no class of semantic segmentation is called 'None'"),
        ({"category": "motor"}, "is called 'motor' (did you mean 'motorcycle'?); use sem_seg_*.json"),
        ({"category": []}, "is called '[]'"),
        ({"category": "car", "poly2d": 3}, "poly2d is a list of polygons"),
        ({"category": "car", "poly2d": [3]}, "a polygon has the list 'vertices'"),
        ({"category": "car", "poly2d": [{"vertices": [[0, 0], [1]], "types": "LL"}]}, "vertices are points [x, y]"),
        ({"category": "car", "poly2d": [{"vertices": [[0, 0], [1, "1"]], "types": "LL"}]}, "vertices are points"),
        (
            {"category": "car", "poly2d": [{"vertices": [[0, 0], [1, float("nan")]], "types": "LL"}]},
            "extends far beyond any image",
        ),
        (
            {"category": "car", "poly2d": [{"vertices": [[0, 0], [1, 10**400]], "types": "LL"}]},
            "extends far beyond any image",
        ),
        (
            {"category": "car", "poly2d": [{"vertices": CORNERS, "types": "LL"}]},
            "one letter for each of the 3 vertices",
        ),
        ({"category": "car", "poly2d": [{"vertices": CORNERS}]}, "one letter for each of the 3 vertices"),
        ({"category": "car", "poly2d": [{"vertices": CORNERS, "types": "LCL"}]}, "L or pairs of C between L"),
        ({"category": "car", "poly2d": [{"vertices": CORNERS, "types": "CCL"}]}, "L or pairs of C between L"),
        ({"category": "car", "poly2d": [{"vertices": CORNERS, "types": "LXL"}]}, "found 'LXL'"),
        ({"category": "car", "poly2d": [{"vertices": [], "types": ""}]}, "found ''"),
        ({"category": "car", "rle": 3}, "the run lengths are for a size of None, the frame has [4, 6]"),
        ({"category": "car", "rle": {"counts": "1", "size": [6, 4]}}, "the run lengths are for a size of [6, 4]"),
        ({"category": "car", "rle": {"counts": "1", "size": [4, 6]}}, "the runs add up to 1 pixels"),
    ],
)
def test_broken_labels_name_the_place(label, message):
    with pytest.raises(InputError) as refused:
        rows({"category": "road", "poly2d": [box(0, 0, 1, 1)]}, label)
    assert str(refused.value).startswith("x.json: a.jpg: labels[1]: ")
    assert message in str(refused.value)


# --- the release itself ---


@pytest.fixture(scope="module")
def released(samples):
    """The released mask of frame 7d06fefd-f7be05a6, and the frame's polygons and run lengths."""
    with Image.open(samples / "bdd100k_sample/labels/sem_seg/colormaps/val/7d06fefd-f7be05a6.png") as image:
        mask = np.array(image)
    (frame,) = read_frames(samples / "scalabel_testcases/sem_seg/sem_seg_sample.json")
    return mask, frame


@pytest.mark.samples
@pytest.mark.parametrize("every", [1, 2, 1000])
def test_the_released_mask_pixel_for_pixel(released, every):
    """From run lengths, from polygons, and from both in turn."""
    mask, frame = released
    labels = [
        {key: value for key, value in label.items() if key != "rle" or index % every == 0}
        for index, label in enumerate(frame.labels)
    ]
    if every == 1000:
        del labels[0]["rle"]
    np.testing.assert_array_equal(paint(frame._replace(labels=tuple(labels)), source="x").mask, mask)


@pytest.mark.samples
def test_the_toolkits_curves_pixel_for_pixel(samples):
    folder = samples / "bdd100k_toolkit_testcases/tests/label/testcases"
    (frame,) = read_frames(folder / "example_annotation.json")
    assert any("C" in polygon["types"] for label in frame.labels for polygon in label["poly2d"])
    with Image.open(folder / "semseg_mask.png") as image:
        np.testing.assert_array_equal(paint(frame, source="x").mask, np.array(image))


@pytest.mark.samples
def test_polygons_and_panoptic_bitmask_of_the_toolkit_agree(samples):
    """Polygons that say ``closed: false``, and RGBA values through our reader and table."""
    folder = samples / "bdd100k_toolkit_testcases/tests/label/testcases/panseg_bdd100k"
    (frame,) = read_frames(folder / "panseg_bdd100k.json")
    stored = BDD100K(masks="pan_seg").read_stored(folder / "panseg_mask.png")
    np.testing.assert_array_equal(paint(frame, source="x").mask, PANOPTIC.encode(stored))


@pytest.mark.samples
def test_real_colormaps(samples):
    dataset = BDD100K(str(samples / "bdd100k_sample"))
    dataset.prepare()
    assert {split: len(dataset.pairs(split)) for split in dataset.splits} == {"train": 16, "val": 8}
    sample = dataset.samples("val")[0]
    assert sample["image"].shape[1:] == sample["mask"].shape == (720, 1280)
    assert set(sample["mask"].unique().tolist()) <= {*range(19), 255}

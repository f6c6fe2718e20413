"""COCO's 21 classes: what each kind of segmentation becomes, the policies, the filter, and broken files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import coco_annotation, coco_box, coco_counts, write_coco, write_instances
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from imageseg import build_dataset
from imageseg.cli import main
from imageseg.datasets.coco.annotations import CATEGORIES, AnnotatedImage, Annotation, read_instances
from imageseg.datasets.coco.dataset import COCO
from imageseg.datasets.coco.masks import paint
from imageseg.datasets.voc.dataset import LABELS
from imageseg.errors import InputError

SOURCE = Path("instances_train2017.json")
PERSON, CHAIR, BUS = 15, 9, 6


def drawn(*annotations, size=(3, 4), overlap="first", crowd="class"):
    """The mask of (class, segmentation, crowd, area) as rows of values."""
    entries = [
        Annotation(index, class_index, bool(is_crowd), area, segmentation)
        for index, (class_index, segmentation, is_crowd, area) in enumerate(annotations)
    ]
    return paint(AnnotatedImage("a.jpg", *size, tuple(entries)), overlap=overlap, crowd=crowd, source=SOURCE)


def rows(*annotations, **choices):
    return drawn(*annotations, **choices).mask.tolist()


def runs(left, top, right, bottom, size=(3, 4)):
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize(
    "segmentation",
    [
        [coco_box(1, 0, 3, 2)],
        [[float(number) for number in coco_box(1, 0, 3, 2)]],
        [coco_box(1, 0, 2, 2), coco_box(2, 0, 3, 2)],  # two parts
        [coco_box(1, 0, 3, 2), [0, 0, 4, 3]],  # fewer than three points: nothing, not a box
        [[0, 0, 4, 3], coco_box(1, 0, 3, 2), []],
        [[*coco_box(1, 0, 3, 2), 0]],  # a number without partner
        {"counts": [3, 2, 1, 2, 4], "size": [3, 4]},
        {"counts": coco_counts(runs(1, 0, 3, 2)), "size": [3, 4]},
    ],
)
def test_every_kind_of_segmentation_of_one_square(segmentation):
    assert rows((PERSON, segmentation, 0, 4)) == [[0, 15, 15, 0], [0, 15, 15, 0], [0, 0, 0, 0]]


def test_what_lies_outside_or_nowhere_draws_nothing():
    for segmentation in ([], [coco_box(9, 9, 12, 12)], [coco_box(-9, 0, -5, 3)], [coco_box(1, 1, 1, 2)]):
        painted = drawn((PERSON, segmentation, 0, 4))
        assert not painted.mask.any()
        assert (painted.labelled, painted.objects) == (0, 0)
    half = rows((PERSON, [coco_box(-2, -2, 2, 1)], 0, 4))
    assert half == [[15, 15, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


LEFT, RIGHT, LOW = [coco_box(0, 0, 3, 2)], [coco_box(2, 0, 4, 2)], [coco_box(0, 1, 4, 3)]


def test_overlap_first():
    """What comes first in the file stays."""
    assert rows((PERSON, LEFT, 0, 6), (CHAIR, RIGHT, 0, 4)) == [[15, 15, 15, 9], [15, 15, 15, 9], [0] * 4]
    assert rows((CHAIR, RIGHT, 0, 4), (PERSON, LEFT, 0, 6)) == [[15, 15, 9, 9], [15, 15, 9, 9], [0] * 4]


def test_overlap_void():
    """Also between two of one class, and between three; parts of one object do not count."""
    two = rows((PERSON, LEFT, 0, 6), (PERSON, RIGHT, 0, 4), overlap="void")
    assert two == [[15, 15, 255, 15], [15, 15, 255, 15], [0] * 4]
    three = rows((PERSON, LEFT, 0, 6), (CHAIR, RIGHT, 0, 4), (BUS, LOW, 0, 8), overlap="void")
    assert three == [[15, 15, 255, 9], [255] * 4, [6] * 4]
    assert rows((PERSON, [*LEFT, *RIGHT, *LEFT], 0, 8), overlap="void") == [[15] * 4, [15] * 4, [0] * 4]


def test_overlap_area():
    """By the file's area, the smaller on top; of two alike, the later."""
    assert rows((PERSON, LEFT, 0, 6), (CHAIR, RIGHT, 0, 4), overlap="area")[0] == [15, 15, 9, 9]
    assert rows((CHAIR, RIGHT, 0, 4), (PERSON, LEFT, 0, 6), overlap="area")[0] == [15, 15, 9, 9]
    assert rows((PERSON, LEFT, 0, 3), (CHAIR, RIGHT, 0, 4), overlap="area")[0] == [15, 15, 15, 9]
    assert rows((PERSON, LEFT, 0, 4), (CHAIR, RIGHT, 0, 4), overlap="area")[0] == [15, 15, 9, 9]


@pytest.mark.parametrize("overlap", ["first", "area"])
def test_crowds(overlap):
    crowd = {"counts": [0, 12], "size": [3, 4]}
    given = ((BUS, crowd, 1, 2), (PERSON, LEFT, 0, 6))
    front, beneath = [[6] * 4] * 3, [[15, 15, 15, 6], [15, 15, 15, 6], [6] * 4]
    assert rows(*given, overlap=overlap) == front  # area 2 is the smaller
    assert rows(*given[::-1], overlap=overlap) == (beneath if overlap == "first" else front)
    ignored = [[15, 15, 15, 255], [15, 15, 15, 255], [255] * 4]
    assert rows(*given, overlap=overlap, crowd="ignore") == ignored
    assert rows(*given[::-1], overlap=overlap, crowd="ignore") == ignored
    assert rows(*given, overlap=overlap, crowd="skip") == [[15, 15, 15, 0], [15, 15, 15, 0], [0] * 4]


def test_labelled_pixels_and_objects_leave_out_what_is_ignored():
    crowd = {"counts": [0, 12], "size": [3, 4]}
    annotations = ((BUS, crowd, 1, 12), (PERSON, LEFT, 0, 6), (CHAIR, [], 0, 0))
    for choice, expected in {"class": (12, 2), "ignore": (6, 1), "skip": (6, 1)}.items():
        painted = drawn(*annotations, crowd=choice)
        assert (painted.labelled, painted.objects) == expected


numbers = st.floats(-20, 40, allow_nan=False, width=32) | st.integers(-20, 40)
polygons = st.lists(st.lists(numbers, min_size=6, max_size=14).map(lambda p: p[: len(p) // 2 * 2]), max_size=3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11 on numpy 2
@given(st.lists(st.tuples(st.integers(1, 20), polygons), max_size=4), st.integers(1, 30), st.integers(1, 30))
def test_the_same_pixels_as_the_converter_that_most_code_descends_from(objects, height, width):
    """Policy "first": every object to a mask of its own, added where nothing is yet."""
    expected = np.zeros((height, width), np.uint8)
    for class_index, parts in objects:
        if parts:
            alone = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))
            expected += (expected == 0) * (alone * np.uint8(class_index))
    annotations = [(class_index, parts, 0, 1) for class_index, parts in objects]
    np.testing.assert_array_equal(drawn(*annotations, size=(height, width)).mask, expected)


def test_the_categories_are_vocs_by_name():
    renamed = {"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle"}
    renamed |= {"pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}
    assert [name for _, name in CATEGORIES[1:]] == [renamed.get(name, name) for name in LABELS.names[1:]]
    # Index: class, value: category (github.com/jfzhang95/pytorch-deeplab-xception, dataloaders/datasets/coco.py).
    known = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    assert [category for category, _ in CATEGORIES] == known


# --- the dataset ---


@pytest.mark.parametrize("images", ["images", ""])
@pytest.mark.parametrize("year", ["2014", "2017"])
def test_both_years_and_both_trees(tmp_path, year, images):
    dataset = build_dataset("COCO", **write_coco(tmp_path, year=year, images=images))
    assert dataset.splits == ("train", "val")
    (first, second), (third,) = dataset.pairs("train"), dataset.pairs("val")
    prefix = "COCO_train2014_" if year == "2014" else ""
    assert first.image == tmp_path / images / f"train{year}" / f"{prefix}000000000001.jpg"
    assert first.mask == tmp_path / "mask" / f"train{year}" / f"{prefix}000000000001.png"
    with Image.open(first.mask) as image:
        assert image.mode == "P"
        assert image.getpalette()[: 3 * 21] == LABELS.palette[:21].ravel().tolist()
    assert [dataset.objects(pair) for pair in (first, second, third)] == [2, 0, 2]


def test_one_split_alone_is_enough_and_case_does_not_matter(tmp_path):
    write_coco(tmp_path)
    shutil.rmtree(tmp_path / "images" / "train2017")
    (tmp_path / "images").rename(tmp_path / "Images")
    dataset = COCO(str(tmp_path))
    dataset.prepare()
    assert dataset.splits == ("val",)
    assert len(dataset.pairs("val")) == 1


def test_a_year_is_prepared_by_itself(tmp_path):
    write_coco(tmp_path, year="2014", prepared=False)
    write_coco(tmp_path, year="2017")
    assert sorted(path.name for path in (tmp_path / "mask").iterdir()) == ["train2017", "val2017"]


@pytest.mark.parametrize("wrong", [{"year": "2015"}, {"overlap": "max"}, {"crowd": "255"}])
def test_unknown_choices_are_refused(wrong):
    with pytest.raises(InputError, match=r"found '(2015|max|255)'"):
        COCO(**wrong)


def test_the_filter_is_of_train_and_by_more_than(tmp_path):
    arguments = write_coco(tmp_path)  # 3, 0 and 10 pixels

    def counts(**changed):
        dataset = build_dataset("COCO", **{**arguments, **changed})
        return [len(dataset.pairs(split)) for split in ("train", "val")]

    assert counts(min_pixels=-1) == [2, 1]
    assert counts(min_pixels=0) == [1, 1]
    assert counts(min_pixels=2) == [1, 1]
    assert counts(min_pixels=3) == [0, 1]
    too_little = COCO(**{**arguments, "min_pixels": 3}).listing("train")
    assert too_little.by_choice == "2 images have at most min_pixels=3 pixels of the 20 classes"
    assert counts(min_pixels=10, filter_val=True) == [0, 0]
    assert counts(min_pixels=9, filter_val=True) == [0, 1]
    del arguments["min_pixels"]
    assert counts() == [0, 1]  # 1000


def test_another_folder_for_the_masks(tmp_path):
    arguments = write_coco(tmp_path / "data", prepared=False)
    dataset = build_dataset("COCO", **arguments, masks=str(tmp_path / "elsewhere"))
    dataset.prepare()
    assert dataset.pairs("val")[0].mask == tmp_path / "elsewhere" / "val2017" / "000000000003.png"
    assert not (tmp_path / "data" / "mask").exists()
    assert dataset.objects(dataset.pairs("val")[0]) == 2


def test_a_place_that_cannot_be_written_names_the_flag(tmp_path):
    arguments = write_coco(tmp_path, prepared=False)
    (tmp_path / "mask").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"mask/train2017: cannot be written \(.*\); pass another folder with --masks"):
        build_dataset("COCO", **arguments).prepare()


def test_without_masks_the_command_is_named_with_its_choices(tmp_path):
    arguments = write_coco(tmp_path, prepared=False)
    dataset = build_dataset("COCO", **arguments, overlap="void", crowd="ignore", masks=str(tmp_path / "m"))
    with pytest.raises(InputError) as refused:
        dataset.pairs("train")
    assert f"'imageseg prepare COCO --root {tmp_path} --overlap void --crowd ignore --masks {tmp_path / 'm'}'" in str(
        refused.value
    )


def test_without_annotations_their_archive_is_named(tmp_path):
    write_coco(tmp_path, prepared=False)
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    dataset = COCO(str(tmp_path))
    assert dataset.splits == ("train",)
    with pytest.raises(
        InputError, match=r"instances_val2017\.json: no such file; get annotations/annotations_trainval"
    ):
        dataset.pairs("val")


def test_faults_are_listed(tmp_path):
    dataset = build_dataset("COCO", **write_coco(tmp_path))
    (tmp_path / "images/train2017/000000000001.jpg").unlink()
    (tmp_path / "mask/train2017/000000000002.png").unlink()
    shutil.copy(tmp_path / "images/val2017/000000000003.jpg", tmp_path / "images/train2017/stranger.jpg")
    listing = dataset.listing("train")
    assert listing.pairs == []
    assert [pair.name for pair in listing.without_image] == ["000000000001"]
    assert [pair.name for pair in listing.without_mask] == ["000000000002", "stranger"]


def test_the_archives_are_the_owners_with_checksums():
    for year in ("2014", "2017"):
        archives = COCO(year=year).archives()
        assert [archive.url.rpartition("/")[2] for archive in archives] == [
            f"train{year}.zip",
            f"val{year}.zip",
            f"annotations_trainval{year}.zip",
        ]
        assert all(archive.url.startswith("http://images.cocodataset.org/") for archive in archives)
        assert [archive.folder for archive in archives] == ["images", "images", ""]
        assert all(len(archive.md5) == 32 and int(archive.md5, 16) for archive in archives)


# --- broken files: one line that names the file and the place ---

BOX = [coco_box(0, 0, 2, 2)]


def broken(tmp_path, change):
    path = tmp_path / "instances.json"
    write_instances(path, [(1, "a.jpg", (3, 4)), (2, "b.jpg", (3, 4))], [coco_annotation(1, 1, BOX)])
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as refused:
        read_instances(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "which has the lists 'images' and 'annotations'"),
        (lambda c: c.update(annotations={}), "which has the lists"),
        (lambda c: c["images"].append(7), "images[2]: is not an object"),
        (lambda c: c["images"][1].pop("height"), "images[1]: has no 'height'"),
        (lambda c: c["images"][1].update(width="4"), "images[1]: 'width' cannot be '4'"),
        (lambda c: c["images"][1].update(width=True), "images[1]: 'width' cannot be 'True'"),
        (lambda c: c["images"][1].update(width=0), "images[1]: b.jpg cannot be 0 x 3 pixels"),
        (lambda c: c["images"][1].update(width=10**9), "images[1]: b.jpg cannot be 1000000000 x 3 pixels"),
        (lambda c: c["images"][1].update(id=1), "images[1]: the id 1 is there twice"),
        (lambda c: c["images"][1].update(file_name="a.png"), "images[1]: the name a is there twice"),
        (
            lambda c: c["images"][1].update(file_name="../b.jpg"),
            "images[1]: the file name '../b.jpg' is not a plain file name",
        ),
        (lambda c: c["images"][1].update(file_name="/b.jpg"), "the file name '/b.jpg' is not a plain file name"),
        (lambda c: c["images"][1].update(file_name="..\\b.jpg"), "is not a plain file name"),
        (lambda c: c["images"][1].update(file_name="b\t1.jpg"), "is not a plain file name"),
        (lambda c: c["images"][1].update(file_name=""), "is not a plain file name"),
        (lambda c: c["images"][1].update(file_name=".."), "is not a plain file name"),
        (lambda c: c["annotations"].append([]), "annotations[1]: has no category_id; is this an instances file?"),
        (lambda c: c["annotations"][0].pop("category_id"), "annotations[0]: has no category_id"),
        (lambda c: c["annotations"][0].pop("segmentation"), "annotations[0]: has no 'segmentation'"),
        (lambda c: c["annotations"][0].update(segmentation="x"), "annotations[0]: 'segmentation' cannot be 'x'"),
        (lambda c: c["annotations"][0].update(image_id=3), "annotations[0]: no image has the id 3"),
        (lambda c: c["annotations"][0].update(iscrowd=2), "annotations[0]: iscrowd is 0 or 1, found 2"),
        (lambda c: c["annotations"][0].update(area="big"), "annotations[0]: the area is a number of pixels"),
        (lambda c: c["annotations"][0].update(area=float("nan")), "annotations[0]: the area is a number of pixels"),
        (lambda c: c["annotations"][0].update(area=10**400), "annotations[0]: the area is a number of pixels"),
        (
            lambda c: c["categories"][0].update(name="dog"),
            "category 1 is 'dog', in COCO 'person'; only COCO itself is supported",
        ),
        (lambda c: c["categories"].append(0), "an entry of 'categories' has no id"),
        (lambda c: c["categories"].append({"id": []}), "an entry of 'categories'"),
    ],
)
def test_broken_instances_name_the_place(tmp_path, change, message):
    assert message in broken(tmp_path, change)


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\xff", "[" * 100_000])
def test_what_is_not_json_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"a\.json: is not JSON \("):
        read_instances(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: no such file; it comes in annotations_trainval"):
        read_instances(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([1, 2, 3], "a polygon is a list of numbers"),
        ([["0", "0", "2", "0", "2", "2"]], "a polygon is a list of numbers"),
        ([[0, 0, 2, 0, 2, None]], "a polygon is a list of numbers"),
        ([[0, 0, 2, 0, 2, float("nan")]], "a polygon extends far beyond any image"),
        ([[0, 0, 2, 0, 2, float("inf")]], "a polygon extends far beyond any image"),
        ([[0, 0, 2, 0, 2, 10**400]], "a polygon extends far beyond any image"),
        ([[0, 0, 2e9, 0, 2, 2]], "a polygon extends far beyond any image"),
        ([[0, 0, 9e5, 9e5] * 30], "a polygon extends far beyond any image"),
        ({"counts": [12]}, "the run lengths are for a size of None, the image has [3, 4]"),
        ({"counts": [12], "size": [4, 3]}, "the run lengths are for a size of [4, 3], the image has [3, 4]"),
        ({"counts": [13], "size": [3, 4]}, "a run of 13 pixels is impossible"),
        ({"counts": "11", "size": [3, 4]}, "the runs add up to 2 pixels, the image has 12"),
        ({"counts": "€", "size": [3, 4]}, "characters beyond ASCII"),
        ({"size": [3, 4]}, "neither a list of whole numbers nor a compressed string"),
    ],
)
def test_broken_segmentations_name_the_annotation(segmentation, message):
    with pytest.raises(InputError) as refused:
        rows((PERSON, BOX, 0, 1), (CHAIR, segmentation, 0, 1))
    assert str(refused.value).startswith("instances_train2017.json: annotation 1 of a.jpg: ")
    assert message in str(refused.value)


def test_a_broken_annotation_ends_the_command_in_one_line(tmp_path, capsys):
    write_coco(tmp_path, prepared=False)
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"segmentation": [[0,', '"segmentation": [["0",'))
    assert main(["prepare", "COCO", "--root", str(tmp_path), "--workers", "2"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "instances_val2017.json: annotation 301 of 000000000003.jpg: a polygon is a list of numbers" in captured.err


# --- the real sample; figures of the official tool (pycocotools) and the two public conversions ---

_SAME = {1: 19557, 3: 34816, 4: 676, 10: 34716, 16: 11118, 18: 1491, 19: 9337, 20: 40698}
GOLDEN = {
    ("first", "class"): (
        {0: 7616463, **_SAME, 2: 73808, 5: 1482, 6: 345107, 7: 121271, 9: 30604, 11: 58754, 14: 101677}
        | {15: 204286, 17: 41199},
        {0: 685758, 5: 31970, 9: 16243, 11: 532051, 15: 303858},
    ),
    ("void", "class"): (
        {0: 7616463, **_SAME, 1: 19538, 3: 34812, 4: 653, 2: 73437, 5: 11, 6: 336786, 7: 119344, 9: 2253, 11: 58734}
        | {14: 100230, 15: 200464, 17: 41157, 255: 45818},
        {0: 685758, 5: 28279, 9: 16163, 11: 529993, 15: 301640, 255: 8047},
    ),
    ("area", "ignore"): (
        {0: 7616463, **_SAME, 2: 73674, 5: 1482, 6: 337536, 7: 120271, 9: 33886, 11: 58734, 14: 100848}
        | {15: 201668, 17: 41199, 255: 8890},
        {0: 685758, 5: 31854, 9: 16512, 11: 530399, 15: 305357},
    ),
}


@pytest.mark.samples
@pytest.mark.parametrize("overlap", ["first", "void", "area"])
def test_golden_pixel_counts(samples, tmp_path, overlap):
    crowd = "ignore" if overlap == "area" else "class"
    dataset = COCO(str(samples / "coco_tiny"), overlap=overlap, crowd=crowd, min_pixels=-1, masks=str(tmp_path))
    dataset.prepare()
    for split, expected in zip(("train", "val"), GOLDEN[overlap, crowd], strict=True):
        counts = sum(
            np.bincount(dataset.read_stored(pair.mask).ravel(), minlength=256) for pair in dataset.pairs(split)
        )
        assert {value: int(counts[value]) for value in np.flatnonzero(counts)} == expected


@pytest.mark.samples
def test_the_filter_of_the_real_sample(samples, tmp_path):
    dataset = COCO(str(samples / "coco_tiny"), masks=str(tmp_path))
    dataset.prepare()
    kept = {int(pair.name) for pair in dataset.pairs("train")}
    everything = {int(pair.name) for pair in COCO(dataset.root, min_pixels=-1, masks=str(tmp_path)).pairs("train")}
    assert (len(everything), len(dataset.pairs("val"))) == (32, 6)
    assert everything - kept == {6818, 58636, 153299, 184791, 226111, 331352, 403385, 458054, 522713}
    sample = dataset.samples("train")[0]
    assert sample["image"].shape[1:] == sample["mask"].shape

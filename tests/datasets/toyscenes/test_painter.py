import numpy as np
import pytest

from imageseg.datasets.toyscenes import painter as street_painter
from imageseg.datasets.toyscenes.painter import LABELS, paint_scene
from imageseg.errors import InputError

SCENES = 36


def scene(index, size=(96, 128)):
    return paint_scene(np.random.Generator(np.random.Philox(key=(5, index))), size)


@pytest.fixture(scope="module")
def scenes():
    images, masks = zip(*(scene(index) for index in range(SCENES)), strict=True)
    return np.stack(images), np.stack(masks)


def test_the_labels_are_the_stored_values_in_order():
    assert LABELS.names == ["sky", "building", "road", "pavement", "tree", "car", "person", "pole"]
    stored = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 255]])
    np.testing.assert_array_equal(LABELS.encode(stored), stored)
    assert LABELS.colored(stored)[0, [0, 6, 8]].tolist() == [[70, 130, 180], [220, 20, 60], [0, 0, 0]]


def test_the_generator_alone_decides(scenes):
    for index in (0, 7):
        image, mask = scene(index)
        assert image.tobytes() == scenes[0][index].tobytes()
        assert mask.tobytes() == scenes[1][index].tobytes()
    assert len({image.tobytes() for image in scenes[0]}) == SCENES
    assert len({mask.tobytes() for mask in scenes[1]}) == SCENES


def test_numpy_and_opencv_hold_no_hidden_state():
    expected = scene(3)[0]
    np.random.seed(9)
    street_painter.cv2.setRNGSeed(9)
    np.testing.assert_array_equal(scene(3)[0], expected)


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (211, 97), (64, 400)])
def test_any_size(size):
    image, mask = scene(1, size)
    assert image.shape == (*size, 3)
    assert mask.shape == size
    assert image.dtype == mask.dtype == np.uint8
    assert image.flags.c_contiguous
    assert mask.flags.c_contiguous
    assert len(np.unique(mask)) >= 5


@pytest.mark.parametrize("size", [(63, 64), (64, 10)])
def test_a_size_too_small_says_so(size):
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]}"):
        scene(0, size)


def test_masks_hold_nothing_but_classes_and_void(scenes):
    assert set(np.unique(scenes[1])) == {*range(8), 255}


def test_every_class_is_common_as_in_a_street(scenes):
    occurs = {name: np.mean([(mask == index).any() for mask in scenes[1]]) for index, name in enumerate(LABELS.names)}
    share = np.bincount(scenes[1].ravel(), minlength=256) / scenes[1].size
    assert {name for name, value in occurs.items() if value < 0.9} <= {"person"}
    assert occurs["person"] >= 0.6
    assert 0.003 < share[6] < 0.02
    assert 0.005 < share[7] < 0.02
    assert 0.01 < share[255] < 0.05
    assert share[:6].min() > 0.02


def test_sky_is_above_and_road_below(scenes):
    rows = np.arange(96)[None, :, None] * np.ones_like(scenes[1])
    sky, road = rows[scenes[1] == 0], rows[scenes[1] == 2]
    assert sky.max() < 0.6 * 96
    assert road.min() > 0.35 * 96
    assert (scenes[1][:, :20] == 0).mean() > 0.2
    assert (scenes[1][:, -20:] == 2).mean() > 0.4


def contrast_at_edges(image, mask, shift):
    """The mean step in brightness across the mask's vertical edges, were the mask ``shift`` pixels further right."""
    steps = np.abs(np.diff(image.astype(int).sum(-1), axis=1))
    edges = np.roll(mask[:, 1:] != mask[:, :-1], shift, axis=1)
    return steps[edges].mean()


def test_image_and_mask_lie_on_top_of_each_other(scenes):
    contrast = {
        shift: np.mean([contrast_at_edges(image, mask, shift) for image, mask in zip(*scenes, strict=True)])
        for shift in range(-3, 4)
    }
    assert max(contrast, key=contrast.get) == 0, contrast
    assert contrast[0] > 1.5 * contrast[3]


def test_no_class_has_a_color_of_its_own(scenes):
    """The nearest mean color finds far fewer walls, cars and persons than a network must."""
    images, masks = scenes
    means = np.stack([images[masks == index].mean(0) for index in range(8)])
    for index in (1, 5, 6, 7):
        pixels = images[masks == index][::7].astype(float)
        nearest = ((pixels[:, None] - means) ** 2).sum(-1).argmin(1)
        assert (nearest == index).mean() < 0.5, LABELS.names[index]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace

ROAD, PERSON = Label("road", (128, 64, 128), (7,)), Label("person", (220, 20, 60), (24, 25))
SPACE = LabelSpace((ROAD, PERSON), ignored_values=(0, 255), ignored_colors=((0, 0, 0), (9, 9, 9)))


def test_stored_values_become_class_indices():
    stored = np.array([[7, 24, 25], [0, 255, 7]], np.uint8)
    classes = SPACE.encode(stored)
    assert classes.tolist() == [[0, 1, 1], [255, 255, 0]]
    assert classes.dtype == np.uint8


def test_colors_become_class_indices():
    stored = np.array([[[128, 64, 128], [220, 20, 60]], [[0, 0, 0], [9, 9, 9]]], np.uint8)
    classes = SPACE.encode(stored)
    assert classes.tolist() == [[0, 1], [255, 255]]
    assert classes.dtype == np.uint8


def test_a_class_may_have_the_color_that_draws_ignored_pixels():
    space = LabelSpace((Label("background", (0, 0, 0), (0,)), PERSON))
    assert space.encode(np.array([[[0, 0, 0], [220, 20, 60]]], np.uint8)).tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_sixteen_bits(dtype):
    space = LabelSpace((Label("a", (1, 1, 1), (0,)), Label("b", (2, 2, 2), (33001, 65535))), ignored_values=(300,))
    assert space.encode(np.array([[0, 33001], [65535, 300]], dtype)).tolist() == [[0, 1], [1, 255]]


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_that_no_file_can_store(value):
    with pytest.raises(InputError, match=r"street\.png: stored values are outside 0 to 65535 \(.*" + str(value)):
        SPACE.encode(np.array([[7, value]]), "street.png")


def test_undeclared_values_are_counted_and_the_declared_ones_listed():
    stored = np.array([[7, 7, 3], [3, 3, 200]], np.uint8)
    with pytest.raises(InputError) as caught:
        SPACE.encode(stored, "street.png")
    assert str(caught.value) == (
        "street.png: value 3 (3 pixels), value 200 (1 pixel) are not in the label table (classes 7, 24, 25; ignored 0, 255)"
    )


def test_many_undeclared_values_are_cut_short():
    with pytest.raises(InputError, match=r"value 4 \(1 pixel\), value 5 \(1 pixel\) and 2 more values are not in"):
        SPACE.encode(np.array([[1, 2, 3, 4, 5, 6, 8]]))


def test_classes_in_a_row_are_listed_as_a_range():
    space = LabelSpace(tuple(Label(str(value), (value, 0, 0), (value,)) for value in range(3)))
    with pytest.raises(InputError, match=r"value 9 .* is not in the label table \(classes 0 to 2; ignored 255\)"):
        space.encode(np.array([[9]]))


def test_an_undeclared_color_is_counted():
    stored = np.full((2, 2, 3), (128, 64, 128), np.uint8)
    stored[1, 1] = 127, 64, 128
    with pytest.raises(InputError, match=r"m\.png: color \(127, 64, 128\) \(1 pixel\) is not in the label table"):
        SPACE.encode(stored, "m.png")


def test_one_color_for_two_labels_is_fine_until_masks_are_colors():
    space = LabelSpace((Label("pole", (5, 5, 5), (1,)), Label("polegroup", (5, 5, 5), (2,))))
    assert space.encode(np.array([[1, 2]])).tolist() == [[0, 1]]
    with pytest.raises(InputError, match=r"two labels have the color \(5, 5, 5\)"):
        space.encode(np.zeros((1, 1, 3), np.uint8))


def test_decoding_gives_the_first_stored_value():
    decoded = SPACE.decode(np.array([[0, 1, 255]]))
    assert decoded.tolist() == [[7, 24, 0]]
    assert decoded.dtype == np.uint8
    high = LabelSpace((Label("a", (0, 0, 0), (256,)),)).decode(np.array([[0, 255]]))
    assert high.tolist() == [[256, 255]]
    assert high.dtype == np.uint16
    with pytest.raises(InputError, match="label 'sky' has no stored value"):
        LabelSpace((Label("sky", (0, 0, 0)),)).decode(np.zeros((1, 1), int))


def test_drawing():
    assert SPACE.colored(np.array([[0, 1, 255]])).tolist() == [[[128, 64, 128], [220, 20, 60], [0, 0, 0]]]
    assert SPACE.palette.shape == (256, 3)
    assert LabelSpace((ROAD,), ignored_colors=((1, 2, 3),)).palette[255].tolist() == [1, 2, 3]
    assert LabelSpace((ROAD,), ignored_colors=()).palette[255].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ()}, "has 1 to 255 labels, found 0"),
        ({"labels": tuple(Label(str(n), (0, 0, 0)) for n in range(256))}, "found 256"),
        ({"labels": (ROAD, ROAD)}, "uses the name road twice"),
        ({"labels": (ROAD, Label("street", (0, 0, 0), (7,)))}, "uses the stored value 7 twice"),
        ({"labels": (ROAD,), "ignored_values": (7, 255)}, "uses the stored value 7 twice"),
        ({"labels": (ROAD,), "ignored_values": (-1,)}, "ignored stored values must be in 0 to 65535"),
        ({"labels": (ROAD,), "ignored_values": (65536,)}, "ignored stored values must be in 0 to 65535"),
        ({"labels": (ROAD,), "ignored_colors": ((0, 0, 256),)}, "ignored colors must be three numbers from 0 to 255"),
        ({"labels": (ROAD,), "ignored_colors": ((0, 0),)}, "ignored colors must be three numbers from 0 to 255"),
    ],
)
def test_tables_that_contradict_themselves(arguments, message):
    with pytest.raises(InputError, match=message):
        LabelSpace(**arguments)


def test_255_labels_fit():
    space = LabelSpace(tuple(Label(str(n), (n, 0, 0), (n + 300,)) for n in range(255)))
    assert space.encode(np.array([[300, 554, 255]])).tolist() == [[0, 254, 255]]


@pytest.mark.parametrize(
    ("color", "values", "message"),
    [((0, 0, 256), (0,), "'x': the color"), ((0, -1, 0), (0,), "'x': the color"), ((0, 0, 0), (-1,), "'x': stored")],
)
def test_impossible_labels(color, values, message):
    with pytest.raises(InputError, match=message):
        Label("x", color, values)


def test_plain_values_round_trip():
    assert LabelSpace.from_dict(SPACE.to_dict()) == SPACE
    bare = LabelSpace.from_dict({"labels": [{"name": "a", "color": [1, 2, 3]}]})
    assert bare == LabelSpace((Label("a", (1, 2, 3)),))


ROW = {"name": "a", "color": [1, 2, 3], "values": [1]}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"labels": None},
        {"labels": []},
        {"labels": ["road"]},
        {"labels": [ROW], "ignore_values": [0]},
        {"labels": [{"name": "a", "values": [1]}]},
        {"labels": [{"color": [1, 2, 3]}]},
        {"labels": [ROW | {"value": 1}]},
        {"labels": [ROW | {"color": [1, 2]}]},
        {"labels": [ROW | {"color": [1, 2, 3, 4]}]},
        {"labels": [ROW | {"color": [1, 2, 999]}]},
        {"labels": [ROW | {"color": "red"}]},
        {"labels": [ROW | {"color": [0.5, 0.5, 0.5]}]},
        {"labels": [ROW | {"values": 1}]},
        {"labels": [ROW | {"values": "12"}]},
        {"labels": [ROW | {"values": [1.5]}]},
        {"labels": [ROW | {"values": [-1]}]},
        {"labels": [ROW], "ignored_values": [-1]},
        {"labels": [ROW], "ignored_colors": [[0, 0]]},
    ],
    ids=str,
)
def test_a_users_table_with_a_mistake_is_one_error_that_names_the_file(values):
    with pytest.raises(InputError, match=r"^labels\.yaml: ") as caught:
        LabelSpace.from_dict(values, "labels.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": [ROW]}, "unknown key 'label' (did you mean 'labels'?); a label table has labels, ignored_values"),
        ({}, "'labels' must be a list of labels, such as {name: road, color: [128, 64, 128], values: [0]}"),
        ({"labels": 3}, "'labels' must be a list of labels, such as {name: road,"),
        ({"labels": ["road"]}, "label 1 is 'road'; a label is a row such as {name: road, color: [128, 64, 128]"),
        ({"labels": [ROW, {"color": [0, 0, 1]}]}, "label 2 has no name, for example name: road"),
        ({"labels": [{"name": "a", "values": [1]}]}, "label 'a' has no color, for example color: [128, 64, 128]"),
        ({"labels": [{"name": "a", "colour": [0, 0, 1]}]}, "label 'a': unknown key 'colour' (did you mean 'color'?)"),
        (
            {"labels": [ROW | {"color": "red"}]},
            "label 'a': color must be three whole numbers, for example [128, 64, 128]",
        ),
        (
            {"labels": [ROW | {"values": 1}]},
            "label 'a': values must be a list of whole numbers, for example [0], found 1",
        ),
        ({"labels": [ROW], "ignored_values": 255}, "ignored_values must be a list of whole numbers, for example [255]"),
        ({"labels": [ROW], "ignored_colors": 0}, "ignored_colors must be a list of colors, for example [[0, 0, 0]]"),
        ({"labels": [ROW, ROW | {"values": [2]}]}, "the label table uses the name a twice"),
        ({"labels": [ROW, ROW | {"name": "b"}]}, "the label table uses the stored value 1 twice"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_in_a_table_is_told_with_what_to_write(values, message):
    with pytest.raises(InputError) as caught:
        LabelSpace.from_dict(values, "labels.yaml")
    assert str(caught.value).startswith(f"labels.yaml: {message}")


@st.composite
def spaces(draw):
    stored = draw(st.lists(st.integers(0, 65535), min_size=2, max_size=24, unique=True))
    packed = draw(st.lists(st.integers(0, 2**24 - 1), min_size=len(stored), max_size=len(stored), unique=True))
    colors = [(color >> 16, color >> 8 & 255, color & 255) for color in packed]
    labels = tuple(
        Label(f"label {n}", color, (value,))
        for n, (value, color) in enumerate(zip(stored[1:], colors[1:], strict=True))
    )
    return LabelSpace(labels, ignored_values=(stored[0],), ignored_colors=(colors[0],))


@st.composite
def spaces_with_classes(draw):
    space = draw(spaces())
    indices = st.sampled_from([*range(len(space)), 255])
    return space, draw(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=indices))


@given(spaces_with_classes())
def test_encoding_undoes_decoding_and_drawing(case):
    space, classes = case
    np.testing.assert_array_equal(space.encode(space.decode(classes)), classes)
    np.testing.assert_array_equal(space.encode(space.colored(classes)), classes)
    assert LabelSpace.from_dict(space.to_dict()) == space


@given(spaces(), hnp.arrays(np.uint16, (3, 4)))
def test_every_value_is_encoded_or_counted(space, stored):
    declared = {value: index for index, label in enumerate(space.labels) for value in label.values}
    declared[space.ignored_values[0]] = 255
    unknown = {value for value in stored.ravel().tolist() if value not in declared}
    if not unknown:
        assert space.encode(stored).tolist() == [[declared[value] for value in row] for row in stored.tolist()]
        return
    first = min(unknown)
    with pytest.raises(InputError, match=rf"^m\.png: value {first} \({(stored == first).sum()} pixels?\)"):
        space.encode(stored, "m.png")


@given(st.lists(st.sampled_from([0, 1, 2, 7, 24, 25, 255]), min_size=1, max_size=40))
def test_folding_counts_is_encoding_and_counting(stored):
    space = LabelSpace(
        (Label("road", (1, 1, 1), (7,)), Label("person", (2, 2, 2), (24, 25))), ignored_values=(0, 1, 2, 255)
    )
    values = np.array(stored, np.uint8)
    classes = space.encode(values[None])
    counts = np.bincount(values, minlength=256)
    assert space.fold(counts).tolist() == [(classes == 0).sum(), (classes == 1).sum()]
    assert space.fold(np.stack([counts, 2 * counts], axis=1))[:, 1].tolist() == (2 * space.fold(counts)).tolist()


def test_folding_names_undeclared_values_as_encoding_does():
    space = LabelSpace((Label("road", (1, 1, 1), (7,)),))
    values = np.array([[7, 9, 9, 12]], np.uint8)
    with pytest.raises(InputError) as encoding:
        space.encode(values, "a.png")
    with pytest.raises(InputError) as folding:
        space.fold(np.bincount(values.ravel(), minlength=256), "a.png")
    assert str(folding.value) == str(encoding.value)


def test_a_label_that_stores_255_is_a_class_unless_the_table_says_otherwise():
    rows = [{"name": name, "color": [v, v, v], "values": [v]} for name, v in (("ground", 0), ("thing", 255))]
    assert LabelSpace.from_dict({"labels": rows}).ignored_values == ()
    assert LabelSpace.from_dict({"labels": rows[:1]}).ignored_values == (255,)
    with pytest.raises(InputError, match="uses the stored value 255 twice"):
        LabelSpace.from_dict({"labels": rows, "ignored_values": [255]})


@pytest.mark.parametrize("count", [3, 253, 254, 255])
def test_bytes_are_encoded_as_wider_values_are(count):
    """Bytes have a way of their own, which 255 labels leave no room for."""
    space = LabelSpace(tuple(Label(str(value), (0, 0, 0), (value,)) for value in range(count)), ignored_colors=())
    declared = np.array([[*range(count), 255]], np.uint8)
    for stored in (declared, declared[:, ::2], declared.T, declared[:, :0]):
        encoded = space.encode(stored)
        np.testing.assert_array_equal(encoded, space.encode(stored.astype(np.uint16)))
        assert encoded.dtype == np.uint8
        assert encoded.flags.writeable
    for value in range(count, 255):
        with pytest.raises(InputError, match=rf"value {value} \(2 pixels\)"):
            space.encode(np.array([[value, 0, value]], np.uint8))

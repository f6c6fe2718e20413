import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imageseg.errors import InputError
from imageseg.recipe import Recipe, read_yaml

RECIPE = Recipe(
    "VOCModule",
    "UNet",
    data={"root": "data/VOC", "crop_size": [512, 1024], "batch_size": 8},
    network={"encoder": "resnet50", "pretrained": False},
    task={"lr": 1e-05, "class_weights": None},
)


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_round_trips(tmp_path):
    RECIPE.to_yaml(tmp_path / "recipe.yaml")
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == RECIPE
    assert Recipe.from_dict(RECIPE.to_dict()) == RECIPE
    assert list(tmp_path.iterdir()) == [tmp_path / "recipe.yaml"]


def test_the_file_keeps_the_order(tmp_path):
    RECIPE.to_yaml(tmp_path / "recipe.yaml")
    keys = [line.split(":")[0] for line in (tmp_path / "recipe.yaml").read_text().splitlines() if line[0] not in " -"]
    assert keys == ["use", "model", "data", "network", "task", "trainer"]


def test_plain_values_are_a_copy():
    values = RECIPE.to_dict()
    values["data"]["crop_size"].append(3)
    assert RECIPE.data["crop_size"] == [512, 1024]


def test_sections_may_be_left_out_or_empty(tmp_path):
    recipe = Recipe.from_yaml(written(tmp_path, "use: VOC\nmodel: UNet\ndata:\n"))
    assert recipe == Recipe("VOC", "UNet")
    assert recipe.data == recipe.trainer == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("-1e+3", -1000.0),
        ("1e3", 1000.0),
        ("1.e2", 100.0),
        (".5e1", 5.0),
        ("2.5e-3", 0.0025),
        ("-.5", -0.5),
        ("0.01", 0.01),
        (".inf", math.inf),
        ("8", 8),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("1e5f", "1e5f"),
        (".info", ".info"),
        ("0.5x", "0.5x"),
        ("2007_000032.jpg", "2007_000032.jpg"),
        ("'1e-4'", "1e-4"),
        ("e4", "e4"),
    ],
)
def test_text_that_looks_like_a_number_is_one(tmp_path, text, value):
    found = read_yaml(written(tmp_path, f"lr: {text}"))["lr"]
    assert found == value
    assert type(found) is type(value)


def test_a_section_may_extend_another(tmp_path):
    text = "base: &base {lr: 1e-4, loss: dice}\ntask:\n  <<: *base\n  lr: 0.1\n"
    assert read_yaml(written(tmp_path, text))["task"] == {"lr": 0.1, "loss": "dice"}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))
    | st.from_regex(r"[-+]?[0-9]{0,2}\.?[0-9]{0,2}(e[-+]?[0-9])?f?", fullmatch=True),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text("abc", min_size=1), values, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abcxyz_", min_size=1), plain, max_size=4))
def test_any_plain_values_round_trip(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    recipe = Recipe("VOC", "UNet", data=values)
    recipe.to_yaml(path)
    assert Recipe.from_yaml(path) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("use: VOC\nmodel: UNet\nuse: CamVid\n", "the key 'use' is given twice.*line 3"),
        ("use: VOC\nmodel: UNet\ndata: {root: a, root: b}\n", "the key 'root' is given twice"),
        (
            "use: VOC\nmodel: UNet\nnetwrok: {}\n",
            r"unknown key 'netwrok' \(did you mean 'network'\?\); a recipe has use",
        ),
        ("use: VOC\nmodel: UNet\n1: 2\n", "unknown key '1'; a recipe has use, model, data, network, task, trainer"),
        ("model: UNet\n", "'use' is missing"),
        ("use: VOC\nmodel: 3\n", "'model' is missing"),
        ("use: VOC\nmodel: UNet\ndata: [1]\n", r"'data' must map argument names to values, found \[1\]"),
        ("- use\n", "must map keys to values \\('key: value'\\), found a list"),
        ("", "is empty$"),
        ("# a comment\n", "is empty$"),
        ("- {name: road, color: [1, 2, 3]}\n", "is a list; write 'labels:' above it$"),
        ("use: VOC\ndata:\n\troot: a\n", "line 3: starts with a tab; indent with spaces$"),
        ("use: VOC\ndata:\n  a: 1\n \t b: 2\n", "line 4: starts with a tab; indent with spaces$"),
        ("use: VOC\t# a comment\n", "line 1: contains a tab where only spaces are allowed$"),
        ("use: VOC\nmodel: [UNet\n", r"is not valid YAML \(.*, line 3\)$"),
        ("use: [", "is not valid YAML"),
        ("? [a, b]\n: c\n", "is not valid YAML.*a key must be one value"),
        ("use: 2024-13-45\n", "is not valid YAML.*month must be in 1"),
        ("data: " + "[" * 5000, "is not valid YAML"),
    ],
    ids=lambda value: value[:20],
)
def test_an_error_is_one_line_with_the_name_of_the_file(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        Recipe.from_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"use: \xff")
    with pytest.raises(InputError, match=r"latin\.yaml: is not UTF-8 text; save it as UTF-8$"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_harmless_tab_is_accepted(tmp_path):
    text = "use: VOC\nmodel: >\n  U\tNet\n"
    assert read_yaml(written(tmp_path, text)) == {"use": "VOC", "model": "U\tNet\n"}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir",
        "!!python/object/new:os.mkdir",
        "!!python/name:os.mkdir",
        "!!python/object:os.mkdir",
    ],
)
def test_a_file_cannot_name_code(tmp_path, tag):
    marker = tmp_path / "marker"
    path = written(tmp_path, f"use: {tag} ['{marker}']\nmodel: UNet\n")
    with pytest.raises(InputError, match="is not valid YAML"):
        read_yaml(path)
    assert not marker.exists()


def test_the_marker_would_appear_if_code_ran(tmp_path):
    """The attack of the test above works on a loader that trusts its file."""
    yaml.unsafe_load(f"!!python/object/apply:os.mkdir ['{tmp_path / 'marker'}']")
    assert (tmp_path / "marker").is_dir()

import decimal
import fractions
import sys

import pytest

from imageseg.datasets import DATASETS
from imageseg.errors import InputError
from imageseg.models import MODELS
from imageseg.registry import NameTable, check_arguments, parameters_of

TABLE = NameTable(
    "number",
    {"Fraction": "fractions:Fraction", "DeepLabv3_plus": "decimal:Decimal", "Absent": "no.such.module:Thing"},
    spellings={"ratio": "Fraction"},
)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Fraction", "Fraction"),
        ("fraction", "Fraction"),
        ("FractionModule", "Fraction"),
        ("Ratio", "Fraction"),
        ("deeplabv3plus", "DeepLabv3_plus"),
        ("DeepLabV3+", "DeepLabv3_plus"),
        ("deeplab-v3-plus", "DeepLabv3_plus"),
    ],
)
def test_every_common_spelling_finds_the_class(spelling, name):
    assert TABLE.resolve(spelling) == name
    assert spelling in TABLE
    assert TABLE[spelling] is {"Fraction": fractions.Fraction, "DeepLabv3_plus": decimal.Decimal}[name]


def test_listing_names_imports_nothing():
    assert list(TABLE) == ["Fraction", "DeepLabv3_plus", "Absent"]
    assert len(TABLE) == 3
    assert "absent" in TABLE
    assert "no" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        TABLE["Absent"]


def test_an_unknown_name_gets_a_hint_and_the_list():
    with pytest.raises(InputError) as caught:
        TABLE["Fractoin"]
    assert str(caught.value) == (
        "no number is called 'Fractoin' (did you mean 'Fraction'?); there are Fraction, DeepLabv3_plus, Absent"
    )
    assert "Fractoin" not in TABLE
    assert 3 not in TABLE


@pytest.mark.parametrize(
    ("given", "name"),
    [("VOCModule", "VOC"), ("voc", "VOC"), ("PascalVOC", "VOC"), ("cam_vid", "CamVid"), ("custom", "Folder")],
)
def test_spellings_of_datasets(given, name):
    assert DATASETS.resolve(given) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("CityscapeModule", "Cityscapes"),
        ("cityscapes", "Cityscapes"),
        ("COCOModule", "COCO"),
        ("BDD100KModule", "BDD100K"),
    ],
)
def test_datasets_are_found_by_the_names_of_their_modules(given, name):
    assert DATASETS[given].__name__ == DATASETS.resolve(given) == name


@pytest.mark.parametrize("given", ["DeepLabv3_plus", "deeplabv3plus", "DeepLabV3+", "DeepLabv3_plusModule"])
def test_spellings_of_networks(given):
    assert MODELS.resolve(given) == "DeepLabv3_plus"


class Built:
    def __init__(self, num_classes, *, encoder="resnet50", depth=3):
        pass


def other(labels, network, lr=0.1):
    pass


def test_arguments_of_a_component_are_those_that_a_recipe_may_hold():
    assert parameters_of(Built) == ["encoder", "depth"]
    assert parameters_of(other) == ["lr"]


def test_arguments_are_checked_against_all_components():
    check_arguments([Built, other], ["encoder", "lr"], "Built")
    with pytest.raises(InputError) as caught:
        check_arguments([Built, other], ["encoder", "enocder"], "Built")
    assert str(caught.value) == ("Built has no argument 'enocder' (did you mean 'encoder'?); it has encoder, depth, lr")
    with pytest.raises(InputError, match="no argument 'num_classes'"):
        check_arguments([Built], ["num_classes"], "Built")

"""ADE20K with the 150 classes of the scene parsing benchmark (Zhou et al., CVPR 2017; sceneparsing.csail.mit.edu)."""

from __future__ import annotations

from pathlib import Path

from imageseg.datasets.base import SegmentationDataset, existing_folder, listing_by_stem, require_split
from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.errors import InputError
from imageseg.images import is_image
from imageseg.labels import Label, LabelSpace

# Names: the first of each row in objectInfo150.txt of CSAILVision/sceneparsing, in its order. Colors: mmsegmentation's ade.py
# and the flat palette of PyTorch-Encoding's descendants, 150 equal triples in one order. Road and skyscraper share one.
_CLASSES = """
wall 787878, building b47878, sky 06e6e6, floor 503232, tree 04c803, ceiling 787850, road 8c8c8c,
bed cc05ff, windowpane e6e6e6, grass 04fa07, cabinet e005ff, sidewalk ebff07, person 96053d,
earth 787846, door 08ff33, table ff0652, mountain 8fff8c, plant ccff04, curtain ff3307, chair cc4603,
car 0066c8, water 3de6fa, painting ff0633, sofa 0b66ff, shelf ff0747, house ff09e0, sea 0907e6,
mirror dcdcdc, rug ff095c, field 7009ff, armchair 08ffd6, seat 07ffe0, fence ffb806, desk 0aff47,
rock ff290a, wardrobe 07ffff, lamp e0ff08, bathtub 6608ff, railing ff3d06, cushion ffc207, base ff7a08,
box 00ff14, column ff0829, signboard ff0599, chest of drawers 0633ff, counter eb0cff, sand a09614,
sink 00a3ff, skyscraper 8c8c8c, fireplace fa0a0f, refrigerator 14ff00, grandstand 1fff00, path ff1f00,
stairs ffe000, runway 99ff00, case 0000ff, pool table ff4700, pillow 00ebff, screen door 00adff,
stairway 1f00ff, river 0bc8c8, bridge ff5200, bookcase 00fff5, blind 003dff, coffee table 00ff70,
toilet 00ff85, flower ff0000, book ffa300, hill ff6600, bench c2ff00, countertop 008fff, stove 33ff00,
palm 0052ff, kitchen island 00ff29, computer 00ffad, swivel chair 0a00ff, boat adff00, bar 00ff99,
arcade machine ff5c00, hovel ff00ff, bus ff00f5, towel ff0066, light ffad00, truck ff0014, tower ffb8b8,
chandelier 001fff, awning 00ff3d, streetlight 0047ff, booth ff00cc, television 00ffc2, airplane 00ff52,
dirt track 000aff, apparel 0070ff, pole 3300ff, land 00c2ff, bannister 007aff, escalator 00ffa3,
ottoman ff9900, bottle 00ff0a, buffet ff7000, poster 8fff00, stage 5200ff, van a3ff00, ship ffeb00,
fountain 08b8aa, conveyer belt 8500ff, canopy 00ff5c, washer b800ff, plaything ff001f,
swimming pool 00b8ff, stool 00d6ff, barrel ff0070, basket 5cff00, waterfall 00e0ff, tent 70e0ff,
bag 46b8a0, minibike a300ff, cradle 9900ff, oven 47ff00, ball ff00a3, food ffcc00, step ff008f,
tank 00ffeb, trade name 85ff00, microwave ff00eb, pot f500ff, animal ff007a, bicycle fff500, lake 0abed4,
dishwasher d6ff00, screen 00ccff, blanket 1400ff, sculpture ffff00, hood 0099ff, sconce 0029ff,
vase 00ffcc, traffic light 2900ff, tray 29ff00, ashcan ad00ff, fan 00f5ff, pier 4700ff,
crt screen 7a00ff, plate 00ffb8, monitor 005cff, bulletin board b8ff00, shower 0085ff, radiator ffd600,
glass 19c2c2, clock 66ff00, flag 5c00ff
"""


def _label(row: str, value: int) -> Label:
    name, _, color = row.strip().rpartition(" ")
    red, green, blue = bytes.fromhex(color)
    return Label(name, (red, green, blue), (value,))


# 0 is everything outside the 150 classes: neither trained on nor scored.
LABELS = LabelSpace(
    tuple(_label(row, value) for value, row in enumerate(_CLASSES.replace("\n", " ").split(","), start=1)),
    ignored_values=(0,),
)

_FOLDERS = {"train": "training", "val": "validation"}
_TESTS = ("release_test/testing", "images/testing", "images/test")


class ADE20K(SegmentationDataset):
    """ADE20K, 150 classes: 20,210 training and 2,000 validation images of indoor and outdoor scenes.

    The stored value n is class n - 1, and 0 is ignored. The test images (``release_test.zip``) have no public masks.

    Args:
        root: Folder ``ADEChallengeData2016``, or the folder that contains it.
    """

    labels = LABELS

    def __init__(self, root: str = "data/ADE20K") -> None:
        self.root = Path(root)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose image folder exists."""
        images = self._base() / "images"
        found = [split for split, folder in _FOLDERS.items() if (images / folder).is_dir()]
        return (*found, *(["test"] if self._test_folder() else []))

    def listing(self, split: str) -> Listing:
        """Pair images and masks of the same name, sorted by name."""
        base = self._base()
        require_split(split, self.splits, f"ADE20K at {base}")
        if split == "test":
            folder = self._test_folder()
            files = sorted(path for path in folder.iterdir() if is_image(path)) if folder else []
            return Listing([Pair(path, None, path.stem) for path in files], [], [])
        return listing_by_stem(base / "images" / _FOLDERS[split], base / "annotations" / _FOLDERS[split])

    def archives(self) -> list[Archive]:
        """The archive of train and val; ``release_test.zip`` is left out, because its MD5 is not published."""
        # The checksum stands in four public readers that share no code.
        url = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
        return [Archive(url, "7328b3957e407ddae1d3cbf487f149ef")]

    def _base(self) -> Path:
        images = existing_folder(
            self.root,
            ["ADEChallengeData2016/images", "images"],
            dataset="ADE20K",
            expected="ADEChallengeData2016/{images,annotations}/{training,validation}",
            source="http://sceneparsing.csail.mit.edu ('imageseg prepare ADE20K --download')",
        )
        base = images.parent
        if not any((images / folder).is_dir() for folder in _FOLDERS.values()):
            raise InputError(
                f"ADE20K: {images} contains neither training nor validation; expected ADEChallengeData2016/images"
            )
        return base

    def _test_folder(self) -> Path | None:
        base = self._base()
        candidates = [place / name for place in (base, self.root, base.parent) for name in _TESTS]
        return next((folder for folder in candidates if folder.is_dir()), None)

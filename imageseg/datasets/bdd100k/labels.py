"""The labels of BDD100K: 41 names in polygons and panoptic bitmasks, 19 classes, 8 kinds of instances."""

from __future__ import annotations

from imageseg.datasets.cityscapes.labels import TRAIN_IDS
from imageseg.labels import IGNORE, Label, LabelSpace

# By id, which differs from Cityscapes' (bdd100k/label/label.py, https://github.com/bdd100k/bdd100k). The 19 classes have
# Cityscapes' names, colors and order; the other names are void.
_NAMES = (
    *("unlabeled", "dynamic", "ego vehicle", "ground", "static", "parking", "rail track", "road", "sidewalk", "bridge"),
    *("building", "fence", "garage", "guard rail", "tunnel", "wall", "banner", "billboard", "lane divider"),
    *("parking sign", "pole", "polegroup", "street light", "traffic cone", "traffic device", "traffic light"),
    *("traffic sign", "traffic sign frame", "terrain", "vegetation", "sky", "person", "rider", "bicycle", "bus", "car"),
    *("caravan", "motorcycle", "trailer", "train", "truck"),
)

_CLASSES = {name: index for index, name in enumerate(TRAIN_IDS.names)}

TRAIN_ID_OF = {name: _CLASSES.get(name, IGNORE) for name in _NAMES}
"""Name in the polygon files -> train id, 255 for void."""

SEMANTIC = TRAIN_IDS
"""For masks, colormaps and what we draw: the stored value is the train id, 255 unknown."""

PANOPTIC = LabelSpace(
    tuple(Label(label.name, label.color, (_NAMES.index(label.name),)) for label in TRAIN_IDS.labels),
    ignored_values=(*(id_ for id_, name in enumerate(_NAMES) if name not in _CLASSES), IGNORE),
)
"""For the red channel of ``pan_seg`` bitmasks: ids."""

_INSTANCES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

INSTANCES = LabelSpace(
    (
        Label("other", (0, 0, 0), (0,)),
        *(
            # The set's own name in this task.
            Label("pedestrian" if name == "person" else name, TRAIN_IDS.labels[_CLASSES[name]].color, (value,))
            for value, name in enumerate(_INSTANCES, start=1)
        ),
    ),
    ignored_colors=((224, 224, 192),),
)
"""For the red channel of ``ins_seg`` bitmasks: 8 kinds of objects, and everything else."""

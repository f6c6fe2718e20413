"""The datasets, by name: files on disk become pairs of image and mask, and masks become class indices.

Read ``base.py`` (what a dataset provides) and ``pairs.py`` first, then ``folder.py``, the simplest dataset, and ``samples.py``,
which decodes pairs. The other datasets follow the same contract; ``masks`` draws and caches masks from annotations, ``download``
downloads archives, ``statistics`` counts pixels per class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imageseg.datasets.base import SegmentationDataset
from imageseg.registry import NameTable, check_arguments

DATASETS: NameTable[SegmentationDataset] = NameTable(
    "dataset",
    {
        "VOC": "imageseg.datasets.voc.dataset:VOC",
        "COCO": "imageseg.datasets.coco.dataset:COCO",
        "Cityscapes": "imageseg.datasets.cityscapes.dataset:Cityscapes",
        "BDD100K": "imageseg.datasets.bdd100k.dataset:BDD100K",
        "CamVid": "imageseg.datasets.camvid.dataset:CamVid",
        "ADE20K": "imageseg.datasets.ade20k:ADE20K",
        "Folder": "imageseg.datasets.folder:Folder",
        "ToyScenes": "imageseg.datasets.toyscenes.dataset:ToyScenes",
    },
    spellings={
        "CityscapeModule": "Cityscapes",
        "PascalVOC": "VOC",
        "MSCOCO": "COCO",
        "BDD": "BDD100K",
        "ADE": "ADE20K",
        "ADE20K150": "ADE20K",
        "custom": "Folder",
    },
)


def build_dataset(name: str, root: str | Path | None = None, **arguments: Any) -> SegmentationDataset:
    """Build a dataset by name.

    Args:
        name: Key of ``DATASETS``, in any common spelling.
        root: Root folder of the dataset. If not set, the dataset's default below ``data/``.
        arguments: Arguments of the dataset's class.

    Raises:
        InputError: The name is unknown, or the dataset has no such argument.
    """
    dataset = DATASETS[name]
    check_arguments([dataset], arguments, DATASETS.resolve(name))
    return dataset(**({} if root is None else {"root": str(root)}), **arguments)

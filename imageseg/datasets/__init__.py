"""The datasets, by name."""

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
    """The dataset of that name.

    Args:
        name: a key of ``DATASETS``, in any usual spelling.
        root: where its files lie; unset, the dataset's own default below ``data/``.
        arguments: of the dataset's class.

    Raises:
        InputError: an unknown name, or an argument that this dataset lacks.
    """
    dataset = DATASETS[name]
    check_arguments([dataset], arguments, DATASETS.resolve(name))
    return dataset(**({} if root is None else {"root": str(root)}), **arguments)

"""Cityscapes, 19 classes: the dataset (``dataset.py``), its labels (``labels.py``), and masks from polygons (``polygons.py``)."""

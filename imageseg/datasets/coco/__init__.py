"""COCO with the classes of Pascal VOC: the dataset (``dataset.py``), its annotation files (``annotations.py``), and the masks drawn
from them (``masks.py``)."""

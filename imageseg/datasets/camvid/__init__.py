"""CamVid with the 11 classes of the SegNet paper: the dataset (``dataset.py``), and its classes and splits (``labels.py``)."""

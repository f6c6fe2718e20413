"""Pascal VOC 2007 and 2012 (``dataset.py``), and its split train_aug with the masks of SBD (``augmented.py``, ``sbd.py``)."""

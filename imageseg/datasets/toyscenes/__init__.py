"""ToyScenes, synthetic street scenes for trials and tests: the dataset (``dataset.py``), painted by ``painter.py`` on the canvas of
``canvas.py``."""

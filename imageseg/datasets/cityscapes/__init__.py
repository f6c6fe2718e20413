"""Cityscapes: label maps or polygons, 19 classes."""

"""BDD100K: masks, bitmasks, polygons or run lengths, 19 classes."""

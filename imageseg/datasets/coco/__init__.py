"""COCO 2014 and 2017 with the 21 classes of Pascal VOC."""

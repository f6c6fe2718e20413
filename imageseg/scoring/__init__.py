"""Scores of predictions, equal to those of each dataset's official evaluator.

Read in this order: counts.py (pixel counts), confusion.py (ConfusionMatrix), dialects.py (metric protocols: from counts to
scores.py), cityscapes_instances.py and cityscapes_scores.py (instance-weighted IoU), explain.py (why protocols differ);
calibration.py, significance.py and boundary/ go beyond IoU; folders/ scores files on disk.
"""

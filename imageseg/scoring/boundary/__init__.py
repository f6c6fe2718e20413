"""Boundary metrics: iou.py (boundary IoU, trimap curve, all together), f_score.py, and maps.py, which both use."""

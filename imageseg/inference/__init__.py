"""Inference with trained networks, without the dependencies of training.

Read predictor.py first (one image), then evaluation.py (a split); fold_batchnorm.py speeds up the network.
"""

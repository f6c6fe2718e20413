"""Training with PyTorch Lightning; the only package that imports it.

``fit`` is the course of a run. It reads ``resolve`` (recipe) and ``trainer_options``, builds ``data`` and ``task`` (with ``losses``
and ``schedule``), selects the ``precision``, and runs a Trainer with ``callbacks``.
"""

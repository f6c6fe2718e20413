"""Training with PyTorch Lightning; the only package that imports it.

``fit`` is the course of a run: it resolves the recipe (``resolve``, ``trainer_options``), builds ``data`` and ``task`` (with
``losses``, ``schedule`` and ``precision``), runs a ``lightning_trainer`` with ``callbacks``, and fills the ``run_folder``.
"""

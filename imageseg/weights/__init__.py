"""Weights from other libraries and from files on this machine: recognized, renamed and loaded into networks.

Files are read without running code (``imageseg.weight_files``). Read in this order:

1. ``build``: ``build_model`` and ``read_initial_weights``, which everything else here serves.
2. ``recognize`` and ``sources/``: which project a file comes from, one module of renaming rules per project.
3. ``implied_arguments``: the arguments that a network needs for the weights to mean what they meant there.
4. ``match``: tensors of the file to tensors of the network; ``classifier_rows`` and ``input_normalization`` serve it.
5. ``load_encoder``: the weights of an encoder alone.
"""

"""The packed store: images and masks of a split, decoded once into memory-mapped files.

Read in this order: ``pair_file`` (one file per image and mask), ``build`` (creates and updates the files), ``dataset`` (reads
them).
"""

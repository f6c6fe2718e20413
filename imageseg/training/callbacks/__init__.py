"""Lightning callbacks of a training run.

``events`` (seeding, epochs, the final validation, images in TensorBoard), ``checkpoints``, ``seen_pixels``, ``device_monitor``, and
what is shown while training: ``throughput``, ``loading_meter``, ``progress``.
"""

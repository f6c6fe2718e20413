"""From files to batches of augmented crops.

Read in this order: ``epoch_order`` (which sample is drawn when) and ``balance`` (rare class sampling); ``crop`` (the random
window of an image that is read), ``color_jitter``, ``mixing`` and ``augment``, which combines them; ``stream`` (augmented samples
and infinite batches) and ``loader``. ``store`` is the optional store of decoded images.
"""

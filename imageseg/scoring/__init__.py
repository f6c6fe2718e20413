"""From predicted classes and masks to the figures that a dataset's own evaluator would print."""

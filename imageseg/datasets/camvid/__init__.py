"""CamVid with the 11 classes of the SegNet paper."""

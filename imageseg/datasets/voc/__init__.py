"""Pascal VOC 2007 and 2012, and the extra masks of SBD."""

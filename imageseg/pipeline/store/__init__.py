"""The packed store: decoded images and masks in memory-mapped files."""

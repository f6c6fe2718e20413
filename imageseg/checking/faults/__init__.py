"""The faults that a check finds, one module per kind of file."""

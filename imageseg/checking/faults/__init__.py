"""The faults that a check finds, one function each, whose name is the fault's code.

Read ``table`` first: it lists all of them. The modules are named for what the faults concern: ``splits``, ``files``,
``images``, ``masks`` (file types and pixels) and ``labels`` (values compared with the label table).
"""

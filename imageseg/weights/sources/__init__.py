"""Where weights come from: one table of renaming rules per project."""

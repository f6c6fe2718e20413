"""ToyScenes: painted street scenes for trials and tests."""

"""What every test may use: no network, the same random examples each time, and the real pictures where they are at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Set before anything imports Albumentations or the hub's client; the tests' own processes inherit them.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# Two test processes share the processors: threads of theirs would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("imageseg", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("imageseg")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the program keeps for later is not kept in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real pictures; the tests that ask for it carry the mark ``samples``."""
    folder = Path(os.environ.get("IMAGESEG_SAMPLES", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}; IMAGESEG_SAMPLES names their folder")
    return folder

"""Every recipe in configs is valid: names, keys and types fit the signatures."""

from pathlib import Path

import pytest

from imageseg.cli.arguments import recipe_from

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_fits_the_signatures(path: Path) -> None:
    recipe = recipe_from(["--config", str(path)], program="imageseg train")
    assert f"{path.stem}_".startswith(f"{recipe.use}_{recipe.model}_".lower()), "named for its dataset and network"
    assert path.read_text().startswith("# "), "a recipe starts with a comment that states its purpose"

"""docs/architecture.md names modules of the package that exist, and packages are within their limits."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imageseg"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_page_names_modules_that_exist() -> None:
    modules = re.findall(r"`((?:\w+/)*\w+\.py)`", PAGE)
    assert len(modules) > 15
    assert [name for name in modules if not (PACKAGE / name).is_file()] == []
    packages = re.findall(r"`((?:\w+/)*\w+)`", PAGE)
    folders = [name for name in packages if "/" in name]
    assert [name for name in folders if not (PACKAGE / name).is_dir()] == []


def test_the_diagram_shows_every_package_and_module_at_the_top() -> None:
    diagram = re.search(r"```mermaid\n(.*?)```", PAGE, flags=re.S)
    assert diagram is not None
    top = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert top - {"__init__", "__main__", "_version"} <= set(re.findall(r"\w+", diagram[1]))


def test_packages_are_small_and_say_what_is_inside() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        modules = [path for path in init.parent.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= {"models": 19, "imageseg": 17}.get(init.parent.name, 15), init.parent
        text = init.read_text(encoding="utf-8")
        assert text.startswith('"""'), init

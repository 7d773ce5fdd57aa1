"""The house: arrows between rooms point one way, and synseg_model knows nothing of ROS."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("synseg_model", "synseg_ros", "training")
ROS = re.compile(r"\b(rclpy|ament_\w+|\w+_msgs|std_srvs|cv_bridge|tf2_\w+)\b")
# The player offers generated scenes where training is installed: one import, made when it is asked for.
SCENES_IN_PLAYER = ("synseg_ros.player.sources", "training.scenes")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports: at its top, inside functions, and for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in FILES else node.module


IMPORTS = {name: set(imports_of(path)) for name, path in FILES.items()}


def room_of(module: str) -> str:
    """Name the folder of a module inside its package, or the module where it lies in the package itself."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 or FILES[module].name == "__init__.py" else module


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return the names of one circle of arrows, or nothing where there is none."""
    open_, closed = [], set()

    def visit(name: str) -> list[str]:
        if name in open_:
            return [*open_[open_.index(name) :], name]
        if name in closed:
            return []
        open_.append(name)
        for other in sorted(arrows.get(name, ())):
            if found := visit(other):
                return found
        closed.add(open_.pop())
        return []

    for name in sorted(arrows):
        if found := visit(name):
            return found
    return []


def test_a_circle_of_arrows_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle({name: (found & FILES.keys()) - {name} for name, found in IMPORTS.items()}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_the_rooms_of_a_package_point_one_way(package):
    arrows: dict[str, set[str]] = {}
    for name, found in IMPORTS.items():
        inside = {room_of(other) for other in found & FILES.keys() if other.split(".")[0] == package}
        if name.split(".")[0] == package:
            arrows.setdefault(room_of(name), set()).update(inside - {room_of(name)})
    assert circle(arrows) == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("synseg_model", {"synseg_ros", "training"}), ("training", {"synseg_ros"}), ("synseg_ros", {"training"})],
)
def test_arrows_between_packages_point_one_way(package, forbidden):
    wrong = {
        (name, other)
        for name, found in IMPORTS.items()
        for other in found
        if name.split(".")[0] == package and other.split(".")[0] in forbidden
        if not (name == SCENES_IN_PLAYER[0] and other.startswith(SCENES_IN_PLAYER[1]))
    }
    assert wrong == set()


def code_names(path: Path) -> Iterator[str]:
    """Yield the names and texts of a file's code, without its comments."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_synseg_model_names_no_ros_package():
    found = {
        f"{name}: {match.group()}"
        for name, path in FILES.items()
        if name.split(".")[0] == "synseg_model"
        for text in code_names(path)
        if (match := ROS.search(text))
    }
    assert found == set()


def test_only_programs_lie_at_the_top_of_training():
    files = [path for path in (ROOT / "training").glob("*.py") if path.name != "__init__.py"]
    assert files
    assert [path.name for path in files if 'if __name__ == "__main__":' not in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_test_folders_mirror_the_rooms(package):
    folders = {path.parent for path in (ROOT / "tests" / package).rglob("test_*.py")}
    assert folders
    missing = {folder for folder in folders if not (ROOT / folder.relative_to(ROOT / "tests")).is_dir()}
    assert missing == set()

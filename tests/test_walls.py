"""Imports point downward only, and `import napari_lightbox` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_lightbox

ROOT = Path(napari_lightbox.__file__).parent
HEAVY = ("torch", "dask", "SimpleITK", "numba", "napari", "qtpy", "PySide6", "PyQt6", "magicgui", "nibabel", "pydicom")

# Rooms from the ground up; a room may import from itself and from below.
LEVELS = [
    {"errors", "collector"},
    {"progress", "remarks", "memory", "types", "geometry", "volume"},
    {"ops"},
    {"catalogue"},
    {"apply", "preview"},
    {"report", "recipe", "lazy", "io", "models", "phantoms", "bench"},
    {"viewer", "cli", "demo"},
]
LEVEL = {room: height for height, rooms in enumerate(LEVELS) for room in rooms}


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    assert not loaded_by("import napari_lightbox") & set(HEAVY)


def test_light_names_stay_light():
    heavy = loaded_by("import napari_lightbox as lb; lb.Grid, lb.Volume, lb.InputError, lb.track") & set(HEAVY)
    assert not heavy


def test_operations_need_neither_torch_nor_a_screen():
    loaded = loaded_by("import napari_lightbox as lb; lb.apply, lb.OPERATIONS, lb.Recipe, lb.read, lb.write")
    assert not loaded & {"torch", "dask", "napari", "qtpy", "PySide6", "PyQt6", "magicgui"}


def test_cards_are_read_without_torch():
    loaded = loaded_by("import napari_lightbox.models.card, napari_lightbox.models.windows")
    assert not loaded & {"torch", "napari", "qtpy"}


def test_command_line_starts_light():
    assert not loaded_by("import napari_lightbox.cli") & {"torch", "napari", "qtpy", "SimpleITK", "PySide6", "PyQt6"}


def test_apply_stays_a_function_whatever_is_imported_first():
    done = subprocess.run(
        [sys.executable, "-c", "import napari_lightbox.recipe, napari_lightbox as lb; print(callable(lb.apply))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True"


def room_of(path: Path) -> str:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return room.split("_")[0] if room.startswith("phantoms") else room


def imported_modules(path: Path) -> set[str]:
    """Return what a file imports, anywhere in it, as absolute names."""
    package = ["napari_lightbox", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{name}.{alias.name}" for alias in node.names} | {name}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downward(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in LEVEL, f"{room} is a new room: give it a level"
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "napari_lightbox" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[room], f"{path.name} in {room} imports {module} from above"
        if room not in ("viewer", "demo", "cli"):
            assert parts[0] not in ("napari", "magicgui", "qtpy", "superqt"), f"{path} imports {module}"
        assert parts[0] not in ("PySide6", "PyQt6", "PyQt5"), f"{path} imports {module}: Qt comes through qtpy"
        if room == "ops" and path.parent.name != "_torch":
            assert parts[0] not in ("torch", "dask"), f"{path} imports {module}"


@pytest.mark.parametrize("room", ["preview.py", "ops", "models", "report", "io"])
def test_no_room_uses_what_another_module_keeps_to_itself(room):
    """Names with an underscore belong to their module; modules with one, to their room."""
    place = ROOT / room
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
        modules = {p.stem for p in ROOT.rglob("_*")}
        names = {alias.name for node in imports for alias in node.names}
        borrowed = {name for name in names if name.startswith("_") and not name.startswith("__")} - modules
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in names & modules
            ):
                borrowed |= {node.attr} if node.attr.startswith("_") else set()
        assert not borrowed, f"{path.name}: {borrowed}"

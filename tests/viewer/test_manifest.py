"""The generated manifest: up to date, valid, and true."""

import inspect
import subprocess
import sys

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.io.files import suffixes
from napari_lightbox.viewer import docks, manifest, samples


def test_the_file_is_what_the_generator_writes():
    assert manifest.FILE.read_text(encoding="utf-8") == manifest.text()
    assert manifest.main([]) == 0


def test_npe2_accepts_it_and_finds_every_function():
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "--imports", "napari-lightbox"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_operation_has_a_dock_and_a_menu_entry():
    found = PluginManifest.from_file(manifest.FILE).contributions
    widgets = {widget.command: widget.display_name for widget in found.widgets}
    for row in OPERATIONS.values():
        command = f"napari-lightbox.{row.name}"
        assert widgets[command] == row.title
        assert command in {item.command for item in found.menus[f"napari/layers/{row.menu}"]}


def test_docks_and_panels_are_classes_that_napari_hands_the_viewer():
    for command in PluginManifest.from_file(manifest.FILE).contributions.commands:
        module, name = command.python_name.split(":")
        if ".docks" not in module and ".panels." not in module:
            continue
        target = _load(module, name)
        assert inspect.isclass(target)
        assert issubclass(target, QWidget)
        parameters = inspect.signature(target.__init__).parameters.values()
        assert any(p.name == "napari_viewer" or "iewer" in str(p.annotation) for p in parameters), name


def _load(module, name):
    return getattr(__import__(module, fromlist=[name]), name)


def test_readers_and_writers_know_every_suffix():
    found = PluginManifest.from_file(manifest.FILE).contributions
    patterns = found.readers[0].filename_patterns
    for suffix in suffixes():
        assert any(f"*{suffix}".endswith(pattern[1:]) for pattern in patterns), suffix
    labels = [w for w in found.writers if w.command.endswith("write_labels")]
    assert {suffix for writer in labels for suffix in writer.filename_extensions} == set(suffixes(write=True))


def test_unknown_names_are_no_attributes():
    for module in (docks, samples):
        assert set(dir(module))
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018


def test_menu_entries_open_docks(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    _dock, widget = viewer.window.add_plugin_dock_widget("napari-lightbox", "Median")
    assert type(widget).__name__ == "MedianDock"
    assert widget.viewer is viewer

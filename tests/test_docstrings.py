"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import linecache
import pkgutil

import numpy as np
import pytest

import napari_lightbox as lb

MODULES = [
    m.name
    for m in pkgutil.walk_packages(lb.__path__, "napari_lightbox.")
    if ".viewer" not in m.name and not m.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Before every example the debugger of doctest would ask the disk about every source file that was ever read.
    monkeypatch.setattr(linecache, "checkcache", lambda filename=None: None)
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"np": np, "lb": lb}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


@pytest.mark.parametrize("name", [n for n in lb.__all__ if n not in ("__version__", "OPERATIONS")])
def test_public_names_exist_and_are_explained(name):
    assert getattr(lb, name).__doc__

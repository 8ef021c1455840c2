"""What the README shows works as it stands there."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox.cli import main, table

ROOT = Path(__file__).resolve().parents[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)


def test_readme_lists_the_operations():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.updated(text) == text, "run python -m napari_lightbox.cli.table --write"
    assert "`region_grow` | segment" in text


@pytest.fixture
def beside_the_samples(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)


def test_commands_of_the_readme_work(beside_the_samples):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("lightbox ")]
    assert len(lines) >= 8
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    # The seed of the tour lies in the lung.
    truth = lb.read("sample_data/thorax_labels.nii.gz")
    lung = np.isin(truth.data, [v for v, label in truth.labels.items() if "lung" in label.name])
    grown = lb.read("lung.nii.gz").data.astype(bool)
    assert (grown & lung).sum() > 0.95 * grown.sum() > 5000


def test_python_of_the_readme_works(beside_the_samples):
    found = {}
    exec("\n".join(blocks("python")), found)
    np.testing.assert_array_equal(found["again"].data, found["lung"].data)
    assert found["lung"].data.sum() > 5000


def test_card_of_the_readme_is_a_card():
    (card,) = (json.loads(block) for block in blocks("json"))
    assert lb.models.Card.from_dict(card).output.labels[2].colour == "#ffb74d"

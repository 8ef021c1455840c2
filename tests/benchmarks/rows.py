"""Measures rows that `lightbox bench` does not have, as it measures its own."""

from collections.abc import Iterable

from napari_lightbox.bench import measure, run, text
from napari_lightbox.bench.task import Row


def print_rows(rows: Iterable[Row]) -> None:
    """Measure rows and print each when it is done."""
    facts = run.machine()
    print(text.of_machine(facts))
    measure(list(rows), facts["copy_bytes_per_second"], tell=lambda row: print(text.of_row(row), flush=True))

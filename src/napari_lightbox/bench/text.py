"""Reports as lines of text."""

from collections.abc import Sequence

from .run import Beside, Prepared, Report


def of_machine(facts: dict) -> str:
    """Say what the figures depend on."""
    return (
        f"{facts['processor']}, {facts['threads']} threads, Python {facts['python']}, "
        f"napari-lightbox {facts['napari-lightbox']}; copies {facts['copy_bytes_per_second'] / 1e9:.1f} GB/s"
    )


def of_row(row: Report) -> str:
    """Write a row: what is measured, our time, and a line for each peer."""
    lines = [f"{row.title} ({row.size})" if row.size else row.title]
    if row.problem:
        return "\n".join([*lines, f"  {row.problem}"])
    ours = f"  {'lightbox':<20} {_time(row.seconds)}"
    if row.limit is not None:
        ours += f"   limit {_time(row.limit).strip()}, {100 * row.share:.0f} % of it reached"
    lines.append(ours)
    if row.prepared is not None:
        lines.append(f"  {'':<20} {_prepared(row.prepared)}")
    return "\n".join([*lines, *(_peer(peer) for peer in row.peers)])


def _peer(peer: Beside) -> str:
    if peer.seconds is None:
        return f"  {peer.name:<20} {peer.verdict}"
    name = f"{peer.name} {peer.version}".strip()
    note = f" ({peer.note})" if peer.note else ""
    once = ", called once" if peer.calls == 1 else ""
    text = f"  {name:<20.20} {_time(peer.seconds)}   {peer.ratio:7.2f}x"
    return f"{text}   {'' if peer.same else 'DIFFERS: '}{peer.verdict}{once}{note}"


def _time(seconds: float) -> str:
    """Write a time of any length in the same width."""
    if seconds >= 10:
        return f"{seconds:7.1f} s "
    return f"{1000 * seconds:7.1f} ms" if seconds >= 1e-3 else f"{1000 * seconds:7.3f} ms"


def _prepared(found: Prepared) -> str:
    how = "compiled" if found.compiled else "loaded from disk"
    text = f"{len(found.variants)} kernel{'s' * (len(found.variants) > 1)} {how} in {found.seconds:.2f} s"
    if found.cold is not None:
        text += f"; in a new process compiled in {found.cold:.2f} s, loaded in {found.cached:.2f} s"
    return text


def of_end(reports: Sequence[Report], absent: Sequence[str]) -> str:
    """Sum up: what differed and what was missing."""
    measured = [row for row in reports if not row.problem]
    apart = [row.title for row in measured if not row.same]
    lines = [f"{len(measured)} rows measured; " + (f"results differ in: {'; '.join(apart)}" if apart else
             "all results that can be compared are the same")]  # fmt: skip
    if absent:
        lines.append(f'absent: {", ".join(absent)}; pip install "napari-lightbox[bench]" brings all of them')
    return "\n".join(lines)

"""Corner texts fitted to the canvas: broken into lines beside the letters, never under them and never cut."""

from collections.abc import Callable, Iterable

from qtpy.QtGui import QFont, QFontMetricsF, QGuiApplication

# Points; the second where the canvas is narrow, its width in pixels below.
SIZES = (10, 8)
NARROW = 420
# Lines that a long name may take before its middle is left out.
_NAME_LINES = 2
# The narrowest text that says anything.
_LEAST = "S 100.0"
_ELLIPSIS = "\u2026"
# napari draws a text of n points this many times as large as Qt measures it.
_DRAWN = 96 / 72
# Width of a letter, in its height, where no application is there to measure with.
_GUESS = 0.75


def text_width(text: str, points: int) -> float:
    """Return how wide napari draws a line on the canvas, pixels; a guess on the wide side without an application."""
    if QGuiApplication.instance() is None:
        return len(text) * points * _DRAWN * _GUESS
    return QFontMetricsF(QFont(QGuiApplication.font().family(), points)).horizontalAdvance(text) * _DRAWN


def line_height(points: int) -> float:
    """Return how far apart napari draws two lines on the canvas, pixels."""
    if QGuiApplication.instance() is None:
        return points * _DRAWN * 1.5
    return QFontMetricsF(QFont(QGuiApplication.font().family(), points)).height() * _DRAWN


def wrapped(line: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break a line between words, so that no part is wider than `width` unless a single word is.

    Examples
    --------
    >>> wrapped("axial 3/20  S 101.2 mm", 12, len)
    ['axial 3/20', 'S 101.2 mm']
    """
    found: list[str] = []
    for group in line.split("  "):
        # Two blanks part what belongs together: a break there is the better one.
        if found and measure(f"{found[-1]}  {group}") <= width:
            found[-1] += f"  {group}"
            continue
        for number, word in enumerate(group.split(" ")):
            if number and measure(f"{found[-1]} {word}") <= width:
                found[-1] += f" {word}"
            else:
                found.append(word)
    return found


def wrapped_name(name: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break a name, behind a mark between its words if there is one; what does not fit into two lines loses its middle.

    Examples
    --------
    >>> wrapped_name("brain_mni_converted", 12, len)
    ['brain_mni_', 'converted']
    >>> wrapped_name("example_seg_fast_force_split", 9, len)
    ['example_\u2026', 'rce_split']
    """
    if measure(name) <= width:
        return [name]
    lines, rest = [], name
    while rest:
        count = len(rest)
        while count > 1 and measure(rest[:count]) > width:
            count -= 1
        between = max(rest.rfind(mark, 0, count) for mark in "_-. ") + 1
        if count < len(rest) and between > count / 2 and measure(rest[between:]) <= width:
            count = between
        lines.append(rest[:count])
        rest = rest[count:]
    if len(lines) <= _NAME_LINES:
        return lines
    head, tail = lines[0], ""
    while len(head) > 1 and measure(head + _ELLIPSIS) > width:
        head = head[:-1]
    for letter in reversed(name):
        if measure(letter + tail) > width:
            break
        tail = letter + tail
    return [head + _ELLIPSIS, tail]


def fitted(name: str, lines: Iterable[str], size: tuple[float, float], padding: float) -> tuple[str, int]:
    """Lay a corner text out between the edge of the canvas and the letters in the middle of its edges.

    Parameters
    ----------
    name : str
        First line, broken anywhere; may be empty.
    lines : sequence of str
        Further lines, broken between words.
    size : (float, float)
        Height and width of the canvas, pixels.
    padding : float
        Free pixels around every text.

    Returns
    -------
    text : str
    points : int
        Size of the font.
    """
    height, width = size
    letter = text_width("M~", 16) / 2
    if width / 2 - letter - 2 * padding < text_width(_LEAST, SIZES[-1]):
        # Too narrow for any line that could be read.
        return "", SIZES[-1]
    for points in SIZES[1:] if width < NARROW else SIZES:
        room = max(width / 2 - letter - 2 * padding, 1.0)
        most = max(1, int((height / 2 - line_height(16) / 2 - 2 * padding) // line_height(points)))

        def measure(text: str, points: int = points) -> float:
            return text_width(text, points)

        found = wrapped_name(name, room, measure) if name else []
        for line in lines:
            found += wrapped(line, room, measure)
        if len(found) <= most and all(measure(line) <= room for line in found):
            break
    return "\n".join(found[:most]), points

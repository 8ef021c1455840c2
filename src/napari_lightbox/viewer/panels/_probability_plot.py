"""A plot in the unit square, or above an axis of probability: lines, a mark, and a click that gives a threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 18, 34
_INK, _MARK = QColor("#d0d4da"), QColor("#ffd54f")
# Pixels from a line within which a click means it.
_NEAR = 24


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a plot.

    Parameters
    ----------
    name, colour : str
        ``#rrggbb``.
    x, y : ndarray
        Its points; those that are not finite are left out.
    threshold : ndarray
        What each point stands for.
    dots : bool
        Draw the points too.
    """

    name: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    threshold: np.ndarray
    dots: bool = False


class UnitPlot(QWidget):
    """Draws lines over an axis from 0 to 1.

    Parameters
    ----------
    across, up : str
        Names of the axes.
    diagonal : bool
        Draw where both are equal.
    logarithmic : bool
        The axis upwards counts voxels, in powers of ten; a click anywhere means the probability below it.
    parent : QWidget, optional

    Notes
    -----
    `chosen` says the threshold that a click, or a drag, has chosen.
    """

    chosen = Signal(float)

    def __init__(
        self, across: str, up: str, *, diagonal: bool = False, logarithmic: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.lines: tuple[Line, ...] = ()
        self.mark: tuple[float, float] | None = None
        self.empty = "Choose a reference to see the curve"
        self._across, self._up, self._diagonal, self._logarithmic = across, up, diagonal, logarithmic
        self._top = 1.0
        self.setMinimumHeight(120 if logarithmic else 190)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setToolTip("<qt>Click or drag to move the threshold there</qt>")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(320, 120 if self._logarithmic else 230)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Draw lines, the first one on top."""
        self.lines = tuple(lines)
        if self._logarithmic:
            highest = max((float(line.y.max()) for line in self.lines if line.y.size), default=1.0)
            self._top = max(1.0, math.ceil(math.log10(max(highest, 1.0))))
        self.update()

    def show_mark(self, x: float, y: float) -> None:
        """Mark a point; of a histogram the whole line above x. NaN marks nothing."""
        self.mark = (x, y) if math.isfinite(x) and math.isfinite(y) else None
        self.update()

    def place(self, x: float, y: float) -> QPointF:
        """Return where a point is drawn, in pixels of the widget."""
        if self._logarithmic:
            y = math.log10(y) / self._top if y >= 1 else 0.0
        width, height = self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM
        return QPointF(_LEFT + x * width, _TOP + (1 - y) * height)

    # Drawing ----------------------------------------------------------------------------------------------------

    def paintEvent(self, event) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() - 1))
        painter.setFont(font)
        self._draw_axes(painter)
        if not self.lines:
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.empty)
            return
        for line in reversed(self.lines):
            self._draw_line(painter, line)
        self._draw_names(painter)
        if self.mark is not None:
            self._draw_mark(painter, *self.mark)

    def _draw_axes(self, painter: QPainter) -> None:
        faint = QColor(_INK)
        faint.setAlpha(60)
        bottom, top = self.height() - _BOTTOM, _TOP
        floor = 1.0 if self._logarithmic else 0.0
        for quarter in range(5):
            x = self.place(quarter / 4, floor).x()
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QPointF(x, top), QPointF(x, bottom))
            painter.setPen(_INK)
            box = QRectF(min(x - 20, self.width() - 40), bottom + 3, 40, 14)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, f"{quarter / 4:g}")
        for value, text in self._heights():
            y = self.place(0, value).y()
            painter.setPen(QPen(_INK if value == floor else faint, 1))
            painter.drawLine(QPointF(_LEFT, y), QPointF(self.width() - _RIGHT, y))
            painter.setPen(_INK)
            side = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, y - 8, _LEFT - 5, 16), side, text)
        if self._diagonal:
            painter.setPen(QPen(faint, 1, Qt.PenStyle.DashLine))
            painter.drawLine(self.place(0, 0), self.place(1, 1))
            painter.setPen(_INK)
        painter.drawText(QRectF(0, self.height() - 16, self.width(), 16), Qt.AlignmentFlag.AlignCenter, self._across)
        painter.drawText(QRectF(2, 0, 200, 15), Qt.AlignmentFlag.AlignLeft, self._up)

    def _heights(self) -> list[tuple[float, str]]:
        if not self._logarithmic:
            return [(q / 4, f"{q / 4:g}") for q in range(5)]
        step = max(1, math.ceil(self._top / 3))
        return [(10.0**power, f"{10.0**power:.0e}".replace("e+0", "e")) for power in range(0, int(self._top) + 1, step)]

    def _draw_line(self, painter: QPainter, line: Line) -> None:
        there = np.isfinite(line.x) & np.isfinite(line.y)
        points = [self.place(x, y) for x, y in zip(line.x[there].tolist(), line.y[there].tolist(), strict=True)]
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(line.colour), 2))
        painter.drawPolyline(QPolygonF(points))
        if line.dots:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(line.colour))
            for point in points:
                painter.drawEllipse(point, 3, 3)

    def _draw_names(self, painter: QPainter) -> None:
        """Name the lines where there are several."""
        if len(self.lines) < 2:
            return
        right = self.width() - _RIGHT
        for line in reversed(self.lines):
            width = painter.fontMetrics().horizontalAdvance(line.name) + 8
            painter.setPen(QColor(line.colour))
            painter.drawText(QRectF(right - width, 0, width, 15), Qt.AlignmentFlag.AlignRight, line.name)
            right -= width

    def _draw_mark(self, painter: QPainter, x: float, y: float) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(_MARK, 2))
        if self._logarithmic:
            at = self.place(x, 1).x()
            painter.drawLine(QPointF(at, _TOP), QPointF(at, self.height() - _BOTTOM))
            return
        painter.drawEllipse(self.place(x, y), 5.5, 5.5)

    # Choosing ---------------------------------------------------------------------------------------------------

    def threshold_at(self, position: QPointF) -> float | None:
        """Return the threshold that a place of the mouse means, or None."""
        if self._logarithmic:
            share = (position.x() - _LEFT) / max(1, self.width() - _LEFT - _RIGHT)
            return min(1.0, max(0.0, share)) if self.lines else None
        found = self._nearest(position)
        return None if found is None else float(found[0].threshold[found[1]])

    def _nearest(self, position: QPointF) -> tuple[Line, int] | None:
        """Return the line and its point next to a place, if they are near."""
        best, least = None, float(_NEAR)
        corner, far = self.place(0, 0), self.place(1, 1)
        for line in self.lines:
            x = corner.x() + line.x * (far.x() - corner.x()) - position.x()
            y = corner.y() + line.y * (far.y() - corner.y()) - position.y()
            distance = np.where(np.isfinite(x) & np.isfinite(y), np.hypot(x, y), np.inf)
            index = int(np.argmin(distance))
            if distance[index] <= least:
                best, least = (line, index), float(distance[index])
        return best

    def _choose(self, position: QPointF) -> None:
        threshold = self.threshold_at(position)
        if threshold is not None:
            self.chosen.emit(threshold)

    def mousePressEvent(self, event) -> None:  # noqa: N802
        if event.button() == Qt.MouseButton.LeftButton:
            self._choose(event.position())

    def mouseMoveEvent(self, event) -> None:  # noqa: N802
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._choose(event.position())
            return
        threshold = self.threshold_at(event.position())
        near = threshold is not None
        self.setCursor(Qt.CursorShape.PointingHandCursor if near else Qt.CursorShape.ArrowCursor)
        if near:
            QToolTip.showText(event.globalPosition().toPoint(), self._told(event.position(), threshold), self)

    def _told(self, position: QPointF, threshold: float) -> str:
        """Return what is said of a place."""
        if self._logarithmic:
            return f"threshold {threshold:.3f}"
        line, index = self._nearest(position)
        values = f"{self._across} {line.x[index]:.3f}, {self._up} {line.y[index]:.3f}"
        return values if line.dots else f"threshold {threshold:.3f}: {values}"

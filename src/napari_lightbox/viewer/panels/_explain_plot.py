"""A small plot of curves: hover tells values, a click chooses a point, arrow keys its neighbours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from ...models.sweeps import Point

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 22, 36
_DOT, _CHOSEN = 3.5, 6.5
# Pixels from a point within which a click means it.
_NEAR = 14
_BROKEN = QColor("#ff6b6b")


@dataclass(frozen=True)
class Curve:
    """Name, colour (#rrggbb) and points of a curve; the first of a plot is drawn strongest."""

    name: str
    colour: str
    points: Sequence[Point]


class CurvePlot(QWidget):
    """Draws curves over a strength, with the spread over repeats and a mark where the model breaks.

    Parameters
    ----------
    parent : QWidget, optional

    Notes
    -----
    `chosen` says the strength that a click or an arrow key has chosen.
    """

    chosen = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves: tuple[Curve, ...] = ()
        self.broken: float | None = None
        self.selected: float | None = None
        self._across, self._up, self._top = "", "", 1.0
        self.ink = QColor("#d0d4da")
        self.setMinimumHeight(170)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setToolTip("<qt>Click a point to see that image with its prediction; arrow keys go on from there</qt>")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(320, 200)

    def show_curves(self, curves: Sequence[Curve], *, broken: float | None, across: str, up: str) -> None:
        """Draw curves; `across` and `up` name the axes. The choice of a point is kept where it still exists."""
        self.curves, self.broken, self._across, self._up = tuple(curves), broken, across, up
        highest = max((p.high for c in curves for p in c.points if not math.isnan(p.high)), default=1.0)
        self._top = 1.0 if highest <= 1 and up == "Dice" else (1.05 * highest or 1.0)
        if self.selected not in self.strengths:
            self.selected = None
        self.update()

    @property
    def strengths(self) -> list[float]:
        """Strengths of the points, from the left on."""
        return sorted({p.strength for c in self.curves for p in c.points})

    def place(self, strength: float, value: float) -> QPointF:
        """Return where a point is drawn, in pixels of the widget."""
        known = self.strengths
        share = (strength - known[0]) / ((known[-1] - known[0]) or 1.0)
        width, height = self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM
        return QPointF(_LEFT + share * width, _TOP + (1 - value / self._top) * height)

    def select(self, strength: float | None) -> None:
        """Mark a point without saying so."""
        self.selected = strength
        self.update()

    # Drawing ----------------------------------------------------------------------------------------------------

    def paintEvent(self, event) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() - 1))
        painter.setFont(font)
        if not self.curves:
            painter.setPen(self.ink)
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "Run to see the curve")
            return
        self._draw_axes(painter)
        for number, curve in reversed(list(enumerate(self.curves))):
            self._draw_curve(painter, curve, strong=number == 0)
        if self.broken is not None:
            self._draw_break(painter)

    def _draw_axes(self, painter: QPainter) -> None:
        faint = QColor(self.ink)
        faint.setAlpha(60)
        first, last = self.strengths[0], self.strengths[-1]
        for step in range(5):
            value = self._top * step / 4
            left, right = self.place(first, value), self.place(last, value)
            painter.setPen(QPen(self.ink if step == 0 else faint, 1))
            painter.drawLine(left, right)
            painter.setPen(self.ink)
            text = QRectF(0, left.y() - 8, _LEFT - 5, 16)
            painter.drawText(text, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:.3g}")
        floor, taken = self.height() - _BOTTOM, -math.inf
        for strength in self.strengths:
            x = self.place(strength, 0).x()
            painter.drawLine(QPointF(x, floor), QPointF(x, floor + 4))
            if x - taken > 34:
                box = QRectF(min(max(x - 30, 0), self.width() - 60), floor + 4, 60, 14)
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, f"{strength:.3g}")
                taken = x
        painter.drawText(QRectF(0, self.height() - 17, self.width(), 16), Qt.AlignmentFlag.AlignCenter, self._across)
        painter.drawText(QRectF(2, -1, 200, 14), Qt.AlignmentFlag.AlignLeft, self._up)

    def _draw_curve(self, painter: QPainter, curve: Curve, strong: bool) -> None:
        there = [p for p in curve.points if not math.isnan(p.mean)]
        colour = QColor(curve.colour)
        if any(p.high > p.low for p in there):
            band = QColor(colour)
            band.setAlpha(45)
            edge = [self.place(p.strength, p.high) for p in there]
            edge += [self.place(p.strength, p.low) for p in reversed(there)]
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(band)
            painter.drawPolygon(QPolygonF(edge))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(colour, 2.4 if strong else 1.3))
        painter.drawPolyline(QPolygonF([self.place(p.strength, p.mean) for p in there]))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        for p in there:
            painter.drawEllipse(self.place(p.strength, p.mean), _DOT, _DOT)
        if strong and self.selected is not None:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colour, 1.5))
            for p in (p for p in there if p.strength == self.selected):
                painter.drawEllipse(self.place(p.strength, p.mean), _CHOSEN, _CHOSEN)

    def _draw_break(self, painter: QPainter) -> None:
        x = self.place(self.broken, 0).x()
        painter.setPen(QPen(_BROKEN, 1.4, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, _TOP), QPointF(x, self.height() - _BOTTOM))
        painter.setPen(_BROKEN)
        left = x > self.width() * 0.6
        box = QRectF(x - 124 if left else x + 4, _TOP - 14, 120, 14)
        side = Qt.AlignmentFlag.AlignRight if left else Qt.AlignmentFlag.AlignLeft
        painter.drawText(box, side, f"breaks at {self.broken:.3g}")

    # Choosing ---------------------------------------------------------------------------------------------------

    def _near(self, position: QPointF) -> tuple[Curve, Point] | None:
        """Return the point under the mouse, if there is one."""
        best, least = None, float(_NEAR)
        for curve in self.curves:
            for p in (p for p in curve.points if not math.isnan(p.mean)):
                away = position - self.place(p.strength, p.mean)
                distance = math.hypot(away.x(), away.y())
                if distance <= least:
                    best, least = (curve, p), distance
        return best

    def mousePressEvent(self, event) -> None:  # noqa: N802
        found = self._near(event.position()) if event.button() == Qt.MouseButton.LeftButton else None
        if found is not None:
            self._choose(found[1].strength)

    def mouseMoveEvent(self, event) -> None:  # noqa: N802
        found = self._near(event.position())
        self.setCursor(Qt.CursorShape.PointingHandCursor if found else Qt.CursorShape.ArrowCursor)
        if found is not None:
            curve, p = found
            QToolTip.showText(event.globalPosition().toPoint(), f"{curve.name}: {p.mean:.3f} at {p.strength:g}", self)

    def keyPressEvent(self, event) -> None:  # noqa: N802
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(event.key())
        known = self.strengths
        if step is None or not known:
            super().keyPressEvent(event)
            return
        place = known.index(self.selected) + step if self.selected in known else 0
        if 0 <= place < len(known):
            self._choose(known[place])

    def _choose(self, strength: float) -> None:
        self.select(strength)
        self.chosen.emit(strength)

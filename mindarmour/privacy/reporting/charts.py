"""Figures of the report as inline SVG: drawn for the width of a phone, colours and fonts from the page."""
from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Optional

import numpy as np

WIDTH = 360
_LEFT, _RIGHT = 12, 16
_ROW, _BAR = 40, 11
_ROC_LEFT, _ROC_TOP, _ROC_SIZE = 46, 8, 300
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2")


@dataclass(frozen=True)
class AxisRow:
    """One line on the axis of epsilon.

    Args:
        label (str): Shown above the bar.
        value (float): Where the bar ends; infinite ones end in an arrow.
        style (str): 'theory', 'certified' or 'estimate'.
        reach (float, optional): Thin line up to here: the most that could have been shown.
        tick (float, optional): Mark: what was to be expected.
        notes (tuple[str]): Shown under the bar: what reach and tick mean.
    """

    label: str
    value: float
    style: str
    reach: Optional[float] = None
    tick: Optional[float] = None
    notes: tuple[str, ...] = ()


def epsilon_axis(rows: list[AxisRow], title: str, axis_name: str = "ε") -> str:
    """Horizontal bars on one axis of epsilon that starts at 0."""
    limit = _limit(rows)
    heights = [_ROW + 13 * len(row.notes) for row in rows]
    bottom = sum(heights) + 6
    parts = [_grid(limit, bottom, axis_name)]
    top = 0
    for row, height in zip(rows, heights):
        parts.append(_axis_row(row, top, limit))
        top += height
    return _svg(bottom + 34, title, parts)


def roc_chart(ceiling: list, curves: list[tuple[str, list]], names: dict[str, str], title: str) -> str:
    """True against false positive rate on logarithmic axes, with the region that no attack reaches.

    Args:
        ceiling (list): Points (fpr, tpr) of the ledger's curve.
        curves (list): Pairs of a name and its points.
        names (dict): Texts for 'fpr', 'tpr', 'chance', 'ceiling'.
        title (str): For readers that cannot see the figure.
    """
    floor = _floor(ceiling, curves)

    def place(point):
        x, y = (math.log10(max(rate, floor)) / -math.log10(floor) + 1 for rate in point)
        return _ROC_LEFT + x * _ROC_SIZE, _ROC_TOP + (1 - y) * _ROC_SIZE

    top, right, bottom = _ROC_TOP, _ROC_LEFT + _ROC_SIZE, _ROC_TOP + _ROC_SIZE
    rates, ceilings = np.transpose(ceiling)
    shown = [(floor, float(np.interp(floor, rates, ceilings))), *(point for point in ceiling if point[0] > floor)]
    edge = [*map(place, shown), (right, top)]
    outside = [(_ROC_LEFT, top), *edge, (right, top)]
    parts = [_decades(floor, names), f'<polygon class="beyond" points="{_points(outside)}"/>',
             f'<line class="chance" x1="{_ROC_LEFT}" y1="{bottom}" x2="{right}" y2="{top}"/>',
             f'<polyline class="ceiling" points="{_points(edge)}"/>']
    for i, (_, points) in enumerate(curves):
        steps = _steps([place(point) for point in points])
        parts.append(f'<polyline {_stroke(i)} points="{_points(steps)}"/>')
    legend, height = _legend(curves, names, bottom + 38)
    return _svg(height, title, [*parts, legend])


def _svg(height: float, title: str, parts: list[str]) -> str:
    title = escape(title)
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{title}"><title>{title}</title>'
            + "".join(parts) + "</svg>")


def _limit(rows: list[AxisRow]) -> float:
    """End of the axis: what was measured and the headline always fit; looser theories may not."""
    marks = [mark for row in rows for mark in ((row.value, row.tick) if row.style == "theory" else
                                               (row.value, row.tick, row.reach)) if mark and math.isfinite(mark)]
    headline = [row.value for row in rows if row.style == "theory" and math.isfinite(row.value)][:1]
    top = 3 * max(headline or [0.0] + [mark for row in rows if row.style != "theory" for mark in (row.value,)])
    inside = [mark for mark in marks if not top or mark <= top]
    return 1.12 * max(inside, default=1.0) or 1.0


def _grid(limit: float, bottom: float, name: str) -> str:
    step = _nice_step(limit)
    parts, mark = [], 0.0
    while mark <= limit * 1.0001:
        x = _x(mark, limit)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{mark:.6g}</text>')
        mark += step
    return "".join(parts) + f'<text class="tick" x="{WIDTH / 2}" y="{bottom + 30}" text-anchor="middle">{name}</text>'


def _nice_step(limit: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, giving four to nine marks."""
    power = 10.0 ** math.floor(math.log10(limit / 4))
    return next(factor * power for factor in (1, 2, 5, 10) if limit / (factor * power) <= 8)


def _x(value: float, limit: float) -> float:
    return _LEFT + min(value, limit) / limit * (WIDTH - _LEFT - _RIGHT)


def _axis_row(row: AxisRow, top: float, limit: float) -> str:
    y, off = top + 20, not row.value <= limit
    end = WIDTH - _RIGHT if off else _x(row.value, limit)
    parts = [f'<text class="label" x="{_LEFT}" y="{top + 14}">{escape(row.label)}</text>']
    if row.reach is not None:
        reach = _x(row.reach, limit)
        parts.append(f'<line class="reach" x1="{_LEFT}" y1="{y + _BAR / 2}" x2="{reach:.1f}" y2="{y + _BAR / 2}"/>'
                     f'<line class="reach" x1="{reach:.1f}" y1="{y}" x2="{reach:.1f}" y2="{y + _BAR}"/>')
    parts.append(f'<rect class="{row.style}" x="{_LEFT}" y="{y}" width="{max(end - _LEFT, 1.5):.1f}" '
                 f'height="{_BAR}"/>')
    if off:
        parts.append(f'<path class="{row.style}" d="M{end} {y - 2}l9 {_BAR / 2 + 2}l-9 {_BAR / 2 + 2}z"/>')
    if row.tick is not None:
        x = _x(row.tick, limit)
        parts.append(f'<line class="expected" x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + _BAR + 3}"/>')
    parts += [f'<text class="tick" x="{_LEFT}" y="{y + _BAR + 13 + 13 * i}">{escape(note)}</text>'
              for i, note in enumerate(row.notes)]
    return "".join(parts)


def _floor(ceiling: list, curves: list) -> float:
    """Smallest rate shown: a decade below the smallest that was measured, from 1e-1 to 1e-5."""
    measured = [rate for _, points in curves for point in points for rate in point if rate > 0]
    smallest = min(measured, default=1e-3)
    return 10.0 ** max(-5, min(-2, math.floor(math.log10(smallest))))


def _decades(floor: float, names: dict[str, str]) -> str:
    parts, decades, bottom = [], round(-math.log10(floor)), _ROC_TOP + _ROC_SIZE
    for i in range(decades + 1):
        x, y = _ROC_LEFT + _ROC_SIZE * i / decades, _ROC_TOP + _ROC_SIZE * (1 - i / decades)
        text = f"{10.0 ** (i - decades):.6g}"
        anchor = "end" if i == decades else "middle"
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_ROC_TOP}" x2="{x:.1f}" y2="{_ROC_TOP + _ROC_SIZE}"/>'
                     f'<line class="grid" x1="{_ROC_LEFT}" y1="{y:.1f}" x2="{_ROC_LEFT + _ROC_SIZE}" y2="{y:.1f}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="{anchor}">{text}</text>'
                     f'<text class="tick" x="{_ROC_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    middle = _ROC_TOP + _ROC_SIZE / 2
    return "".join(parts) + (
        f'<text class="tick" x="{_ROC_LEFT + _ROC_SIZE / 2}" y="{_ROC_TOP + _ROC_SIZE + 30}" '
        f'text-anchor="middle">{escape(names["fpr"])}</text>'
        f'<text class="tick" x="9" y="{middle}" text-anchor="middle" transform="rotate(-90 9 {middle})">'
        f'{escape(names["tpr"])}</text>')


def _legend(curves: list, names: dict[str, str], top: float) -> tuple[str, float]:
    entries = [(names["ceiling"], 'class="ceiling"'), (names["chance"], 'class="chance"')]
    entries += [(name, _stroke(i)) for i, (name, _) in enumerate(curves)]
    parts = []
    for i, (text, style) in enumerate(entries):
        y = top + 8 + 18 * i
        text = text if len(text) <= 42 else text[:41] + "…"
        parts.append(f'<line {style} x1="{_ROC_LEFT}" y1="{y}" x2="{_ROC_LEFT + 28}" y2="{y}"/>'
                     f'<text class="tick" x="{_ROC_LEFT + 36}" y="{y + 4}">{escape(text)}</text>')
    return "".join(parts), top + 18 * len(entries) + 4


def _stroke(place: int) -> str:
    """Colour and dashes of one curve."""
    return f'class="curve c{place % 5}" stroke-dasharray="{_DASHES[place % 5]}"'


def _steps(points: list) -> list:
    """The corners of a staircase through the points: along the false positive rate first."""
    corners = points[:1]
    for (_, before), (x, y) in zip(points, points[1:]):
        corners += [(x, before), (x, y)]
    return corners


def _points(points: list) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

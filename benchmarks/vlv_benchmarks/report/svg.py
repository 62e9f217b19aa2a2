"""Axes, lines and bars as SVG text; colours are classes, so that a page's style decides them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 622, 14, 312
"""the frame that values are drawn in"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values -> pixels."""

    low: float
    high: float
    start: float
    """pixel of `low`"""
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._of(each) for each in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Four to eight round values within the range; powers of ten on a wide logarithmic one."""
        if not self.log:
            return _steps(self.low, self.high)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        wide = math.log10(self.high / self.low) > 3
        found = [m * 10.0**e for e in exponents for m in ((1,) if wide else (1, 2, 5))]
        return [tick for tick in found if self.low <= tick <= self.high]

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value


def fitted(
    values: Iterable[float], *, start: float, end: float, log: bool = False, zero: bool = False
) -> Scale:
    """A scale that holds all values with a margin; `zero` starts it there. Raises ValueError for
    no values, and for values not above 0 on a logarithmic scale."""
    every = list(values)
    if not every or (log and min(every) <= 0):
        raise ValueError("a scale needs values, and a logarithmic one values above 0")
    low, high = min(every), max(every)
    if log:
        # at least a factor of 4, so that there are ticks to read
        room = max((4 * low / high) ** 0.5, 1.15)
        return Scale(low=low / room, high=high * room, start=start, end=end, log=True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low=0.0 if zero else low - room, high=high + room, start=start, end=end)


def tick(value: float) -> str:
    """A tick's label: 0.5, 20, 3k, 2M."""
    for bound, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= bound:
            return f"{value / bound:g}{unit}"
    return f"{value:g}"


def axes(x: Scale, y: Scale, *, across: str, up: str) -> list[str]:
    """Grid, tick labels and titles."""
    parts = []
    for value in x.ticks():
        parts.append(line([(x(value), TOP), (x(value), BOTTOM)], kind="grid"))
        parts.append(text(x(value), BOTTOM + 17, tick(value), kind="tick middle"))
    for value in y.ticks():
        parts.append(line([(LEFT, y(value)), (RIGHT, y(value))], kind="grid"))
        parts.append(text(LEFT - 7, y(value) + 4, tick(value), kind="tick end"))
    parts.append(text((LEFT + RIGHT) / 2, HEIGHT - 8, across, kind="axis middle"))
    turned = f'<g transform="translate(15 {(TOP + BOTTOM) / 2}) rotate(-90)">'
    parts.append(f"{turned}{text(0, 0, up, kind='axis middle')}</g>")
    return parts


def drawing(parts: Sequence[str], *, said: str, height: float = HEIGHT) -> str:
    """A whole SVG element; `said` is read to those who do not see it."""
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(said)}">\n'
        f"{body}\n</svg>"
    )


def line(points: Sequence[tuple[float, float]], *, kind: str) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def text(x: float, y: float, words: str, *, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def bar(x: float, y: float, width: float, height: float, *, kind: str, said: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{height:g}">'
        f"<title>{escape(said)}</title></rect>"
    )


def mark(x: float, y: float, *, shape: int, kind: str, said: str) -> str:
    """A point: a circle, square, diamond, triangle, or the triangle upside down."""
    corners = (
        None,
        ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        ((0, -7), (7, 0), (0, 7), (-7, 0)),
        ((0, -7), (6.5, 5), (-6.5, 5)),
        ((0, 7), (6.5, -5), (-6.5, -5)),
    )[shape % 5]
    title = f"<title>{escape(said)}</title>"
    if corners is None:
        return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="5.5">{title}</circle>'
    path = " ".join(f"{x + across:g},{y + down:g}" for across, down in corners)
    return f'<polygon class="{kind}" points="{path}">{title}</polygon>'


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]

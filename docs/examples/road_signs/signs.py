"""Road signs, drawn at random: the data that the network is trained and tested with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CLASSES = ("stop", "give way", "priority", "no entry", "parking")
SIDE = 32
HELD_OUT, TRAINING = 1, 2
_FINE = 4  # drawn this many times as large, for smooth edges
_RED, _WHITE, _YELLOW, _BLUE = (190, 30, 40), (240, 240, 240), (245, 190, 30), (30, 80, 190)

Points = Sequence[tuple[float, float]]


def draw_signs(per_class: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return signs in a random order, the same for the same seed.

    Args:
        per_class: how many of each class.
        seed: all draws come from it.

    Returns:
        Images (n, 32, 32, 3) from 0 to 1, and their labels (n,), numbers in `CLASSES`.
    """
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(len(CLASSES)), per_class))
    return np.stack([_sign(int(label), draw) for label in labels]), labels


def held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 100 signs that the network was not trained with, and their labels."""
    return draw_signs(20, HELD_OUT)


class Pen:
    """Fills shapes in a picture; the same on every machine, unlike those of libraries."""

    def __init__(self, side: int, color: Sequence[int]) -> None:
        self.pixels = np.full((side, side, 3), color, np.float64)
        self._y, self._x = np.mgrid[:side, :side] + 0.5

    def polygon(self, points: Points, color: Sequence[int]) -> None:
        """Fill a convex polygon, whose corners (x, y) go round clockwise."""
        inside = np.ones(self._x.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            inside &= (x1 - x0) * (self._y - y0) >= (y1 - y0) * (self._x - x0)
        self.pixels[inside] = color


def _sign(label: int, draw: np.random.Generator) -> NDArray[np.float32]:
    side = SIDE * _FINE
    sky, ground = draw.integers(60, 220, (2, 3))
    pen = Pen(side, sky)
    horizon = side * draw.uniform(0.4, 0.9)
    pen.polygon([(0, horizon), (side, horizon), (side, side), (0, side)], ground)
    radius = side * draw.uniform(0.3, 0.42)
    middle = side / 2 + side * draw.uniform(-0.08, 0.08, 2)
    _SHAPES[label](pen, middle, radius, np.radians(draw.uniform(-8, 8)))
    small = pen.pixels.reshape(SIDE, _FINE, SIDE, _FINE, 3).mean((1, 3)) / 255
    light = draw.uniform(0.6, 1.1) * small + draw.normal(0, 0.03, small.shape)
    return np.clip(light, 0, 1).astype(np.float32)


def _polygon(middle: NDArray[np.float64], radius: float, corners: int, turn: float) -> Points:
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    return [(middle[0] + radius * np.sin(a), middle[1] - radius * np.cos(a)) for a in angles]


def _bar(middle: NDArray[np.float64], size: tuple[float, float], turn: float) -> Points:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * size / 2
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return [tuple(point) for point in corners @ rotation + middle]


def _moved(middle: NDArray[np.float64], right: float, down: float = 0.0) -> NDArray[np.float64]:
    return np.add(middle, (right, down))


def _stop(pen, middle, radius, turn):
    pen.polygon(_polygon(middle, radius, 8, turn + np.pi / 8), _WHITE)
    pen.polygon(_polygon(middle, radius * 0.9, 8, turn + np.pi / 8), _RED)
    for x in (-0.5, -0.17, 0.17, 0.5):
        pen.polygon(_bar(_moved(middle, x * radius), (radius * 0.16, radius * 0.5), turn), _WHITE)


def _give_way(pen, middle, radius, turn):
    pen.polygon(_polygon(middle, radius, 3, turn + np.pi), _RED)
    pen.polygon(_polygon(middle, radius * 0.6, 3, turn + np.pi), _WHITE)


def _priority(pen, middle, radius, turn):
    pen.polygon(_polygon(middle, radius, 4, turn), _WHITE)
    pen.polygon(_polygon(middle, radius * 0.75, 4, turn), _YELLOW)


def _no_entry(pen, middle, radius, turn):
    pen.polygon(_polygon(middle, radius, 40, turn), _RED)
    pen.polygon(_bar(middle, (radius * 1.4, radius * 0.35), turn), _WHITE)


def _parking(pen, middle, radius, turn):
    pen.polygon(_bar(middle, (radius * 1.7, radius * 1.7), turn), _BLUE)
    pen.polygon(_bar(_moved(middle, -radius * 0.25), (radius * 0.22, radius * 1.2), turn), _WHITE)
    top = _moved(middle, radius * 0.12, -radius * 0.25)
    pen.polygon(_polygon(top, radius * 0.4, 24, turn), _WHITE)
    pen.polygon(_polygon(top, radius * 0.18, 24, turn), _BLUE)


_SHAPES = (_stop, _give_way, _priority, _no_entry, _parking)

"""Find out that two models differ in how they are called, and not in what they compute.

Converters and rewrites change the order of colors, the range of pixels, whether the preprocessing
is inside, the order of the outputs, and whether a softmax is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from convlens.compare.measure import snr
from convlens.compare.runtime import Runtime, Values

Change = Callable[[NDArray[Any]], NDArray[Any]]

_MAX_IMAGES, _MAX_ORDERED = 4, 4
_CAFFE = np.array([103.939, 116.779, 123.68], np.float32)
_MEAN, _DEVIATION = (
    np.array(v, np.float32) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
)
# What images must be turned into so that a model with that convention takes them.
_RANGES: Mapping[str, Change] = {
    "pixels divided by 255": lambda x: x / 255,
    "pixels multiplied by 255": lambda x: x * 255,
    "0–255 mapped to −1–1": lambda x: x / 127.5 - 1,
    "0–1 mapped to −1–1": lambda x: 2 * x - 1,
    "−1–1 mapped to 0–1": lambda x: (x + 1) / 2,
    "−1–1 mapped to 0–255": lambda x: (x + 1) * 127.5,
}
_OF_COLORS: Mapping[str, Change] = {
    "ImageNet's means subtracted from 0–255, as BGR (VGG, ResNet)": lambda x: x[..., ::-1] - _CAFFE,
    "0–255 normalized by ImageNet's means and deviations": lambda x: (x / 255 - _MEAN) / _DEVIATION,
    "0–1 normalized by ImageNet's means and deviations": lambda x: (x - _MEAN) / _DEVIATION,
}
_REVERSED = "its channels in the reverse order (BGR for RGB)"


def find_convention(
    new: Runtime, expected: Sequence[Values], images: NDArray[Any], limit: float
) -> str | None:
    """Return how a model is called otherwise, which explains why outputs differ; None if nothing.

    It is the end of a sentence that begins with the model's name.

    Args:
        new: the model.
        expected: the reference's outputs for the images.
        images: the images (n, h, w, c).
        limit: least signal-to-noise ratio of outputs that agree, in dB.
    """
    shown = images[:_MAX_IMAGES]
    wanted = [each[:_MAX_IMAGES] for each in expected]
    actual = new.outputs(shown)

    def agree(found: Sequence[Values], goal: Sequence[Values] = wanted) -> bool:
        return len(found) == len(goal) and all(
            a[0].size == e[0].size and snr(e, a.reshape(e.shape)) >= limit
            for e, a in zip(goal, found, strict=True)
        )

    if agree([softmax(each, axis=-1) for each in actual]):
        own, other = ("one", "two") if all(map(_is_distribution, actual)) else ("no", "one")
        return f"has {own} softmax at its end, and the reference has {other}"
    if agree(actual, [softmax(each, axis=-1) for each in wanted]):
        own, other = ("two", "one") if all(map(_is_distribution, wanted)) else ("one", "none")
        return f"has {own} softmax{'es' * (own == 'two')} at its end, and the reference has {other}"
    orders = permutations(range(len(actual))) if len(actual) <= _MAX_ORDERED else ()
    for order in orders:
        if order != tuple(range(len(actual))) and agree([actual[i] for i in order]):
            numbers = ", ".join(map(str, order))
            return f"has its outputs in another order: the reference's are {numbers}"
    for finding, change in _changes(images.shape[-1]):
        if agree(new.outputs(np.ascontiguousarray(change(shown)))):
            return f"agrees if it is given {finding}"
    return None


def _changes(channels: int) -> list[tuple[str, Change]]:
    """Return the changes of images that are tried, the simplest first."""
    found = list(_RANGES.items())
    if channels > 1:
        found.insert(0, (_REVERSED, _reversed))
        found += [
            (f"{_REVERSED}, and {name}", partial(_reversed_and, change))
            for name, change in _RANGES.items()
        ]
    return [*found, *(_OF_COLORS.items() if channels == 3 else ())]


def _reversed(x: NDArray[Any]) -> NDArray[Any]:
    return x[..., ::-1]


def _reversed_and(change: Change, x: NDArray[Any]) -> NDArray[Any]:
    return change(_reversed(x))


def _is_distribution(values: Values) -> bool:
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1, atol=1e-2))

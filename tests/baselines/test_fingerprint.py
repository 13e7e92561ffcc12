"""Fingerprints: rounding on another machine leaves them, and a change does not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.baselines.check import (
    Recording,
    compare_with_baseline,
    current_device,
    observe,
    update_baseline,
)
from convlens.baselines.store import Store


def draw():
    return np.random.default_rng(1)


VALUES = {
    "one number": 3.25,
    "a few": [1.0, 3.0, -7.5],
    "many": draw().standard_normal((40, 50)),
    "large": draw().standard_normal((900, 700)),
    "zeros": np.zeros(5),
    "a mapping": {str(k): draw().random(7) * 10.0**k for k in range(-9, 9)},
    "integers": {"a": np.arange(9), "b": True, "c": ["x", None]},
    "a picture": draw().integers(20, 230, (30, 40, 3), dtype=np.uint8),
    "a large picture": draw().integers(20, 230, (450, 450, 3), dtype=np.uint8),
    "images": draw().random((4, 30, 30, 1), np.float32),
}


def rounded_elsewhere(value, noise=2e-6):
    """Return a value as a machine that rounds differently computes it."""
    if isinstance(value, dict):
        return {key: rounded_elsewhere(part, noise) for key, part in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return value + draw().integers(0, 2, value.shape, dtype=np.uint8)
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return value
    size = np.sqrt(np.mean(array**2)) if array.size else 0
    errors = noise * size * draw().uniform(-1, 1, array.shape)
    return (array + errors).astype(array.dtype) if array.ndim else float(array + errors)


def changed(value):
    if isinstance(value, dict):
        return {**value, next(iter(value)): changed(next(iter(value.values())))}
    if isinstance(value, np.ndarray):
        return value[::-1].copy() if value.any() else value + 1
    return [value[0] + 0.01, *value[1:]] if isinstance(value, list) else value + 0.01


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_is_rounded_differently_has_the_accepted_fingerprint(name):
    value = VALUES[name]
    mark = observe(value).fingerprint
    assert len(mark) == 16
    assert observe(value).fingerprint == mark
    for noise in (1e-7, 2e-6, 1e-5):
        assert observe(rounded_elsewhere(value, noise)).fingerprint_like(mark) == mark


@pytest.mark.parametrize("name", VALUES)
def test_a_changed_value_has_another_fingerprint(name):
    mark = observe(VALUES[name]).fingerprint
    new = observe(changed(VALUES[name]))
    assert new.fingerprint_like(mark) != mark
    assert new.fingerprint != mark


def test_the_structure_counts():
    values = [[1.0, 2.0], [[1.0, 2.0]], {"0": [1.0, 2.0]}, {0: [1.0, 2.0]}, (1.0, "2"), (1.0, True)]
    assert len({observe(value).fingerprint for value in values}) == len(values)


def test_one_machine_can_apply_what_another_accepted(tmp_path):
    place = Store(tmp_path, current_device())
    old, new = VALUES["many"], VALUES["many"] * 1.01

    def compare(value):
        observed = observe(value)
        return observed, compare_with_baseline(place, "k", observed)

    update_baseline(place, *compare(old), Recording("missing"))
    _, there = compare(rounded_elsewhere(new))
    observed, here = compare(new)
    assert not here.passed
    accept = {"k": there.fingerprint}
    other, later = compare(new * 1.01)
    refused, path = update_baseline(place, other, later, Recording(accept=accept))
    assert path is None
    assert "is out of date: the value changed again" in refused.verdict
    accepted, path = update_baseline(place, observed, here, Recording(accept=accept))
    assert accepted.passed
    assert path is not None

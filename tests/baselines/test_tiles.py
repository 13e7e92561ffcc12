"""Large arrays and pictures, of which a sketch is kept: order counts, rounding does not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.baselines.tiles import compare_pixels, sketch_pixels
from convlens.baselines.values import MAX_VALUES, compare_values, record_values


def compare(old, new, tol=None):
    return compare_values(record_values(old), record_values(new), key="k", tol=tol)


def draw():
    return np.random.default_rng(3)


MAPS = draw().standard_normal((6, 40, 48, 50)).astype(np.float32)
PICTURE = draw().integers(0, 256, (440, 440, 3), dtype=np.uint8)


def changed(array, at, value):
    other = array.copy()
    other[at] = value
    return other


def blocks_exchanged(array):
    flat = array.reshape(-1).copy()
    a, b = flat[1000:2000].copy(), flat[200_000:201_000].copy()
    flat[1000:2000], flat[200_000:201_000] = b, a
    return flat.reshape(array.shape)


def two_exchanged(array):
    flat = array.reshape(-1).copy()
    flat[[5, 6]] = flat[[6, 5]]
    return flat.reshape(array.shape)


CHANGES = {
    "channels exchanged": lambda a: a[..., ::-1],
    "flipped": lambda a: a[..., ::-1, :],
    "turned upside down": lambda a: a[..., ::-1, :, :],
    "rolled by one": lambda a: np.roll(a, 1, axis=-2),
    "rolled by one channel": lambda a: np.roll(a, 1),
    "rolled by a tile": lambda a: np.roll(a, 8, axis=-2),
    "sorted": lambda a: np.sort(a, axis=None).reshape(a.shape),
    "blocks exchanged": blocks_exchanged,
    "images reversed": lambda a: a[::-1],
    "one channel less bright": lambda a: (a * np.array([1] * (a.shape[-1] - 1) + [0.8])).astype(
        a.dtype
    ),
}
NUMBERS = {
    **CHANGES,
    "sign changed": lambda a: -a,
    "an outlier": lambda a: changed(a, (3, 17, 5, 9), 3.0),
    "a value": lambda a: changed(a, (3, 17, 5, 9), a[3, 17, 5, 9] + 0.05),
    "two values exchanged": two_exchanged,
    "a little larger": lambda a: a * np.float32(1.001),
    "a little shifted": lambda a: a + np.float32(0.0005),
    "one position": lambda a: changed(a, (0, 3, 4), 0),
}
PICTURES = {
    **CHANGES,
    "transposed": lambda a: a.transpose(1, 0, 2),
    "inverted": lambda a: 255 - a,
    "a white tile": lambda a: changed(a, (slice(100, 107), slice(51, 58)), 255),
    "a line": lambda a: changed(a, 439, 0),
    "brighter": lambda a: np.clip(a.astype(int) + 8, 0, 255).astype(np.uint8),
}


def test_the_subjects_are_large():
    assert min(MAPS.size, PICTURE.size) > MAX_VALUES


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_changed_large_array_is_detected(name):
    new = NUMBERS[name](MAPS)
    assert new.dtype == MAPS.dtype
    found = compare(MAPS, new)
    assert not found.passed
    assert "runs of 71 values differ, most the values from (" in found.verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_changed_large_picture_is_detected(name):
    found = compare(PICTURE, PICTURES[name](PICTURE))
    assert not found.passed
    assert "the worst 8×8 tile" in found.verdict


@pytest.mark.parametrize("noise", [1e-6, 3e-5, 1e-4])
def test_rounding_errors_in_a_large_array_pass(noise):
    for errors in (draw().standard_normal(MAPS.shape).clip(-1, 1), np.ones(MAPS.shape)):
        rms = np.sqrt(np.mean(MAPS.astype(np.float64) ** 2))
        new = MAPS + 0.99 * noise * errors * np.maximum(np.abs(MAPS), rms)
        found = compare(MAPS.astype(np.float64), new)
        assert found.passed, found.message
        assert found.layers[0].relative_error < 2 * noise


def test_noise_of_one_gray_level_in_a_large_picture_passes():
    for noise in (draw().integers(-1, 2, PICTURE.shape), 1):
        new = np.clip(PICTURE.astype(int) + noise, 0, 255).astype(np.uint8)
        found = compare(PICTURE, new)
        assert found.passed, found.message
        flat = np.full_like(PICTURE, 100)
        assert compare(flat, (flat + noise).astype(np.uint8)).passed


def test_a_changed_faint_structure_of_a_large_picture_is_detected():
    rows = np.indices((800, 800)).sum(axis=0) % 8 < 4
    old = np.where(rows, 120, 128).astype(np.uint8)
    new = np.where(rows, 128, 120).astype(np.uint8)
    found = compare(old, new, tol=0.04)
    assert not found.passed
    assert found.layers[0].worst_error < 0.04
    assert "the structural similarity is" in found.verdict


@pytest.mark.parametrize("shape", [(3, 333, 555, 1), (333, 1601), (5, 190, 205, 3)])
def test_pictures_of_any_shape_are_cut_into_tiles(shape):
    picture = draw().random(shape, np.float32)
    stack = picture if picture.ndim == 4 else picture[None, ..., None]
    other = stack.copy()
    other[-1, -1, -1] += 1
    errors, similarity = compare_pixels(sketch_pixels(stack), sketch_pixels(other), (0.0, 1.0))
    assert (errors > 1e-3).sum() == 1
    assert errors[-1, -1, -1] > 0.1
    assert similarity[0, 0, 0] == pytest.approx(1)


def test_every_value_of_large_integers_counts():
    old = draw().integers(-5, 5, (900, 700))
    assert compare(old, old.copy()).passed
    for new in (changed(old, (899, 699), 7), two_exchanged(old + np.eye(900, 700, dtype=int))):
        assert not compare(old, new).passed
    found = compare(old, changed(old, (2, 3), old[2, 3] + 1))
    assert "1 runs of 77 values differ, first the values from (1, 686) to (2, 62)" in found.verdict
    assert compare(old, changed(old, (2, 3), old[2, 3] + 1), tol=0.5).passed
    assert not compare(old, old[::-1], tol=0.5).passed


def test_large_values_near_the_limits_of_floats_are_compared():
    for size in (1e300, 1e-30):
        old = MAPS.astype(np.float64) * size
        with np.errstate(over="ignore", invalid="ignore"):
            assert compare(old, old * (1 + 1e-7)).passed
            assert not compare(old, old[::-1]).passed


def test_the_sketch_is_much_smaller_than_the_array():
    node = record_values(np.zeros((64, 64, 64, 64), np.float32)).nodes[()]
    assert sum(part.nbytes for part in node.parts.values()) < 400_000

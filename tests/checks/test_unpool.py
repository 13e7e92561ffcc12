"""Max-pooling in NumPy against Keras, and unpooling against plain loops."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convlens.checks._unpool import Windows

SHAPES = [
    ((13, 13), (2, 2), (2, 2), "valid"),
    ((7, 9), (3, 3), (2, 2), "same"),
    ((8, 6), (3, 2), (1, 3), "valid"),
    ((5, 5), (2, 2), (3, 3), "same"),
]


def unpooled_by_loops(features, signal, windows):
    """Put each value where its window had its first maximum."""
    (kh, kw), (sh, sw) = windows.size, windows.strides
    found = np.zeros(features.shape)
    n, rows, columns, channels = signal.shape
    before = [
        max((count - 1) * stride + size - length, 0) // 2 if windows.padding == "same" else 0
        for count, stride, size, length in zip(
            (rows, columns), (sh, sw), (kh, kw), features.shape[1:3], strict=True
        )
    ]
    for image, i, j, unit in np.ndindex(n, rows, columns, channels):
        places = [
            (y, x)
            for y in range(i * sh - before[0], i * sh - before[0] + kh)
            for x in range(j * sw - before[1], j * sw - before[1] + kw)
            if 0 <= y < features.shape[1] and 0 <= x < features.shape[2]
        ]
        at = max(places, key=lambda place: features[image, *place, unit])
        found[image, *at, unit] += signal[image, i, j, unit]
    return found


@pytest.mark.parametrize(("size", "pool", "strides", "padding"), SHAPES)
def test_windows_agree_with_keras_and_with_loops(size, pool, strides, padding):
    draw = np.random.default_rng(0)
    features = draw.integers(-3, 3, (2, *size, 3)).astype(np.float32)  # with equal values
    layer = keras.layers.MaxPooling2D(pool, strides, padding)
    pooled = np.asarray(layer(features))
    windows = Windows(pool, strides, padding)
    np.testing.assert_array_equal(windows.pool(features, pooled.shape[1:3]), pooled)
    signal = draw.standard_normal(pooled.shape).astype(np.float32)
    expected = unpooled_by_loops(features, signal, windows)
    np.testing.assert_allclose(windows.unpool(features, signal), expected, atol=1e-6)

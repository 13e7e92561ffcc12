"""Buckets: no duplicate escapes them, and few other channels are suspected."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convlens.engine.features.buckets import ChannelBuckets, bucket_signs, summarize_channels

DRAW = np.random.default_rng(0)
TOL = 1.2e-6


def suspects(maps: np.ndarray, tol: float = TOL, alive: np.ndarray | None = None) -> list[int]:
    """Return the suspects among maps (n, …, c) that come in two batches."""
    found = ChannelBuckets()
    for part in np.split(maps.astype(np.float32), [2]):
        summary = summarize_channels(keras.ops.convert_to_tensor(part))
        found.add({k: keras.ops.convert_to_numpy(v) for k, v in summary.items()}, len(part))
    chosen = np.ones(maps.shape[-1], bool) if alive is None else alive
    return found.suspects(chosen, tol).tolist()


@pytest.mark.parametrize("positions", [1, 7, 16, 49, 3000])
def test_buckets_are_a_projection_onto_orthonormal_vectors(positions):
    signs = bucket_signs(positions)
    np.testing.assert_allclose(signs @ signs.T, np.eye(len(signs)), atol=1e-6)
    assert (np.count_nonzero(signs, axis=0) == 1).all()


@pytest.mark.parametrize("shape", [(5, 40, 40), (5, 3, 3), (5,)])
@pytest.mark.parametrize("offset", [0, 1e3])
def test_no_pair_within_the_tolerance_escapes(shape, offset):
    for _ in range(20):
        maps = offset + DRAW.standard_normal((*shape, 6))
        pair = maps[..., 1] / np.linalg.norm(maps[..., 1])
        other = DRAW.standard_normal(shape)
        other -= (other * pair).sum() * pair
        other /= np.linalg.norm(other)
        angle = np.arccos(1 - 0.99 * TOL)
        maps[..., 4] = 37 * (np.cos(angle) * pair + np.sin(angle) * other)
        assert {1, 4} <= set(suspects(maps))


def test_different_channels_are_not_suspected():
    maps = DRAW.standard_normal((5, 40, 40, 60))
    maps[..., 1] = maps[..., 0] + 0.3 * DRAW.standard_normal((5, 40, 40))
    assert suspects(maps) == []
    assert suspects(np.maximum(maps, 0)) == []


def test_channels_left_out_are_not_suspected():
    maps = DRAW.standard_normal((5, 4, 4, 3))
    maps[..., 2] = maps[..., 0]
    assert suspects(maps) == [0, 2]
    assert suspects(maps, alive=np.array([True, True, False])) == []


@pytest.mark.parametrize("scale", [1e-19, 1e19])
def test_where_float32_cannot_square_all_are_suspected(scale):
    maps = DRAW.standard_normal((5, 4, 4, 3))
    maps[..., 1] *= scale
    assert suspects(maps) == [0, 1, 2]

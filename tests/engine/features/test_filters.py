"""Statistics of filters: batches give what the whole gives, and positions are no images."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import filter_statistics
from convlens.engine.features.accumulate import ChannelAccumulator

MAPS = np.random.default_rng(0).standard_normal((9, 5, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("cuts", [[], [1], [4], [2, 3, 8]])
def test_batches_add_up_to_the_whole(cuts):
    found = ChannelAccumulator(products=True)
    for part in np.split(MAPS, cuts):
        found.add(part)
    flat = MAPS.reshape(-1, 6).astype(np.float64)
    assert found.images == 9
    np.testing.assert_array_equal(found.low, flat.min(axis=0))
    np.testing.assert_array_equal(found.high, flat.max(axis=0))
    np.testing.assert_array_equal(found.fires, (flat > 0).mean(axis=0))
    np.testing.assert_allclose(found.spread, np.ptp(MAPS, axis=0).max(axis=(0, 1)))
    np.testing.assert_allclose(found.products, flat.T @ flat)
    assert found.not_finite is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_unit_that_is_not_finite_is_named(value):
    maps = MAPS.copy()
    maps[5, 2, 2, 4] = value
    found = ChannelAccumulator(products=True)
    for part in np.split(maps, [2]):
        found.add(part)
    assert found.not_finite == 4


def test_a_map_that_is_the_same_for_all_images_is_dead_whatever_its_positions_say():
    maps = MAPS.copy()
    maps[..., 2] = np.arange(20).reshape(5, 4)
    assert filter_statistics(maps).dead == (2,)
    assert filter_statistics(maps[:1]).dead == ()  # a single image has nothing but positions
    maps[..., 2] = 7
    assert filter_statistics(maps[:1]).dead == (2,)


def test_one_change_at_one_position_of_one_image_is_life():
    maps = MAPS.copy()
    maps[..., 2] = 0
    maps[8, 4, 3, 2] = 1e-3
    assert filter_statistics(maps).dead == ()
    maps[8, 4, 3, 2] = 1e-9
    assert filter_statistics(maps).dead == (2,)


@pytest.mark.parametrize(("dtype", "step"), [("float32", 2.0**-22), ("float16", 2.0**-10)])
def test_a_change_by_one_rounding_step_is_none(dtype, step):
    maps = np.full((4, 3, 3, 2), 1.0, dtype)
    maps[..., 0] = 1e-3 * MAPS[:4, :3, :3, 0]
    maps[2, 1, 1, 1] += step
    assert filter_statistics(maps).dead == (1,)
    maps[2, 1, 1, 1] += 8 * step
    assert filter_statistics(maps).dead == ()


def test_a_unit_that_explodes_does_not_bury_the_others():
    maps = MAPS.copy()
    maps[..., 0] *= 1e5
    assert filter_statistics(maps).dead == ()

"""Maps in a baseline: their levels, and what the mixed maps tell of channels that changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens.baselines.compact import Detail, compacted
from convlens.baselines.maps import changed_maps, from_levels, to_levels
from convlens.engine.features.sketch import LayerSketch, mixing

SIDE = 12
SMALL = Detail(1, False, 0, 32, shown=2, mixed=3, side=SIDE)


def maps_of(c, seed=0):
    return np.random.default_rng(seed).standard_normal((c, 2 * SIDE, 2 * SIDE)).astype(np.float32)


def kept(maps):
    """The sketch that a baseline keeps of a layer with these maps."""
    c = len(maps)
    zeros = np.zeros(c, np.float32)
    channels = np.linspace(0, c - 1, min(c, 32)).astype(int)
    whole = LayerSketch(
        kind="Conv2D",
        shape=(*maps.shape[1:], c),
        dtype="float32",
        mean=zeros,
        rms=zeros,
        high=zeros,
        projection=np.zeros((8, c), np.float32),
        samples=np.zeros(64, np.float32),
        gram=np.zeros((c, 4), np.float32),
        shown=maps[channels],
        channels=tuple(channels.tolist()),
        mixed=np.einsum("kc,chw->khw", mixing(c, 0), maps),
    )
    small = compacted(whole, SMALL)
    shown, mixed = (
        from_levels(*to_levels(part, bits), bits)
        for part, bits in ((small.shown, 8), (small.mixed, 16))
    )
    return replace(small, shown=shown, mixed=mixed)


def told(old, now, changed):
    return changed_maps(old, now, changed, np.zeros(len(now)), seed=0)


@pytest.mark.parametrize("changed", [[77], [3, 77], [500, 3, 77]])
def test_the_maps_of_a_few_changed_channels_are_told_from_mixed_ones(changed):
    before = maps_of(512)
    now = before.copy()
    now[changed] = 0.7 * before[changed] + 0.3 * maps_of(512, 1)[changed]
    found = told(kept(before), now, changed)
    assert [each.channel for each in found] == changed
    for each in found:
        assert np.array_equal(each.actual, now[each.channel, ::2, ::2])
        expected = before[each.channel, ::2, ::2]
        assert np.abs(each.expected - expected).max() < 0.1 * np.abs(each.actual - expected).max()


def test_where_all_channels_changed_those_that_were_kept_are_told():
    before, now = maps_of(512), maps_of(512, 1)
    found = told(kept(before), now, [7, 511, 20, 0, *range(21, 500)])
    assert [each.channel for each in found] == [511, 0]
    for each in found:
        assert each.expected == pytest.approx(before[each.channel, ::2, ::2], abs=0.03)


def test_a_change_below_the_levels_is_not_told():
    before = maps_of(512)
    now = before.copy()
    now[77] += 1e-4 * maps_of(512, 1)[77]
    assert told(kept(before), now, [77]) == []
    doubtful = np.full(512, 0.1)  # the other channels may have changed by as much
    now[77] += 0.2
    assert changed_maps(kept(before), now, [77], doubtful, seed=0) == []


def test_maps_of_another_size_tell_nothing():
    assert told(kept(maps_of(8)), maps_of(8)[:, :13], [1]) == []
    assert told(kept(maps_of(8)), maps_of(9), [1]) == []
    without = replace(kept(maps_of(8)), shown=None, channels=(), mixed=None)
    assert told(without, maps_of(8, 1), [1]) == []


@pytest.mark.parametrize("bits", [8, 16])
def test_each_map_has_levels_of_its_own(bits):
    maps = maps_of(4) * np.float32([1, 1e-6, 1e6, 0])[:, None, None]
    again = from_levels(*to_levels(maps, bits), bits)
    sizes = np.abs(maps).max(axis=(1, 2))
    assert (np.abs(again - maps).max(axis=(1, 2)) <= sizes / 2**bits * 1.1).all()

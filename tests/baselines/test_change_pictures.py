"""Pictures of a failed baseline show the channels that changed, and say their numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens import Network
from convlens.baselines import check, record
from convlens.baselines.change_pictures import StatisticsPair, maps_pair
from convlens.baselines.compare import compare_records
from convlens.baselines.maps import ChannelMaps
from convlens.baselines.record import record_network
from convlens.baselines.store import Device, Store
from convlens.engine.features.sketch import LayerSketch
from convlens.pictures.sheet import font

YELLOW, PURPLE = (253, 231, 37), (68, 1, 84)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sketch(c=16):
    return LayerSketch(
        kind="Conv2D",
        shape=(6, 6, c),
        dtype="float32",
        mean=noise(0, c),
        rms=1 + np.abs(noise(1, c)),
        high=3 + np.abs(noise(2, c)),
        projection=noise(3, 4, c),
        samples=noise(4, 32),
        gram=noise(5, c, 2),
        shown=None,
    )


def test_maps_have_one_scale_and_their_difference_one_of_its_own():
    before = noise(0, 12, 12)
    now = before.copy()
    now[3:6, 4:8] += 0.01  # far less than a gray level
    pair = maps_pair("conv", [ChannelMaps(77, before, now)], 1)
    assert pair.title == "conv: maps of channel 77"
    assert pair.layer == "conv"
    h, w = pair.expected.shape[:2]
    assert pair.actual.shape == pair.difference.shape == (h, w, 3)
    yellow = (pair.difference == YELLOW).all(axis=2).mean()
    purple = (pair.difference == PURPLE).all(axis=2).mean()
    assert yellow == pytest.approx(12 / 132 * purple, rel=0.2)  # 12 of 144 pixels changed
    assert "yellow is 0.2" in pair.note  # percent of the range of about 4.5
    doubled = maps_pair("conv", [ChannelMaps(77, before, 2 * before)], 1)
    assert doubled.actual[doubled.actual < 250].size > 0
    assert not np.array_equal(doubled.expected, doubled.actual)


def test_each_channel_of_a_page_has_its_number():
    def page(first):
        found = [ChannelMaps(c, noise(c, 9, 9), noise(c + 50, 9, 9)) for c in (first, 2, 3, 4, 5)]
        found[0] = replace(found[0], expected=noise(1, 9, 9), actual=noise(2, 9, 9))
        return maps_pair("conv", found, 200)

    one, other = page(1), page(8)
    assert "channels 8, 2, 3, 4, 5" in other.title
    assert "of 200 that differ" in other.note
    rows, columns = np.nonzero((one.expected != other.expected).any(axis=2))
    assert rows.size  # the number alone is another
    assert max(rows.max(), columns.max()) < 24


@pytest.mark.parametrize("field", ["mean", "rms", "high", "projection"])
def test_statistics_that_differ_by_little_have_a_difference_that_is_seen(field):
    old = sketch()
    values = getattr(old, field).copy()
    values[..., 9] += 1e-4
    pair = StatisticsPair.of("conv", old, replace(old, **{field: values}), [9], 1)
    assert "channel 9 in numbers" in pair.title
    assert "1 of 16 channels" in pair.note
    colors = {"mean": (31, 119, 180), "rms": (214, 98, 20), "high": (44, 140, 60)}
    bar = (pair.difference[24:] == colors.get(field, (120, 120, 120))).all(axis=2)
    assert bar.any(axis=0).sum() > 90  # a bar of the whole length
    assert pair.expected.shape == pair.actual.shape == pair.difference.shape


def test_statistics_of_a_large_network_lack_the_largest_values():
    old = replace(sketch(), high=np.zeros(0, np.float32))
    new = replace(old, mean=old.mean + 1)
    pair = StatisticsPair.of("conv", old, new, list(range(16)), 16)
    assert pair.channels == tuple(range(8))
    assert pair.nbytes < 1000
    green = (pair.expected == (44, 140, 60)).all(axis=2)
    assert not green.any()
    assert not np.array_equal(pair.expected, pair.actual)


def test_the_font_has_every_character_of_the_pictures():
    face = font(13)
    missing = bytes(face.getmask("\uffff"))
    texts = "mean rms largest random sum 0123456789.e-+"
    assert [c for c in texts if c != " " and bytes(face.getmask(c)) == missing] == []


def test_the_map_of_a_channel_that_was_not_kept_is_shown_as_it_was(tmp_path, tiny, tiny_images):
    before = record_network(Network(tiny), tiny_images)
    place = Store(tmp_path, Device("cpu", "cpu"))
    path, _ = check.save(place, "k", before, check.Recording("all"))
    expected = check._load(path, "k")
    kept = [expected.layers["conv_b"].channels.index(c) for c in (0, 4)]
    layer = expected.layers["conv_b"]
    few = replace(layer, shown=layer.shown[kept], channels=(0, 4))
    expected = replace(expected, layers={**expected.layers, "conv_b": few})
    was = before.rerun.maps("conv_b")
    kernel = tiny.get_layer("conv_b").get_weights()
    kernel[0][..., 2] = np.rot90(kernel[0][..., 2])
    tiny.get_layer("conv_b").set_weights(kernel)
    actual = record_network(Network(tiny), tiny_images)
    found = compare_records(expected, actual, key="k")
    assert found.first == "conv_b"
    maps, numbers = found.of_layer("conv_b").pictures
    assert maps.title == "conv_b: maps of channel 2"
    assert numbers.title == "conv_b: channel 2 in numbers"
    now = actual.rerun.maps("conv_b")
    right = maps_pair("conv_b", [ChannelMaps(2, was[2], now[2])], 1)
    assert np.abs(maps.expected.astype(int) - right.expected).max() <= 1
    assert {pair.layer for pair in found.pictures} >= {"conv_b", "pool_b", "classes"}
    for pair in found.pictures:
        shown = pair.difference if pair.difference is not None else pair.expected != pair.actual
        assert len(np.unique(shown.reshape(-1, shown.shape[-1]), axis=0)) > 1, pair.title
    again = compare_records(before, record_network(before.rerun.network, tiny_images), key="k")
    assert record.SEED == 0
    assert again.pictures == () or not again.passed

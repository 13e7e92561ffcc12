"""The picture beside a baseline shows all layers, and changes where the network changed."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from convlens.baselines.draw import draw_arrays, draw_layers
from convlens.engine.features.sketch import LayerSketch


def sketch(seed, c=512):
    draw = np.random.default_rng(seed)

    def numbers(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    return LayerSketch(
        kind="Conv2D",
        shape=(14, 14, c),
        dtype="float32",
        mean=numbers(c),
        rms=np.ones(c, np.float32),
        high=numbers(c),
        projection=numbers(1, c),
        samples=numbers(32),
        gram=numbers(c, 1),
        shown=numbers(4, 14, 14),
    )


def drawn(layers):
    return np.asarray(draw_layers(layers, "a model", "48 images").convert("RGB"))


def test_a_layer_deep_in_the_network_changes_its_own_place_in_the_picture():
    layers = {f"conv_{i}": sketch(i) for i in range(76)}
    for layer in layers.values():
        layer.projection[:, [3, 77]] = 0.8, -0.2
    before = drawn(layers)
    first = layers["conv_0"]
    for name in ("conv_0", "conv_40", "conv_75"):
        layer = layers[name]
        sums = layer.projection.copy()
        sums[:, [3, 77]] = sums[:, [77, 3]]
        now = drawn({**layers, name: replace(layer, projection=sums)})
        rows, columns = np.nonzero((now != before).any(axis=2))
        assert rows.size >= 2 * 3 * 3, name  # two squares
        assert np.ptp(rows) < 80, name
        assert np.ptp(columns) < 80, name
    assert drawn({**layers, "conv_0": replace(first, mean=-first.mean)}).tolist() == before.tolist()


def test_all_layers_are_shown_and_counted():
    page = draw_layers({f"conv_{i}": sketch(i, 64) for i in range(300)}, "t", "48 images")
    assert page.height > 300 / 8 * 76
    content = io.BytesIO()
    page.save(content, format="PNG", optimize=True)
    assert len(content.getvalue()) < 400_000  # of noise, which can hardly be compressed


def test_layers_without_maps_and_of_one_channel_are_drawn():
    dense = replace(sketch(0, 10), shape=(10,), shown=None)
    quiet = replace(sketch(1, 1), rms=np.zeros(1, np.float32), shown=np.zeros((1, 3, 90)))
    assert drawn({"dense": dense, "quiet": quiet}).shape[2] == 3


def test_a_sheet_of_many_arrays_says_how_many_it_shows():
    arrays = {str(i): np.full((4, 4), i % 256, np.uint8) for i in range(200)}
    few, many = (
        np.asarray(draw_arrays(dict(list(arrays.items())[:n]), "t", "s").convert("RGB"))
        for n in (96, 200)
    )
    assert few.shape == many.shape  # 96 cells
    assert (few[:60] != many[:60]).any()  # the subtitle
    assert draw_arrays({}, "t", "s").width > 100

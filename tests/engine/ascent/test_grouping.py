"""Layers of near depth share one compiled graph."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.ascent.traces import traced_gradients

from convlens import Lens, Network, maximize
from convlens.checks.ascent import Ascent
from convlens.checks.check import Effort
from convlens.engine.ascent.canvas import Costs
from convlens.engine.ascent.grouping import groups_of
from convlens.engine.ascent.ranges import spreads
from convlens.engine.ascent.scores import Scores
from convlens.engine.runtime import backend


def dense_blocks(count, size=32, stem=8):
    """Return blocks of convolutions that each read all before them, as in a DenseNet."""
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(stem, 9, padding="same", name="conv_0")(image)
    for i in range(1, count):
        y = layers.BatchNormalization()(x)
        y = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"conv_{i}")(y)
        x = layers.AveragePooling2D(2)(y) if i % 40 == 39 else layers.Concatenate()([x, y])
    return Network(keras.Model(image, x))


@pytest.mark.slow
def test_120_convolutions_need_few_graphs():
    network = dense_blocks(120)
    costs = Costs(network, (32, 32, 3))
    groups = groups_of(costs, network.conv_layers, dict.fromkeys(network.conv_layers, 3e10))
    assert [layer for group in groups for layer in group] == list(network.conv_layers)
    first, last = (costs.of(costs.calls(network.conv_layers[i])) for i in (0, -1))
    assert len(groups) <= math.ceil(math.log(last / first, 1.5))  # a factor of 1.5 in each
    for group in groups:
        own = [costs.of(costs.calls(layer)) for layer in group]
        whole = costs.of(frozenset().union(*(costs.calls(layer) for layer in group)))
        assert whole <= 1.5 * min(own)


def test_where_ascents_are_dear_each_layer_has_its_own_graph():
    network = dense_blocks(6)
    spent = dict.fromkeys(network.conv_layers, 1e13)
    groups = groups_of(Costs(network, (32, 32, 3)), network.conv_layers, spent)
    assert [len(group) for group in groups] == [1] * 6


@pytest.fixture
def traces(monkeypatch):
    """The number of gradients that were traced."""
    return traced_gradients(monkeypatch)


@pytest.mark.slow
def test_the_items_of_a_group_trace_once(traces, monkeypatch):
    network = dense_blocks(5, stem=32)
    lens = Lens(network, np.random.default_rng(0).random((2, 32, 32, 3)))
    group = lens.plan_ascent(network.conv_layers[-1]).graph_layers
    assert len(group) > 1
    compiled = []
    compile_one = backend.compile
    monkeypatch.setattr(
        backend, "compile", lambda *a, **k: compiled.append(1) or compile_one(*a, **k)
    )
    before = []
    for layer in group:
        seen = Ascent().run(lens, layer, Effort(steps=4))
        Ascent().verdict(seen)
        for make in Ascent().figures(lens, layer, seen).values():
            make()
        before.append((len(traces), len(compiled)))
    assert before == [before[0]] * len(group)


def test_a_shared_graph_does_not_change_an_image():
    network = dense_blocks(3)
    group = network.conv_layers
    for layer in group[1:]:
        alone = maximize(network, layer, [0, 3], steps=6, jitter=1)
        shared = maximize(network, layer, [0, 3], steps=6, jitter=1, graph_layers=group)
        np.testing.assert_allclose(shared.images, alone.images, atol=1e-3)
        np.testing.assert_allclose(shared.trace, alone.trace, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_images_common_to_a_group_are_computed_once_until_weights_may_change(monkeypatch):
    network = dense_blocks(4, stem=32)
    lens = Lens(network, np.random.default_rng(0).random((2, 32, 32, 3)))
    seen = []
    run = Scores._in_batches
    monkeypatch.setattr(
        Scores, "_in_batches", lambda self, *a: seen.append(a[1].shape) or run(self, *a)
    )

    def spread(layer):
        goals = maximize(network, layer, [0], steps=1).objectives
        with lens.sharing():
            return spreads(network, goals, (32, 32, 3), (0.0, 1.0), 0, lens.conv_layers)

    lens.share()
    first = [spread(layer) for layer in lens.conv_layers]
    assert len(seen) == 1, "the images of the second layer were computed again"
    network.model.get_layer("conv_0").kernel.assign(2 * network.model.get_layer("conv_0").kernel)
    lens.unshare()
    again = [spread(layer) for layer in lens.conv_layers]
    assert len(seen) == 1 + len(lens.conv_layers)
    np.testing.assert_allclose(again[0], 2 * first[0], rtol=1e-4)

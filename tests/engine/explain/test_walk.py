"""The walk down a network's stages: its projection, its single stages, and what it costs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, project
from convlens.engine.explain import walk as walk_module
from convlens.engine.explain.stages import stages_of
from convlens.engine.explain.walk import walk
from convlens.engine.model.network import INPUT


def residual_model():
    """A network with a residual addition, a concatenation, and a pool that reads no layer."""
    keras.utils.set_random_seed(0)
    image = keras.Input((9, 9, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image)
    y = layers.Conv2D(4, 3, padding="same", name="second")(x)
    y = layers.ReLU(name="rectifier")(layers.Add(name="sum")([x, y]))
    y = layers.MaxPooling2D(2, name="pool")(ops.relu(y - 0.1))
    z = layers.Concatenate(name="both")([y, layers.AveragePooling2D(1, name="mean")(y)])
    top = layers.Conv2D(3, 1, name="top")(z)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="end")(top), name="residual")


@pytest.fixture(scope="module")
def network():
    return Network(residual_model())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((2, 9, 9, 2), dtype=np.float32)


def walked(network, images, layer="top", starts=None):
    """Return the steps by layer and the arrivals by layer of a walk from a layer down."""
    parts = list(walk(network, images, network.below(layer), starts or {layer}))
    return (
        {step.stage.layer: step for part in parts for step in part.steps},
        {arrival.layer: arrival for part in parts for arrival in part.arrivals},
    )


def test_the_kinds_of_stages(network):
    kinds = {s.layer: (s.sources, s.kind) for s in stages_of(network, network.below("top"))}
    assert kinds == {
        "first": ((INPUT,), "map"),
        "second": (("first",), "map"),
        "sum": (("first", "second"), "map"),
        "rectifier": (("sum",), "activation"),
        "pool": (("rectifier",), "map"),  # it pools what operations made of the layer
        "mean": (("pool",), "map"),
        "both": (("pool", "mean"), "map"),
        "top": (("both",), "map"),
    }
    assert [s.kind for s in stages_of(Network(keras.Sequential(POOL)), ("pool",))] == ["pool"]


POOL = [keras.Input((4, 4, 1)), layers.MaxPooling2D(name="pool")]


def test_its_projection_is_that_of_project(network, images):
    steps, arrivals = walked(network, images)
    expected = project(network, images, "top", steps["top"].maps)
    found = {name: arrival.signal for name, arrival in arrivals.items()}
    assert found.keys() == set(network.below("top")) - {"top"} | {INPUT}
    scale = np.abs(expected[INPUT]).max() / np.abs(found[INPUT]).max()
    for name, signal in found.items():
        np.testing.assert_allclose(scale * signal, expected[name], rtol=1e-4, atol=1e-5)


def test_a_signal_is_the_sum_of_what_its_readers_send(network, images):
    steps, arrivals = walked(network, images)
    sent = steps["second"].whole["first"] + steps["sum"].whole["first"]
    np.testing.assert_allclose(arrivals["first"].sent, sent, rtol=1e-5, atol=1e-6)
    assert arrivals["first"].first_reader == "second"
    for arrival in arrivals.values():
        np.testing.assert_allclose(arrival.signal, arrival.sent, rtol=1e-4, atol=1e-5)


def test_sections_change_nothing(network, images, monkeypatch):
    whole, _ = walked(network, images)
    monkeypatch.setattr(walk_module, "_MAX_VALUES", 1)
    apart, arrivals = walked(network, images)
    assert whole.keys() == apart.keys()
    for name, step in apart.items():
        for source in step.down:
            np.testing.assert_allclose(step.down[source], whole[name].down[source], atol=1e-6)
    np.testing.assert_allclose(arrivals["first"].signal, arrivals["first"].sent, atol=1e-5)


def test_a_signal_that_died_starts_again(images):
    # The maps of the last layer are positive and its kernels negative: the ReLU of the layer below
    # passes nothing of its signal.
    negative, positive = keras.initializers.Constant(-1.0), keras.initializers.Constant(100.0)
    model = keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            layers.Conv2D(3, 3, activation="relu", name="low"),
            layers.Conv2D(3, 3, activation="relu", name="middle"),
            layers.Conv2D(
                2, 3, name="high", kernel_initializer=negative, bias_initializer=positive
            ),
        ]
    )
    network = Network(model)
    steps, arrivals = walked(network, images, "high", network.conv_layers)
    assert arrivals["middle"].signal.max() < 0
    assert not steps["middle"].whole["low"].any()
    np.testing.assert_array_equal(arrivals["low"].signal, steps["low"].maps)
    assert arrivals[INPUT].signal.any()
    alone, _ = walked(network, images, "high", {"high"})
    assert not alone["low"].whole[INPUT].any()


class Counted(layers.Conv2D):
    """A convolution that counts its calls."""

    calls = 0

    def call(self, inputs):
        Counted.calls += 1
        return super().call(inputs)


def calls_of_a_walk(depth):
    model = keras.Sequential([keras.Input((6, 6, 1)), *(Counted(1, 1) for _ in range(depth))])
    network = Network(model)
    images = np.random.default_rng(0).random((2, 6, 6, 1), dtype=np.float32)
    network.check_images(images)
    network.once(lambda: None)  # the comparison with the model
    Counted.calls = 0
    walked(network, images, network.conv_layers[-1], network.conv_layers)
    return Counted.calls


def test_the_cost_grows_with_the_number_of_layers(monkeypatch):
    monkeypatch.setattr(walk_module, "MAX_STAGES", 2)
    first, second, third = map(calls_of_a_walk, (2, 4, 6))
    assert third - second == second - first


def test_a_layer_that_raises_an_error_does_not_hide_those_below(images):
    image = keras.Input((9, 9, 2))
    y = layers.Conv2D(3, 3, activation="relu", name="low")(image)
    y = layers.Conv2D(2, 3, name="high")(Broken(name="broken")(y))
    network = Network(keras.Model(image, y))
    network.once(lambda: None)
    Broken.on = True
    try:
        parts = list(walk(network, images, network.below("high"), network.conv_layers))
    finally:
        Broken.on = False
    failed = {part.failed: str(part.error) for part in parts if part.failed}
    assert failed.keys() == {"broken"}
    assert "no derivative" in failed["broken"]  # to which Keras may add where it was raised
    steps = {step.stage.layer for part in parts for step in part.steps}
    assert steps == {"low", "high"}
    assert {a.layer for part in parts for a in part.arrivals} == {"low", "broken", INPUT}


class Broken(layers.Layer):
    """A layer whose backward pass raises an error while `on` is true."""

    on = False

    def call(self, x):
        @ops.custom_gradient
        def forward(x):
            def backward(*args, upstream=None):
                if Broken.on:
                    raise ArithmeticError("no derivative")
                return args[0] if upstream is None else upstream

            return x * 1.0, backward

        return forward(x)

"""Every reading of a model is compared with the model: planted faults are named, and no others."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, activations, assert_finite, assert_repeatable, deconvolve, maximize
from convlens.engine.model import flatten

IMAGES = np.random.default_rng(0).random((3, 12, 12, 3), dtype=np.float32)


def net():
    keras.utils.set_random_seed(5)
    inner = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            layers.BatchNormalization(name="norm", beta_initializer="ones"),
        ],
        name="inner",
    )
    x = keras.Input((12, 12, 3))
    y = layers.Conv2D(3, 3, activation="tanh", name="out")(inner(x))
    return keras.Model(x, y, name="net")


def reading_in_which(monkeypatch, broken):
    """Replace the reading of one layer's calls by a broken one."""
    own = flatten._Flattener.record

    def record(self, op, args, kwargs, training):
        outputs = own(self, op, args, kwargs, training)
        replaced = broken(self.flat.calls[-1])
        if replaced is not None:
            self.flat.calls[-1] = replaced
        return outputs

    monkeypatch.setattr(flatten._Flattener, "record", record)


def without(name):
    def broken(call):
        if getattr(call.op, "name", getattr(call.op, "__name__", "")) == name:
            return flatten.Call(lambda x: x, (call.inputs[0],), {}, call.outputs)
        return None

    return broken


USES = {
    "activations": lambda model: activations(model, IMAGES, "out"),
    "deconvolve": lambda model: deconvolve(model, IMAGES, "out", 0),
    "maximize": lambda model: maximize(model, "out", [0], steps=2),
    "repeatable": lambda model: assert_repeatable(model, IMAGES),
}


@pytest.mark.parametrize("use", USES)
def test_no_function_runs_a_reading_that_is_wrong(monkeypatch, use):
    reading_in_which(monkeypatch, without("norm"))
    with pytest.raises(ValueError, match=r"net: layer 'inner\.norm' computes something else"):
        USES[use](net())


@pytest.mark.parametrize(
    ("dropped", "named"), [("relu", r"inner\.conv"), ("norm", r"inner\.norm"), ("tanh", "out")]
)
def test_the_first_layer_that_differs_is_named(monkeypatch, dropped, named):
    reading_in_which(monkeypatch, without(dropped))
    with pytest.raises(ValueError, match=rf"layer '{named}' .* differ by [0-9.]+ of the largest"):
        activations(net(), IMAGES, "out")


def test_a_call_that_was_replaced_at_the_reading_is_noticed(monkeypatch):
    monkeypatch.setattr(flatten, "runs_as_keras", lambda layer: True)

    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs)

    x = keras.Input((12, 12, 3))
    inner = Doubled(x, layers.Conv2D(2, 3, name="conv")(x), name="inner")
    y = keras.Input((12, 12, 3))
    model = keras.Model(y, layers.Conv2D(2, 3, name="out")(inner(y)))
    with pytest.raises(ValueError, match="layer 'inner' computes something else"):
        activations(model, IMAGES, "out")


def test_a_network_is_compared_once(monkeypatch):
    model = net()
    network = Network(model)
    activations(network, IMAGES, "out")
    monkeypatch.setattr(type(model), "__call__", lambda *args, **kwargs: pytest.fail("called"))
    activations(network, IMAGES)
    deconvolve(network, IMAGES, "out", 0)


def test_a_model_of_any_size_is_compared_where_no_image_was_given(monkeypatch):
    reading_in_which(monkeypatch, without("tanh"))
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.Conv2D(2, 3, activation="tanh", name="out")(x))
    with pytest.raises(ValueError, match="layer 'out' computes something else"):
        maximize(model, "out", [0], size=(16, 16), steps=2)


def fixed_dropout():
    x = keras.Input((12, 12, 3))
    y = layers.Dropout(0.5)(layers.Conv2D(2, 3)(x), training=True)
    return keras.Model(x, layers.Conv2D(2, 3, name="out")(y))


class AlwaysNoisy(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seeds)


def chain(*inner, dtype="float32"):
    def build():
        keras.utils.set_random_seed(2)
        return keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                layers.Conv2D(4, 3, activation="relu", dtype=dtype),
                *(make() for make in inner),
                layers.Conv2D(3, 3, name="out", activation="relu", dtype=dtype),
            ]
        )

    return build


def not_finite():
    model = net()
    model.get_layer("out").bias.assign([np.nan, np.inf, 0])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        fixed_dropout,
        not_finite,
        chain(AlwaysNoisy),
        chain(layers.BatchNormalization, lambda: layers.RandomRotation(0.2)),
        chain(dtype="mixed_float16"),
        chain(dtype="mixed_bfloat16"),
        chain(dtype="float16"),
        # JAX has it only where a setting asks for it.
        *([chain(dtype="float64")] if keras.backend.backend() == "tensorflow" else []),
        chain(lambda: layers.Dense(8, activation="relu"), lambda: layers.GaussianNoise(1.0)),
    ],
)
def test_no_other_fault_is_taken_for_a_wrong_reading(build):
    for images in (IMAGES, 255 * IMAGES):
        assert len(activations(build(), images, "out")["out"]) == len(images)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
def test_a_quantized_model_is_looked_at(mode):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, name="conv", activation="relu"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="dense"),
            layers.Dense(3, name="out"),
        ]
    )
    network = Network(model)
    before = activations(network, IMAGES, "dense")["dense"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras tells that convolutions are not quantized
        model.quantize(mode)
    for given in (model, network):  # a network that was read before follows
        found = activations(given, IMAGES, "dense")["dense"]
        part = keras.Model(model.inputs, model.get_layer("dense").output)
        np.testing.assert_allclose(found, part.predict(IMAGES, verbose=0), atol=1e-4)
        assert 0 < np.abs(found - before).max() < 0.2 * before.max()
    assert_repeatable(model, IMAGES)
    assert_finite(model)

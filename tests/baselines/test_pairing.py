"""Layers are paired with those of the baseline whatever they are called."""

from __future__ import annotations

from itertools import count

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network
from convlens.baselines.check import (
    Recording,
    Store,
    compare_with_baseline,
    current_device,
    observe,
    update_baseline,
)
from convlens.baselines.compare import compare_records
from convlens.baselines.pairing import _without_numbers
from convlens.baselines.record import from_arrays, record_network, to_arrays

IMAGES = np.random.default_rng(0).random((60, 12, 12, 3), dtype=np.float32)


class Names:
    """Names as Keras gives them to layers; `start` is the number of layers made before."""

    def __init__(self, start):
        self.numbers = {}
        self.start = start

    def __call__(self, kind):
        number = next(self.numbers.setdefault(kind, count(self.start)))
        return kind if number == 0 else f"{kind}_{number}"


def network(start=0, *, inserted="", removed="", nested=True, settings=None):
    """Return a network whose layers are numbered from `start` on."""
    name = Names(start)
    image = x = keras.Input((12, 12, 3), name="images")
    for block in range(3):
        if block and nested:
            inner = keras.Input(x.shape[1:])
            y = layers.Conv2D(8, 3, padding="same", use_bias=False, name=name("conv2d"))(inner)
            y = layers.BatchNormalization(name=name("batch_normalization"))(y)
            y = layers.ReLU(name=name("re_lu"))(y)
            x = keras.Model(inner, y, name=name("functional"))(x)
        else:
            x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=name("conv2d"))(x)
            if removed != f"batch_normalization {block}":
                x = layers.BatchNormalization(name=name("batch_normalization"))(x)
            else:
                name("batch_normalization")
            x = layers.Activation("relu", name=name("activation"))(x)
        if inserted == f"conv2d {block}":
            x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=name("conv2d"))(x)
    x = layers.Flatten(name=name("flatten"))(layers.MaxPooling2D(name=name("max_pooling2d"))(x))
    x = layers.Dropout(0.5, name=name("dropout"))(x)
    x = layers.Dense(4, activation=settings or "softmax", name=name("dense"))(x)
    return keras.Model(image, x, name=name("model"))


def drawn(model):
    draw = np.random.default_rng(5)
    model.set_weights([draw.uniform(0.2, 1, w.shape) - 0.4 * (w.ndim > 1) for w in model.weights])
    return model


def copied(source, target):
    """Give a network's weights to another, in their order."""
    target.set_weights(source.get_weights())
    return target


def stored(record):
    """Return a record as it is read from a file, where the order of keys is lost."""
    arrays, header = to_arrays(record)
    known = {
        key: dict(sorted(value.items())) if isinstance(value, dict) else value
        for key, value in header["provenance"].items()
    }
    return from_arrays(arrays, {**header, "provenance": known})


@pytest.fixture(scope="module")
def model():
    return drawn(network())


@pytest.fixture(scope="module")
def before(model):
    return stored(record_network(Network(model), IMAGES))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "start",
    [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.slow)],
)
def test_a_rebuilt_network_whose_names_are_shifted_agrees(model, before, start):
    now = record_network(Network(copied(model, network(start))), IMAGES)
    assert not {"conv2d", "functional_1.conv2d_1"} & now.layers.keys()
    found = compare_records(before, now, key="k")
    assert found.passed, found.message
    assert [layer.layer for layer in found.layers] == list(now.layers)
    assert now.fingerprint == record_network(Network(model), IMAGES).fingerprint


@pytest.mark.slow
def test_a_changed_layer_of_a_renamed_network_is_named_with_its_cause(model, before):
    other = copied(model, network(4))
    layer = other.get_layer("functional_5").get_layer("conv2d_6")
    layer.set_weights([w * 1.01 for w in layer.get_weights()])
    found = compare_records(before, record_network(Network(other), IMAGES), key="k")
    assert found.first == "functional_5.conv2d_6"
    assert "differs in provenance: weights of functional_5.conv2d_6" in found.message
    assert "the weights of 'functional_5.conv2d_6' changed" in found.message


@pytest.mark.slow
def test_a_changed_setting_of_a_renamed_network_is_named(model, before):
    other = copied(model, network(2, settings="sigmoid"))
    found = compare_records(before, record_network(Network(other), IMAGES), key="k")
    assert "settings of dense_2;" in found.message or "settings of dense_2\n" in found.message


@pytest.mark.quick(1)
@pytest.mark.parametrize("start", [pytest.param(0, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("block", [0, *(pytest.param(b, marks=pytest.mark.slow) for b in (1, 2))])
def test_an_inserted_layer_is_named_in_a_renamed_network(before, model, start, block):
    other = drawn(network(start, inserted=f"conv2d {block}"))
    old = list(model.weights)
    new = list(other.weights)
    added = block + 1
    kernels = [i for i, w in enumerate(new) if w.path.endswith("kernel") and w.ndim == 4]
    del new[kernels[added]]
    for source, target in zip(old, new, strict=True):
        target.assign(source)
    found = compare_records(before, record_network(Network(other), IMAGES), key="k")
    assert not found.passed
    name = f"conv2d_{start + added}" if start + added else "conv2d"
    assert found.verdict == f"the network's layers differ from its baseline's: added {name}."


@pytest.mark.slow
@pytest.mark.parametrize("start", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_removed_layer_is_named_as_it_was(before, start):
    other = network(start, removed="batch_normalization 0")
    found = compare_records(before, record_network(Network(other), IMAGES), key="k")
    assert "removed batch_normalization." in found.verdict


def test_layers_that_trade_names_are_paired_by_what_they_do():
    def build(first, second):
        image = keras.Input((12, 12, 3))
        x = layers.Conv2D(3, 3, padding="same", name=first)(image)
        return keras.Model(image, layers.Conv2D(3, 3, padding="same", name=second)(x))

    one, other = drawn(build("conv2d_1", "conv2d_2")), build("conv2d_2", "conv2d_1")
    other.set_weights(one.get_weights())
    records = [record_network(Network(m), IMAGES) for m in (one, other)]
    assert compare_records(*records, key="k").passed


@pytest.mark.slow
def test_another_number_of_outputs_is_reported():
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(3, 3, name="a")(image)
    y = layers.Conv2D(2, 3, name="b")(x)
    records = [
        record_network(Network(keras.Model(image, outputs)), IMAGES) for outputs in ([y, x], [y])
    ]
    found = compare_records(*records, key="k")
    assert not found.passed
    assert "the network has 1 outputs, but 2 in its baseline" in found.verdict


@pytest.mark.slow
def test_every_channel_of_a_wide_layer_counts():
    image = keras.Input((4, 4, 1))
    x = layers.Dense(9000, name="wide")(layers.Flatten()(image))
    model = drawn(keras.Model(image, layers.Dense(2, name="out", use_bias=False)(x)))
    model.get_layer("out").set_weights([np.zeros((9000, 2), np.float32)])
    images = IMAGES[:4, :4, :4, :1]
    before = record_network(Network(model), images)
    assert before.layers["wide"].mean.shape == (4096,)
    for unit in (1, 4095, 4097, 8999):
        kernel, bias = model.get_layer("wide").get_weights()
        bias[unit] += 0.1
        model.get_layer("wide").set_weights([kernel, bias])
        found = compare_records(before, record_network(Network(model), images), key="k")
        assert found.first == "wide"
        bias[unit] -= 0.1
        model.get_layer("wide").set_weights([kernel, bias])


def test_a_layer_of_the_users_own_is_compared_whatever_it_is_called():
    class Identity(layers.Layer):
        scale = 2.0

        def call(self, inputs):
            return inputs * self.scale

    image = keras.Input((12, 12, 3))
    own = Identity(name="own")
    x = own(layers.Conv2D(2, 3, name="c")(image))
    assert (
        "own" in record_network(Network(keras.Model(image, layers.Conv2D(2, 1)(x))), IMAGES).layers
    )


def test_numbers_that_keras_adds_are_left_out():
    names = {
        "conv2d_4": "conv2d",
        "a_1.b_22:2": "a.b:2",
        "block1_conv": "block1_conv",
        "x_1_2": "x_1",
    }
    assert {name: _without_numbers(name) for name in names} == names


@pytest.mark.slow
def test_a_renamed_network_passes_its_stored_baseline(model, tmp_path):
    place = Store(tmp_path, current_device())
    for number, own in enumerate((model, copied(model, network(7)))):
        observed = observe_model(own)
        comparison = compare_with_baseline(place, "k", observed)
        assert comparison.passed is bool(number)
        update_baseline(place, observed, comparison, Recording("missing"))


def observe_model(model):
    return observe(model, IMAGES)

"""Models of several inputs and outputs, in each format, beside the Keras model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from convlens import Network, assert_same_behaviour
from convlens.compare.feeds import Feeds


@pytest.fixture(scope="module")
def network():
    import keras
    from keras import layers

    keras.utils.set_random_seed(2)
    image, other = keras.Input((12, 12, 3), name="image"), keras.Input((2,), name="other")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.Concatenate(name="joined")([layers.Flatten(name="flat")(x), other])
    outputs = [layers.Dense(3, name="first")(x), layers.Dense(2, name="second")(x)]
    model = keras.Model([image, other], outputs, name="two_inputs")
    return Network(model, held={"other": np.array([0.5, -1.0])})


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((3, 12, 12, 3), dtype=np.float32)


def change(model):
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel.swapaxes(0, 1), bias])


@pytest.mark.slow
def test_tflite(network, pictures, convert):
    found = assert_same_behaviour(convert(network.model, pictures), network, pictures)
    assert "lists its outputs in another order than its signature" in found.notes[0]
    assert not found.unmatched


@pytest.mark.slow
def test_onnx(network, pictures, tmp_path):
    pytest.importorskip("tf2onnx", reason="Keras exports to ONNX with tf2onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy's, at tf2onnx
        network.model.export(tmp_path / "new.onnx", format="onnx", verbose=False)
    found = assert_same_behaviour(tmp_path / "new.onnx", network, pictures)
    assert {"conv", "joined", "first", "second"} <= {x.layer for x in found.layers}


def test_a_saved_model_and_its_fault(network, pictures, tmp_path):
    network.model.export(tmp_path / "saved", verbose=False)
    found = assert_same_behaviour(tmp_path / "saved", network, pictures, allow_legacy=True)
    assert not found.unmatched
    change(network.model)
    with pytest.raises(AssertionError, match="diverges from two_inputs is 'conv'"):
        assert_same_behaviour(tmp_path / "saved", network, pictures, allow_legacy=True)
    change(network.model)


def test_held_values_find_their_inputs():
    inputs = {"serving_default_other:0": ((2,), np.float32), "x": ((4, 4, 3), np.float32)}
    feeds = Feeds("new", inputs)
    feeds.hold({"other": np.array([1.0, 2.0])})
    assert feeds.image == "x"
    ((given, count),) = feeds.batches(np.zeros((2, 4, 4, 3)), 3)
    assert ([value.shape for value in given], count) == ([(3, 2), (3, 4, 4, 3)], 2)
    counts = [count for _, count in feeds.batches(np.zeros((70, 4, 4, 3)), None)]
    assert counts == [32, 32, 6]
    with pytest.raises(ValueError, match=r"new has no single input for 'no' of shape \(7,\)"):
        feeds.hold({"no": np.zeros(7)})

"""SavedModel folders: loaded where that is allowed, as models of one layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convlens import ModelFileError, Network, assert_finite, assert_repeatable, load_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a SavedModel is a graph of TensorFlow"
)
DRAW = np.random.default_rng(0)


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelFileError) as failed:
        load_model(folder, **options)
    message = str(failed.value)
    assert message.isprintable()
    assert message.startswith(str(folder))
    return message


def test_it_predicts_as_the_model_that_was_exported(tiny, tiny_images, tmp_path):
    tiny.export(tmp_path / "net", verbose=False)
    assert "pass --convlens-allow-legacy, if you trust its source" in refused(tmp_path / "net")
    model = load_model(tmp_path / "net", allow_legacy=True)
    assert model.name == "net"
    expected = tiny.predict(tiny_images, verbose=0)
    assert np.allclose(model.predict(tiny_images, verbose=0), expected, atol=1e-6)
    network = Network(model)
    assert network.output_layers == ("saved_model",)
    assert sum(assert_finite(network).values()) == tiny.count_params()
    assert assert_repeatable(network, tiny_images)["saved_model"] < 1e-5


def test_inputs_and_outputs_have_their_names(tmp_path):
    image, speed = keras.Input((6, 6, 1), name="image"), keras.Input((2,), name="speed")
    x = layers.Concatenate()([layers.Flatten()(layers.Conv2D(2, 3)(image)), speed])
    outputs = {"steer": layers.Dense(1)(x), "brake": layers.Dense(2)(x)}
    built = keras.Model({"image": image, "speed": speed}, outputs)
    import tensorflow as tf

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 6, 6, 1), name="image"),
            tf.TensorSpec((None, 2), name="speed"),
        ]
    )
    def predict(image: Any, speed: Any) -> Any:
        return built({"image": image, "speed": speed})

    built.predict_them = predict
    tf.saved_model.save(built, str(tmp_path / "net"), signatures={"predict": predict})
    model = load_model(tmp_path / "net", allow_legacy=True)
    assert [t.name for t in model.inputs] == ["image", "speed"]
    network = Network(model, held={"speed": [0.5, 0.25]})
    assert network.output_layers == ("brake", "steer")
    images = DRAW.random((3, 6, 6, 1)).astype(np.float32)
    rows = np.broadcast_to(np.float32([0.5, 0.25]), (3, 2))
    found = model.predict([images, rows], verbose=0)
    expected = built.predict({"image": images, "speed": rows}, verbose=0)
    assert np.allclose(found[0], expected["brake"], atol=1e-6)
    assert np.allclose(found[1], expected["steer"], atol=1e-6)


def test_a_graph_with_nan_weights_is_found(tiny, tmp_path):
    kernel, bias = tiny.layers[0].get_weights()
    kernel[0, 0, 0, 0] = np.nan
    tiny.layers[0].set_weights([kernel, bias])
    tiny.export(tmp_path / "net", verbose=False)
    with pytest.raises(AssertionError, match="is not finite"):
        assert_finite(load_model(tmp_path / "net", allow_legacy=True))


def test_graphs_without_a_usable_signature_are_refused(tmp_path):
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 6, 6, 1))])
        def one(self, x: Any) -> Any:
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def text(self, x: Any) -> Any:
            return {"y": tf.strings.length(x)}

    module = Module()
    for name, signatures, message in (
        ("none", None, "but it has none"),
        ("two", {"a": module.one, "b": module.one}, "but it has 'a', 'b'"),
        ("one", {"serve": module.one}, "takes arrays of shape (1, 6, 6, 1) alone"),
        ("text", {"serve": module.text}, "takes string of shape (None,)"),
    ):
        tf.saved_model.save(module, str(tmp_path / name), signatures=signatures)
        assert message in refused(tmp_path / name, allow_legacy=True)
    (tmp_path / "none" / "saved_model.pb").write_bytes(b"\x08nothing")
    assert "could not be loaded" in refused(tmp_path / "none", allow_legacy=True)

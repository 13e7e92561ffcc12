"""The noise that steps explain: a quiet channel of a healthy model passes, and a fault does not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_same_behaviour
from convlens.compare.noise import Noise
from convlens.compare.same import compare_models
from convlens.compare.sources import open_source
from convlens.fixtures.artefacts import artefact_places, plant_in_artefact


@pytest.fixture(scope="module")
def amplified(images):
    """A network whose batch normalization amplifies a channel that varies less than a step."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(8)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(128, 1, name="wide")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.BatchNormalization(name="bn", momentum=0.0, epsilon=1e-9)(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(10, name="classes")(x), name="amplified")
    wide = model.get_layer("wide").kernel
    wide.assign(wide * np.where(np.arange(128) == 5, 1e-3, 1))
    model(images, training=True)
    return model


def test_in_dynamic_range_the_inputs_rounding_explains_a_quiet_channel(amplified, images, convert):
    path = convert(amplified, images, "dynamic range")
    found = assert_same_behaviour(path, amplified, images)
    assert found.arithmetic == "dynamic range"
    layer = found.of_layer("depthwise")
    assert layer.difference.worst_channel == 5
    assert layer.difference.channel_snr < found.limits.channel
    assert layer.noise.ratio < 2


@pytest.mark.parametrize("defect", ["transposed-kernel", "rotated-kernel", "permuted-outputs"])
def test_in_dynamic_range_a_fault_beside_a_quiet_channel(
    amplified, images, convert, tmp_path, defect
):
    content = convert(amplified, images, "dynamic range").read_bytes()
    place = next(x for x in artefact_places(content, defect) if "bn" in x or "depthwise" in x)
    path = tmp_path / "new.tflite"
    path.write_bytes(plant_in_artefact(content, defect, place))
    found = compare_models(open_source(path), open_source(amplified), images, names=("n", "r"))
    assert found.first is not None
    assert "depthwise" in found.first.group
    assert found.first.finding.startswith("unexplained noise")


@pytest.fixture(scope="module")
def sensitive(images):
    """A network that makes small differences large, layer by layer."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(9)
    x = image = keras.Input((16, 16, 3), name="image")
    for i in range(3):
        x = layers.Conv2D(8, 3, padding="same", name=f"conv_{i}")(x)
        x = layers.Rescaling(60.0, name=f"larger_{i}")(x)
        x = layers.Activation("tanh" if i == 2 else keras.ops.sin, name=f"wave_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, name="classes")(x), name="sensitive")


def test_outputs_are_explained_by_layers_that_all_agree(sensitive, images, convert):
    path = convert(sensitive, images, "float16")
    found = assert_same_behaviour(path, sensitive, images)
    (output,) = found.outputs
    assert -3 < output.snr < found.limits.output
    with pytest.raises(AssertionError, match="no layer can be named"):
        assert_same_behaviour(open_source(path).outputs, sensitive, images)


@pytest.mark.parametrize(
    "change", [lambda w: w.swapaxes(0, 1), lambda w: 1.1 * w, lambda w: np.roll(w, 1, axis=-1)]
)
def test_outputs_are_not_explained_where_a_layer_differs(sensitive, images, convert, change):
    path = convert(sensitive, images, "float16")
    kernel = sensitive.get_layer("conv_1").kernel
    healthy = np.asarray(kernel)
    kernel.assign(change(healthy))
    try:
        with pytest.raises(AssertionError, match="diverges from sensitive is 'conv_1"):
            assert_same_behaviour(path, sensitive, images)
    finally:
        kernel.assign(healthy)


@pytest.fixture(scope="module")
def preactivated(images):
    """A network with a batch normalization that no kernel takes: a product with constants."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(10)
    image = keras.Input((16, 16, 3), name="image")
    x = short = layers.Conv2D(32, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(name="preact_bn", momentum=0.0, epsilon=1e-9)(x)
    x = layers.ReLU(name="preact_relu")(x)
    x = layers.Conv2D(32, 3, padding="same", name="conv")(x)
    x = layers.Add(name="sum")([x, short])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(10, name="classes")(x), name="preactivated")
    # A quiet channel makes the constants' step large.
    stem, bias = model.get_layer("stem").weights
    stem.assign(stem * np.where(np.arange(32) == 7, 0.1, 1))
    bias.assign(bias + np.where(np.arange(32) == 7, 0, 2))
    model(images, training=True)
    return model


def test_in_int8_the_steps_of_constants_explain_a_product(preactivated, images, convert):
    found = assert_same_behaviour(convert(preactivated, images, "int8"), preactivated, images)
    assert found.arithmetic == "int8"
    assert found.unmatched == ()


@pytest.mark.parametrize("defect", ["stale-weights", "zero-point", "permuted-outputs"])
def test_in_int8_a_fault_beside_a_product(preactivated, images, convert, tmp_path, defect):
    content = convert(preactivated, images, "int8").read_bytes()
    path = tmp_path / "new.tflite"
    path.write_bytes(plant_in_artefact(content, defect, artefact_places(content, defect)[0]))
    with pytest.raises(AssertionError, match=r"diverges from preactivated is '(stem|conv)"):
        assert_same_behaviour(path, preactivated, images)


@pytest.mark.parametrize(
    ("ratio", "channels", "passed"),
    [(19, 8, True), (21, 8, False), (21, 3072, True), (36, 3072, False)],
)
def test_the_largest_of_many_channels_may_have_more_noise(ratio, channels, passed):
    assert Noise(1.0, 0, ratio, 0.0, 0.0, channels).passed == passed

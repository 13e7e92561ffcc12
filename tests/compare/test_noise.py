"""The noise that steps explain: a quiet channel of a healthy model passes, and a fault does not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_same_behaviour
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
        x = layers.Rescaling(40.0, name=f"larger_{i}")(x)
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


@pytest.mark.parametrize("defect", ["transposed-kernel", "shifted-bias"])
def test_outputs_are_not_explained_where_a_layer_differs(
    sensitive, images, convert, tmp_path, defect
):
    content = convert(sensitive, images, "float16").read_bytes()
    path = tmp_path / "new.tflite"
    path.write_bytes(plant_in_artefact(content, defect))
    with pytest.raises(AssertionError, match="diverges from sensitive is 'conv_1"):
        assert_same_behaviour(path, sensitive, images)

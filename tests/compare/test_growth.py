"""Outputs as they are deployed: other roundings that a network lets grow pass, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convlens import Network
from convlens.compare.forward import Forward
from convlens.compare.growth import grown_rounding
from convlens.compare.keras_model import KerasModel
from convlens.compare.measure import snr
from convlens.compare.same import compare_models
from convlens.compare.sources import open_source


@pytest.fixture(scope="module")
def sensitive(images: Any) -> Any:
    """A network that makes small differences large, with layers that programs fuse."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(9)
    x = image = keras.Input((16, 16, 3), name="image")
    for i in range(3):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"bn_{i}", momentum=0.0)(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.Rescaling(60.0, name=f"larger_{i}")(x)
        x = layers.Activation(keras.ops.sin, name=f"wave_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(10, name="classes")(x), name="sensitive")
    model(images, training=True)
    return model


@pytest.mark.slow
def test_a_graph_is_fused_where_it_is_deployed(sensitive, images, tmp_path):
    sensitive.export(tmp_path / "saved", verbose=False)
    new = open_source(tmp_path / "saved", allow_legacy=True)
    (deployed,), held = new.outputs(images), new.tensors(images)
    found = compare_models(new, open_source(sensitive), images, names=("new", "sensitive"))
    assert snr(held[new.output_names[0]], deployed) < found.limits.output
    assert found.outputs[0].snr < found.limits.output
    assert found.passed


class Deployed(KerasModel):
    """A model whose outputs are other ones where it is deployed."""

    def __init__(self, network: Network, change: Callable[[Any], Any]) -> None:
        super().__init__(network)
        self._change = change

    def outputs(self, images: Any) -> Any:
        return [self._change(own) for own in super().outputs(images)]


def noisy(share):
    def change(values):
        noise = np.random.default_rng(0).standard_normal(values.shape)
        return (values + share * values.std() * noise).astype(np.float32)

    return change


def test_outputs_within_the_grown_rounding_pass(sensitive, images):
    network = Network(sensitive)
    (grown,) = grown_rounding(Forward(network), images, "float32")
    assert 5 < grown < 40
    within, beyond = (10 ** (-(grown + more) / 20) for more in (4, -4))
    found = compare_models(
        Deployed(network, noisy(within)), KerasModel(network), images, names=("new", "reference")
    )
    assert found.outputs[0].snr < found.limits.output
    assert found.passed
    found = compare_models(
        Deployed(network, noisy(beyond)), KerasModel(network), images, names=("new", "reference")
    )
    assert not found.passed
    assert "no layer that was compared differs" in found.message


def test_a_network_that_lets_nothing_grow_explains_nothing(reference, images):
    assert grown_rounding(Forward(reference), images, "float32")[0] > 90
    found = compare_models(
        Deployed(reference, noisy(3e-3)), KerasModel(reference), images, names=("new", "reference")
    )
    assert not found.passed

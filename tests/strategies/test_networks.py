"""Properties of every network, tested on about 300 random networks."""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from convlens import (
    Network,
    activations,
    assert_deconv_round_trip,
    assert_matches_baseline,
    deconvolve,
)
from convlens.baselines.check import observe
from convlens.engine.explain import deconvnet
from convlens.strategies import ACTIVATIONS, KINDS, NetworkSpec, Step, network_specs

pytestmark = pytest.mark.usefixtures("eager")


def over(count: int) -> Any:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def built(spec: NetworkSpec) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    return spec.build()


@pytest.mark.slow
@over(110)
@given(spec=network_specs())
def test_the_deconvnet_passes_the_round_trip(spec):
    model = built(spec)
    top = model.layers[-1].name
    trip = assert_deconv_round_trip(model, spec.images(3), top, tol=1e-4)
    assert trip.residuals


@pytest.mark.slow
@over(110)
@given(spec=network_specs())
def test_activations_equal_those_of_keras(spec):
    model = built(spec)
    images = spec.images(3)
    network = Network(model)
    found = activations(network, images, tuple(network.outputs), batch_size=2)
    outputs = {layer.name: layer.output for layer in model.layers[1:]}
    expected = keras.Model(model.input, outputs)(images)
    for name, value in expected.items():
        want = keras.ops.convert_to_numpy(value)
        np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.slow
@over(50)
@given(spec=network_specs(), unit=st.integers(0, 3))
def test_gradients_agree_with_finite_differences(spec, unit):
    model = built(spec)
    image = spec.images(1).astype(np.float64)
    network = Network(model)
    layer = network.conv_layers[-1]
    unit %= network.units(layer)
    saliency = deconvolve(network, image, layer, unit, method="gradient", position="map").images[0]
    # The step along the gradient is small compared with the linear regions of ReLUs and pools.
    size = float(np.sqrt((saliency**2).sum()))
    if size < 1e-6:
        return
    step = 1e-3 * saliency / size

    def total(x: Any) -> float:
        return float(activations(network, x, layer)[layer][0, ..., unit].sum(dtype=np.float64))

    slope = (total(image + step) - total(image - step)) / 2e-3
    assert slope == pytest.approx(size, rel=0.1, abs=1e-3 * (1 + abs(total(image))))


@pytest.mark.slow
@over(50)
@given(spec=network_specs(max_steps=4))
def test_a_network_agrees_with_its_baseline_until_its_weights_change(spec):
    model = built(spec)
    images = spec.images(3)
    with tempfile.TemporaryDirectory() as folder:
        assert_matches_baseline(model, folder, "it", images=images, update="missing")
        assert assert_matches_baseline(model, folder, "it", images=images).passed
        first = model.layers[1]
        first.set_weights([w + 0.5 for w in first.get_weights()])
        with pytest.raises(AssertionError, match=first.name):
            assert_matches_baseline(model, folder, "it", images=images)


@pytest.mark.slow
@over(20)
@given(spec=network_specs())
def test_a_network_can_be_rebuilt_from_its_repr(spec):
    one, other = built(spec), built(eval(repr(spec), {"NetworkSpec": NetworkSpec, "Step": Step}))
    images = spec.images()
    np.testing.assert_array_equal(one(images), other(images))
    assert len({image.tobytes() for image in images}) == 2


def test_a_deconvnet_without_rectification_is_detected(monkeypatch):
    spec = NetworkSpec(
        (6, 6, 1), (Step("conv", 3, (3, 3), activation="relu"), Step("conv", 2, (3, 3)))
    )
    model = built(spec)
    assert_deconv_round_trip(model, spec.images(3), "conv_2")

    def without_rectification(network: Any, images: Any, layer: str, signal: Any) -> Any:
        found = deconvnet.project(network, images, layer, signal)
        if layer == "conv_1":  # the result of a plain transposed convolution
            kernel = network.layers["conv_1"].kernel
            found["input"] = keras.ops.conv_transpose(signal, kernel, padding="same")
        return found

    with pytest.raises(AssertionError, match="conv_1"):
        assert_deconv_round_trip(model, spec.images(3), "conv_2", project=without_rectification)


def test_the_random_networks_have_every_kind_of_layer():
    seen: set[str] = set()

    @over(110)
    @given(spec=network_specs())
    def look(spec: NetworkSpec) -> None:
        seen.update(step.kind for step in spec.steps)
        seen.update(f"{step.padding} {step.kind}" for step in spec.steps)
        seen.update(step.activation for step in spec.steps)
        seen.update("dilated" for step in spec.steps if step.dilation > 1)
        seen.update("strided" for step in spec.steps if step.strides > 1)
        seen.update("odd" for side in spec.input_shape[:2] if side % 2)
        seen.add(spec.head if spec.classes else "no head")

    look()
    wanted = {*KINDS, *ACTIVATIONS, "dilated", "strided", "odd", "flatten", "global_pool"}
    wanted |= {f"valid {kind}" for kind in ("conv", "depthwise", "max_pool", "average_pool")}
    assert wanted - seen == set()


def test_the_record_of_a_network_is_reproducible():
    spec = NetworkSpec((5, 7, 2), (Step("conv", 3, (3, 3), activation="relu"),), classes=3)
    model = built(spec)
    first, second = (observe(model, spec.images(3)).fingerprint for _ in range(2))
    assert first == second

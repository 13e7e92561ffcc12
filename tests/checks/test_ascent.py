"""The ascent check: what it must catch, each planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens import assert_activation_increases, maximize
from convlens.checks.ascent import random_steps
from convlens.engine.runtime import backend


@pytest.fixture(scope="module")
def healthy(tiny_network):
    return maximize(tiny_network, "conv_b", steps=60, checkpoints=4)


def test_a_healthy_ascent_passes_and_returns_its_gains(tiny_network, healthy):
    found = assert_activation_increases(tiny_network, healthy)
    np.testing.assert_allclose(found.final, healthy.trace[-1], rtol=1e-4)
    assert (found.gain > 0).all()
    assert (found.final > found.control).all()


@pytest.mark.slow
def test_every_layer_of_the_trained_network_passes(mnist_network):
    for layer in mnist_network.conv_layers:
        assert_activation_increases(mnist_network, maximize(mnist_network, layer, steps=60))


def test_the_control_takes_steps_of_the_same_length_in_the_range(healthy):
    free = replace(healthy, value_range=None)
    moved = random_steps(free) - free.start
    # A random walk of n steps of length s ends about s·√n away.
    ends = np.sqrt((moved**2).sum(axis=(1, 2, 3)))
    steps = free.path_length / free.steps
    np.testing.assert_allclose(ends, steps * np.sqrt(free.steps), rtol=0.25)
    clipped = random_steps(healthy)
    assert clipped.min() >= 0
    assert clipped.max() <= 1


def patched(monkeypatch, change):
    """Plant a defect in the gradient that the ascent climbs."""
    true = backend.vjp

    def vjp(fn, x):
        y, pullback = true(fn, x)
        return y, lambda cotangent: change(pullback(cotangent))

    monkeypatch.setattr(backend, "vjp", vjp)


@pytest.fixture
def fresh(tiny):
    from convlens import Network

    return Network(tiny)  # compiled anew, with the defect in it


def test_a_flipped_sign_is_caught(monkeypatch, fresh):
    patched(monkeypatch, lambda g: -g)
    result = maximize(fresh, "conv_b", steps=30)
    with pytest.raises(AssertionError, match=r"tiny layer 'conv_b': .* 5 of 5 units[^$]*unit \d"):
        assert_activation_increases(fresh, result)


def test_a_detached_gradient_is_caught(monkeypatch, fresh):
    patched(monkeypatch, lambda g: 0 * g)
    result = maximize(fresh, "conv_b", steps=30)
    with pytest.raises(AssertionError, match="rose by 0, at least"):
        assert_activation_increases(fresh, result)


def test_random_directions_do_no_better_than_the_control(tiny_network, healthy):
    chance = replace(healthy, images=random_steps(healthy, seed=9), trace=healthy.trace.copy())
    with pytest.raises(AssertionError, match="random steps of the same length reach"):
        assert_activation_increases(tiny_network, chance, gain=-10)


def test_a_dead_unit_is_named_as_dead(tiny):
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    kernel[..., 3], bias[3] = 0, -1
    conv.set_weights([kernel, bias])
    result = maximize(tiny, "conv_b", steps=30)
    with pytest.raises(AssertionError) as failure:
        assert_activation_increases(tiny, result)
    assert "the ascent of 1 of 5 units" in str(failure.value)
    assert "unit 3 is dead: 0 at the start, at the end and after" in str(failure.value)


def test_a_trace_of_the_jittered_images_is_caught(tiny_network, healthy):
    rolled = maximize(tiny_network, "conv_b", steps=1, jitter=0, seed_images=np.roll(
        healthy.images, (2, 3), axis=(1, 2)
    ))  # fmt: skip
    trace = healthy.trace.copy()
    trace[-1] = rolled.trace[0]
    with pytest.raises(AssertionError, match=r"its trace says .* was not measured on these images"):
        assert_activation_increases(tiny_network, replace(healthy, trace=trace))


def test_a_nan_image_never_passes(tiny_network, healthy):
    images = healthy.images.copy()
    images[2] = np.nan
    with pytest.raises(
        AssertionError, match=r"'conv_b': the ascent is not finite:\n  images: 338 of"
    ):
        assert_activation_increases(tiny_network, replace(healthy, images=images))


def test_a_nan_weight_never_passes(healthy, tiny):
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    kernel[0, 0, 0, 2] = np.nan
    conv.set_weights([kernel, bias])
    with pytest.raises(AssertionError, match="layer 'conv_b', kernel: 1 of 270"):
        assert_activation_increases(tiny, healthy)


def test_no_unit_never_passes(tiny_network, healthy):
    none = np.arange(0)
    empty = replace(healthy, units=none, images=healthy.images[:0], start=healthy.start[:0])
    with pytest.raises(AssertionError, match="no unit was maximized"):
        assert_activation_increases(tiny_network, empty)

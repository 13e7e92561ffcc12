"""Activation maximisation, beside the bare passes and a peer: `pytest benchmarks`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convlens import Network, activations, maximize
from convlens.benchmarks.peers import bare_passes, tf_keras_vis
from convlens.fixtures.mnist_cnn import load_mnist_cnn

LAYER, UNITS, STEPS, ROUNDS = "conv2d_3", 64, 300, 5


@pytest.fixture(scope="module")
def model() -> Any:
    return load_mnist_cnn()


@pytest.fixture(scope="module")
def start(model: Any) -> Any:
    return maximize(model, LAYER, steps=1).start


def rise(model: Any, start: Any, images: Any) -> Any:
    """Return how much each unit's activation rose: what does not climb is not to be timed."""
    before, after = (
        activations(model, x, LAYER)[LAYER].mean(axis=(1, 2)).diagonal() for x in (start, images)
    )
    return after - before


def note(benchmark: Any, **more: Any) -> None:
    benchmark.extra_info.update(layer=LAYER, units=UNITS, steps=STEPS, **more)


@pytest.mark.benchmark(group="ascent: 64 filters of conv2d_3, 300 steps")
def test_convlens_with_tracing(benchmark: Any, model: Any, start: Any) -> None:
    """A first call, as a test makes it: the network is taken apart and traced in the timed call."""
    note(benchmark, tracing=True)
    result = benchmark.pedantic(
        lambda: maximize(model, LAYER, steps=STEPS), rounds=ROUNDS, warmup_rounds=1
    )
    assert (rise(model, start, result.images) > 0).all()


@pytest.mark.benchmark(group="ascent: 64 filters of conv2d_3, 300 steps")
def test_convlens(benchmark: Any, model: Any, start: Any) -> None:
    """A later call: the traced graph is there."""
    note(benchmark, tracing=False)
    network = Network(model)
    result = benchmark.pedantic(
        lambda: maximize(network, LAYER, steps=STEPS), rounds=ROUNDS, warmup_rounds=1
    )
    assert (rise(model, start, result.images) > 0).all()


@pytest.mark.benchmark(group="ascent: 64 filters of conv2d_3, 300 steps")
def test_bare_passes(benchmark: Any, model: Any, start: Any) -> None:
    """The limit: as many forward and backward passes of the truncated network on the batch."""
    note(benchmark, tracing=False)
    run = bare_passes(model, LAYER, start, STEPS)
    images = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    assert np.isfinite(images).all()


@pytest.mark.benchmark(group="ascent: 64 filters of conv2d_3, 300 steps")
def test_tf_keras_vis(benchmark: Any, model: Any, start: Any) -> None:
    """The peer, on the same batch and steps."""
    pytest.importorskip("tf_keras_vis", reason="needs a peer: pip install 'pytest-convlens[peers]'")
    note(benchmark, tracing=True)
    images = benchmark.pedantic(tf_keras_vis(model, LAYER, start, STEPS), rounds=1)
    assert np.median(rise(model, start, images)) > 0

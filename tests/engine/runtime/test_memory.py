"""Split of batches to a memory budget."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, maximize
from convlens.engine.model.footprint import bytes_an_image
from convlens.engine.runtime.memory import default_budget, parts_within


@pytest.mark.parametrize("count", [1, 5, 16, 97])
@pytest.mark.parametrize(("together", "devices"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_parts_cover_the_batch_once_within_the_budget(count, together, devices):
    total = count * together
    parts = parts_within(10, total, 1, together=together, devices=devices)
    own = np.concatenate([part.index[: part.count] for part in parts])
    assert own.tolist() == list(range(total))
    sizes = {len(part.index) for part in parts}
    assert len(sizes) == 1  # one size, one traced graph
    size = sizes.pop()
    assert size % (together * devices) == 0
    assert size <= max(10, together) * devices


def test_a_budget_below_one_image_still_does_one():
    assert [p.count for p in parts_within(1, 3, 100)] == [1, 1, 1]


def test_the_estimate_grows_with_the_image_and_counts_only_what_is_below(tiny_network):
    first = bytes_an_image(tiny_network, ["conv_a"], (13, 13, 2))
    deeper = bytes_an_image(tiny_network, ["conv_a", "conv_b"], (13, 13, 2))
    assert first == 8 * (13 * 13 * 2 + 13 * 13 * 6)
    assert deeper == first + 8 * (6 * 6 * 6 + 4 * 4 * 5)


def test_a_network_of_any_size_is_measured_at_the_images_size():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, strides=2, name="conv")]
    )
    assert bytes_an_image(Network(model), ["conv"], (9, 21, 1)) == 8 * (9 * 21 + 4 * 10 * 2)


def test_the_default_leaves_memory_to_others():
    import psutil

    assert 0 < default_budget() <= psutil.virtual_memory().total


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "options",
    [
        {"images_per_unit": 2},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"keep_best": True}, marks=pytest.mark.slow),
    ],
)
def test_images_found_in_parts_are_those_of_one_batch(tiny_network, options):
    whole = maximize(tiny_network, "conv_b", steps=15, **options)
    # Three images a part, or with siblings four: the last part is filled up in both cases.
    budget = 3 * bytes_an_image(tiny_network, ["conv_b"], (13, 13, 2))
    if "images_per_unit" in options:
        budget = 2 * budget
    parts = maximize(tiny_network, "conv_b", steps=15, memory_budget=budget, **options)
    np.testing.assert_allclose(parts.images, whole.images, atol=1e-4)
    np.testing.assert_allclose(parts.trace, whole.trace, rtol=1e-3, atol=1e-5)
    assert parts.units.tolist() == whole.units.tolist()

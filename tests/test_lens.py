"""The `Lens`: a model with images."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import Lens, Network, occlude
from convlens.engine.features import maps
from convlens.engine.features.survey import Wanted


@pytest.fixture
def lens(mnist_network, digits):
    return Lens(mnist_network, digits.images[:40], digits.labels[:40])


@pytest.mark.slow
def test_it_gives_the_engine_its_own_images_labels_and_range(lens, mnist_network, digits):
    hidden = lens.occlude(patch=9)
    expected = occlude(mnist_network, digits.images[:40], digits.labels[:40], patch=9, value=0.5)
    np.testing.assert_array_equal(hidden.scores, expected.scores)
    assert lens.invariance("translation", amounts=[1]).classes.tolist() == lens.labels.tolist()
    top = lens.top_images(layers="conv2d_1", k=2)
    assert top.seen == 40
    assert lens.top_patches(top, "conv2d_1", [3]).patches.shape == (1, 2, 3, 3, 1)
    assert lens.maximize("conv2d_1", [0], steps=1).value_range == lens.value_range
    assert lens.deconvolve(None, [1, 2]).inputs.shape[0] == 2
    assert lens.name == "mnist_cnn"
    assert lens.model is mnist_network.model


def test_what_is_shared_is_computed_once_and_is_the_same(lens, digits):
    wanted = Wanted(filters=("conv2d_2",), scores=True)
    alone = lens.survey(wanted)
    assert list(alone.filters) == ["conv2d_2"]
    assert lens.survey(wanted) is not alone
    lens.share()
    shared = lens.survey(wanted)
    assert list(shared.filters) == list(lens.conv_layers)
    assert lens.survey(Wanted(finite=("conv2d_3",))) is shared
    own, other = alone.filters["conv2d_2"], shared.filters["conv2d_2"]
    assert (own.dead, own.duplicates) == (other.dead, other.duplicates)
    np.testing.assert_allclose(own.high, other.high, rtol=1e-5)
    np.testing.assert_allclose(alone.scores, shared.scores, rtol=1e-4, atol=1e-4)
    lens.unshare()
    assert lens.survey(wanted) is not shared


@pytest.mark.parametrize("budget", [2**28, 50_000, 1])
def test_maps_come_in_blocks_of_layers(lens, monkeypatch, budget):
    monkeypatch.setattr(maps, "_BUDGET", budget)
    expected = lens.activations(images=lens.images[[3, 1]])
    lens.share()
    for layer in (*lens.conv_layers, "conv2d_1"):
        np.testing.assert_allclose(lens.maps(layer, [3, 1]), expected[layer], rtol=1e-4, atol=1e-5)
    assert lens.shared_bytes <= max(1.25 * budget, expected["conv2d_1"].nbytes)
    assert lens.maps(lens.network.output_layer, [0]).shape == (1, 10)


def test_one_of_each_class_or_the_first_few(mnist_network, digits):
    labeled = Lens(mnist_network, digits.images, digits.labels)
    assert sorted(digits.labels[labeled.one_of_each()]) == list(range(10))
    assert labeled.one_of_each(3) == labeled.one_of_each()[:3]
    assert Lens(mnist_network, digits.images[:4]).one_of_each() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.full((2, 28, 28, 1), 255.0)}, "range from 255 to 255, but mnist_cnn takes"),
        ({"labels": [1, 2, 3]}, r"2 images need 2 whole numbers as labels, .*, not int64 \(3,\)"),
        ({"value_range": (1, 1)}, "low < high"),
    ],
)
def test_what_does_not_fit_is_refused(mnist_network, change, message):
    given = {"images": np.zeros((2, 28, 28, 1)), **change}
    with pytest.raises(ValueError, match=message):
        Lens(mnist_network, **given)


def test_labels_of_every_form_become_class_numbers(mnist_network, digits):
    for labels in (digits.labels[:, None], np.eye(10)[digits.labels], digits.labels.astype(float)):
        lens = Lens(mnist_network, digits.images, labels)
        assert lens.labels.tolist() == digits.labels.tolist()
        assert sorted(digits.labels[lens.one_of_each()]) == list(range(10))


def test_a_network_of_any_size_climbs_at_the_images_size():
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")])
    lens = Lens(Network(model), np.random.default_rng(0).random((2, 9, 11, 1)))
    assert lens.maximize("conv", steps=1).images.shape == (2, 9, 11, 1)

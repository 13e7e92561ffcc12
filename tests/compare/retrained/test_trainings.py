"""Real trainings: healthy ones pass among each other, and each planted loss is named."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens import Network, assert_no_regression

sys.path.insert(0, str(Path(__file__).parent))
from shapes import blurred, draw_shapes, exchanged, train_shapes, without

HELD_OUT = draw_shapes(100, seed=7)
PLANTED = {
    "a class left out": ({"change": without(2)}, "lost class 2, .* never answered"),
    "two classes exchanged": ({"change": exchanged(4, 5)}, "exchanged with class [45]: .* also"),
    "a class blurred": ({"change": blurred(3)}, "lost class 3, .* recognized when blurred"),
    "one epoch": ({"epochs": 1}, "spread over 6 of 6 .* as by a training that ended early"),
    "the first layer frozen": ({"frozen": "conv_a"}, "layer 'conv_a' .*: it was not trained"),
    "the second layer frozen": ({"frozen": "conv_b"}, "layer 'conv_b' .*: it was not trained"),
    "the dense layer frozen": ({"frozen": "dense"}, "layer 'dense' .*: it was not trained"),
}


@pytest.fixture(scope="module")
def healthy() -> Any:
    """Three trainings that differ in their seed."""
    return [Network(train_shapes(seed)) for seed in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("labeled", [True, False])
def test_healthy_trainings_pass(healthy, labeled):
    images, labels = HELD_OUT
    for new, old in itertools.permutations(healthy, 2):
        assert_no_regression(new, old, images, labels if labeled else None)


@pytest.mark.slow
@pytest.mark.parametrize("loss", PLANTED)
def test_a_planted_loss_is_named(healthy, loss):
    changes, message = PLANTED[loss]
    images, labels = HELD_OUT
    broken = Network(train_shapes(100, **changes))
    for truth in (labels, None):
        with pytest.raises(AssertionError) as error:
            assert_no_regression(broken, healthy[0], images, truth)
        error.match(message)


@pytest.fixture(scope="module")
def recipe(mnist: Any) -> Any:
    """Return a trainer of the shipped recipe, with a change of its training images."""
    from convlens.fixtures.train_mnist_cnn import train

    def run(seed: int, keep: Any = None, labels: Any = None, epochs: int = 20) -> Any:
        chosen = slice(None) if keep is None else keep
        y = mnist.y_train if labels is None else labels
        given = mnist._replace(x_train=mnist.x_train[chosen], y_train=y[chosen])
        return train(given, seed=seed, epochs=epochs)[0]

    return run


@pytest.fixture(scope="module")
def test_digits(mnist: Any) -> Any:
    images = mnist.x_test[:5000, ..., None].astype(np.float32) / 255
    return images, mnist.y_test[:5000].astype(np.int64)


@pytest.mark.weekly
def test_five_seeds_of_the_shipped_recipe_pass(recipe, mnist_cnn, test_digits):
    models = [Network(m) for m in (mnist_cnn, *(recipe(seed) for seed in range(11, 16)))]
    for new, old in itertools.permutations(models, 2):
        assert_no_regression(new, old, *test_digits)
        assert_no_regression(new, old, test_digits[0])


@pytest.mark.weekly
def test_losses_of_the_shipped_recipe_are_named(recipe, mnist, mnist_cnn, test_digits):
    y = mnist.y_train
    swapped = y.copy()
    swapped[y == 3], swapped[y == 5] = 5, 3
    losses = [
        (recipe(31, keep=y != 7, epochs=4), "lost class 7, .* never answered"),
        (recipe(32, labels=swapped, epochs=4), "exchanged with class [35]"),
    ]
    for broken, message in losses:
        with pytest.raises(AssertionError) as error:
            assert_no_regression(broken, mnist_cnn, *test_digits)
        error.match(message)


@pytest.mark.weekly
def test_one_epoch_of_a_part_of_the_recipe_is_named(recipe, mnist_cnn, test_digits):
    with pytest.raises(AssertionError) as error:
        assert_no_regression(recipe(36, keep=slice(10_000), epochs=1), mnist_cnn, *test_digits)
    error.match("spread over 10 of 10 classes.* as by a training that ended early")

"""Accuracy: the healthy network passes; confused classes, lost weights and bad labels do not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_accuracy
from convlens.checks.accuracy import chance, luck
from convlens.fixtures.defects import plant


def test_the_trained_network_passes(mnist_cnn, digits):
    assert assert_accuracy(mnist_cnn, *digits, min_accuracy=0.99) == 1.0
    assert assert_accuracy(mnist_cnn, *digits) == 1.0


@pytest.mark.parametrize("defect", ["permuted-classes", "reinitialized"])
def test_planted_defects_are_found(mnist_cnn, digits, defect):
    with pytest.raises(AssertionError, match=r"a model that knows nothing gets about 10\.0%"):
        assert_accuracy(plant(mnist_cnn, defect), *digits)


def test_the_message_names_what_is_mistaken_most(mnist_cnn, digits):
    images, labels = digits
    wrong = np.where(labels == 3, 8, labels)
    with pytest.raises(AssertionError, match=r"180 of 200 .*90.0%.*at least 95.0%") as failed:
        assert_accuracy(mnist_cnn, images, wrong, min_accuracy=0.95)
    assert "class 8 is taken for 3 in 20 of 40 images" in str(failed.value)


def test_the_limit_itself_is_enough(mnist_cnn, digits):
    images, labels = digits
    assert (
        assert_accuracy(mnist_cnn, images, np.where(labels == 3, 8, labels), min_accuracy=0.9)
        == 0.9
    )


def test_one_answer_for_all_is_no_knowledge(mnist_cnn, digits):
    images, labels = digits
    model = plant(mnist_cnn, "dead-layer")
    # Nine in ten are of the class that the dead network happens to answer: still chance.
    answer = int(model.predict(images[:1], verbose=0).argmax())
    uneven = np.where(np.arange(len(labels)) % 10 > 0, answer, (answer + 1) % 10)
    with pytest.raises(AssertionError, match=r"gets about 90\.0%"):
        assert_accuracy(model, images, uneven)


def test_few_labels_that_are_all_right_are_no_mistake(mnist_cnn, digits):
    same = digits.labels == 3
    assert assert_accuracy(mnist_cnn, digits.images[same], digits.labels[same]) == 1.0


def test_labels_as_columns_and_as_one_hot_rows(mnist_cnn, digits):
    images, labels = digits
    for given in (labels[:, None], np.eye(10, dtype=np.float32)[labels], labels.astype(float)):
        assert assert_accuracy(mnist_cnn, images, given) == 1.0
    with pytest.raises(AssertionError, match=r"gets about 10\.0%"):
        assert_accuracy(mnist_cnn, images, np.eye(10)[(labels + 1) % 10])


def test_chance_and_luck():
    assert chance([0, 0, 1, 2], 10) == 0.5
    assert chance(np.arange(10), 10) == pytest.approx(0.1)
    assert luck(0, 5, 0.1) == 1.0
    assert luck(5, 5, 0.1) == pytest.approx(1e-5)
    assert luck(1, 2, 0.5) == pytest.approx(0.75)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("labels", "least", "message"),
    [
        (np.zeros(3, int), None, "200 images need 200 whole numbers"),
        (np.full(200, 0.5), None, "200 images need 200 whole numbers"),
        (np.full(200, 10), None, "labels range from 10 to 10, but mnist_cnn has classes 0 to 9"),
        (np.full(200, -1), None, "labels range from -1 to -1"),
        (np.zeros(200, int), None, "cannot tell knowledge from guessing"),
        (np.zeros(200, int), 1.5, "min_accuracy must be between 0 and 1, not 1.5"),
    ],
)
def test_bad_input(mnist_cnn, digits, labels, least, message):
    with pytest.raises(ValueError, match=message):
        assert_accuracy(mnist_cnn, digits.images, labels, min_accuracy=least)

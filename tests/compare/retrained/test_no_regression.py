"""Losses planted in a table of answers are named; healthy tables pass; bad input is a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convlens import assert_no_regression
from convlens.fixtures.defects import plant

COUNT, CLASSES = 400, 8
LABELS = np.arange(COUNT) % CLASSES
# Images whose gray level is their number.
IMAGES = np.tile(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (1, 4, 4, 1))


def answering(answers: Any, sure: float = 0.96) -> Callable[[Any], Any]:
    """Return a function of images that gives the answers the largest probability."""
    table = np.full((COUNT, CLASSES), (1 - sure) / (CLASSES - 1))
    table[np.arange(COUNT), answers] = sure
    return lambda images: table[np.rint(images[:, 0, 0, 0]).astype(int)]


def with_errors(seed: int, count: int = 12) -> Any:
    """Return the labels with some errors: the answers of a training."""
    wrong = np.random.default_rng(seed).choice(COUNT, count, replace=False)
    answers = LABELS.copy()
    answers[wrong] = (answers[wrong] + 1 + seed) % CLASSES
    return answers


OLD = answering(with_errors(0))


def failure(answers: Any, labels: Any = LABELS, **options: Any) -> str:
    with pytest.raises(AssertionError) as error:
        assert_no_regression(answering(answers), OLD, IMAGES, labels, **options)
    return str(error.value)


@pytest.mark.parametrize("labels", [LABELS, np.eye(CLASSES)[LABELS], None])
def test_a_healthy_training_passes(labels):
    found = assert_no_regression(answering(with_errors(1)), OLD, IMAGES, labels)
    assert found.passed
    assert 0.93 < found.churn.agreement < 0.96
    assert len(found.outputs) == CLASSES
    assert min(each.explained for each in found.outputs) > 0.7
    assert [each.partner for each in found.outputs] == list(range(CLASSES))
    assert "no class or layer was lost" in found.verdict
    if labels is not None:
        assert found.churn.accuracy == (0.97, 0.97)
        assert len(found.churn.lost) == len(found.churn.gained)


@pytest.mark.parametrize("labels", [LABELS, None])
def test_a_class_that_is_never_answered(labels):
    answers = with_errors(1)
    answers[answers == 5] = 2
    text = failure(answers, labels)
    first = text.splitlines()[0]
    assert "lost class 5, " in first
    assert "never answered (4" in first
    assert "lost images are taken for 2" in first
    assert "images 5, 13, 21" in text
    assert "class 5: R²" in text
    assert "the new training set has fewer or other images of class 5" in text


@pytest.mark.parametrize("labels", [LABELS, None])
def test_two_classes_that_are_exchanged(labels):
    answers = with_errors(1)
    third, sixth = answers == 3, answers == 6
    answers[third], answers[sixth] = 6, 3
    text = failure(answers, labels)
    assert "exchanged with class 6" in text
    assert "exchanged with class 3" in text
    assert "R²" not in text.splitlines()[0]


@pytest.mark.parametrize("labels", [LABELS, None])
def test_a_third_of_a_class(labels):
    answers = with_errors(1)
    answers[np.flatnonzero(LABELS == 4)[::3]] = 7
    first = failure(answers, labels).splitlines()[0]
    assert "lost class 4, " in first
    assert "lost images are taken for 7" in first


def test_a_class_that_is_recognized_when_blurred():
    """The images of class 1 are checkered, and the new model takes them for 2 unless they blur."""
    checkers = np.indices((COUNT, 16, 16, 1))[1:3].sum(axis=0) % 2
    gray = np.where(LABELS == 1, 0.5, LABELS / 8)[:, None, None, None]
    images = gray + np.where(LABELS[:, None, None, None] == 1, checkers - 0.5, 0.0)

    def old(given):
        means = given[:, 4:-4, 4:-4].mean(axis=(1, 2, 3))
        return np.eye(CLASSES)[
            np.where(np.abs(means - 0.5) < 0.01, 1, np.rint(8 * means)).astype(int)
        ]

    def new(given):
        rough = given[:, 4:-4, 4:-4].std(axis=(1, 2, 3)) > 0.2
        return np.where(rough[:, None], np.eye(CLASSES)[2], old(given))

    labels = np.where(LABELS == 4, 1, LABELS)
    with pytest.raises(
        AssertionError, match=r"class 1, 50 of 100 .*recognized when blurred \(50 of"
    ):
        assert_no_regression(new, old, images, labels)


def test_a_training_that_ended_early():
    answers = with_errors(1, count=80)
    with pytest.raises(AssertionError) as error:
        assert_no_regression(answering(answers, 0.5), OLD, IMAGES, LABELS)
    first = str(error.value).splitlines()[0]
    assert "of 400 images and gained 1" in first
    assert "spread over 8 of 8 classes" in first
    assert "less sure (mean probability 0.960 → 0.500), as by a training that ended early" in first


def test_a_gain_is_no_loss():
    found = assert_no_regression(answering(LABELS), answering(with_errors(0, 60)), IMAGES, LABELS)
    assert len(found.churn.gained) == 60
    assert found.churn.lost == ()
    assert found.churn.p_value == 1


def test_a_few_images_of_many_are_chance():
    images, labels = IMAGES[:40], LABELS[:40]
    answers = with_errors(1)
    answers[:2] = 7
    assert_no_regression(answering(answers), OLD, images, labels)


def test_answers_that_change_at_random_are_churn():
    answers = with_errors(0)
    answers[::10] = (answers[::10] + 1) % CLASSES
    text = failure(answers, None)
    assert "the new model answers 10.0% of 400 images otherwise than the old model" in text
    assert "no labels" in text


def test_the_agreement_that_is_asked_for_holds_as_it_is():
    new = answering(with_errors(1))
    found = assert_no_regression(new, OLD, IMAGES, LABELS, min_agreement=0.94)
    with pytest.raises(AssertionError, match=r"they agree on 94\.\d% \(limit 99\.0%\)"):
        assert_no_regression(new, OLD, IMAGES, LABELS, min_agreement=0.99)
    assert found.churn.min_agreement == 0.94


@pytest.mark.parametrize("labels", [LABELS, None])
def test_outputs_that_tell_nothing_of_a_class(labels):
    """The answers are the same, but the new model hardly tells class 0 from any other."""
    draw = np.random.default_rng(0)
    old = np.full((COUNT, CLASSES), 0.01)
    old[np.arange(COUNT), LABELS] = 0.9
    new = np.full((COUNT, CLASSES), 0.01)
    other = np.where(LABELS == 0, draw.integers(1, CLASSES, COUNT), LABELS)
    new[np.arange(COUNT), other] = 0.45
    new[:, 0] = np.where(LABELS == 0, 0.451, draw.uniform(0.43, 0.449, COUNT))
    with pytest.raises(AssertionError, match=r"no longer tell class 0 of .*R² \d\.\d+ \(limit 0"):
        assert_no_regression(table(new), table(old), IMAGES, labels)


def table(values: Any) -> Callable[[Any], Any]:
    return lambda images: values[np.rint(images[:, 0, 0, 0]).astype(int)]


BAD = {
    "one image": (OLD, OLD, IMAGES[:1], "1 image cannot tell a loss from chance: give at least 20"),
    "other classes": (
        lambda x: OLD(x)[:, :6],
        OLD,
        IMAGES,
        "has 6 classes and .* 8: at most the outputs 0 to 5 can be compared",
    ),
    "a regression": (lambda x: 7 * OLD(x)[:, :1], OLD, IMAGES, r"no probability \(a regression\)"),
    "maps": (lambda x: x, OLD, IMAGES, r"outputs of shape \(n, 4, 4, 1\), but one of shape"),
    "NaN": (lambda x: OLD(x) * np.nan, OLD, IMAGES, "outputs that are not finite"),
    "a missing file": (OLD, "none.keras", IMAGES, "none.keras does not exist"),
    "no images": (OLD, OLD, IMAGES[:0], "n ≥ 20"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_a_sentence(case):
    new, old, images, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        assert_no_regression(new, old, images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 1, "labels range from 1 to 8, but .* has classes 0 to 7"),
        (LABELS[:9], "400 whole"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        assert_no_regression(OLD, OLD, IMAGES, labels)


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_an_agreement_that_is_no_share(share):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        assert_no_regression(OLD, OLD, IMAGES, min_agreement=share)


def test_a_layer_explains_a_loss_of_the_whole(mnist_cnn, digits):
    """The message leads with the layer, and not with the classes."""
    broken = plant(mnist_cnn, "reinitialized", "conv2d_3")
    with pytest.raises(AssertionError) as error:
        assert_no_regression(broken, mnist_cnn, *digits)
    first = str(error.value).splitlines()[0]
    assert "of 200 images and gained 0, spread over " in first
    assert "classes: layer 'conv2d_3' lost its training: its weights are as at init" in first
    assert "usually: the layer was not trainable" in str(error.value)


def test_models_that_take_other_images(mnist_cnn):
    import keras

    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match=r"takes images of 28×28×1 and .* of 32×32×3"):
        assert_no_regression(mnist_cnn, other, np.zeros((30, 28, 28, 1)))


def test_a_model_of_numbers(mnist_cnn):
    import keras

    other = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    other.add(keras.layers.Dense(10))
    other.compile(loss="mse")
    with pytest.raises(ValueError, match=r"a regression\): only answers of classes"):
        assert_no_regression(mnist_cnn, other, np.zeros((30, 28, 28, 1)))


def test_a_single_output_is_two_classes():
    old, new = (table((with_errors(seed) % 2)[:, None]) for seed in (0, 2))
    found = assert_no_regression(new, old, IMAGES, LABELS % 2)
    assert len(found.churn.classes) == 2
    with pytest.raises(AssertionError, match="exchanged with class"):
        assert_no_regression(lambda x: 1 - new(x), old, IMAGES, LABELS % 2)

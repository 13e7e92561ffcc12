"""The zero-code run of models with several outputs, labels of every form, assumed ranges."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as kl

PIXELS = np.random.default_rng(0).random((24, 12, 12, 3), dtype=np.float32)
LABELS = np.arange(24) % 3


def save(pytester, build, loss=None):
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3))
    net = keras.Model(image, build(kl.GlobalAveragePooling2D()(kl.Conv2D(4, 3, name="c")(image))))
    net.compile(loss=loss)
    net.save(pytester.path / "m.keras")
    return net


def run(pytester, labels, *options):
    np.savez(pytester.path / "i.npz", images=PIXELS, labels=labels)
    return pytester.runpytest("m.keras", "--convlens-images", "i.npz", "-rs", *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels", [LABELS[:, None], np.eye(3, dtype=np.float32)[LABELS], LABELS.astype(float)]
)
def test_labels_of_every_form_are_used(pytester, labels):
    save(pytester, lambda h: kl.Dense(3, activation="softmax")(h))
    result = run(pytester, labels, "-k", "accuracy", "--convlens-accuracy", "0")
    result.assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (LABELS[:7], "*the labels cannot be used: 24 images need 24 whole numbers*"),
        pytest.param(
            LABELS + 0.5,
            "*the labels cannot be used: *with fractions or NaN*",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            np.full((24, 3), 1 / 3),
            "*the labels cannot be used: *row 0 is not one-hot*",
            marks=pytest.mark.slow,
        ),
        (np.array(["a", "b", "c"])[LABELS], "*the labels cannot be used: *not <U1*"),
        (LABELS + 1, "*labels range from 1 to 3, but m.keras has classes 0 to 2*"),
    ],
)
def test_labels_that_cannot_be_used_skip_accuracy_alone(pytester, labels, reason):
    save(pytester, lambda h: kl.Dense(3, activation="softmax")(h))
    result = run(pytester, labels, "-k", "accuracy or finite or dead or saturation")
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines([reason])


def test_a_regression_has_no_classes(pytester):
    save(pytester, lambda h: kl.Dense(2, name="size")(h), "mse")
    result = run(pytester, LABELS, "-k", "accuracy or classes")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*'size' was trained with a loss of numbers (a regression)*"])


def test_the_classes_among_several_outputs_are_examined(pytester):
    save(
        pytester,
        lambda h: {"box": kl.Dense(4)(h), "kind": kl.Dense(3, activation="softmax", name="k")(h)},
    )
    result = run(pytester, LABELS, "-k", "accuracy or saturation", "--convlens-accuracy", "0")
    result.assert_outcomes(passed=2)


def test_an_assumed_range_is_named_where_nearly_everything_is_dead(pytester):
    keras.utils.set_random_seed(0)
    kernel = keras.initializers.RandomUniform(0.1, 0.2)
    conv = kl.Conv2D(
        8, 3, activation="relu", kernel_initializer=kernel, bias_initializer="ones", name="c"
    )
    net = keras.Sequential([keras.Input((12, 12, 3)), conv, kl.GlobalAveragePooling2D()])
    conv.bias.assign(np.full(8, -40.0))  # which pixels in 0–1 never pass
    net.save(pytester.path / "m.keras")
    hint = (
        "*no range was given, so 0 to 1 was assumed: with --convlens-range 0,255, 0 of 8 are dead"
    )
    pytester.runpytest("m.keras", "-k", "dead").stdout.fnmatch_lines([hint])
    given = pytester.runpytest("m.keras", "-k", "dead", "--convlens-range", "0,255")
    given.assert_outcomes(passed=1)
    own = pytester.runpytest("m.keras", "-k", "dead", "--convlens-range", "0,1")
    own.assert_outcomes(failed=1)
    assert "no range was given" not in own.stdout.str()


def test_one_image_cannot_tell_whether_a_filter_is_dead(pytester):
    save(pytester, lambda h: kl.Dense(3, activation="softmax")(h))
    np.savez(pytester.path / "i.npz", images=PIXELS[:1])
    result = pytester.runpytest("m.keras", "--convlens-images", "i.npz", "-rs", "-k", "dead")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*at least two images that differ are needed*"])

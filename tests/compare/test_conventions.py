"""Differences in how a model is called are found and named, and no layer is blamed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from convlens import assert_same_behaviour

# What the new model does with images before the reference's layers.
INPUTS = {
    "its channels in the reverse order": lambda x: x[..., ::-1],
    "pixels multiplied by 255": lambda x: x / 255,
    "0–1 mapped to −1–1": lambda x: (x + 1) / 2,
    "(BGR for RGB), and pixels divided by 255": lambda x: 255 * x[..., ::-1],
    "0–1 normalized by ImageNet's means": lambda x: (
        x * np.array([0.229, 0.224, 0.225], np.float32)
        + np.array([0.485, 0.456, 0.406], np.float32)
    ),
}


@pytest.fixture(scope="module")
def predict(reference):
    return lambda x: np.asarray(reference.model(np.ascontiguousarray(x)))


@pytest.mark.quick(1)
@pytest.mark.parametrize("finding", INPUTS)
def test_an_input_convention(reference, predict, images, finding):
    with pytest.raises(AssertionError) as error:
        assert_same_behaviour(lambda x: predict(INPUTS[finding](x)), reference, images)
    assert "in how it is called: it agrees if it is given" in str(error.value)
    assert finding in str(error.value)


def test_softmax_in_and_out(predict, images):
    def logits(x):
        return np.log(predict(x)) + 1

    for new, reference, finding in (
        (logits, predict, "has no softmax at its end"),
        (predict, logits, "has one softmax at its end"),
    ):
        with pytest.raises(AssertionError, match=finding):
            assert_same_behaviour(new, reference, images)


def test_outputs_in_another_order(predict, images):
    def two(x):
        return [predict(x), predict(x)[:, :2] + x.mean(axis=(1, 2))[:, :2]]

    with pytest.raises(AssertionError, match="has its outputs in another order"):
        assert_same_behaviour(lambda x: two(x)[::-1], two, images)


def test_a_fault_is_no_convention(predict, images):
    draw = np.random.default_rng(0)
    wrong = draw.normal(size=(4, 4)).astype(np.float32)
    with pytest.raises(AssertionError, match="no layer can be named"):
        assert_same_behaviour(lambda x: softmax(predict(x) @ wrong, axis=-1), predict, images)

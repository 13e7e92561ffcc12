"""Class images: recognized, or not, with the score before the softmax."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from convlens import Lens, assert_class_images_recognized, maximize
from convlens.checks import classes
from convlens.checks.check import Effort, run_check
from convlens.engine.ascent.scores import class_scores


@pytest.fixture(scope="module")
def images(mnist_network):
    return maximize(mnist_network, steps=80)


def test_the_trained_network_recognizes_its_class_images(mnist_cnn, mnist_network, images):
    margins = assert_class_images_recognized(mnist_network, images)
    assert margins.shape == (10,)
    assert (margins > 1).all()
    assert mnist_cnn.predict(images.images, verbose=0).argmax(axis=1).tolist() == list(range(10))


def test_permuted_classes_are_caught(mnist_network, images):
    swapped = replace(images, units=images.units[[1, 0, *range(2, 10)]])
    with pytest.raises(AssertionError) as failure:
        assert_class_images_recognized(mnist_network, swapped)
    assert "mnist_cnn does not recognize 2 of 10 of its class images" in str(failure.value)
    assert "class 1: its image scores" in str(failure.value)


def test_a_margin_after_the_softmax_is_no_margin(mnist_network, images):
    """With the softmax left in, no margin can exceed 1: the check asks for scores before it."""
    margins = assert_class_images_recognized(mnist_network, images, margin=1.0)
    with pytest.raises(AssertionError, match="margin"):
        assert_class_images_recognized(mnist_network, images, margin=float(margins.min()) + 1)
    unmoved = replace(images, images=images.start)
    with pytest.raises(AssertionError, match="class"):
        assert_class_images_recognized(mnist_network, unmoved)


@pytest.mark.slow
def test_a_softmax_left_in_is_caught(mnist_cnn):
    clone = keras.models.clone_model(mnist_cnn)
    clone.set_weights(mnist_cnn.get_weights())
    twice = keras.Sequential([*clone.layers, keras.layers.Softmax(name="again")], name="twice")
    result = maximize(twice, steps=80)
    with pytest.raises(AssertionError, match=r"twice does not recognize 10 of 10 .*\(margin 1\)"):
        assert_class_images_recognized(twice, result)


def test_nan_never_passes(mnist_network, images):
    bad = replace(images, images=images.images * np.nan)
    with pytest.raises(AssertionError, match="a class image is not finite"):
        assert_class_images_recognized(mnist_network, bad)


def test_images_of_another_layer_and_none_at_all_are_refused(mnist_network, images):
    with pytest.raises(ValueError, match="class images are those of 'predictions'"):
        assert_class_images_recognized(mnist_network, replace(images, layer="conv2d_1"))
    empty = replace(images, units=np.arange(0), images=images.images[:0])
    with pytest.raises(AssertionError, match="no class image was given"):
        assert_class_images_recognized(mnist_network, empty)


def test_classes_about_to_fail_climb_in_more_steps(tiny_network, tiny_images, monkeypatch):
    lens, effort = Lens(tiny_network, tiny_images), Effort(level="quick")
    short = effort.maximize(lens, None)
    scores = class_scores(tiny_network, short.images)
    others = np.where(np.eye(3, dtype=bool), -np.inf, scores).max(axis=1)
    margins = np.diag(scores) - others
    between = float(np.sort(margins)[:2].mean())  # one of three classes is below it
    monkeypatch.setattr(classes, "_MARGIN", between)
    seen = run_check(classes.Classes(), lens, None, effort)
    np.testing.assert_array_equal(
        seen.result.steps_taken > short.steps_taken, margins == margins.min()
    )
    asked = run_check(classes.Classes(), lens, None, replace(effort, steps=12))
    np.testing.assert_array_equal(asked.result.steps_taken, short.steps_taken)


@pytest.mark.parametrize(
    ("paid", "steps", "twice"), [(0.3, None, False), (1.0, 36, False), (10.0, 48, True)]
)
def test_longer_ascents_keep_to_what_the_budget_pays(
    tiny_network, tiny_images, monkeypatch, paid, steps, twice
):
    lens, effort = Lens(tiny_network, tiny_images), Effort(level="quick")
    result = effort.maximize(lens, None)
    plan = replace(lens.plan_ascent(None, "quick"), affordable=paid)
    monkeypatch.setattr(lens, "plan_ascent", lambda *_: plan)
    asked = []
    climb = Lens.maximize
    monkeypatch.setattr(Lens, "maximize", lambda *a, **k: asked.append(k) or climb(*a, **k))
    effort.maximize_longer(lens, None, result, [0])
    assert [(k["steps"], k["restart_all"]) for k in asked] == ([(steps, twice)] if steps else [])

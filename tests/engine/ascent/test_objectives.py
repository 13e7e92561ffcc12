"""Objectives: their values, their sums, and invalid ones."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convlens import Objective, activations, maximize
from convlens.engine.ascent.scores import objective_values

UNIT = Objective.unit


def test_each_kind_is_what_its_name_says(tiny, tiny_network, tiny_images):
    maps = activations(tiny_network, tiny_images, ["conv_a", "conv_b"])
    a, b = maps["conv_a"], maps["conv_b"]
    v = np.arange(5.0) - 2
    objectives = [
        UNIT("conv_a", 2),
        UNIT("conv_b", 1, (1, 3)),
        UNIT("conv_b", 4, "center"),
        Objective.direction("conv_b", v),
        Objective.direction("conv_b", v, (0, 0)),
        Objective.class_score(2),
    ]
    inner = keras.Model(tiny.inputs[0], tiny.get_layer("flatten").output)(tiny_images)
    kernel, bias = tiny.get_layer("classes").get_weights()
    expected = [
        a[0, :, :, 2].mean(),
        b[1, 1, 3, 1],
        b[2, 2, 2, 4],
        (b[3] @ v).mean(),
        b[4, 0, 0] @ v,
        (np.asarray(inner)[5] @ kernel + bias)[2],
    ]
    values = objective_values(tiny_network, objectives, tiny_images)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_sums_add_up(tiny_network, tiny_images):
    one, two = UNIT("conv_a", 0), UNIT("conv_b", 3)
    total = 2 * one - two * 0.5
    first, second = (objective_values(tiny_network, [o] * 6, tiny_images) for o in (one, two))
    summed = objective_values(tiny_network, [total] * 6, tiny_images)
    np.testing.assert_allclose(summed, 2 * first - 0.5 * second, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        objective_values(tiny_network, [-total] * 6, tiny_images), -summed, rtol=1e-5
    )


def test_an_objective_says_what_it_is():
    assert str(UNIT("a", 3)) == "a[3]"
    assert str(UNIT("a", 3, (0, 7)) - 2 * Objective.class_score(1)) == "a[3@0,7] - 2·class[1]"
    assert str(-Objective.direction("a", [1, 0], "center")) == "-a[direction@center]"


def test_a_direction_that_is_a_unit_gives_the_units_image(tiny_network):
    unit = maximize(tiny_network, UNIT("conv_b", 2), steps=20, seed=1)
    axis = np.eye(5)[2]
    same = maximize(
        tiny_network,
        Objective.direction("conv_b", axis),
        steps=20,
        seed=1,
        seed_images=unit.start,
    )
    np.testing.assert_allclose(same.images, unit.images, atol=1e-4)
    assert unit.units.tolist() == [2]
    assert unit.labels == ["2"]
    assert same.labels == ["conv_b[direction]"]


def test_the_ascent_of_a_sum_raises_the_sum_and_its_trace_is_measured(tiny_network):
    goals = [UNIT("conv_a", 1) + UNIT("conv_b", 2), UNIT("conv_b", 0) - UNIT("conv_b", 1)]
    found = maximize(tiny_network, goals, steps=60)
    assert (found.trace[-1] > found.trace[0]).all()
    again = objective_values(tiny_network, goals, found.images)
    np.testing.assert_allclose(found.trace[-1], again, rtol=1e-4)
    assert found.layer == "conv_a + conv_b"
    assert found.units.tolist() == [0, 1]


def test_an_image_for_one_position_changes_nothing_beyond_its_receptive_field(tiny_network):
    found = maximize(tiny_network, UNIT("conv_a", 1, (2, 9)), steps=30, jitter=0)
    changed = np.abs(found.images - found.start)[0].max(axis=-1) > 0
    assert changed[1:4, 8:11].any()
    changed[1:4, 8:11] = False
    assert not changed.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNIT("conv_c", 0), "no layer 'conv_c'"),
        (lambda: UNIT("conv_a", 6), "no unit 6"),
        (lambda: UNIT("conv_a", 0, (13, 0)), "outside layer 'conv_a', which is 13×13"),
        (lambda: UNIT("conv_a", 0, "middle"), "position must be"),
        (lambda: UNIT("classes", 0, (0, 0)), "is a vector without positions"),
        (
            lambda: Objective.direction("conv_a", [1, 2]),
            "6 entries, one for each unit, not 2",
        ),
        (lambda: Objective.direction("conv_a", [np.nan] * 6), "finite numbers"),
        (lambda: Objective.direction("conv_a", np.zeros(6)), "not all zero"),
        (list, "no objective was given"),
    ],
)
def test_invalid_objectives_are_refused(tiny_network, make, message):
    with pytest.raises(ValueError, match=message):
        maximize(tiny_network, make(), steps=1)


def test_units_beside_an_objective_are_refused(tiny_network):
    with pytest.raises(ValueError, match="an objective names its own"):
        maximize(tiny_network, UNIT("conv_a", 0), [1], steps=1)

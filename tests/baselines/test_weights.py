"""Changes of weights are told from small marks of what they were."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convlens.baselines.weights import crossed, explain_change, mark_weights


def arrays(kernel=(3, 3, 4, 6), seed=0, **more):
    draw = np.random.default_rng(seed)
    shapes = {"kernel": kernel, "bias": kernel[-1:], **more}
    return {
        name: draw.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
        if shape is not None
    }


NORM = {"gamma": (6,), "beta": (6,), "moving_mean": (6,)}
DEPTHWISE = {"kernel": (3, 3, 6, 1), "bias": None}


def change(name, at, function):
    def apply(given):
        values = given[name].copy()
        values[at] = function(values[at])
        return {**given, name: values}

    return apply


def reorder(order, axis=-1, names=("kernel", "bias")):
    return lambda given: {
        name: np.take(value, order, axis=axis) if name in names else value
        for name, value in given.items()
    }


ONE, ALL = (..., 5), (...,)
CASES = {
    "one rotated": (
        change("kernel", ONE, np.rot90),
        "the kernel was rotated by 90°, of filter 5",
    ),
    "two rotated back": (
        change("kernel", (..., [1, 5]), lambda k: np.rot90(k, -1)),
        "the kernel was rotated by 270°, of filters 1, 5",
    ),
    "all flipped": (
        change("kernel", ALL, lambda k: k[::-1, ::-1]),
        "the kernel was rotated by 180° (flipped in both directions), of every filter",
    ),
    "flipped": (change("kernel", ALL, lambda k: k[::-1]), "the kernel was flipped upside down"),
    "mirrored": (change("kernel", ONE, lambda k: k[:, ::-1]), "flipped from left to right, of"),
    "transposed": (
        change("kernel", ALL, lambda k: k.swapaxes(0, 1)),
        "the kernel was transposed, of every filter",
    ),
    "in another order": (
        reorder([1, 0, 2, 3, 5, 4]),
        "the same filters are in another order: 0→1, 1→0, 4→5, 5→4",
    ),
    "inputs in another order": (
        reorder([2, 1, 0, 3], axis=-2, names=("kernel",)),
        "the same weights, for input channels in another order (such as RGB and BGR)",
    ),
    "two biases": (
        reorder([0, 3, 2, 1, 4, 5], names=("bias",)),
        "the bias of channels 1 and 3 changed places",
    ),
    "a factor": (change("kernel", ALL, lambda k: 1.25 * k), "the kernel was multiplied by 1.25"),
    "both scaled": (
        lambda given: {name: np.float32(-2) * value for name, value in given.items()},
        "the kernel was multiplied by -2; the bias was multiplied by -2",
    ),
    "a shift": (change("bias", ALL, lambda b: b + 0.5), "the bias was shifted by 0.5"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_done_to_a_layer_is_named(case):
    given = arrays()
    function, expected = CASES[case]
    stored = json.loads(json.dumps(mark_weights(given)))
    assert expected in explain_change(stored, function(given))[0]
    assert explain_change(stored, given) == ("", "")


@pytest.mark.parametrize("kernel", [(3, 3, 4, 6), (5, 4, 6), (7, 6), (3, 3, 3, 4, 6)])
def test_retrained_weights_are_not_taken_for_anything(kernel):
    for seed in range(1, 30):
        marks = mark_weights(arrays(kernel))
        found, which = explain_change(marks, arrays(kernel, seed))
        assert (found, which) == ("", "")


def test_small_changes_of_one_channel_are_named_and_not_explained():
    given = arrays((3, 3, 4, 16))
    marks = mark_weights(given)
    changed = change("kernel", (1, 1, 2, 9), lambda k: k + 0.05)(given)
    assert explain_change(marks, changed) == ("", "the kernel alone, channel 9")


def test_two_gammas_that_changed_places_are_named():
    given = {name: arrays(**NORM)[name] for name in NORM}
    exchanged = reorder([4, 1, 2, 3, 0, 5], names=("gamma",))(given)
    found, _ = explain_change(mark_weights(given), exchanged)
    assert found == "the gamma of channels 0 and 4 changed places"


def test_kernels_of_a_depthwise_convolution_have_channels_too():
    given = arrays(**DEPTHWISE)
    found, _ = explain_change(mark_weights(given), change("kernel", (..., 4, 0), np.rot90)(given))
    assert found == "the kernel was rotated by 90°, of filter 4"


def test_marks_are_small_and_of_large_arrays_too():
    given = arrays((3, 3, 64, 128))
    assert len(json.dumps(mark_weights(given))) < 4 * 128 + 500
    large = {"kernel": np.ones((3000, 3000), np.float32)}
    marks = mark_weights(large)
    assert marks["channels"] == marks["inputs"] == ""
    found, _ = explain_change(marks, {"kernel": 2 * large["kernel"]})
    assert found == "the kernel was multiplied by 2"


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        ("abc", "bac", "the weights of a and b changed places"),
        ("abcd", "badc", "the weights of a and b, c and d changed places"),
        ("abc", "bca", "'a' has those of 'b', and 'c' has those of 'a'"),
        ("abc", "bbc", "'a' has the weights of 'b', and its own are gone"),
        ("abc", "xbc", ""),
        ("aab", "aab", ""),
    ],
)
def test_layers_whose_weights_changed_places_are_named(before, now, text):
    names = "abcd"[: len(before)]
    found = crossed(dict(zip(names, before, strict=True)), dict(zip(names, now, strict=True)), "a")
    assert text in found
    assert bool(text) == bool(found) or before == "aab"

"""The vector of classes among outputs, and labels as class numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as kl

from convlens import Network, assert_accuracy, load_model, maximize
from convlens.checks.accuracy import Accuracy
from convlens.checks.classes import Classes
from convlens.checks.saturation import Saturation
from convlens.engine.ascent.scores import BATCH, class_scores
from convlens.engine.model.classes import class_layer, class_numbers
from convlens.lens import Lens

IMAGES = np.random.default_rng(0).random((8, 12, 12, 3), dtype=np.float32)


def network(build, loss=None):
    """Return a network of which `build` gives the outputs for a vector of features."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3))
    features = kl.GlobalAveragePooling2D()(kl.Conv2D(4, 3)(image))
    net = keras.Model(image, build(features), name="net")
    if loss is not None:
        net.compile(loss=loss)
    return net


def head(name, units=3, activation=None):
    return kl.Dense(units, activation=activation, name=name)


def box_and(activation, units=3):
    return lambda h: {"box": head("zbox", 4)(h), "cls": head("scores", units, activation)(h)}


FOUND = {
    "softmax beside a box": (box_and("softmax"), None),
    "softmax in a list": (lambda h: [head("box", 4)(h), head("scores", 3, "softmax")(h)], None),
    "softmax of a layer of its own": (
        lambda h: [head("box", 4)(h), kl.Softmax(name="scores")(head("logits")(h))],
        None,
    ),
    "softmax beside sigmoids": (
        lambda h: [head("a", 1, "sigmoid")(h), head("scores", 3, "softmax")(h)],
        None,
    ),
    "sigmoid beside a box": (box_and("sigmoid"), None),
    "logits by their loss": (
        box_and(None),
        {"box": "mse", "cls": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    ),
    "logits by a list of losses": (
        lambda h: [head("box", 4)(h), head("scores")(h)],
        [keras.losses.Huber(), keras.losses.sparse_categorical_crossentropy],
    ),
    "logits by the layer's name": (
        lambda h: [head("box", 4)(h), head("scores")(h)],
        {"box": "mae", "scores": "categorical_crossentropy"},
    ),
    "a sigmoid box beside a sigmoid": (
        lambda h: [head("box", 4, "sigmoid")(h), head("scores", 3, "sigmoid")(h)],
        {"box": "mse", "scores": "binary_crossentropy"},
    ),
    "logits alone": (lambda h: head("scores")(h), None),
    "logits alone, with a loss": (lambda h: head("scores")(h), "sparse_categorical_crossentropy"),
    "a softmax with a loss of numbers": (lambda h: head("scores", 3, "softmax")(h), "mse"),
    "a hinge": (lambda h: head("scores")(h), "squared_hinge"),
    "a loss of one's own": (lambda h: head("scores")(h), lambda y, p: keras.ops.sum(p)),
    "a nested head": (
        lambda h: [
            head("box", 4)(h),
            keras.Sequential([keras.Input((4,)), head("scores", 3, "softmax")], name="in")(h),
        ],
        None,
    ),
}

MISSING = {
    "two softmaxes": (
        lambda h: [head("a", 3, "softmax")(h), head("b", 5, "softmax")(h)], None,
        r"net has 2 softmax outputs \('a', 'b'\)",
    ),
    "two sigmoids": (
        lambda h: [head("a", 3, "sigmoid")(h), head("b", 5, "sigmoid")(h)], None,
        "net has 2 sigmoid outputs",
    ),
    "two boxes": (
        lambda h: [head("a")(h), head("b")(h)], None, "2 outputs, and none of them is a softmax",
    ),
    "a regression": (lambda h: head("size", 2)(h), "mse", "'size' was trained with a loss of num"),
    "a regression by Huber": (lambda h: head("size", 2)(h), keras.losses.Huber(), "'size' was tra"),
    "a regression in 0 to 1": (lambda h: head("size", 2, "sigmoid")(h), "mae", "'size' was trai"),
    "two regressions": (lambda h: [head("a")(h), head("b")(h)], "mse", "'a', 'b' was trained"),
    "maps": (lambda h: kl.Reshape((2, 2, 1))(h), None, "net has no vector of classes"),
}  # fmt: skip


FIRST = (
    "softmax beside a box",
    "sigmoid beside a box",
    "logits by their loss",
    "logits by the layer's name",
    "logits alone",
    "a nested head",
)


@pytest.mark.quick(1)
@pytest.mark.parametrize("saved", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case",
    [*FIRST, *(pytest.param(case, marks=pytest.mark.slow) for case in FOUND if case not in FIRST)],
)
def test_the_vector_of_classes_is_found(case, saved, tmp_path):
    build, loss = FOUND[case]
    if saved and case == "a loss of one's own":
        pytest.skip("a lambda is not saved")
    net = network(build, loss)
    if saved:
        net.save(tmp_path / "net.keras")
        net = load_model(tmp_path / "net.keras")
    opened = Network(net)
    found = class_layer(opened)
    assert found.removeprefix("in.") == "scores"
    outputs = keras.tree.flatten(net.predict(IMAGES, verbose=0))
    scores = next(v for v, n in zip(outputs, opened.output_layers, strict=True) if n == found)
    labels = scores.argmax(axis=1)
    assert assert_accuracy(opened, IMAGES, labels, min_accuracy=1.0) == 1.0
    assert class_scores(opened, IMAGES).argmax(axis=1).tolist() == labels.tolist()
    assert maximize(opened, None, [1], steps=1).layer == found


@pytest.mark.parametrize("case", MISSING)
def test_without_one_the_checks_of_classes_are_skipped_with_the_reason(case):
    build, loss, reason = MISSING[case]
    net = network(build, loss)
    with pytest.raises(ValueError, match=reason):
        class_layer(Network(net))
    lens = Lens(net, IMAGES, np.arange(8) % 3)
    for check in (Classes(), Accuracy(), Saturation()):
        assert reason.split("\\")[0][:20] in (check.reason_to_skip(lens, None) or "")


def test_the_loss_that_an_hdf5_file_states_counts(tmp_path):
    net = network(lambda h: head("size", 2)(h), "mse")
    net.save(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="a loss of numbers"):
        class_layer(Network(load_model(tmp_path / "net.h5")))


def test_one_of_several_heads_must_be_named():
    build, _, _ = MISSING["two softmaxes"]
    with pytest.raises(ValueError, match=r"2 softmax outputs.*: give the name of a layer"):
        maximize(network(build), None, steps=1)
    assert maximize(network(build), "b", [0], steps=1).layer == "b"


def test_a_single_regression_can_still_be_maximized():
    build, loss, _ = MISSING["a regression"]
    assert maximize(network(build, loss), None, [0], steps=1).layer == "size"


def test_scores_in_batches_are_those_of_all_images_at_once(monkeypatch):
    net = Network(network(lambda h: head("scores", 3, "softmax")(h)))
    images = np.random.default_rng(1).random((2 * BATCH + 5, 12, 12, 3), dtype=np.float32)
    sizes = []
    compiled = net.compiled

    def watched(key, build, batched=0):
        function = compiled(key, build, batched)

        def call(x):
            sizes.append(len(x))
            return function(x)

        return call

    monkeypatch.setattr(net, "compiled", watched)
    found = class_scores(net, images)
    assert sizes == [BATCH, BATCH, 5]
    assert found.shape == (len(images), 3)
    net.model.get_layer("scores").activation = keras.activations.linear
    np.testing.assert_allclose(found, net.model(images), atol=1e-5)


LABELS = np.array([2, 0, 1, 2])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.tolist(),
        LABELS.astype(np.uint8),
        LABELS[:, None],
        LABELS[:, None, None],
        LABELS.astype(np.float32),
        LABELS.astype(np.float32)[:, None],
        np.eye(3)[LABELS],
        np.eye(5, dtype=bool)[LABELS],
        np.eye(3, dtype=np.uint8)[LABELS].tolist(),
    ],
)
def test_labels_of_every_usual_form(labels):
    found = class_numbers(labels, 4)
    assert found.tolist() == [2, 0, 1, 2]
    assert found.dtype == np.int64


def test_booleans_are_two_classes():
    assert class_numbers([True, False], 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:3], r"4 images need 4 whole numbers as labels, or 4 one-hot rows, not int64 \(3,"),
        (LABELS[:, None].repeat(2, 1), r"row 0 is not one-hot: \[2 2\]"),
        (LABELS + 0.5, r"not float64 \(4,\) with fractions or NaN"),
        ([0, 1, np.nan, 2], "with fractions or NaN"),
        (np.full((4, 3), 1 / 3), "row 0 is not one-hot"),
        (np.array([[1, 0], [0, 1], [1, 1], [1, 0]]), r"row 2 is not one-hot: \[1 1\]"),
        (np.zeros((4, 3, 3)), r"not float64 \(4, 3, 3\)"),
        (["a", "b", "c", "d"], r"not <U1 \(4,\)"),
        (3, r"not int64 \(\)"),
        ([[1], [2, 3], [4], [5]], "inhomogeneous"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        class_numbers(labels, 4)

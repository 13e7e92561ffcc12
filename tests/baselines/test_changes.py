"""Each change to a network is detected and attributed to the right layer."""

from __future__ import annotations

import re
from functools import cache, partial

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, assert_matches_baseline
from convlens.baselines import provenance
from convlens.baselines.bars import predictions_pair
from convlens.baselines.compare import compare_records
from convlens.baselines.record import record_network
from convlens.fixtures.digits import load_digits
from convlens.fixtures.mnist_cnn import load_mnist_cnn

from .networks import build_inception, build_residual, random_images

KINDS = ("mnist_cnn", "residual", "inception")
WEIGHTED = {
    "mnist_cnn": ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1", "predictions"],
    "residual": [
        *("stem", "stem_bn", "a_conv1", "a_bn1", "a_conv2", "a_bn2"),
        *("b_conv1", "b_bn1", "b_conv2", "b_bn2", "classes"),
    ],
    "inception": [
        "stem",
        *(
            f"{module}_{layer}"
            for module in ("a", "b")
            for layer in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "project")
        ),
        "classes",
    ],
}


class Subject:
    """A model, its images, and the record of the unchanged model."""

    def __init__(self, model, images):
        self.model, self.images = model, images
        self.network = Network(model)
        self.weights = [w.copy() for w in model.get_weights()]
        self.before = record_network(self.network, images)

    def change(self, layer, function):
        """Change a layer's list of weights in place with a function."""
        own = self.model.get_layer(layer)
        values = [value.copy() for value in own.get_weights()]
        function(values)
        own.set_weights(values)

    def compare(self, images=None):
        now = record_network(self.network, self.images if images is None else images)
        return compare_records(self.before, now, key="subject")


@pytest.fixture(scope="module")
def subjects():
    """Return a function that gives the subject of a kind, the same each time."""
    build = {
        "mnist_cnn": lambda: Subject(load_mnist_cnn(), load_digits()[0][::4]),
        "residual": lambda: Subject(build_residual(), random_images()),
        "inception": lambda: Subject(build_inception(), random_images()),
    }
    return cache(lambda kind: build[kind]())


@pytest.fixture
def subject(request, subjects):
    """The subject named by the test, with its original weights."""
    chosen = subjects(getattr(request, "param", "mnist_cnn"))
    chosen.model.set_weights(chosen.weights)
    yield chosen
    chosen.model.set_weights(chosen.weights)


def noise(filter_number=3, share=0.01):
    """Return a function that multiplies the weights of one filter by 1 ± 1 %."""

    def change(values):
        kernel = values[0]
        draw = np.random.default_rng(0).standard_normal(kernel[..., filter_number].shape)
        kernel[..., filter_number] *= 1 + share * draw

    return change


def swap(values):
    for value in values:
        value[..., [2, 3]] = value[..., [3, 2]]


def swap_read(values):
    values[0][..., [2, 3], :] = values[0][..., [3, 2], :]


def each(kind, *values):
    """Return a case of a parametrization; the deepest network's cases are slow."""
    return pytest.param(kind, *values, marks=[pytest.mark.slow] if kind == "inception" else [])


EVERY_KIND = [each(kind) for kind in KINDS]
EVERY_LAYER = [each(kind, layer) for kind in KINDS for layer in WEIGHTED[kind]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_list_of_weighted_layers_is_complete(subjects, kind):
    weighted = {name for name, layer in subjects(kind).network.layers.items() if layer.weights}
    assert weighted == set(WEIGHTED[kind])


@pytest.mark.quick(1)
@pytest.mark.parametrize(("subject", "layer"), EVERY_LAYER, indirect=["subject"])
def test_noise_of_1_percent_on_one_filter_is_attributed_to_its_layer(subject, layer):
    subject.change(layer, noise())
    found = subject.compare()
    assert not found.passed
    assert found.first == layer
    assert f"the first layer that diverges is {layer!r}" in found.verdict
    (own,) = [each for each in found.layers if each.layer == layer]
    assert own.worst_channel == 3
    assert f"differs in provenance: weights of {layer}" in found.message
    assert f"likely cause: the weights of {layer!r} changed" in found.message
    names = [each.layer for each in found.layers]
    assert all(each.passed for each in found.layers[: names.index(layer)])


@pytest.mark.parametrize("subject", EVERY_KIND, indirect=True)
def test_all_layers_of_an_unchanged_network_agree(subject):
    found = subject.compare()
    assert found.passed
    assert found.first is None
    assert found.verdict.startswith(f"all {len(found.layers)} layers agree")
    assert max(layer.worst_error for layer in found.layers) < 1e-6


def test_a_zeroed_filter_is_reported_as_silent(subject):
    def zero(values):
        values[0][..., 5] = 0
        values[1][5] = 0

    subject.change("conv2d_2", zero)
    found = subject.compare()
    assert found.first == "conv2d_2"
    assert "now silent (always 0): 5" in found.verdict


def test_permuted_filters_with_an_adapted_next_layer_are_reported_as_equivalent(subject):
    subject.change("conv2d_2", swap)
    subject.change("conv2d_3", swap_read)
    found = subject.compare()
    assert not found.passed
    assert found.first == "conv2d_2"
    assert "were permuted to match: the predictions are equal" in found.verdict
    assert "only the order of channels changed: 2→3, 3→2" in found.message
    failed = [layer.layer for layer in found.layers if not layer.passed]
    assert failed == ["conv2d_2", "max_pooling2d_2"]


def test_permuted_filters_without_an_adapted_next_layer_are_reported_as_a_change(subject):
    subject.change("conv2d_2", swap)
    found = subject.compare()
    assert found.first == "conv2d_2"
    assert "not permuted to match: the predictions differ" in found.verdict
    assert not found.layers[-1].passed


def test_permuted_classes_are_reported(subject):
    subject.change("predictions", swap)
    found = subject.compare()
    assert found.first == "predictions"
    assert "the outputs of 'predictions' are in another order" in found.verdict
    assert "2→3, 3→2" in found.message
    assert "the class changed for " in found.message


@pytest.mark.parametrize("subject", ["residual"], indirect=True)
def test_permuted_classes_are_reported_for_an_output_with_another_name(subject):
    subject.change("classes", swap)
    found = subject.compare()
    assert found.first == "classes"
    assert "the outputs of 'classes' are in another order" in found.verdict


@pytest.mark.parametrize("subject", ["residual"], indirect=True)
def test_reset_batch_normalization_statistics_are_detected(subject):
    def reset(values):
        values[2][...], values[3][...] = 0, 1

    subject.change("a_bn2", reset)
    found = subject.compare()
    assert found.first == "a_bn2"
    assert "the weights of 'a_bn2' changed" in found.message


def test_differently_preprocessed_images_are_reported(subject):
    found = subject.compare(2 * subject.images - 1)
    assert found.first == "input"
    assert "the input images differ" in found.verdict
    assert "other images were given, or they were preprocessed differently" in found.message


def test_changed_preprocessing_inside_the_model_is_attributed_to_its_layer(subjects):
    before = subjects("residual").before
    model = build_residual()
    model.get_layer("rescale").scale = 1.0
    found = compare_records(before, record_network(Network(model), random_images()), key="k")
    assert found.first == "rescale"
    assert "the settings of rescale changed, not the weights" in found.message


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("subject", EVERY_KIND, indirect=True)
def test_weights_rounded_to_half_precision_are_reported(subject, kind):
    import ml_dtypes

    half = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[kind]
    subject.model.set_weights([w.astype(half).astype(np.float32) for w in subject.weights])
    found = subject.compare()
    assert not found.passed
    assert f"rounded to {kind}" in found.verdict
    assert f"likely cause: the weights were rounded to {kind}" in found.message


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("subject", EVERY_KIND, indirect=True)
def test_weights_rounded_to_8_bits_are_reported(subject, per_channel):
    def rounded(value):
        if value.ndim < 2:
            return value
        axes = tuple(range(value.ndim - 1)) if per_channel else None
        step = np.abs(value).max(axis=axes) / 127
        return (np.round(value / step) * step).astype(np.float32)

    subject.model.set_weights([rounded(w) for w in subject.weights])
    found = subject.compare()
    assert "rounded to int8" in found.verdict


@pytest.mark.slow
def test_computation_in_half_precision_is_detected(subjects):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build_residual()
    finally:
        keras.config.set_dtype_policy(policy)
    now = record_network(Network(model), random_images())
    found = compare_records(subjects("residual").before, now, key="k")
    assert found.first == "rescale"
    assert "it computes in float16, but in float32 in the baseline" in found.message
    assert "computes in a different precision" in found.message


def test_added_and_removed_layers_are_named():
    image = keras.Input((13, 13, 2))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_a")(image)
    wide = layers.AveragePooling2D(2, name="wide")(x)
    models = [keras.Model(image, layers.Flatten(name="flatten")(y)) for y in (x, wide)]
    images = np.random.default_rng(0).random((2, 13, 13, 2))
    before, now = (record_network(Network(model), images) for model in models)
    found = compare_records(before, now, key="k")
    assert not found.passed
    assert "added wide" in found.verdict
    assert "removed wide" in compare_records(now, before, key="k").verdict


def test_a_changed_number_of_filters_is_reported_by_its_shape():
    def build(width):
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(3, 3, kernel_initializer="ones", name="first"),
                layers.Conv2D(width, 3, kernel_initializer="ones", name="second"),
            ]
        )

    images = np.random.default_rng(0).random((2, 8, 8, 1))
    before, now = (record_network(Network(build(width)), images) for width in (4, 5))
    found = compare_records(before, now, key="k")
    assert found.first == "second"
    assert "its shape is (4, 4, 5), but (4, 4, 4) in the baseline" in found.message


def test_renumbered_automatic_layer_names_are_not_a_change():
    def build():
        return keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)]
        )

    first, second = build(), build()
    second.set_weights(first.get_weights())
    assert first.layers[0].name != second.layers[0].name
    images = np.random.default_rng(0).random((3, 8, 8, 1))
    records = [record_network(Network(model), images) for model in (first, second)]
    assert compare_records(*records, key="k").passed


@pytest.mark.parametrize("subject", ["residual"], indirect=True)
def test_nan_is_never_recorded(subject):
    def spoil(values):
        values[0][0, 0, 0, 4] = np.nan

    subject.change("stem", spoil)
    with pytest.raises(FloatingPointError, match=r"layer 'stem' gives NaN .* channel 4"):
        subject.compare()


def test_a_change_of_one_bias_is_attributed_to_its_channel(subject):
    def nudge(values):
        values[1][7] += 1e-3

    subject.change("conv2d_1", nudge)
    found = subject.compare()
    assert (found.first, found.layers[1].worst_channel) == ("conv2d_1", 7)
    assert "1 of 24 channels diverge" in found.verdict


def test_a_comparison_shows_the_channels_of_layers_that_diverge(subject):
    assert not subject.compare().pictures, "a layer that agrees has a picture"
    subject.change("conv2d_1", noise(share=3.0))
    pictures = {pair.title.partition(":")[0]: pair for pair in subject.compare().pictures}
    assert "input" not in pictures
    for pair in (pictures["conv2d_1"], pictures["conv2d_2"]):
        assert pair.expected.shape == pair.actual.shape
        assert pair.expected.dtype == pair.actual.dtype == np.uint8
        assert (pair.expected != pair.actual).any()


def test_predictions_are_shown_as_bars_on_one_scale(subject):
    subject.change("predictions", swap)
    pair = subject.compare().pictures[-1]
    assert pair.title == "predictions: output for some images"
    assert pair.expected.shape == pair.actual.shape
    assert (pair.actual != pair.expected).any()


@pytest.mark.parametrize(
    ("expected", "actual", "shape"),
    [
        (np.ones((1, 3)), np.ones((1, 3)), (48, 16)),
        (np.zeros((2, 5)), np.zeros((2, 5)), (48, 57)),
        (-np.eye(30), np.eye(30), (101, 499)),
        (np.ones((1, 3)), np.ones((1, 4)), None),
        (np.ones((1, 4, 4, 2)), np.ones((1, 4, 4, 2)), None),
    ],
)
def test_predictions_of_any_shape_give_bars_or_no_picture(expected, actual, shape):
    found = predictions_pair("p", expected, actual)
    assert shape == (found and found.expected.shape) == (found and found.actual.shape)


def test_a_bar_reaches_from_the_zero_line_to_its_value():
    pair = predictions_pair("p", np.array([[1.0, -1.0]]), np.array([[0.5, 0.0]]))
    lit = [np.flatnonzero(picture[:, 3] == 230) for picture in (pair.expected, pair.actual)]
    assert (lit[0].min(), lit[0].max()) == (0, 24)
    assert (lit[1].min(), lit[1].max()) == (12, 24)
    assert np.flatnonzero(pair.expected[:, 8] == 230).max() == 47


def test_a_comparison_can_be_restricted_to_one_layer(subject):
    subject.change("conv2d_2", noise())
    whole = subject.compare()
    before, own, after = (whole.of_layer(n) for n in ("conv2d_1", "conv2d_2", "conv2d_3"))
    assert (before.passed, own.passed, after.passed) == (True, False, False)
    assert own.verdict == whole.verdict
    assert after.verdict.startswith("layer 'conv2d_3' diverges too")
    assert whole.verdict in after.verdict
    assert [pair.title.partition(":")[0] for pair in after.pictures] == ["conv2d_3"]


def test_the_fingerprint_depends_on_the_weights_and_the_images(subject):
    def fingerprint(images=subject.images):
        return record_network(subject.network, images).fingerprint

    before = fingerprint()
    assert before == fingerprint()
    assert before != fingerprint(subject.images[:-1])
    subject.change("conv2d_2", noise(share=1e-6))
    assert before != fingerprint()


def test_the_weights_are_hashed_only_if_something_differs(subject, monkeypatch, tmp_path):
    """For a large network, hashing takes a considerable part of the time of a forward pass."""
    hashed = []
    describe = provenance.Weights.describe

    def counted(weights):
        hashed.append(weights)
        return describe(weights)

    monkeypatch.setattr(provenance.Weights, "describe", counted)
    check = partial(assert_matches_baseline, subject.network, tmp_path, "k", images=subject.images)
    check(update="missing")
    assert len(hashed) == 1
    assert check().passed
    assert len(hashed) == 1
    subject.change("conv2d_2", noise())
    with pytest.raises(AssertionError, match="differs in provenance: weights of conv2d_2\n"):
        check()
    assert len(hashed) == 2


def turned(values):
    values[0][..., 5] = np.rot90(values[0][..., 5])


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (turned, "the weights of 'conv2d_2' changed: the kernel was rotated by 90°, of filter 5"),
        (swap, "the same filters are in another order: 2→3, 3→2"),
        (lambda v: v[0].__imul__(1.5), "the kernel was multiplied by 1.5"),
        (lambda v: v[1].__iadd__(0.25), "the bias was shifted by 0.25"),
        (noise(), "changed (the kernel alone, channel 3): retraining, an edit, or a faulty"),
    ],
)
def test_what_was_done_to_the_weights_is_told(subject, tmp_path, change, text):
    check = partial(assert_matches_baseline, subject.network, tmp_path, "k", images=subject.images)
    check(update="missing")
    subject.change("conv2d_2", change)
    with pytest.raises(AssertionError, match=re.escape(text)):
        check()


def test_layers_that_changed_places_are_told_and_few_channels_are_listed(tmp_path):
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="b")(x))
    images = np.random.default_rng(0).random((4, 8, 8, 4), dtype=np.float32)
    check = partial(assert_matches_baseline, model, tmp_path, "k", images=images)
    check(update="missing")
    a, b = (model.get_layer(name) for name in "ab")
    own = [a.get_weights(), b.get_weights()]
    a.set_weights(own[1])
    b.set_weights(own[0])
    with pytest.raises(AssertionError, match="likely cause: the weights of a and b changed places"):
        check()
    kernel, bias = (value.copy() for value in own[0])
    kernel[..., [0, 2, 3]] *= 1.1
    a.set_weights([kernel, bias])
    b.set_weights(own[1])
    with pytest.raises(AssertionError, match="3 of 4 channels diverge: 0, 2, 3 ") as found:
        check()
    assert "the kernel alone" in str(found.value)

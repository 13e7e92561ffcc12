"""Activation maximization: the ascent, its trace and its options."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.ascent.traces import traced_gradients

from convlens import AscentInterrupted, Network, activations, maximize
from convlens.engine.ascent.optimizers import adam, optimizer
from convlens.engine.ascent.options import ascent_options
from convlens.engine.ascent.parametrization import Parametrization
from convlens.engine.ascent.regularizers import image_norm, total_variation
from convlens.engine.ascent.schedule import Schedule
from convlens.engine.ascent.scores import objective_values
from convlens.engine.ascent.starts import constant_starts, plain_starts, tiled_starts
from convlens.engine.ascent.transforms import Transforms
from convlens.engine.runtime import backend
from convlens.lens import Lens

STEP = Parametrization("pixel", False, True, (0.0, 1.0)).default_step


def linear_model():
    """Return a model of one 3×3 'valid' filter on a 3×3 image: its activation is ⟨kernel, x⟩."""
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Conv2D(2, 3, name="conv")])
    kernel = np.random.default_rng(1).uniform(-0.5, 0.5, (3, 3, 1, 2)).astype(np.float32)
    model.set_weights([kernel, np.zeros(2, np.float32)])
    return model


def test_on_a_linear_filter_the_optimum_is_the_kernels_sign():
    model = linear_model()
    result = maximize(model, "conv", jitter=0, steps=200)
    kernel = np.asarray(model.layers[0].kernel).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(result.images > 0.5, kernel > 0)
    best = np.maximum(kernel, 0).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(result.trace[-1], best, rtol=1e-5)


def test_unclipped_sgd_goes_straight_along_the_kernel():
    model = linear_model()
    result = maximize(model, "conv", jitter=0, steps=5, optimizer="sgd", clip=False)
    kernel = np.asarray(model.layers[0].kernel).transpose(3, 0, 1, 2)
    moved = result.images - result.start
    for step, direction in zip(moved, kernel, strict=True):
        cosine = (step * direction).sum() / np.linalg.norm(step) / np.linalg.norm(direction)
        assert cosine == pytest.approx(1, abs=1e-5)
    # Steps of falling size, each of that root mean square over nine pixels.
    sizes = 0.002 + 0.998 * (1 + np.cos(np.pi * np.arange(5) / 5)) / 2
    np.testing.assert_allclose(result.path_length, STEP * sizes.sum() * 3, rtol=1e-4)
    assert result.value_range is None


def test_the_trace_is_measured_on_the_images_without_jitter(tiny, tiny_network):
    result = maximize(tiny_network, "conv_b", steps=30, jitter=2, checkpoints=4)
    forward = keras.Model(tiny.inputs[0], tiny.get_layer("conv_b").output)
    for row, images in ((0, result.start), (-1, result.images)):
        maps = np.asarray(forward(images))
        own = [maps[i, :, :, u].mean() for i, u in enumerate(result.units)]
        np.testing.assert_allclose(result.trace[row], own, rtol=1e-4, atol=1e-6)
    assert result.trace.shape == (5, 5)
    assert result.trace_steps.tolist() == [0, 8, 16, 24, 30]
    assert result.steps == 30


def test_images_stay_in_the_range_and_repeat_from_the_seed(tiny_network):
    one = maximize(tiny_network, "conv_a", steps=12, value_range=(-1, 1), seed=4)
    two = maximize(tiny_network, "conv_a", steps=12, value_range=(-1, 1), seed=4)
    other = maximize(tiny_network, "conv_a", steps=12, value_range=(-1, 1), seed=5)
    assert one.images.min() >= -1
    assert one.images.max() <= 1
    np.testing.assert_array_equal(one.images, two.images)
    assert np.abs(one.images - other.images).max() > 0.01


@pytest.mark.slow
def test_an_image_does_not_depend_on_which_others_are_asked_for(tiny_network):
    every = maximize(tiny_network, "conv_b", steps=15)
    some = maximize(tiny_network, "conv_b", [3, 1], steps=15)
    chunks = maximize(tiny_network, "conv_b", steps=15, memory_budget=1)
    np.testing.assert_allclose(some.images, every.images[[3, 1]], atol=1e-4)
    np.testing.assert_allclose(chunks.images, every.images, atol=1e-4)
    assert some.units.tolist() == [3, 1]


@pytest.mark.slow
def test_a_second_pass_goes_on_from_the_first(tiny_network):
    first = maximize(tiny_network, "conv_b", steps=10)
    second = maximize(tiny_network, "conv_b", steps=10, seed_images=first.images)
    np.testing.assert_array_equal(second.start, first.images)
    np.testing.assert_allclose(second.trace[0], first.trace[-1], rtol=1e-5)
    one = maximize(tiny_network, "conv_b", steps=2, seed_images=first.images[0])
    np.testing.assert_array_equal(one.start[4], first.images[0])


def test_classes_are_maximized_before_the_softmax(tiny, tiny_network):
    result = maximize(tiny_network, steps=20)
    assert result.layer == "classes"
    features = keras.Model(tiny.inputs[0], tiny.get_layer("flatten").output)(result.images)
    kernel, bias = tiny.get_layer("classes").get_weights()
    logits = np.asarray(features) @ kernel + bias
    np.testing.assert_allclose(result.trace[-1], np.diagonal(logits), rtol=1e-4, atol=1e-5)
    assert (result.trace[-1] > result.trace[0]).all()


@pytest.mark.slow
def test_a_relu_that_is_silent_at_the_start_is_woken():
    model = linear_model()
    conv = layers.Conv2D(1, 3, activation="relu", name="conv")
    silent = keras.Sequential([keras.Input((9, 9, 1)), conv])
    kernel = np.asarray(model.layers[0].kernel)[..., :1]
    conv.set_weights([kernel, np.float32([-0.4]) - np.float32(0.5) * kernel.sum()])
    result = maximize(silent, "conv", steps=60, jitter=0)
    assert result.trace[0, 0] == 0
    assert result.trace[-1, 0] > 0


def silent_model(bias, seed=1):
    """Return a ReLU unit whose value on noise about the middle of the range is 0."""
    conv = layers.Conv2D(1, 3, activation="relu", name="conv")
    model = keras.Sequential([keras.Input((9, 9, 3)), conv], name="silent")
    kernel = np.random.default_rng(seed).normal(0, 1, (3, 3, 3, 1)).astype(np.float32)
    conv.set_weights([kernel - kernel.mean(axis=(0, 1, 2)), np.float32([bias])])
    return model


@pytest.mark.slow
def test_a_unit_that_needs_strong_contrast_wakes():
    result = maximize(silent_model(-6.0), "conv", steps=40)
    assert result.trace[0, 0] == 0
    assert result.trace[-1, 0] > 0


def gated_model():
    """Return a unit that reads a gate of its own: noise leaves the gate shut, a red image not.

    Its pre-activation is constant while the gate is shut, so no gradient wakes it.
    """
    image = keras.Input((8, 8, 3))
    gate = layers.Conv2D(1, 1, activation="relu", name="gate")
    unit = layers.Conv2D(1, 1, activation="relu", name="unit")
    model = keras.Model(image, unit(gate(image)), name="gated")
    gate.set_weights([np.float32([[[[1], [-1], [-1]]]]), np.float32([-0.5])])
    unit.set_weights([np.float32([[[[1]]]]), np.float32([0.0])])
    return model


@pytest.mark.slow
def test_a_unit_that_nothing_wakes_starts_again_from_an_image_that_excites_it():
    model = gated_model()
    result = maximize(model, "unit", steps=20)
    assert result.trace[0, 0] > 0  # the new start's
    assert result.trace[-1, 0] > result.trace[0, 0]
    np.testing.assert_array_equal(result.images, maximize(model, "unit", steps=20).images)
    grey = np.full((8, 8, 3), 0.5, np.float32)
    given = maximize(model, "unit", steps=20, seed_images=grey)
    assert given.trace[-1, 0] == 0  # a start that was given is kept


@pytest.mark.slow
def test_only_silent_units_start_again(tiny):
    before = maximize(tiny, "conv_b", steps=10)
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    kernel[..., 3], bias[3] = 0, -1
    conv.set_weights([kernel, bias])
    after = maximize(tiny, "conv_b", steps=10)
    alive = [0, 1, 2, 4]
    np.testing.assert_array_equal(after.start, before.start)
    np.testing.assert_allclose(after.images[alive], before.images[alive], atol=1e-4)
    assert (after.trace[:, 3] == 0).all()


@pytest.mark.slow
def test_a_lens_starts_silent_units_again_from_its_own_images():
    model = gated_model()
    unit = model.get_layer("unit")
    unit.set_weights([np.float32([[[[1]]]]), np.float32([-0.495])])  # fires on almost pure red
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[1, ..., 0] = 1
    found = Lens(model, images).maximize("unit", steps=5)
    np.testing.assert_array_equal(found.start[0], images[1])
    assert found.trace[-1, 0] >= found.trace[0, 0] > 0
    free = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(1, 1, name="c")])
    with pytest.raises(ValueError, match="restart_images must be of the shape"):
        maximize(free, "c", size=(5, 5), restart_images=images, steps=1)


def test_plain_starts_are_of_every_kind_and_within_the_range():
    images = plain_starts((6, 7, 3), (-1.0, 1.0), seed=0)
    assert images.shape == (112, 6, 7, 3)
    assert images.min() >= -1
    assert images.max() <= 1
    spread = images.std(axis=(1, 2)).mean(axis=1)
    assert spread.min() < 0.1
    assert spread.max() > 0.5
    level = images.mean(axis=(1, 2))
    assert (level.max(axis=0) > 0.7).all()
    assert (level.min(axis=0) < -0.7).all()


@pytest.mark.parametrize(("channels", "count"), [(1, 5), (3, 11), (9, 5)])
def test_constant_starts_are_grays_and_near_the_corners_of_the_range(channels, count):
    images = constant_starts((4, 5, channels), (-1.0, 1.0))
    assert images.shape == (count, 4, 5, channels)
    assert images.std(axis=(1, 2)).max() == 0
    assert len(np.unique(images[:, 0, 0], axis=0)) == count
    assert np.abs(images).max() == 0.75  # room to rise is left


def test_a_gentle_schedule_takes_small_steps_on_the_image_itself():
    options = ascent_options(None, (0.0, 1.0), 1, None, steps=10)
    usual, gentle = (Schedule.of(options, (20, 20), 0, gentle) for gentle in (False, True))
    assert gentle.rates.max() <= 0.05 * usual.rates.max()
    assert gentle.settled.all()
    assert not gentle.shifts.any()
    assert usual.shifts.any()


# A filter of a trained network, (3, 3, 3), whose weights are mostly negative, and its bias.
WEAK_FILTER = np.float32(
    [
        [[-0.056, -0.125, -0.115], [-0.010, 0.112, -0.033], [0.022, -0.067, 0.086]],
        [[0.005, -0.091, 0.030], [-0.064, -0.059, -0.055], [-0.011, 0.038, -0.157]],
        [[-0.127, 0.035, 0.007], [-0.110, -0.124, -0.062], [-0.131, -0.052, -0.044]],
    ]
)
WEAK_BIAS = -0.046


def weak_model(kernels, bias):
    """Return filters (units, 3, 3, 3) behind a ReLU, on images of 24×24."""
    conv = layers.Conv2D(len(kernels), 3, padding="same", activation="relu", name="conv")
    model = keras.Sequential([keras.Input((24, 24, 3)), conv], name="weak")
    conv.set_weights([kernels.transpose(1, 2, 3, 0), np.full(len(kernels), bias, np.float32)])
    return model


def best_tile(kernel, bias, draw):
    """Return the largest mean activation over images that repeat a tile of 3×3 pixels.

    The mean is convex in the pixels, so the best tile has the ends of the range alone. Pixels are
    changed one by one while that helps, from several draws.
    """

    def value(tile):
        taps = [
            [np.roll(tile, (1 - i, 1 - j), (0, 1)) @ kernel[i, j] for j in range(3)]
            for i in range(3)
        ]
        return np.maximum(np.sum(taps, axis=(0, 1)) + bias, 0).mean()

    best = 0.0
    for _ in range(12):
        tile = (draw.random((3, 3, 3)) < draw.uniform(0.1, 0.7)).astype(float)
        rises = True
        while rises:
            rises = False
            for place in draw.permutation(27):
                other = tile.copy()
                other.flat[place] = 1 - other.flat[place]
                if value(other) > value(tile) + 1e-9:
                    tile, rises = other, True
        best = max(best, value(tile))
    return best


@pytest.mark.slow
def test_a_unit_that_wants_strong_contrast_at_every_pixel_reaches_it():
    draw = np.random.default_rng(0)
    mixed = [WEAK_FILTER[:, :, draw.permutation(3)] for _ in range(2)]
    kernels = np.stack([WEAK_FILTER, WEAK_FILTER[::-1, ::-1], *mixed])
    found = maximize(weak_model(kernels, WEAK_BIAS), "conv", steps=30)
    assert (found.trace[0] < 1e-3).all()
    wanted = [best_tile(kernel, WEAK_BIAS, draw) for kernel in kernels]
    assert (found.trace[-1] > 0.85 * np.array(wanted)).all()
    assert found.trace[-1, 0] > 0.05


@pytest.mark.slow
def test_a_second_start_for_all_ends_no_lower(mnist_network):
    once = maximize(mnist_network, "conv2d_1", steps=20)
    twice = maximize(mnist_network, "conv2d_1", steps=20, restart_all=True)
    assert (twice.trace[-1] >= once.trace[-1]).all()
    assert (twice.trace[-1] > 1.01 * once.trace[-1]).any()
    higher = twice.trace[-1] > once.trace[-1]
    np.testing.assert_array_equal(twice.start, once.start)
    np.testing.assert_array_equal(twice.trace[0], once.trace[0])
    assert (twice.steps_taken[higher] > once.steps_taken[higher]).all()
    assert (twice.path_length[higher] > once.path_length[higher]).all()


def test_a_tile_repeats_the_signs_of_the_gradient():
    gradient = np.zeros((1, 6, 5, 1), np.float32)
    gradient[0, 2:4, 1:3, 0] = [[2, -1], [0, 3]]
    whole, half = tiled_starts(gradient, (0.0, 1.0))[0, ..., 0]
    low, middle, high = 0.125, 0.5, 0.875
    np.testing.assert_array_equal(
        whole[:2, :4], [[low, high, low, high], [high, middle, high, middle]]
    )
    np.testing.assert_array_equal(whole[2:4, 1:3], [[high, low], [middle, high]])
    assert (half == high).all()  # period 1: the sum of the gradient is above 0
    assert (tiled_starts(0 * gradient, (-1.0, 1.0)) == 0).all()


def test_an_ascent_ends_when_no_unit_rises(tiny):
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    conv.set_weights([0 * kernel, 0 * bias - 1])
    dead = maximize(tiny, "conv_b", steps=80)
    assert (dead.steps_taken < 60).all()
    assert dead.steps == dead.steps_taken.max()
    assert (dead.trace == 0).all()
    assert dead.trace.shape == (11, 5)
    kernel[..., 0] *= 0
    conv.set_weights([kernel, 0 * bias])
    assert (maximize(tiny, "conv_b", steps=80).steps_taken > 60).all()  # the others rise


@pytest.mark.slow
def test_an_ascent_does_not_end_while_the_image_is_moved_to_and_fro(tiny_network, monkeypatch):
    usual = maximize(tiny_network, "conv_b", steps=60, jitter=2)
    monkeypatch.setattr(Schedule, "patience", 1000)
    patient = maximize(tiny_network, "conv_b", steps=60, jitter=2)
    assert (usual.steps_taken >= 30).all()
    np.testing.assert_allclose(usual.trace[-1], patient.trace[-1], rtol=1e-3)
    always = maximize(tiny_network, "conv_b", steps=60, jitter=2, preset="keras-vis")
    assert (always.steps_taken >= 60).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "activation",
    ["tanh", *(pytest.param(each, marks=pytest.mark.slow) for each in (None, "sigmoid"))],
)
def test_jitter_does_not_make_a_layer_near_the_output_descend(activation):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.UpSampling2D(),
            layers.Conv2D(3, 3, padding="same", activation=activation, name="out"),
        ]
    )
    found = maximize(model, "out", steps=40)
    free = maximize(model, "out", steps=40, jitter=0)
    assert (found.trace[-1] > found.trace[0]).all()
    rise = (found.trace[-1] - found.trace[0]) / (free.trace[-1] - free.trace[0])
    assert rise.min() > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("keep_best", [None, pytest.param(False, marks=pytest.mark.slow)])
def test_the_best_checkpoint_is_returned(tiny, keep_best, monkeypatch):
    """Climb downwards: the start is the best iterate."""
    true = backend.vjp

    def downwards(fn, x):
        y, pullback = true(fn, x)
        return y, lambda cotangent: -pullback(cotangent)

    monkeypatch.setattr(backend, "vjp", downwards)
    start = np.random.default_rng(0).random((13, 13, 2), dtype=np.float32)
    found = maximize(
        tiny, "conv_b", steps=12, checkpoints=3, seed_images=start, keep_best=keep_best
    )
    values = objective_values(Network(tiny), found.objectives, found.images)
    np.testing.assert_allclose(values, found.trace[-1], rtol=1e-4, atol=1e-6)
    if keep_best is None:
        np.testing.assert_array_equal(found.images, found.start)
        np.testing.assert_array_equal(found.trace[-1], found.trace.max(axis=0))
    else:
        fires = found.trace[0] > 0
        assert fires.any()
        assert (found.trace[-1] < 0.7 * found.trace[0])[fires].all()


@pytest.mark.slow
def test_an_ascent_of_few_steps_nearly_reaches_what_many_reach(mnist_network):
    few = maximize(mnist_network, "conv2d_1", steps=30).trace[-1]
    many = maximize(mnist_network, "conv2d_1", steps=200).trace[-1]
    assert np.median(few / many) > 0.95
    assert (few / many).min() > 0.7


def test_a_relu_that_fires_at_few_positions_comes_to_fire_at_most():
    model = silent_model(-1.2)
    start = 0.5 + 0.2 * np.random.default_rng(2).standard_normal((9, 9, 3))
    start = np.clip(start, 0, 1).astype(np.float32)
    maps = activations(model, start[None], "conv")["conv"]
    assert 0 < (maps > 0).mean() < 0.2
    found = maximize(model, "conv", steps=40, seed_images=start, jitter=0)
    assert (activations(model, found.images, "conv")["conv"] > 0).mean() > 0.4


def test_the_schedule_goes_by_the_share_of_the_steps():
    for steps in (20, 300):
        options = ascent_options(None, (0.0, 1.0), 1, None, steps=steps)
        schedule = Schedule.of(options, (40, 40), 0)
        rates = schedule.rates / options.step_size
        assert rates[0] == 1
        assert rates[steps // 2] == pytest.approx(0.501, abs=1e-3)
        assert rates[-1] < 0.02
        assert (np.diff(rates) < 0).all()
        fading = int(options.fade * steps)
        assert np.abs(schedule.shifts[: steps // 10]).max() == 2
        assert (schedule.shifts[fading:] == 0).all()
        assert schedule.reaches[0] == 0
        assert schedule.reaches[steps // 2 - 1] < 2 < schedule.reaches[steps // 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"optimizer": "sgd", "tv_weight": 1.0}, marks=pytest.mark.slow)],
)
def test_other_steps_and_sizes_compile_nothing_anew(tiny, options, monkeypatch):
    network = Network(tiny)
    maximize(network, "conv_b", steps=3, jitter=1, **options)
    compiled = set(network._compiled._kept)
    traced = traced_gradients(monkeypatch)
    maximize(network, "conv_b", steps=270, step_size=0.3, jitter=1, checkpoints=4, **options)
    maximize(
        network, "conv_b", steps=9, jitter=2, **{**options, "tv_weight": 2.0} if options else {}
    )
    assert set(network._compiled._kept) == compiled
    assert not traced


@pytest.mark.slow
def test_the_range_that_a_model_carries_is_used(tiny):
    tiny.convlens_value_range = (-3.0, 5.0)
    found = maximize(tiny, "conv_a", steps=2)
    assert found.value_range == (-3.0, 5.0)
    assert found.start.mean() == pytest.approx(1.0, abs=1e-4)
    assert maximize(tiny, "conv_a", steps=2, value_range=(0, 1)).value_range == (0.0, 1.0)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "preset",
    [
        None,
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("keras-vis", "feature-visualization")),
    ],
)
def test_an_image_of_one_pixel_is_climbed(preset):
    model = keras.Sequential([keras.Input((1, 1, 1)), layers.Conv2D(2, 1, name="conv")])
    found = maximize(model, "conv", steps=10, preset=preset, decorrelate=False)
    assert np.isfinite(found.images).all()
    assert (found.trace[-1] > found.trace[0]).all()


def test_jitter_reaches_both_ends_and_is_whole_pixels():
    transforms = Transforms(0.05, (1.0, 1.0), 0.0)
    for side, reach in ((28, 1), (224, 11), (13, 0)):
        shifts = transforms.shifts((side, side), np.ones(400), 0)
        assert shifts.dtype == np.int32
        assert (shifts.min(), shifts.max()) == (-reach, reach)
        assert (transforms.shifts((side, side), np.zeros(9), 0) == 0).all()


@pytest.mark.parametrize("keep_best", [None, pytest.param(False, marks=pytest.mark.slow)])
def test_the_keras_vis_preset_follows_its_update_rule(keep_best):
    """Compare steps of the preset with NumPy, on a linear filter, without jitter."""
    model = linear_model()
    weights = {"norm_weight": 10.0, "tv_weight": 10.0}
    result = maximize(
        model, "conv", [0], preset="keras-vis", steps=4, jitter=0, keep_best=keep_best
    )
    kernel, bias = (np.asarray(w, np.float64)[..., 0] for w in model.get_weights())
    x, cache = result.start[0].astype(np.float64), 0.0
    best, kept = -np.inf, None
    for _ in range(4):
        value = (kernel * x).sum() + bias
        value -= weights["norm_weight"] * _norm(x) + weights["tv_weight"] * _tv(x)
        gradient = kernel - 10 * _numeric_gradient(_norm, x) - 10 * _numeric_gradient(_tv, x)
        gradient /= np.sqrt((gradient**2).mean()) + 1e-7
        cache = 0.95 * cache + 0.05 * gradient**2
        x = x + gradient / np.sqrt(cache + 1e-7)
        if value > best:
            best, kept = value, x
    expected = x if keep_best is False else kept
    np.testing.assert_allclose(result.images[0], expected, rtol=2e-3, atol=2e-3)
    assert np.abs(result.images - result.start).max() > 0.5
    assert result.value_range is None


def test_the_keras_vis_preset_never_returns_the_start_noise(tiny_network):
    """It keeps the image after the best step, so the first step counts even if it is the best."""
    result = maximize(tiny_network, "conv_b", preset="keras-vis", steps=3)
    assert (np.abs(result.images - result.start).max(axis=(1, 2, 3)) > 0.5).all()


def test_the_keras_vis_preset_starts_near_the_middle_and_keeps_the_best(tiny_network):
    result = maximize(tiny_network, "conv_b", preset="keras-vis", tv_weight=0.0, norm_weight=0.0)
    np.testing.assert_allclose(result.start.mean(axis=(1, 2, 3)), 0.5, atol=1e-6)
    np.testing.assert_allclose(result.start.std(axis=(1, 2, 3)), 0.05, rtol=1e-4)
    assert result.steps == 200
    assert (result.trace[-1] >= result.trace[0]).all()
    assert result.images.max() > 1  # iterates leave the range, as keras-vis's do


def _norm(x):
    return (x**6).sum() ** (1 / 6) / x.size


def _tv(x):
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    return (down**2 + right**2).sum() / x.size


def _numeric_gradient(f, x, h=1e-6):
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        out[i] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def test_regularizers_are_those_of_the_formulas():
    x = np.random.default_rng(0).random((2, 7, 5, 3), dtype=np.float32)
    tensor = ops.convert_to_tensor(x)
    np.testing.assert_allclose(total_variation(tensor), [_tv(i) for i in x], rtol=1e-5)
    np.testing.assert_allclose(image_norm(tensor), [_norm(i) for i in x], rtol=1e-5)


@pytest.mark.slow
def test_total_variation_flattens_the_image(tiny_network):
    plain = maximize(tiny_network, "conv_b", steps=40, jitter=0)
    smooth = maximize(tiny_network, "conv_b", steps=40, jitter=0, tv_weight=50.0)
    assert np.mean([_tv(i) for i in smooth.images]) < 0.5 * np.mean([_tv(i) for i in plain.images])


@pytest.mark.parametrize(
    ("rule", "one", "two"), [(adam, 0.9, 0.999), (optimizer("adam").step, 0.3, 0.9)]
)
def test_adam_is_that_of_the_paper(rule, one, two):
    first, second, x, mine = 0.0, 0.0, 1.0, 1.0
    state = [ops.zeros((1,)), ops.zeros((1,))]
    for i, gradient in enumerate([0.5, -2.0, 1.0]):
        first = one * first + (1 - one) * gradient
        second = two * second + (1 - two) * gradient**2
        x += 0.1 * (first / (1 - one ** (i + 1))) / np.sqrt(second / (1 - two ** (i + 1)))
        step, state = rule(ops.full((1,), gradient), state, ops.convert_to_tensor(i), 0.1)
        mine += float(step[0])
    assert mine == pytest.approx(x, rel=1e-4)


@pytest.mark.slow
def test_progress_counts_to_the_end(tiny_network):
    seen = []
    start = np.random.default_rng(0).random((13, 13, 2), dtype=np.float32)  # nothing starts again
    maximize(
        tiny_network,
        "conv_a",
        steps=10,
        seed_images=start,
        memory_budget=1,
        progress=lambda *a: seen.append(a),
    )
    assert seen[-1] == (60, 60)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and 1,000,000, not 0"),
        ({"step_size": -1}, "step_size must be above 0"),
        ({"jitter": -1}, "jitter must be 0 or more"),
        ({"optimizer": "lion"}, "optimizer must be 'adam'"),
        ({"preset": "lucid"}, "preset must be 'keras-vis' or"),
        ({"value_range": (1, 0)}, "low < high"),
        ({"value_range": 3}, "low < high"),
        ({"units": [99]}, "no unit 99"),
        ({"seed_images": np.zeros((2, 13, 13, 2))}, "must hold 1 or 5 images, not 2"),
    ],
)
def test_options_out_of_bounds_are_refused(tiny_network, options, message):
    with pytest.raises(ValueError, match=message):
        maximize(tiny_network, "conv_b", **options)


def test_another_size_is_possible_where_the_layers_below_take_it(tiny_network):
    small = maximize(tiny_network, "conv_b", [0], steps=3, size=(9, 11))
    assert small.images.shape == (1, 9, 11, 2)
    assert small.trace[-1, 0] > small.trace[0, 0]
    with pytest.raises(ValueError, match=r"size must be \(13, 13\), .* layer 'classes'"):
        maximize(tiny_network, steps=3, size=(9, 9))


def test_a_model_of_any_size_needs_one():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match="give size="):
        maximize(model, "conv")
    assert maximize(model, "conv", size=(8, 6), steps=2).images.shape == (2, 8, 6, 1)


def test_a_model_without_classes_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match="has no vector of classes as its output"):
        maximize(Network(model))


@pytest.mark.slow
def test_several_images_of_a_unit_differ_and_all_excite_it(mnist_cnn):
    network = Network(mnist_cnn)
    alone = maximize(network, "conv2d_3", [2, 11], steps=80)
    group = maximize(network, "conv2d_3", [2, 11], steps=80, images_per_unit=3)
    assert group.units.tolist() == [2, 2, 2, 11, 11, 11]
    np.testing.assert_array_equal(group.start[[0, 3]], alone.start)
    assert (group.trace[-1] > 0.4 * alone.trace[-1].min()).all()
    free = maximize(network, "conv2d_3", [2, 11], steps=80, images_per_unit=3, diversity_weight=0)
    for images in (slice(0, 3), slice(3, 6)):  # of one unit
        assert _alike(network, group.images[images]) < _alike(network, free.images[images]) - 0.3


def _alike(network, images):
    """Return the mean cosine of the Gram matrices of images, in NumPy."""
    maps = activations(network, images, "conv2d_3")["conv2d_3"]
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    gram = (flat.transpose(0, 2, 1) @ flat).reshape(len(maps), -1)
    gram /= np.linalg.norm(gram, axis=1, keepdims=True)
    return (gram @ gram.T)[~np.eye(len(maps), dtype=bool)].mean()


def test_likeness_is_the_mean_cosine_over_siblings(tiny_network, tiny_images):
    from convlens.engine.ascent.diversity import sibling_similarity

    maps = activations(tiny_network, tiny_images, "conv_b")["conv_b"]
    groups = np.int32([0, 0, 1, 1, 1, 2])
    flat = maps.reshape(6, -1, 5)
    gram = (flat.transpose(0, 2, 1) @ flat).reshape(6, -1)
    gram /= np.linalg.norm(gram, axis=1, keepdims=True)
    cosine = gram @ gram.T
    expected = [cosine[0, 1], cosine[1, 0], cosine[2, [3, 4]].mean()]
    expected += [cosine[3, [2, 4]].mean(), cosine[4, [2, 3]].mean(), 0]
    found = sibling_similarity(ops.convert_to_tensor(maps), ops.convert_to_tensor(groups))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_an_interruption_between_parts_keeps_the_finished_ones(tiny_network):
    whole = maximize(tiny_network, "conv_b", steps=8)

    def interrupt(done, total):
        if done > 2 * 8:
            raise KeyboardInterrupt

    with pytest.raises(
        AscentInterrupted, match="2 images of tiny layer 'conv_b' after 8"
    ) as caught:
        maximize(tiny_network, "conv_b", steps=8, memory_budget=1, progress=interrupt)
    kept = caught.value.result
    assert kept.units.tolist() == [0, 1]
    np.testing.assert_allclose(kept.images[0], whole.images[0], atol=1e-4)
    np.testing.assert_allclose(kept.trace[:, 0], whole.trace[:, 0], rtol=1e-3)
    # Unit 1 is silent at the start, so that the whole run climbs it a second time.
    assert 0 < kept.trace[-1, 1] < whole.trace[-1, 1]


def test_an_interruption_of_the_first_part_keeps_the_steps_taken(tiny_network):
    def interrupt(done, total):
        raise KeyboardInterrupt

    start = np.random.default_rng(0).random((13, 13, 2), dtype=np.float32)  # nothing starts again
    with pytest.raises(AscentInterrupted, match="after 1 steps") as caught:
        maximize(tiny_network, "conv_b", steps=50, seed_images=start, progress=interrupt)
    kept = caught.value.result
    one = maximize(tiny_network, "conv_b", steps=50, seed_images=start, checkpoints=50)
    assert kept.trace_steps.tolist() == [0, 1]
    np.testing.assert_allclose(kept.trace, one.trace[:2], rtol=1e-4)
    assert kept.steps == 1


def test_slices_do_not_change_the_result(tiny_network, monkeypatch):
    start = np.random.default_rng(0).random((13, 13, 2), dtype=np.float32)  # nothing starts again
    options = {"steps": 12, "seed_images": start, "seed": 3}
    whole = maximize(tiny_network, "conv_b", **options)
    monkeypatch.setattr("convlens.engine.ascent.climb._SLICE_SECONDS", 0.0)
    reports = []
    sliced = maximize(tiny_network, "conv_b", progress=lambda *a: reports.append(a), **options)
    np.testing.assert_array_equal(sliced.images, whole.images)
    assert reports == [(i, 12) for i in range(1, 13)]


def test_no_bar_is_drawn_where_there_is_no_terminal(tiny_network, capfd):
    maximize(tiny_network, "conv_b", steps=2)
    assert capfd.readouterr().err == ""


def test_images_per_unit_below_one_is_refused(tiny_network):
    with pytest.raises(ValueError, match="images_per_unit must be at least 1"):
        maximize(tiny_network, "conv_b", images_per_unit=0)

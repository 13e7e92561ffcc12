"""Activation maximization: the ascent, its trace and its options."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import AscentInterrupted, Network, activations, maximize
from convlens.engine.ascent.optimizers import optimizer
from convlens.engine.ascent.regularizers import image_norm, total_variation


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
    # Five steps of 1 % root mean square over nine pixels.
    np.testing.assert_allclose(result.path_length, 5 * 0.01 * 3, rtol=1e-4)
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


def test_a_relu_that_is_silent_at_the_start_is_woken():
    model = linear_model()
    conv = layers.Conv2D(1, 3, activation="relu", name="conv")
    silent = keras.Sequential([keras.Input((9, 9, 1)), conv])
    kernel = np.asarray(model.layers[0].kernel)[..., :1]
    conv.set_weights([kernel, np.float32([-0.4]) - np.float32(0.5) * kernel.sum()])
    result = maximize(silent, "conv", steps=60, jitter=0)
    assert result.trace[0, 0] == 0
    assert result.trace[-1, 0] > 0


def test_jitter_reaches_both_ends_and_is_whole_pixels():
    from convlens.engine.ascent.transforms import Transforms

    transforms = Transforms(0.05, (1.0, 1.0), 0.0)
    for side, reach in ((28, 1), (224, 11), (13, 0)):
        shifts = transforms.shifts((side, side), 400, 0)
        assert shifts.dtype == np.int32
        assert (shifts.min(), shifts.max()) == (-reach, reach)


def test_the_keras_vis_preset_follows_its_update_rule():
    """Compare three steps of the preset with NumPy, on a linear filter, without jitter."""
    model = linear_model()
    result = maximize(model, "conv", [0], preset="keras-vis", steps=3, jitter=0, keep_best=False)
    kernel = np.asarray(model.layers[0].kernel, np.float64)[..., 0]
    x, cache = result.start[0].astype(np.float64), 0.0
    for _ in range(3):
        gradient = kernel - 10 * _numeric_gradient(_norm, x) - 10 * _numeric_gradient(_tv, x)
        gradient /= np.sqrt((gradient**2).sum())
        cache = 0.95 * cache + 0.05 * gradient**2
        x = x + gradient / np.sqrt(cache + 1e-7)
    np.testing.assert_allclose(result.images[0], x, rtol=2e-3, atol=2e-3)
    assert result.value_range is None


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


def test_total_variation_flattens_the_image(tiny_network):
    plain = maximize(tiny_network, "conv_b", steps=40, jitter=0)
    smooth = maximize(tiny_network, "conv_b", steps=40, jitter=0, tv_weight=50.0)
    assert np.mean([_tv(i) for i in smooth.images]) < 0.5 * np.mean([_tv(i) for i in plain.images])


def test_adam_is_that_of_the_paper():
    rule = optimizer("adam", 0.1)
    first, second, x, mine = 0.0, 0.0, 1.0, 1.0
    state = [ops.zeros((1,)), ops.zeros((1,))]
    for i, gradient in enumerate([0.5, -2.0, 1.0]):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        x += 0.1 * (first / (1 - 0.9 ** (i + 1))) / np.sqrt(second / (1 - 0.999 ** (i + 1)))
        step, state = rule.step(ops.full((1,), gradient), state, ops.convert_to_tensor(i))
        mine += float(step[0])
    assert mine == pytest.approx(x, rel=1e-4)


def test_progress_counts_to_the_end(tiny_network):
    seen = []
    maximize(tiny_network, "conv_a", steps=10, memory_budget=1, progress=lambda *a: seen.append(a))
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
        ({"size": (9, 9)}, r"size must be \(13, 13\)"),
        ({"seed_images": np.zeros((2, 13, 13, 2))}, "must hold 1 or 5 images, not 2"),
    ],
)
def test_options_out_of_bounds_are_refused(tiny_network, options, message):
    with pytest.raises(ValueError, match=message):
        maximize(tiny_network, "conv_b", **options)


def test_a_model_of_any_size_needs_one():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match="give size="):
        maximize(model, "conv")
    assert maximize(model, "conv", size=(8, 6), steps=2).images.shape == (2, 8, 6, 1)


def test_a_model_without_classes_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match="is not a vector of classes"):
        maximize(Network(model))


def test_several_images_of_a_unit_differ_and_all_excite_it(tiny_network):
    alone = maximize(tiny_network, "conv_b", [0, 3], steps=80)
    group = maximize(
        tiny_network, "conv_b", [0, 3], steps=80, images_per_unit=3, diversity_weight=5
    )
    assert group.units.tolist() == [0, 0, 0, 3, 3, 3]
    np.testing.assert_array_equal(group.start[[0, 3]], alone.start)
    assert (group.trace[-1] > 1.4 * group.trace[0]).all()
    free = maximize(tiny_network, "conv_b", [0, 3], steps=80, images_per_unit=3, diversity_weight=0)
    assert _alike(tiny_network, group) < _alike(tiny_network, free) - 0.05


def _alike(network, found):
    """Return the mean cosine of the Gram matrices of images of one unit, in NumPy."""
    maps = activations(network, found.images, "conv_b")["conv_b"]
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    gram = (flat.transpose(0, 2, 1) @ flat).reshape(len(maps), -1)
    gram /= np.linalg.norm(gram, axis=1, keepdims=True)
    cosine = gram @ gram.T
    same = (found.units[:, None] == found.units) & ~np.eye(len(maps), dtype=bool)
    return cosine[same].mean()


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
    np.testing.assert_allclose(kept.images, whole.images[:2], atol=1e-4)
    np.testing.assert_allclose(kept.trace, whole.trace[:, :2], rtol=1e-3)


def test_an_interruption_of_the_first_part_keeps_the_steps_taken(tiny_network):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(AscentInterrupted, match="after 1 steps") as caught:
        maximize(tiny_network, "conv_b", steps=50, progress=interrupt)
    kept = caught.value.result
    one = maximize(tiny_network, "conv_b", steps=50, checkpoints=50)
    assert kept.trace_steps.tolist() == [0, 1]
    np.testing.assert_allclose(kept.trace, one.trace[:2], rtol=1e-4)
    assert kept.steps == 1


def test_slices_do_not_change_the_result(tiny_network, monkeypatch):
    whole = maximize(tiny_network, "conv_b", steps=12, seed=3)
    monkeypatch.setattr("convlens.engine.ascent.climb._SLICE_SECONDS", 0.0)
    reports = []
    sliced = maximize(
        tiny_network, "conv_b", steps=12, seed=3, progress=lambda *a: reports.append(a)
    )
    np.testing.assert_array_equal(sliced.images, whole.images)
    assert reports == [(i, 12) for i in range(1, 13)]


def test_no_bar_is_drawn_where_there_is_no_terminal(tiny_network, capfd):
    maximize(tiny_network, "conv_b", steps=2)
    assert capfd.readouterr().err == ""


def test_images_per_unit_below_one_is_refused(tiny_network):
    with pytest.raises(ValueError, match="images_per_unit must be at least 1"):
        maximize(tiny_network, "conv_b", images_per_unit=0)

"""The ascent check: what it must catch, each planted."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Lens, Network, Objective, assert_activation_increases, maximize
from convlens.checks.ascent import Ascent, random_steps
from convlens.checks.check import Effort, run_check
from convlens.engine.ascent.ranges import ceilings, tops
from convlens.engine.ascent.scores import objective_values
from convlens.engine.runtime import backend


@pytest.fixture(scope="module")
def healthy(tiny_network):
    return maximize(tiny_network, "conv_b", steps=60, checkpoints=4)


def test_a_healthy_ascent_passes_and_returns_its_gains(tiny_network, healthy):
    found = assert_activation_increases(tiny_network, healthy)
    np.testing.assert_allclose(found.final, healthy.trace[-1], rtol=1e-4)
    assert (found.gain > 0).all()
    assert (found.final > found.control).all()


@pytest.mark.slow
def test_every_layer_of_the_trained_network_passes(mnist_network):
    for layer in mnist_network.conv_layers:
        assert_activation_increases(mnist_network, maximize(mnist_network, layer, steps=60))


def test_the_control_takes_steps_of_the_same_length_in_the_range(healthy):
    free = replace(healthy, value_range=None)
    moved = random_steps(free) - free.start
    # A random walk of n steps of length s ends about s·√n away.
    ends = np.sqrt((moved**2).sum(axis=(1, 2, 3)))
    steps = free.path_length / free.steps_taken
    np.testing.assert_allclose(ends, steps * np.sqrt(free.steps_taken), rtol=1e-4)
    clipped = random_steps(healthy)
    assert clipped.min() >= 0
    assert clipped.max() <= 1


def patched(monkeypatch, change):
    """Plant a defect in the gradient that the ascent climbs."""
    true = backend.vjp

    def vjp(fn, x):
        y, pullback = true(fn, x)
        return y, lambda cotangent: change(pullback(cotangent))

    monkeypatch.setattr(backend, "vjp", vjp)


@pytest.fixture
def fresh(tiny):
    return Network(tiny)  # compiled anew, with the defect in it


def test_a_flipped_sign_is_caught(monkeypatch, fresh):
    patched(monkeypatch, lambda g: -g)
    result = maximize(fresh, "conv_b", steps=30)
    with pytest.raises(AssertionError, match=r"tiny layer 'conv_b': .* 5 of 5 units[^$]*unit \d"):
        assert_activation_increases(fresh, result)


def test_a_detached_gradient_is_caught(monkeypatch, fresh):
    patched(monkeypatch, lambda g: 0 * g)
    result = maximize(fresh, "conv_b", steps=30)
    with pytest.raises(AssertionError, match="rose by 0, at least"):
        assert_activation_increases(fresh, result)


def test_random_directions_do_no_better_than_the_control(tiny_network, healthy):
    chance = replace(healthy, images=random_steps(healthy, seed=9), trace=healthy.trace.copy())
    with pytest.raises(AssertionError, match="random steps of the same length reach"):
        assert_activation_increases(tiny_network, chance, gain=-10)


def test_a_dead_unit_is_named_as_dead(tiny):
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    kernel[..., 3], bias[3] = 0, -1
    conv.set_weights([kernel, bias])
    result = maximize(tiny, "conv_b", steps=30)
    with pytest.raises(AssertionError) as failure:
        assert_activation_increases(tiny, result)
    assert "the ascent of 1 of 5 units" in str(failure.value)
    assert "unit 3 is dead: 0 at the start, at the end and after" in str(failure.value)


def with_jittered_trace(network, result):
    """Return the result with a trace that ends on rolled images."""
    rolled = np.roll(result.images, (2, 3), axis=(1, 2))
    trace = result.trace.copy()
    trace[-1] = objective_values(network, result.objectives, rolled)
    return replace(result, trace=trace)


def test_a_trace_of_the_jittered_images_is_caught(tiny_network, healthy):
    with pytest.raises(AssertionError, match=r"its trace says .* was not measured on these images"):
        assert_activation_increases(tiny_network, with_jittered_trace(tiny_network, healthy))


# Activation and bias of units that start near their ceiling, or far from 0, or silent.
KINDS = {
    "linear": (None, 0.0),
    "high_relu": ("relu", 20.0),
    "relu6_near_its_ceiling": ("relu6", 5.8),
    "saturated_tanh": ("tanh", 2.0),
    "more_saturated_tanh": ("tanh", 4.0),
    "sigmoid": ("sigmoid", 3.0),
    "silent_relu": ("relu", -0.3),
    "softplus": ("softplus", 1.0),
}
GOALS = [Objective.unit(name, 0) for name in KINDS]
# Given, so that no other start is tried.
START = (0.5 + 0.05 * np.random.default_rng(7).standard_normal((12, 12, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def kinds():
    """Return a network with a layer of each kind, all of which read the image."""
    image = keras.Input((12, 12, 2))
    draw = np.random.default_rng(2)
    outputs = []
    for name, (activation, bias) in KINDS.items():
        conv = layers.Conv2D(1, 3, strides=2, padding="same", activation=activation, name=name)
        outputs.append(conv(image))
        kernel = draw.normal(0, 0.12, (3, 3, 2, 1)).astype(np.float32)
        kernel -= kernel.mean(axis=(0, 1, 2))  # so that the bias alone sets the level
        conv.set_weights([kernel, np.full(1, bias, np.float32)])
    return Network(keras.Model(image, layers.Concatenate()(outputs), name="kinds"))


@pytest.fixture(scope="module")
def risen(kinds):
    return maximize(kinds, GOALS, steps=40)


FAILED = f"the ascent of {len(KINDS)} of {len(KINDS)} units failed"


@pytest.mark.slow
def test_units_of_every_kind_pass(kinds, risen):
    assert (assert_activation_increases(kinds, risen).gain > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_in_units_of_every_kind_a_wrong_gradient_is_caught(kinds, factor, monkeypatch):
    patched(monkeypatch, lambda g: factor * g)
    network = Network(kinds.model)
    with pytest.raises(AssertionError, match=FAILED):
        assert_activation_increases(network, maximize(network, GOALS, steps=40, seed_images=START))


@pytest.mark.slow
def test_in_units_of_every_kind_random_steps_are_caught(kinds, risen):
    images = random_steps(risen, seed=9)
    trace = risen.trace.copy()
    trace[-1] = objective_values(kinds, GOALS, images)
    with pytest.raises(AssertionError, match=FAILED):
        assert_activation_increases(kinds, replace(risen, images=images, trace=trace))


@pytest.mark.slow
def test_in_units_of_every_kind_a_jittered_trace_is_caught(kinds, risen):
    with pytest.raises(AssertionError, match=FAILED) as failure:
        assert_activation_increases(kinds, with_jittered_trace(kinds, risen))
    assert str(failure.value).count("was not measured on these images") == len(KINDS)


@pytest.mark.slow
def test_a_constant_unit_is_dead_and_a_unit_at_its_ceiling_is_not():
    image = keras.Input((6, 6, 1))
    constant = layers.Conv2D(1, 3, kernel_initializer="zeros", bias_initializer="ones", name="a")
    full = layers.Conv2D(
        1, 3, activation="relu6", bias_initializer=keras.initializers.Constant(50), name="b"
    )
    network = Network(keras.Model(image, [constant(image), full(image)]))
    with pytest.raises(AssertionError, match="unit 0 is dead: 1 at the start"):
        assert_activation_increases(network, maximize(network, "a", steps=3))
    assert_activation_increases(network, maximize(network, "b", steps=3))


def test_a_nan_image_never_passes(tiny_network, healthy):
    images = healthy.images.copy()
    images[2] = np.nan
    with pytest.raises(
        AssertionError, match=r"'conv_b': the ascent is not finite:\n  images: 338 of"
    ):
        assert_activation_increases(tiny_network, replace(healthy, images=images))


def test_a_nan_weight_never_passes(healthy, tiny):
    conv = tiny.get_layer("conv_b")
    kernel, bias = conv.get_weights()
    kernel[0, 0, 0, 2] = np.nan
    conv.set_weights([kernel, bias])
    with pytest.raises(AssertionError, match="layer 'conv_b', kernel: 1 of 270"):
        assert_activation_increases(tiny, healthy)


def test_no_unit_never_passes(tiny_network, healthy):
    none = np.arange(0)
    empty = replace(healthy, units=none, images=healthy.images[:0], start=healthy.start[:0])
    with pytest.raises(AssertionError, match="no unit was maximized"):
        assert_activation_increases(tiny_network, empty)


@pytest.mark.slow
def test_a_unit_that_a_relu_below_keeps_at_its_ceiling_has_not_failed():
    """All weights of unit 0 are negative: it is highest where the ReLU that it reads is 0."""
    image = keras.Input((6, 6, 1))
    below = layers.Conv2D(1, 1, activation="relu", name="below")
    above = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="above")
    network = Network(keras.Model(image, above(layers.ZeroPadding2D()(below(image)))))
    below.set_weights([np.float32([[[[1]]]]), np.float32([-0.7])])
    kernel = np.full((3, 3, 1, 2), -0.1, np.float32)
    kernel[1, 1, 0, 1] = 3
    above.set_weights([kernel, np.float32([0.5, 0])])
    objectives = [Objective.unit("above", u) for u in (0, 1)]
    np.testing.assert_array_equal(tops(network, objectives), [0.5, np.inf])
    assert np.isinf(ceilings(network, objectives)).all()
    found = maximize(network, "above", steps=30)
    assert found.trace[:, 0].tolist() == [0.5] * len(found.trace)
    assert_activation_increases(network, found)
    below.set_weights([np.float32([[[[1]]]]), np.float32([-2])])  # the ReLU is always 0
    network.refresh()
    with pytest.raises(AssertionError, match=r"unit 0 is dead: 0\.5"):
        assert_activation_increases(network, maximize(network, "above", steps=30))


@pytest.mark.parametrize(("bound", "wanted"), [(6.0, [18.0, 0.25]), (None, [np.inf, 0.25])])
def test_the_top_follows_from_weights_and_what_they_read(bound, wanted):
    image = keras.Input((4, 4, 2))
    x = layers.ReLU(max_value=bound)(image)
    dense = layers.Dense(2, name="dense")
    network = Network(keras.Model(image, dense(layers.GlobalMaxPooling2D()(x))))
    dense.set_weights([np.float32([[1, -1], [2, -3]]), np.float32([0, 0.25])])
    objectives = [Objective.unit("dense", u) for u in (0, 1)]
    np.testing.assert_allclose(tops(network, objectives), wanted)


@pytest.fixture
def shy():
    """Return a network whose last unit is highest where the ReLU that it reads is 0 everywhere.

    One of its weights is positive, but the others outweigh it at every position.
    """
    image = keras.Input((8, 8, 1))
    below = layers.Conv2D(1, 1, activation="relu6", name="below")
    above = layers.DepthwiseConv2D(3, padding="same", name="above")
    model = keras.Model(image, above(below(image)), name="shy")
    below.set_weights([np.float32([[[[10]]]]), np.float32([-1])])
    kernel = np.full((3, 3, 1, 1), -0.1, np.float32)
    kernel[1, 1] = 0.25
    above.set_weights([kernel, np.float32([0.5])])
    return model


def test_a_unit_that_nothing_raises_further_has_nothing_to_climb(shy):
    dark = np.zeros((8, 8, 1), np.float32)
    result = maximize(shy, "above", steps=20, seed_images=dark)
    found = assert_activation_increases(shy, result)
    assert found.start.tolist() == found.final.tolist() == [0.5]
    assert found.top > 1  # which no image reaches
    assert found.nothing_to_climb.all()


def test_a_unit_that_a_plain_color_raises_further_has_not_arrived(shy, monkeypatch):
    patched(monkeypatch, lambda g: 0 * g)
    start = START[:8, :8, :1]
    with pytest.raises(AssertionError, match="rose by 0, at least"):
        assert_activation_increases(shy, maximize(shy, "above", steps=20, seed_images=start))


@pytest.mark.slow
def test_units_about_to_fail_climb_in_more_steps(tiny_network, tiny_images, monkeypatch):
    tiny_lens = Lens(tiny_network, tiny_images)
    effort = Effort(units=5, level="quick")
    check = Ascent()
    short = effort.maximize(tiny_lens, "conv_b")
    monkeypatch.setattr("convlens.checks.ascent.AscentGain.failing", property(lambda _: [1, 3]))
    seen = run_check(check, tiny_lens, "conv_b", effort)
    more = seen.result.steps_taken - short.steps_taken
    assert (more[[1, 3]] > 0).all()
    assert (more[[0, 2, 4]] == 0).all()
    assert (seen.final >= short.trace[-1] * (1 - 1e-5)).all()
    assert check.verdict(seen) == {}
    asked = run_check(check, tiny_lens, "conv_b", replace(effort, steps=12))
    np.testing.assert_array_equal(asked.result.steps_taken, short.steps_taken)


def test_where_most_units_fail_steps_are_not_the_reason(tiny_network, healthy):
    seen = assert_activation_increases(tiny_network, healthy)
    assert seen.failing == []
    for weak in ([0, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        searched = np.full(5, np.inf, np.float32)
        searched[weak] = seen.final[weak] + 1
        assert replace(seen, searched=searched).failing == (weak if len(weak) < 5 else [])


def squeezed(activation, scale):
    """Return a network with a squeeze-excite gate whose units start left of their pit.

    From there a swish or a GELU rises to 0 at most, and on the other side without a bound. A small
    scale of the weights lets no image get there.
    """
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="expand")(image)
    x = layers.Activation(activation)(layers.BatchNormalization(momentum=0.0)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="deep")(x)
    x = layers.Activation(activation)(layers.BatchNormalization(momentum=0.0)(x))
    gate = layers.Reshape((1, 1, 12))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(6, 1, activation=activation, name="reduce")(gate)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="widen")(gate)
    x = layers.Conv2D(8, 1, name="project")(layers.Multiply()([x, gate]))
    model = keras.Model(image, x, name="squeezed")
    model(np.random.default_rng(0).random((16, 16, 16, 3), dtype=np.float32), training=True)
    reduce = model.get_layer("reduce")
    reduce.set_weights([scale * reduce.get_weights()[0], np.full(6, -2.5, np.float32)])
    return model


@pytest.mark.parametrize(
    ("activation", "scale"), [("silu", 1), ("silu", 8), ("gelu", 8), ("mish", 8)]
)
def test_units_that_start_left_of_the_pit_of_a_swish_pass(activation, scale):
    images = np.random.default_rng(3).random((4, 16, 16, 3), dtype=np.float32)
    lens = Lens(squeezed(activation, scale), images)
    lens.share()
    check = Ascent()
    for layer in lens.conv_layers:
        found = run_check(check, lens, layer, Effort())
        check.verdict(found)
        if layer == "reduce":
            assert (found.start < 0).sum() >= 3
            assert (found.final > 0.1).all() == (scale > 1), found.final


def test_a_descent_into_the_pit_of_a_swish_is_caught(monkeypatch):
    network = Network(squeezed("silu", 1))
    patched(monkeypatch, lambda g: -g)
    gray = np.full((16, 16, 3), 0.5, np.float32)
    with pytest.raises(AssertionError, match=r"'reduce': the ascent of . of 6 units failed"):
        assert_activation_increases(
            network, maximize(network, "reduce", steps=16, seed_images=gray)
        )


def test_few_units_of_layers_of_one_graph_are_climbed_at_once(monkeypatch):
    keras.utils.set_random_seed(0)
    image = x = keras.Input((32, 32, 3))
    for i in range(5):
        x = layers.Conv2D(40, 3, padding="same", activation="relu", name=f"conv_{i}")(x)
    lens = Lens(keras.Model(image, x), np.random.default_rng(0).random((2, 32, 32, 3)))
    group = lens.conv_layers
    plan = replace(lens.plan_ascent("conv_1"), graph_layers=group, steps=6, size=(32, 32))
    monkeypatch.setattr(
        Lens, "plan_ascent", lambda _, layer, level: replace(plan, layer=layer, units=(0, 7, 39))
    )
    calls = []
    climb = Lens.maximize
    monkeypatch.setattr(
        Lens, "maximize", lambda self, *a, **k: calls.append(a[0]) or climb(self, *a, **k)
    )
    effort = Effort()
    alone = {layer: effort.maximize(lens, layer) for layer in group}
    assert calls == list(group), "nothing may be kept before the lens is shared"
    calls.clear()
    lens.share()
    shared = {layer: effort.maximize(lens, layer) for layer in reversed(group)}
    assert [[goal.terms[0].layer for goal in goals] for goals in calls[1:]] == [
        ["conv_2"] * 3 + ["conv_3"] * 3,
        ["conv_0"] * 3 + ["conv_1"] * 3,
    ]
    assert calls[0] == "conv_4"
    for layer, result in shared.items():
        assert result.layer == layer
        assert result.units.tolist() == [0, 7, 39]
        assert result.labels == alone[layer].labels
        np.testing.assert_allclose(result.start, alone[layer].start)
        np.testing.assert_allclose(result.trace[-1], alone[layer].trace[-1], rtol=0.02)

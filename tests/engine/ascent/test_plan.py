"""Plans of ascents: a budget of operations decides units, steps and image sizes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Lens, Network
from convlens.engine.ascent.canvas import Costs
from convlens.engine.ascent.plan import LIMITS, ascent_plans, spread_evenly
from convlens.fixtures.mnist_cnn import load_mnist_cnn


def chain(count, size=224, filters=16, head=layers.GlobalAveragePooling2D, pools=(4, 8, 12)):
    """Return convolutions one after another, with a pool before some, and ten classes."""
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3))
    x = image
    for i in range(count):
        if i in pools:
            x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{i}")(x)
    return Network(keras.Model(image, layers.Dense(10, name="classes")(head()(x))))


def planned(network, level="standard"):
    h, w, c = network.input_shape
    goals = [*network.conv_layers, "classes"]
    return ascent_plans(network, goals, (h, w, c), LIMITS[level])


def operations(network, plan):
    """Return the operations of a plan's steps, counted again."""
    h, w, c = network.input_shape
    costs = Costs(network, (h, w, c))
    calls = frozenset().union(*(costs.calls(layer) for layer in plan.graph_layers))
    share = plan.size[0] * plan.size[1] / (h * w)
    return 2 * plan.steps * len(plan.units) * share * costs.of(calls)


def test_a_small_network_loses_nothing(mnist_network):
    lens = Lens(mnist_network, np.zeros((1, 28, 28, 1), np.float32))
    for layer in (*mnist_network.conv_layers, None):
        plan = lens.plan_ascent(layer)
        assert plan.units == tuple(range(plan.count))
        assert (plan.steps, plan.shown) == (64, (28, 28))
    assert lens.plan_ascent("conv2d_1").twice


def test_the_plan_of_a_layer_does_not_depend_on_what_else_is_asked_for():
    images = np.zeros((1, 28, 28, 1), np.float32)
    one, other = (Lens(load_mnist_cnn(), images) for _ in range(2))
    first = one.plan_ascent("conv2d_3", "quick")
    one.plan_ascent(None, "quick")
    other.plan_ascent("dense_1", "quick")  # which has no ascent in a run of all checks
    other.plan_ascent("conv2d_1", "quick")
    assert other.plan_ascent("conv2d_3", "quick") == first == one.plan_ascent("conv2d_3", "quick")
    with pytest.raises(ValueError, match="level must be 'quick', 'standard', 'full', not 'much'"):
        one.plan_ascent(None, "much")


def test_a_large_network_keeps_to_the_budget():
    network = chain(16, filters=64)
    forward = Costs(network, (224, 224, 3)).forward
    spent = {}
    for level in ("quick", "standard"):
        plans = planned(network, level)
        spent[level] = sum(operations(network, plan) for plan in plans.values())
        assert 0.1 * LIMITS[level].budget(forward) < spent[level] < LIMITS[level].budget(forward)
        for plan in plans.values():
            assert len(plan.units) >= LIMITS[level].min_units
            assert LIMITS[level].min_steps <= plan.steps <= LIMITS[level].max_steps
    assert spent["quick"] < 0.3 * spent["standard"]


def test_the_effort_of_deeper_chains_grows_as_their_depth():
    depths = (8, 16, 32)
    spent = []
    for depth in depths:
        network = chain(depth, size=64, filters=32, pools=())
        spent.append(sum(operations(network, plan) for plan in planned(network).values()))
    slope = np.polyfit(np.log(depths), np.log(spent), 1)[0]
    assert slope < 1.3


def test_full_effort_is_64_units_300_steps_and_the_whole_image():
    for plan in planned(chain(6, filters=80), "full").values():
        assert len(plan.units) == min(64, plan.count)
        assert (plan.steps, plan.size) == (300, (224, 224))


def test_a_canvas_is_as_large_as_the_receptive_field_needs():
    costs = Costs(chain(16), (224, 224, 3))
    first, last = costs.canvas("conv_0"), costs.canvas("conv_15")
    assert first.size(0) == (32, 32)
    assert first.size(1) == (64, 64)
    assert last.stride == (8, 8)
    assert last.size(1) == (224, 224)
    assert costs.canvas("conv_11").size(1) == (120, 120)  # twice the field, in strides of 4
    for level in np.linspace(0, 1, 9):
        h, _ = last.size(level)
        assert (224 - h) % 8 == 0


def test_the_whole_image_is_used_where_the_layers_below_need_it():
    assert Costs(chain(4), (224, 224, 3)).canvas("classes").free
    flat = Costs(chain(4, head=layers.Flatten, size=48), (48, 48, 3))
    assert not flat.canvas("classes").free
    assert flat.canvas("classes").size(0) == (48, 48)
    assert flat.canvas("conv_3").free


class Places(layers.Layer):
    """Adds a weight of its own at each position."""

    def build(self, shape):
        self.places = self.add_weight(shape=shape[1:], name="places")

    def call(self, x):
        return x + self.places


@pytest.mark.parametrize(
    ("between", "free"),
    [
        (layers.Resizing(48, 48), False),
        (Places(), False),
        (layers.Reshape((16, 144, 8)), False),
        (layers.Lambda(lambda x: x[:, 4:20, 4:20]), False),
        (layers.Lambda(lambda x: x * 2), True),
        (layers.UpSampling2D(), True),
        (layers.BatchNormalization(), True),
    ],
)
def test_fixed_positions_are_found_by_what_layers_do(between, free):
    image = keras.Input((48, 48, 3))
    x = layers.Conv2D(8, 3, padding="same", name="below")(image)
    x = layers.Conv2D(4, 3, name="above")(between(x))
    costs = Costs(Network(keras.Model(image, x)), (48, 48, 3))
    assert costs.canvas("below").free
    assert costs.canvas("above").free == free


def test_gates_of_one_position_hold_no_canvas_back():
    image = keras.Input((224, 224, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)
    x = layers.Conv2D(8, 3, padding="same", name="above")(layers.Multiply()([x, gate]))
    costs = Costs(Network(keras.Model(image, x)), (224, 224, 3))
    assert costs.canvas("gate").size(0) == (32, 32)
    assert costs.canvas("above").size(0) == (32, 32)


def test_units_are_spread_evenly():
    assert spread_evenly(3, 4) == (0, 1, 2)
    assert spread_evenly(100, 4) == (0, 33, 66, 99)


def test_a_plan_says_what_it_is():
    plan = planned(chain(3, size=48, filters=4))["conv_2"]
    assert str(plan) == "4 of 4 units, 64 steps, 54×54"
    assert plan.shown == (48, 48)


def test_pictures_leave_out_the_edges_where_maps_see_their_padding():
    padded, valid = (
        Costs(Network(keras.Sequential([keras.Input((32, 32, 1)), *convolutions])), (32, 32, 1))
        for convolutions in (
            [layers.Conv2D(2, 5, padding=padding, name=f"conv_{i}") for i in range(2)]
            for padding in ("same", "valid")
        )
    )
    canvas = padded.canvas("conv_1")
    assert (canvas.size(1), canvas.shown((40, 40))) == ((40, 40), (32, 32))
    assert canvas.shown((24, 32)) == (18, 24)  # at most an eighth of a side at each end
    canvas = valid.canvas("conv_1")
    assert canvas.size(1) == canvas.shown((32, 32)) == (32, 32)


def test_a_plan_tells_how_many_such_ascents_the_budget_pays():
    network = chain(12)
    budget = LIMITS["standard"].budget(Costs(network, network.input_shape).forward)
    for plan in planned(network).values():
        steps = operations(network, plan) / len(plan.units)
        assert 0.2 * budget < plan.affordable * steps < budget, plan.layer

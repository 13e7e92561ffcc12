"""The weighted loss, its gradient, and both optimizers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from convlens.engine.model.network import Network
from convlens.style.descent import Descent, descend_adam, descend_lbfgs
from convlens.style.losses import CONVENTIONS
from convlens.style.objective import StyleObjective, StyleWeights


@pytest.fixture(scope="module")
def network():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="softplus", name="low")(image)
    x = keras.layers.AveragePooling2D(2)(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="tanh", name="high")(x)
    model = keras.Model(image, x, name="small")
    draw = np.random.default_rng(5)  # the same weights on every backend
    model.set_weights([draw.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return Network(model)


def weights(convention="gatys", **given):
    defaults = {
        "content_layers": {"high": 2.0},
        "style_layers": {"low": 0.5, "high": 0.25},
        "content": 1.5,
        "style": 40.0,
        "variation": 0.01,
    }
    return StyleWeights(**defaults | given, convention=convention)


def picture(seed, h=16, w=12):
    return np.random.default_rng(seed).random((1, h, w, 3), dtype=np.float32)


def pieces(network, convention="gatys", masks=(), styles=None, **given):
    objective = StyleObjective(network, weights(convention, **given), (-1.0, 1.0))
    styles = styles or [picture(1), picture(2, 20, 18)]
    shares = np.array([0.75, 0.25], np.float32)
    return objective, objective.targets(picture(0), styles, shares, masks)


def moment(maps, share=None):
    f = maps.reshape(-1, maps.shape[-1])
    t = np.ones(len(f)) if share is None else share.reshape(-1)
    return (f * t[:, None]).T @ f / t.sum()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_term_is_that_of_float64(network, convention):
    objective, targets = pieces(network, convention)
    names = ("low", "high")

    def maps(x):
        tensors = [network.outputs[name] for name in names]
        values = network.run(ops.convert_to_tensor(2 * x - 1), tensors)
        return {n: np.asarray(v, np.float64) for n, v in zip(names, values, strict=True)}

    x, content = maps(picture(7)), maps(picture(0))
    styles = [maps(picture(1)), maps(picture(2, 20, 18))]
    square = (x["high"] - content["high"]) ** 2
    want = [square.sum() / 2 if convention == "gatys" else square.mean()]
    for name in names:
        n = x[name].shape[-1]
        by = {"gatys": 4 * n**2, "tensorflow-tutorial": n**2, "johnson": n**4}[convention]
        each = [((moment(x[name]) - moment(s[name])) ** 2).sum() / by for s in styles]
        want.append(0.75 * each[0] + 0.25 * each[1])
    p = picture(7).astype(np.float64)
    want.append(np.abs(np.diff(p, axis=1)).sum() + np.abs(np.diff(p, axis=2)).sum())
    got = np.asarray(objective.terms(ops.convert_to_tensor(picture(7)), targets))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_gradient_is_that_of_the_weighted_sum(network):
    objective, targets = pieces(network)
    x, direction = picture(7), np.random.default_rng(9).normal(size=(1, 16, 12, 3))
    _, gradient = objective.slope(
        ops.convert_to_tensor(x), targets, ops.convert_to_tensor(objective.weights)
    )

    def loss(step):
        at = ops.convert_to_tensor((x + step * direction).astype(np.float32))
        return float(np.asarray(objective.terms(at, targets), np.float64) @ objective.weights)

    numeric = (loss(2e-3) - loss(-2e-3)) / 4e-3
    assert float((np.asarray(gradient) * direction).sum()) == pytest.approx(numeric, rel=0.02)


def test_each_mask_guides_its_own_style(network):
    left = np.zeros((1, 16, 12, 1), np.float32)
    left[:, :, :6] = 1
    one, other = 0.3 * picture(1), 1 - 0.3 * picture(2)
    objective, targets = pieces(network, masks=[left, 1 - left], styles=[one, other])
    # An image that is one style on the left and the other on the right is nearer than the reverse.
    right_way = np.concatenate([one[:, :, :6], other[:, :, 6:]], axis=2)
    wrong_way = np.concatenate([other[:, :, :6], one[:, :, 6:]], axis=2)
    near, far = (
        np.asarray(objective.terms(ops.convert_to_tensor(x), targets))[1:3].sum()
        for x in (right_way, wrong_way)
    )
    assert near < far


def adam(objective, targets, descent, steps, report):
    descend_adam(
        objective,
        targets,
        descent,
        steps,
        report,
        step_size=0.02,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
    )


@pytest.mark.quick(1)
@pytest.mark.parametrize("descend", [adam, descend_lbfgs])
def test_a_descent_lowers_the_loss_within_the_range(network, descend):
    objective, targets = pieces(network)
    start = picture(0)
    descent, reported = Descent(start, start), []
    descend(objective, targets, descent, 30, lambda d: reported.append(len(d.trace)))
    losses = np.stack(descent.trace) @ objective.weights
    assert len(descent.trace) == 31
    assert losses[-1] < 0.5 * losses[0]
    assert descent.image.min() >= 0
    assert descent.image.max() <= 1
    assert reported[-1] == 31
    # The last row of the trace is the image that is returned.
    at_end = np.asarray(objective.terms(ops.convert_to_tensor(descent.image), targets))
    np.testing.assert_allclose(descent.trace[-1], at_end, rtol=1e-4)


def test_lbfgs_is_ahead_of_adam(network):
    objective, targets = pieces(network)
    start = picture(0)
    ends = {}
    for descend in (adam, descend_lbfgs):
        descent = Descent(start, start)
        descend(objective, targets, descent, 25, lambda d: None)
        ends[descend] = float(descent.trace[-1] @ objective.weights)
    assert ends[descend_lbfgs] < ends[adam]


@pytest.mark.parametrize("descend", [adam, descend_lbfgs])
def test_weights_that_are_not_numbers_end_the_descent(descend):
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 12, 3))
    maps = keras.layers.Conv2D(4, 3, activation="tanh", name="low", bias_initializer="ones")(image)
    model = keras.Model(image, maps)
    model.get_layer("low").bias.assign([1.0, np.nan, 1.0, 1.0])
    layers = {"content_layers": {"low": 1.0}, "style_layers": {"low": 1.0}}
    objective = StyleObjective(Network(model), weights(**layers), (0.0, 1.0))
    targets = objective.targets(picture(0), [picture(1)], np.ones(1, np.float32))
    start = picture(0)
    with pytest.raises(FloatingPointError, match="is not finite: the model has weights"):
        descend(objective, targets, Descent(start, start), 3, lambda d: None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"content": -1.0}, "content_weight must be 0 or more, not -1"),
        ({"style": float("nan")}, "style_weight must be 0 or more, not nan"),
        ({"style_layers": {"low": -2.0}}, "the weight of layer 'low' must be 0 or more"),
        ({"style_layers": {}}, "at least one style layer must have a weight above 0"),
        ({"convention": "gram"}, "convention must be one of 'gatys', .* not 'gram'"),
    ],
)
def test_invalid_weights_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        weights(**given)

"""Compare the deconvnet with an explicit one: transposed convolutions and scatter-unpooling."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, activations, deconvolve, project
from convlens.engine.runtime import backend


def explicit(model, images, layer, signal):
    """Project a signal down a Sequential model of convolutions, ReLUs and max-pools."""
    names = [entry.name for entry in model.layers]
    maps = activations(model, images, names)
    for index in range(names.index(layer), -1, -1):
        entry = model.layers[index]
        below = maps[names[index - 1]] if index else images
        if isinstance(entry, layers.MaxPooling2D):
            signal = scatter(below, signal, entry.pool_size[0], entry.strides[0], entry.padding)
        else:
            signal = transposed(entry, np.maximum(signal, 0), below.shape)
    return signal


def transposed(conv, signal, shape):
    """Filter with the kernels flipped in both directions, input and output exchanged."""
    kernel = np.asarray(conv.kernel)[::-1, ::-1].transpose(0, 1, 3, 2)
    edge = (kernel.shape[0] - 1) // 2 if conv.padding == "same" else kernel.shape[0] - 1
    padded = np.pad(signal, ((0, 0), (edge, edge), (edge, edge), (0, 0))).astype(np.float32)
    out = np.asarray(ops.conv(padded, kernel, padding="valid"))
    assert out.shape == shape
    return out


def scatter(features, signal, pool, stride, padding):
    """Unpool by plain loops; of equal values the first is the switch."""
    h, w = features.shape[1:3]
    edge = max((signal.shape[1] - 1) * stride + pool - h, 0) // 2 if padding == "same" else 0
    out = np.zeros(features.shape, np.float32)
    for image, i, j, unit in np.ndindex(signal.shape):
        best, at = -np.inf, None
        for y in range(i * stride - edge, i * stride - edge + pool):
            for x in range(j * stride - edge, j * stride - edge + pool):
                inside = 0 <= y < h and 0 <= x < w
                if inside and features[image, y, x, unit] > best:
                    best, at = features[image, y, x, unit], (y, x)
        out[(image, *at, unit)] += signal[image, i, j, unit]
    return out


@pytest.mark.parametrize("layer", ["conv_a", "pool_a", "conv_b", "pool_b"])
def test_it_agrees_with_the_explicit_one(tiny, tiny_network, tiny_images, layer):
    shape = activations(tiny_network, tiny_images, layer)[layer].shape
    signal = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = project(tiny_network, tiny_images, layer, signal)["input"]
    np.testing.assert_allclose(found, explicit(tiny, tiny_images, layer, signal), atol=1e-5)


def test_it_agrees_on_the_trained_network_and_its_digits(mnist_cnn, mnist_network, digits):
    images = digits.images[:4]
    maps = activations(mnist_cnn, images, "conv2d_3")["conv2d_3"]
    units = maps.max(axis=(1, 2)).argmax(axis=1)
    result = deconvolve(mnist_network, images, "conv2d_3", units)
    signal = np.zeros_like(maps)
    for i, unit in enumerate(units):
        row, column = np.unravel_index(maps[i, :, :, unit].argmax(), maps.shape[1:3])
        signal[i, row, column, unit] = maps[i, row, column, unit]
        assert result.positions[i].tolist() == [row, column]
        assert result.activations[i] == pytest.approx(maps[i, row, column, unit], rel=1e-5)
    expected = explicit(_convolutions(mnist_cnn), images, "conv2d_3", signal)
    np.testing.assert_allclose(result.images, expected, atol=1e-4 * np.abs(expected).max())


def _convolutions(model):
    """Return the part of a model from its input to its last pooling, on the same weights."""
    return keras.Sequential(model.layers[:7])


def test_a_layer_is_left_with_one_activation_or_one_map(tiny_network, tiny_images):
    maps = activations(tiny_network, tiny_images, "conv_b")["conv_b"]
    one = deconvolve(tiny_network, tiny_images, "conv_b", 2, position=(1, 3), stages=True)
    seed = one.stages["conv_b"]
    expected = np.zeros_like(maps)
    expected[:, 1, 3, 2] = maps[:, 1, 3, 2]
    np.testing.assert_allclose(seed, expected, rtol=1e-5)
    whole = deconvolve(tiny_network, tiny_images, "conv_b", 2, position="map", stages=True)
    expected[..., 2] = maps[..., 2]
    np.testing.assert_allclose(whole.stages["conv_b"], expected, rtol=1e-5)


def test_stages_have_the_shapes_of_the_way_up(tiny_network, tiny_images):
    result = deconvolve(tiny_network, tiny_images, "pool_b", 1, stages=True)
    maps = activations(tiny_network, tiny_images, ["conv_a", "pool_a", "conv_b", "pool_b"])
    assert {n: s.shape for n, s in result.stages.items()} == {
        "input": tiny_images.shape,
        **{n: m.shape for n, m in maps.items()},
    }
    np.testing.assert_array_equal(result.images, result.stages["input"])


def test_pairs_in_one_call_equal_one_by_one(tiny_network, tiny_images):
    units = [0, 4, 2, 2, 1, 3]
    together = deconvolve(tiny_network, tiny_images, "conv_b", units)
    for i, unit in enumerate(units):
        alone = deconvolve(tiny_network, tiny_images[i], "conv_b", unit)
        np.testing.assert_allclose(alone.images[0], together.images[i], atol=1e-6)
    batched = deconvolve(tiny_network, tiny_images, "conv_b", units, batch_size=4)
    np.testing.assert_allclose(batched.images, together.images, atol=1e-6)


def test_one_image_and_all_units(tiny_network, tiny_images):
    result = deconvolve(tiny_network, tiny_images[0], "conv_a")
    assert result.units.tolist() == [0, 1, 2, 3, 4, 5]
    assert result.images.shape == (6, 13, 13, 2)


def relu_variants():
    def fused(x):
        return layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)

    def layer(x):
        return layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="conv")(x))

    def activation(x):
        return layers.Activation("relu")(layers.Conv2D(4, 3, padding="same", name="conv")(x))

    def operation(x):
        return ops.relu(layers.Conv2D(4, 3, padding="same", name="conv")(x))

    return [fused, layer, activation, operation]


@pytest.mark.parametrize("block", relu_variants())
def test_every_way_to_write_a_relu_is_rectified(block):
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 1))
    top = layers.Conv2D(3, 3, padding="same", name="top")
    model = keras.Model(x, top(block(x)))
    images = np.random.default_rng(0).random((2, 6, 6, 1), dtype=np.float32)
    signal = np.random.default_rng(1).standard_normal((2, 6, 6, 3)).astype(np.float32)
    arrived = transposed(top, signal, (2, 6, 6, 4))
    expected = transposed(model.get_layer("conv"), np.maximum(arrived, 0), images.shape)
    found = project(model, images, "top", signal)["input"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_leaky_relu_passes_its_derivative():
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(2, 1, name="conv")
    leaky = layers.LeakyReLU(0.25, name="leaky")
    model = keras.Sequential([keras.Input((4, 4, 1)), conv, leaky])
    images = np.random.default_rng(0).standard_normal((1, 4, 4, 1)).astype(np.float32)
    before = activations(model, images, "conv")["conv"]
    signal = np.random.default_rng(1).standard_normal(before.shape).astype(np.float32)
    found = project(model, images, "leaky", signal)["conv"]
    np.testing.assert_allclose(found, signal * np.where(before > 0, 1, 0.25), rtol=1e-5)


def test_batch_norm_equals_folding_it_into_the_convolution():
    keras.utils.set_random_seed(0)
    conv, norm = layers.Conv2D(3, 3, name="conv"), layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((7, 7, 2)), conv, norm, layers.ReLU(name="relu")])
    draw = np.random.default_rng(3)
    gamma, beta, mean = draw.standard_normal((3, 3)).astype(np.float32)
    variance = draw.random(3, dtype=np.float32) + 0.5
    norm.set_weights([gamma, beta, mean, variance])
    factor = gamma / np.sqrt(variance + norm.epsilon)
    folded = keras.Sequential(
        [keras.Input((7, 7, 2)), layers.Conv2D(3, 3, activation="relu", name="relu")]
    )
    kernel, bias = conv.get_weights()
    folded.layers[0].set_weights([kernel * factor, (bias - mean) * factor + beta])
    images = draw.random((2, 7, 7, 2), dtype=np.float32)
    for unit in range(3):
        np.testing.assert_allclose(
            deconvolve(model, images, "relu", unit).images,
            deconvolve(folded, images, "relu", unit).images,
            atol=1e-5,
        )


def test_residual_and_nested_models_are_projected(tiny_images):
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((13, 13, 2)), layers.Conv2D(2, 3, padding="same", activation="relu")],
        name="inner",
    )
    x = keras.Input((13, 13, 2))
    y = layers.Concatenate(name="both")([layers.Add(name="sum")([x, inner(x)]), x])
    model = keras.Model(x, layers.Conv2D(3, 3, name="top")(y))
    result = deconvolve(Network(model), tiny_images, "top", 1, stages=True)
    assert {"sum", "both", "top"} < set(result.stages)
    # The signal at the input is the sum of what came through each branch.
    both = result.stages["both"]
    through = project(model, tiny_images, "sum", both[..., :2])["input"]
    np.testing.assert_allclose(result.images, through + both[..., 2:], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "conv_c"}, "no layer 'conv_c': did you mean 'conv_"),
        ({"units": 7}, "there is no unit 7"),
        ({"units": [0, 1]}, "6 images and 2 units cannot be paired"),
        ({"units": 0, "position": (9, 0)}, r"outside layer 'conv_b', which is 4×4"),
        ({"units": 0, "position": "middle"}, "position must be 'strongest'"),
    ],
)
def test_bad_arguments_are_refused(tiny_network, tiny_images, arguments, message):
    with pytest.raises(ValueError, match=message):
        deconvolve(tiny_network, tiny_images, **{"layer": "conv_b", **arguments})


def test_a_signal_of_a_wrong_shape_is_refused(tiny_network, tiny_images):
    with pytest.raises(ValueError, match=r"must have shape \(6, 4, 4, 5\), not \(6, 4, 4, 4\)"):
        project(tiny_network, tiny_images, "conv_b", np.zeros((6, 4, 4, 4)))


def seeds_down(model, images, layer, unit, method):
    """Return the derivative of units' strongest activations, with a method's rule for ReLUs."""
    names = [entry.name for entry in model.layers]
    maps = activations(model, images, names)
    chosen = maps[layer][..., unit]
    signal = np.zeros_like(maps[layer])
    for i, at in enumerate(chosen.reshape(len(images), -1).argmax(axis=1)):
        signal[(i, *np.unravel_index(at, chosen.shape[1:]), unit)] = 1
    for index in range(names.index(layer), -1, -1):
        entry = model.layers[index]
        below = maps[names[index - 1]] if index else images
        if isinstance(entry, layers.MaxPooling2D):
            signal = scatter(below, signal, entry.pool_size[0], entry.strides[0], entry.padding)
            continue
        passed = signal * (maps[names[index]] > 0)
        signal = np.maximum(passed, 0) if method == "guided" else passed
        signal = transposed(entry, signal, below.shape)
    return signal


@pytest.mark.parametrize("method", ["guided", "gradient"])
def test_guided_backpropagation_and_gradients_are_those_written_out(
    tiny, tiny_network, tiny_images, method
):
    found = deconvolve(tiny_network, tiny_images, "conv_b", 2, method=method)
    expected = seeds_down(tiny, tiny_images, "conv_b", 2, method)
    np.testing.assert_allclose(found.images, expected, atol=1e-5)
    assert found.method == method


def test_a_full_relu6_stops_guided_backpropagation_and_not_the_deconvnet():
    model = keras.Sequential(
        [keras.Input((1, 1, 3)), layers.Activation("relu6", name="act"), layers.Conv2D(1, 1)]
    )
    model.layers[1].set_weights([np.ones((1, 1, 3, 1), np.float32), np.zeros(1, np.float32)])
    x = np.float32([-1, 2, 9]).reshape(1, 1, 1, 3)
    top = model.layers[1].name
    guided = deconvolve(model, x, top, 0, method="guided").images
    np.testing.assert_array_equal(guided.ravel(), [0, 1, 0])
    down = deconvolve(model, x, top, 0).images
    np.testing.assert_array_equal(down.ravel(), [8, 8, 8])


def test_the_classes_scores_are_those_before_the_softmax(tiny, tiny_network, tiny_images):
    found = deconvolve(tiny_network, tiny_images, None, [0, 1, 2, 0, 1, 2], method="gradient")
    flat = keras.Model(tiny.inputs[0], tiny.get_layer("flatten").output)(tiny_images)
    kernel, bias = tiny.get_layer("classes").get_weights()
    scores = np.asarray(flat) @ kernel + bias
    np.testing.assert_allclose(
        found.activations, scores[np.arange(6), [0, 1, 2, 0, 1, 2]], rtol=1e-4, atol=1e-5
    )
    # A score is affine along its own gradient while no ReLU or switch changes.
    step = (
        1e-3
        * found.images
        / np.linalg.norm(found.images.reshape(6, -1), axis=1)[:, None, None, None]
    )
    moved = np.asarray(
        keras.Model(tiny.inputs[0], tiny.get_layer("flatten").output)(tiny_images + step)
    )
    rise = (moved @ kernel + bias)[np.arange(6), [0, 1, 2, 0, 1, 2]] - found.activations
    expected = (step * found.images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(rise, expected, rtol=0.05)


def test_an_unknown_method_is_refused(tiny_network, tiny_images):
    with pytest.raises(ValueError, match="method must be one of 'deconvnet', 'guided', 'gradient'"):
        deconvolve(tiny_network, tiny_images, "conv_b", 0, method="lrp")


def test_another_position_is_not_compiled_anew(tiny_network, tiny_images, monkeypatch):
    maps = activations(tiny_network, tiny_images, "conv_b")["conv_b"]
    deconvolve(tiny_network, tiny_images, "conv_b", 2, position=(0, 0))
    monkeypatch.setattr(backend, "compile", lambda *args, **kwargs: pytest.fail("compiled"))
    for at in [(0, 0), (1, 2), (3, 1)]:
        found = deconvolve(tiny_network, tiny_images, "conv_b", 2, position=at)
        assert found.positions.tolist() == [list(at)] * len(tiny_images)
        np.testing.assert_allclose(found.activations, maps[:, at[0], at[1], 2], atol=1e-6)


def test_layers_that_are_projected_together_share_a_function(tiny, tiny_images, monkeypatch):
    network = Network(tiny)
    together = ("conv_a", "conv_b")
    alone = {layer: deconvolve(network, tiny_images, layer, 3) for layer in together}
    compiled = []
    true = backend.compile
    monkeypatch.setattr(backend, "compile", lambda *a, **k: compiled.append(a) or true(*a, **k))
    for layer in together:
        found = deconvolve(network, tiny_images, layer, 3, together=together)
        np.testing.assert_allclose(found.images, alone[layer].images, atol=1e-5)
        np.testing.assert_allclose(found.activations, alone[layer].activations, rtol=1e-5)
        np.testing.assert_array_equal(found.positions, alone[layer].positions)
    assert len(compiled) == 1
    with pytest.raises(ValueError, match="'pool_a' must be one of together="):
        deconvolve(network, tiny_images, "pool_a", 3, together=together)

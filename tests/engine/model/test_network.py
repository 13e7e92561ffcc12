"""Layer lookup and the flat view, on every kind of model that Keras can make."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, activations, deconvolve, maximize


def images(shape, n=3):
    return np.random.default_rng(0).random((n, *shape), dtype=np.float32)


def sequential():
    return keras.Sequential(
        [keras.Input((9, 9, 1)), layers.Conv2D(3, 3, activation="relu", name="conv")]
    )


def functional():
    x = keras.Input((9, 9, 3))
    y = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="act")(y)
    y = layers.Add(name="add")([y, layers.Conv2D(4, 1, name="shortcut")(x)])
    y = keras.ops.relu(y)
    return keras.Model(x, layers.Dense(2, name="out")(layers.GlobalAveragePooling2D()(y)))


def nested():
    inner = keras.Sequential(
        [keras.Input((9, 9, 2)), layers.Conv2D(2, 3, padding="same", name="conv")], name="inner"
    )
    x = keras.Input((9, 9, 2))
    y = inner(inner(x))
    return keras.Model(x, layers.Flatten(name="flat")(y))


def built_by_call():
    model = keras.Sequential([layers.Conv2D(3, 3, activation="elu", name="conv")])
    model(np.zeros((1, 9, 9, 1), np.float32))
    return model


@pytest.mark.quick(1)
@pytest.mark.parametrize("build", [sequential, functional, nested, built_by_call])
def test_the_flat_view_computes_what_the_model_does(build):
    model = build()
    network = Network(model)
    x = images(network.input_shape)
    out = network.output_layer
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(activations(network, x, out)[out], expected, rtol=1e-5, atol=1e-6)


def test_layers_of_nested_models_have_dotted_names_and_a_number_for_each_call():
    network = Network(nested())
    assert list(network.outputs) == ["inner.conv", "inner.conv:2", "flat"]
    assert network.conv_layers == ("inner.conv", "inner.conv:2")
    assert network.output_layer == "flat"


def test_a_model_loaded_from_a_file_gives_the_same(tmp_path):
    model = functional()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = images((9, 9, 3))
    for name, maps in activations(model, x).items():
        np.testing.assert_array_equal(activations(loaded, x)[name], maps)


def test_the_users_model_is_not_changed():
    model = functional()
    Network(model)
    # Keras raises here once a layer was called a second time.
    assert [layer.output.shape for layer in model.layers]


def test_weights_are_read_anew_at_each_use():
    model = sequential()
    network = Network(model)
    x = images((9, 9, 1))
    before = activations(network, x)["conv"]
    model.layers[0].set_weights([2 * w for w in model.layers[0].get_weights()])
    np.testing.assert_allclose(activations(network, x)["conv"], 2 * before, rtol=1e-5)


def test_the_preactivation_of_a_fused_and_of_a_separate_relu():
    for build, layer in ((sequential, "conv"), (functional, "act")):
        network = Network(build())
        x = images(network.input_shape)
        before, after = network.run(
            keras.ops.convert_to_tensor(x),
            [network.preactivations[layer], network.outputs[layer]],
        )
        assert float(keras.ops.min(before)) < 0
        np.testing.assert_array_equal(np.maximum(before, 0), after)


def test_sources_and_below_follow_the_graph():
    network = Network(functional())
    assert network.sources("conv") == ["input"]
    assert set(network.sources("add")) == {"act", "shortcut"}
    assert network.below("act") == ["conv", "norm", "act"]


def test_dropout_and_batch_norm_are_in_inference_mode():
    x = keras.Input((5, 5, 1))
    y = layers.BatchNormalization(name="norm")(layers.Dropout(0.5)(x))
    model = keras.Model(x, y)
    batch = images((5, 5, 1))
    np.testing.assert_allclose(
        activations(model, batch, "norm")["norm"], batch / np.sqrt(1.001), rtol=1e-5
    )


def test_an_unknown_layer_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"no layer 'conv2d_9': did you mean 'conv"):
        Network(sequential()).find("conv2d_9")


@pytest.mark.parametrize("units", [[7], [-1], 3])
def test_a_unit_out_of_range_is_refused(units):
    with pytest.raises(ValueError, match=r"layer 'conv' has units 0 to 2; there is no unit"):
        Network(sequential()).check_units("conv", units)


@pytest.mark.parametrize(("units", "message"), [([], "no unit"), ([0.5], "must be integers")])
def test_an_invalid_choice_of_units_is_refused(units, message):
    with pytest.raises(ValueError, match=message):
        Network(sequential()).check_units("conv", units)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 9), r"not \(9, 9\)"),
        ((2, 9, 9), r"add the missing axis with images\[\.\.\., None\]"),
        ((9, 9, 1), r"add the missing axis with images\[None\]"),
        ((2, 8, 9, 1), r"takes images of shape \(n, 9, 9, 1\)"),
        ((0, 9, 9, 1), "no image"),
    ],
)
def test_images_of_a_wrong_shape_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        Network(sequential()).check_images(np.zeros(shape))


def test_an_image_with_nan_is_named():
    x = images((9, 9, 1))
    x[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 has values that are not finite"):
        Network(sequential()).check_images(x)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed, "was never built"),
        (lambda: keras.Sequential([layers.Conv2D(2, 3)]), "was never built"),
        (
            lambda: keras.Model(
                [a := keras.Input((4, 4, 1)), b := keras.Input((4, 4, 1))], layers.Add()([a, b])
            ),
            r"has 2 inputs \(.*hold the others with convlens.Network\(model, held=",
        ),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]), "needs series"),
    ],
)
def test_models_that_cannot_be_taken_apart_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        Network(model())


def test_something_that_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"expected a keras\.Model, got str"):
        Network("model.keras")


def test_a_model_without_convolutions_has_no_default_layers():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="has no convolutional layer"):
        activations(model, images((4, 4, 1)))


def test_activations_do_not_depend_on_the_batch(tiny_network, tiny_images):
    whole = activations(tiny_network, tiny_images)
    parts = activations(tiny_network, tiny_images, batch_size=4)
    assert list(whole) == ["conv_a", "conv_b"]
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6)


def test_an_empty_choice_of_layers_is_refused(tiny_network, tiny_images):
    with pytest.raises(ValueError, match="must name at least one layer of tiny"):
        activations(tiny_network, tiny_images, [])


def two_inputs():
    keras.utils.set_random_seed(7)
    image = keras.Input((8, 8, 1), name="image")
    meta = keras.Input((2,), name="meta")
    y = layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    y = layers.Concatenate(name="joined")([layers.GlobalAveragePooling2D()(y), meta])
    return keras.Model([image, meta], [layers.Dense(4, name="out")(y), layers.Dense(1)(y)])


def test_of_several_inputs_all_but_the_images_are_held():
    model = two_inputs()
    meta = np.float32([0.5, -2])
    network = Network(model, held={"meta": meta})
    x = images((8, 8, 1))
    expected = model.predict([x, np.repeat(meta[None], 3, axis=0)], verbose=0)[0]
    np.testing.assert_allclose(activations(network, x, "out")["out"], expected, rtol=1e-5)
    assert network.output_layer == "out"
    assert network.sources("joined")[1:] == []
    assert deconvolve(network, x, "out", 1).images.shape == x.shape
    found = maximize(network, "out", steps=10)
    assert (found.trace[-1] > found.trace[0]).all()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"mate": [0, 0]}, r"no input 'mate'; its inputs are 'image' \(None, 8, 8, 1\), 'meta'"),
        ({"meta": [0, 0, 0]}, r"'meta' takes values of shape \(2,\), not \(3,\)"),
        ({"meta": [0, 0], "image": np.zeros((8, 8, 1))}, "0 of them without a held value"),
        (
            {"image": np.zeros((8, 8, 1))},
            r"shape \(None, 2\); convlens needs series",
        ),
    ],
)
def test_held_values_that_do_not_fit_are_refused(held, message):
    with pytest.raises(ValueError, match=message):
        Network(two_inputs(), held=held)


def test_a_layer_that_was_adapted_to_data_is_followed():
    norm = layers.Normalization(name="norm")
    draw = np.random.default_rng(2)
    norm.adapt(draw.random((20, 6, 6, 3), dtype=np.float32) * [1, 5, 9] + 3)
    model = keras.Sequential([keras.Input((6, 6, 3)), norm, layers.Conv2D(2, 3, name="conv")])
    network = Network(model)
    x = draw.random((2, 6, 6, 3), dtype=np.float32) * 9
    for _ in range(2):
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(activations(network, x)["conv"], expected, rtol=1e-4, atol=1e-5)
        norm.adapt(draw.random((20, 6, 6, 3), dtype=np.float32) * [7, 2, 3] - 1)
        model.make_predict_function(force=True)


def test_names_of_layers_do_not_clash_with_those_of_activations_within_others():
    """The copy of a fused activation must not get the name of another layer."""
    shared = layers.ReLU(name="act")
    image = keras.Input((6, 6, 1))
    keras.utils.clear_session(free_memory=False)
    x = layers.Conv2D(2, 3, activation="relu", name="first")(image)
    for i in range(4):
        x = layers.Activation("tanh", name="activation" if i == 0 else f"activation_{i}")(x)
    x = layers.Conv2D(2, 3, activation=shared, name="second")(x)
    x = layers.Conv2D(2, 1, activation=shared, name="third")(x)
    model = keras.Model(image, x)
    images = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    found = activations(model, images, "third")["third"]
    np.testing.assert_allclose(found, model(images), rtol=1e-5, atol=1e-6)


def predicted(model, x):
    """Return what `predict` computes; its function is compiled anew."""
    model.make_predict_function(force=True)
    return model.predict(x, verbose=0)


def augmented():
    return keras.Sequential([layers.RandomRotation(0.2), layers.RandomFlip()], name="augment")


class Flipped(layers.Layer):
    """A block of the user's own, whose call takes no `training`."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inside = layers.RandomFlip()

    def call(self, x):
        return self.inside(x)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "augment",
    [
        layers.RandomFlip,
        lambda: layers.RandomBrightness(0.5),
        lambda: layers.RandomCrop(7, 7),
        lambda: layers.RandomZoom(0.3),
        lambda: layers.GaussianNoise(0.5),
        augmented,
        Flipped,
    ],
)
def test_augmentation_is_off_at_any_depth(augment):
    x = keras.Input((9, 9, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, name="conv")(augment()(x)))
    batch = images((9, 9, 3))
    np.testing.assert_allclose(
        activations(model, batch)["conv"], predicted(model, batch), rtol=1e-5, atol=1e-6
    )


class OwnSequential(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return super().call(x / 2, training=training)


class OwnFunctional(keras.Model):
    def __init__(self, **options):
        x = keras.Input((9, 9, 3))
        super().__init__(x, layers.Conv2D(2, 3, name="conv")(x), **options)

    def call(self, x, training=None, mask=None):
        return super().call(3 * x)


class OwnConvolution(layers.Conv2D):
    def call(self, x):
        return super().call(x) * 2 - 0.3


def replaced():
    model = keras.Sequential([keras.Input((9, 9, 3)), layers.Conv2D(2, 3, name="conv")])
    model.call = lambda x, training=None, mask=None: x
    return model


def own_sequential():
    return OwnSequential([keras.Input((9, 9, 3)), layers.Conv2D(2, 3, name="conv")])


@pytest.mark.parametrize("build", [own_sequential, OwnFunctional, replaced])
def test_a_model_with_a_call_of_its_own_computes_what_it_says(build):
    model, batch = build(), images((9, 9, 3))
    network = Network(model)
    (found,) = network.once(lambda: network.run(batch, [network.result]))
    np.testing.assert_allclose(found, model.predict(batch, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make", [own_sequential, OwnFunctional, lambda: OwnConvolution(2, 3, activation="relu")]
)
def test_within_a_model_a_call_of_the_users_own_is_honored(make):
    x = keras.Input((9, 9, 3))
    model = keras.Model(x, layers.Conv2D(2, 1, name="top")(make()(x)))
    batch = images((9, 9, 3))
    np.testing.assert_allclose(
        activations(model, batch, "top")["top"], predicted(model, batch), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("read_before", [False, True])
def test_settings_that_change_after_construction_are_followed(read_before):
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.Conv2D(2, 3, name="conv"),
            layers.Conv2D(2, 3, name="top", activation="relu"),
        ]
    )
    x = images((9, 9, 3))
    given = Network(model) if read_before else model
    if read_before:
        activations(given, x)
    model.layers[0].activation = keras.activations.tanh
    model.layers[0].strides = (2, 2)
    model.layers[1].activation = keras.activations.linear
    found = activations(given, x, "top")["top"]
    assert found.shape == (3, 2, 2, 2)
    np.testing.assert_allclose(found, predicted(model, x), rtol=1e-5, atol=1e-6)


def test_training_does_not_make_a_network_be_read_again():
    model = sequential()
    network = Network(model)
    x = images((9, 9, 1))
    activations(network, x)
    outputs, compiled = network.outputs, network.compiled(("activations", ("conv",)), pytest.fail)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((3, 7, 7, 3)), verbose=0)
    model.predict(x, verbose=0)
    np.testing.assert_allclose(activations(network, x)["conv"], model(x), rtol=1e-5, atol=1e-6)
    assert network.outputs is outputs
    assert network.compiled(("activations", ("conv",)), pytest.fail) is compiled


def relu_network(spelling):
    keras.utils.set_random_seed(1)
    fused = {
        "fused": "relu",
        "function": keras.ops.relu,
        "lambda": lambda v: keras.ops.maximum(v, 0),
        "layer": layers.ReLU(),
    }.get(spelling)
    after = {
        "separate": layers.ReLU(),
        "activation": layers.Activation("relu"),
        "operation": keras.ops.relu,
        "maximum": lambda v: keras.ops.maximum(v, 0),
        "Lambda": layers.Lambda(lambda v: keras.activations.relu(v)),
        "symbolic": keras.activations.relu,
    }.get(spelling, lambda v: v)
    x = keras.Input((9, 9, 3))
    y = after(layers.Conv2D(4, 3, name="a", activation=fused, bias_initializer="normal")(x))
    return keras.Model(x, layers.Conv2D(2, 3, name="b")(y))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "spelling",
    [
        *("function", "separate", "operation"),
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in ("lambda", "layer", "activation", "maximum", "Lambda", "symbolic")
        ),
    ],
)
def test_a_relu_is_known_by_what_it_computes(spelling):
    plain, model = relu_network("fused"), relu_network(spelling)
    model.set_weights(plain.get_weights())
    x = images((9, 9, 3))
    for method in ("deconvnet", "guided"):
        want = deconvolve(plain, x, "b", 0, method=method).images
        found = deconvolve(model, x, "b", 0, method=method).images
        np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())
    assert np.abs(deconvolve(plain, x, "b", 0, method="gradient").images - want).max() > 1e-3


@pytest.mark.parametrize(
    ("layer", "bound", "name"),
    [
        (layers.ReLU(), np.inf, "relu"),
        (layers.ReLU(6.0), 6, "relu6"),
        (layers.ReLU(negative_slope=0.1), None, "leaky_relu"),
        (layers.ReLU(threshold=0.01), None, "leaky_relu"),
        (layers.Activation("relu6"), 6, "relu6"),
        (layers.Activation("hard_sigmoid"), None, "hard_sigmoid"),
        (layers.Activation("gelu"), None, "gelu"),
        (layers.Lambda(lambda v: keras.ops.clip(v, 0, 3)), 3, "relu6"),
        (layers.Lambda(lambda v: keras.ops.abs(v)), None, "lambda"),
        (layers.Lambda(lambda v: keras.ops.where(v > 0, v, 1e-3 * v)), None, "lambda"),
        (layers.Conv2D(2, 3, activation=lambda v: keras.ops.maximum(v, 0)), np.inf, "relu"),
        (layers.Dropout(0.5), None, "dropout"),
    ],
)
def test_what_bounds_a_relu(layer, bound, name):
    x = keras.Input((6, 6, 3))
    network = Network(keras.Model(x, layer(x)))
    assert network.relu_bound(layer.name) == bound
    assert network.activation_name(layer.name) == name


@pytest.mark.parametrize("name", ["relu", "relu6", "silu", "gelu", "mish", "hard_silu"])
def test_what_falls_silent_below_zero(name):
    x = keras.Input((6, 6, 3))
    assert Network(keras.Model(x, layers.Activation(name, name="a")(x))).falls_silent("a")
    conv = layers.Conv2D(2, 3, activation=name, name="conv", dtype="mixed_bfloat16")
    assert Network(keras.Model(x, conv(x))).falls_silent("conv")


@pytest.mark.parametrize(
    "layer",
    [
        *(layers.Activation(n) for n in ("elu", "leaky_relu", "sigmoid", "tanh", "softplus")),
        layers.Lambda(lambda v: keras.ops.sin(v)),
        layers.Lambda(lambda v: keras.ops.abs(v)),
        layers.Lambda(lambda v: -keras.ops.silu(v)),
        layers.Lambda(lambda v: keras.ops.silu(-v)),
        layers.Lambda(lambda v: keras.ops.square(v) - 1),
        layers.Lambda(lambda v: keras.ops.log(v)),
        layers.Softmax(),
        layers.Dropout(0.5),
        layers.Conv2D(3, 1, padding="same"),
        layers.MaxPooling2D(),
    ],
)
def test_what_does_not_fall_silent_below_zero(layer):
    x = keras.Input((6, 6, 3))
    assert not Network(keras.Model(x, layer(x))).falls_silent(layer.name)


def test_a_lambda_in_memory_is_computed():
    half = np.float32(0.5)
    model = keras.Sequential(
        [keras.Input((9, 9, 1)), layers.Lambda(lambda v: half * v), layers.Conv2D(2, 3, name="top")]
    )
    x = images((9, 9, 1))
    np.testing.assert_allclose(activations(model, x)["top"], predicted(model, x), rtol=1e-5)


def nested_dict():
    a = keras.Input((9, 9, 3), name="a")
    b = keras.Input((9, 9, 3), name="b")
    outputs = {"sum": layers.Conv2D(2, 3)(a), "rest": [layers.Conv2D(2, 3)(b)]}
    return keras.Model({"a": a, "b": b}, outputs, name="inner")


def nested_list():
    a, b = keras.Input((9, 9, 3), name="a"), keras.Input((9, 9, 3), name="b")
    return keras.Model([b, a], [layers.Conv2D(2, 3)(a), layers.Conv2D(2, 3)(b)], name="inner")


def nested_bytes():
    a = keras.Input((9, 9, 3), dtype="uint8", name="a")
    return keras.Model(a, [layers.Conv2D(2, 3)(layers.Rescaling(0.1)(a))], name="inner")


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("inner", "call"),
    [
        (nested_dict, lambda m, x: m({"b": x, "a": 2 * x})),
        pytest.param(
            nested_dict,
            lambda m, x: m(inputs={"b": x, "a": 2 * x}, training=False),
            marks=pytest.mark.slow,
        ),
        (nested_list, lambda m, x: m([x, 2 * x])),
        pytest.param(nested_list, lambda m, x: m({"a": x, "b": 2 * x}), marks=pytest.mark.slow),
        pytest.param(nested_list, lambda m, x: m(inputs=[x, 2 * x]), marks=pytest.mark.slow),
        (nested_bytes, lambda m, x: m(25.5 * x)),
    ],
)
def test_nested_models_take_their_inputs_as_keras_hands_them_in(inner, call):
    x = keras.Input((9, 9, 3))
    parts = keras.tree.flatten(call(inner(), x))
    top = [layers.Conv2D(2, k + 1, name=f"top{k}")(part) for k, part in enumerate(parts)]
    model = keras.Model(x, top)
    batch = images((9, 9, 3))
    expected = keras.tree.flatten(predicted(model, batch))
    for k, want in enumerate(expected):
        found = activations(model, batch, f"top{k}")[f"top{k}"]
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_names_may_begin_with_an_underscore():
    inner = keras.Sequential(
        [keras.Input((9, 9, 1)), layers.Conv2D(2, 3, activation="relu", name="_conv")], name="_in"
    )
    model = keras.Sequential(
        [keras.Input((9, 9, 1)), inner, layers.BatchNormalization(name="_norm")], name="_net"
    )
    x = images((9, 9, 1))
    assert list(activations(model, x, ["_in._conv", "_norm"])) == ["_in._conv", "_norm"]
    assert deconvolve(model, x, "_norm", 0).images.shape == x.shape


def test_a_few_compiled_functions_are_kept():
    network = Network(sequential())
    calls = [network.compiled(k, lambda: lambda x: x) for k in range(100)]
    assert network.compiled(99, pytest.fail) is calls[99]
    assert len(network._compiled._kept) == 64
    assert network.compiled(0, lambda: lambda x: x) is not calls[0]

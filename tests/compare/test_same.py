"""Two Keras models side by side: healthy rebuilt ones agree, and a fault is named."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

import convlens
from convlens import assert_same_behaviour
from convlens.compare import same
from convlens.compare.function import FunctionModel
from convlens.compare.keras_model import KerasModel


@pytest.fixture
def copy(build):
    return build()


def change(model, layer, function, number=0):
    weights = model.get_layer(layer).get_weights()
    weights[number] = function(weights[number])
    model.get_layer(layer).set_weights(weights)


def test_a_rebuilt_network_with_other_names_agrees(reference, copy, images):
    import keras

    renamed = keras.models.clone_model(
        copy,
        clone_function=lambda layer: layer.__class__.from_config(
            {**layer.get_config(), "name": f"new_{layer.name}"}
        ),
    )
    renamed.set_weights(copy.get_weights())
    found = assert_same_behaviour(renamed, reference, images)
    assert found.passed
    assert found.unmatched == ()
    assert {x.tensor.split("/")[0] for x in found.layers[1:]} <= {
        f"new_{layer.name}" for layer in copy.layers
    }
    assert all(len(layer.group) == 1 for layer in found.layers)


FAULTS = {
    "transposed kernel": ("conv_a", "conv_a", lambda w: w.swapaxes(0, 1)),
    "a scaled channel": ("depthwise", "depthwise", lambda w: w * np.where(w == w[0, 0, 0], 2, 1)),
    "a small shift": ("bn_b", "bn_b", lambda w: w + 1e-3),
    "stale weights": ("conv_b", "conv_b", lambda w: w[::-1, ::-1] * 0.9 + 0.05),
    "permuted channels": ("conv_c", "conv_c", lambda w: np.roll(w, 1, axis=-1)),
    "the last layer": ("classes", "classes", lambda w: w[:, ::-1]),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_changed_layer_is_named_and_no_other(reference, copy, images, fault):
    layer, named, function = FAULTS[fault]
    change(copy, layer, function)
    with pytest.raises(AssertionError) as error:
        assert_same_behaviour(copy, reference, images)
    first = str(error.value).splitlines()[0]
    assert f"diverges from reference is {named!r}" in first
    assert str(error.value).count(" dB, cosine") == 2  # the output's, and one layer's


@pytest.mark.slow
def test_two_layers_exchanged_are_both_named(reference, copy, images):
    depthwise, other = (copy.get_layer(name) for name in ("bn_a", "bn_b"))
    first, second = depthwise.get_weights(), other.get_weights()
    depthwise.set_weights(second)
    other.set_weights(first)
    with pytest.raises(AssertionError, match=r"is 'bn_a'.*\n.*\n  bn_b: signal-to-noise"):
        assert_same_behaviour(copy, reference, images)


@pytest.mark.slow
def test_a_value_that_is_not_finite(reference, copy, images):
    change(copy, "conv_b", lambda w: w * np.nan, 1)
    with pytest.raises(AssertionError, match=r"is 'conv_b'.*-200"):
        assert_same_behaviour(copy, reference, images)


def test_a_function_shows_its_outputs_alone(reference, copy, images):
    def new(x):
        return copy(x)

    assert assert_same_behaviour(new, reference, images).layers == ()
    with pytest.raises(AssertionError, match="no layer can be named"):
        assert_same_behaviour(lambda x: copy(x[:, ::-1]), reference, images)


def test_a_concatenation_that_was_merged_into_the_next_has_no_counterpart(images):
    import keras
    from keras import layers

    def make(*, nested):
        keras.utils.set_random_seed(6)
        image = keras.Input((16, 16, 3))
        a, b = (layers.Conv2D(4, 3, name=name)(image) for name in "ab")
        parts = [layers.Concatenate(name="inner")([a, b])] if nested else [a, b]
        c = layers.ReLU(name="relu_c")(layers.Conv2D(8, 3, name="c")(image))
        x = layers.Concatenate(name="outer")([*parts, c])
        return keras.Model(image, layers.Conv2D(2, 1, name="last")(x))

    found = assert_same_behaviour(make(nested=False), make(nested=True), images)
    assert found.unmatched == ()
    assert ("inner", "outer") in [layer.group for layer in found.layers]


def test_a_function_is_given_few_images_at_a_time():
    seen = []
    many = np.random.default_rng(1).random((70, 4, 4, 3), dtype=np.float32)
    (found,) = FunctionModel(lambda x: seen.append(len(x)) or x[:, 0, 0]).outputs(many)
    assert seen == [32, 32, 6]
    assert np.array_equal(found, many[:, 0, 0])


def test_few_images_have_their_tensors_in_memory_at_a_time(reference, copy, images, monkeypatch):
    at_once = assert_same_behaviour(copy, reference, images)
    counts = []
    read = KerasModel.tensors
    monkeypatch.setattr(KerasModel, "tensors", lambda s, x: counts.append(len(x)) or read(s, x))
    monkeypatch.setattr(same, "_MATCHED_BYTES", 1)
    streamed = assert_same_behaviour(copy, reference, images)
    assert set(counts) == {1}
    assert len(counts) == len(images)
    assert [x.tensor for x in streamed.layers] == [x.tensor for x in at_once.layers]


def test_without_images_textures_are_shown(reference, copy):
    assert assert_same_behaviour(copy, reference).images >= 8


def test_layers_of_large_networks_are_measured_on_fewer_images(reference, copy, monkeypatch):
    many = np.random.default_rng(2).random((40, 16, 16, 3), dtype=np.float32)
    assert assert_same_behaviour(copy, reference, many).images == 8
    monkeypatch.setattr(same, "_MEASURED_BYTES", 1)
    assert assert_same_behaviour(copy, reference, many).images == 4


def test_the_image_whose_outputs_differ_most_is_measured():
    assert same._measured(100, 37, 2**29) == [0, 33, 37, 66, 99]
    assert same._measured(3, 1, 2**29) == [0, 1, 2]


@pytest.mark.parametrize(("side", "count"), [(64, 48), (128, 32), (224, 12)])
def test_fewer_textures_of_many_pixels_are_drawn(side, count):
    drawn = np.zeros((48, side, side, 1), np.float32)
    assert len(same.enough_drawn(drawn)) == count


@pytest.mark.slow
def test_a_revision_of_git(reference, copy, tmp_path, monkeypatch, images):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)

    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    copy.save("model.keras")
    git("add", "model.keras")
    git("commit", "-qm", "first")
    change(copy, "conv_b", lambda w: -w)
    copy.save("model.keras")
    assert assert_same_behaviour("git:HEAD:model.keras", reference, images).passed
    with pytest.raises(AssertionError, match="is 'conv_b'"):
        assert_same_behaviour("model.keras", "git:merge-base:model.keras", images)
    with pytest.raises(ValueError, match=r"cannot be read: .*no-such"):
        assert_same_behaviour(reference, "git:no-such:model.keras", images)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.keras", "does not exist"),
        ("git:main", "give git:REV:path"),
        (3, "3 is no model"),
    ],
)
def test_what_is_no_model(reference, images, source, message):
    with pytest.raises(ValueError, match=message):
        assert_same_behaviour(source, reference, images)


def test_images_of_no_use(reference, copy):
    with pytest.raises(ValueError, match="images must be finite"):
        assert_same_behaviour(copy, reference, np.full((1, 16, 16, 3), np.nan))


def test_other_outputs(reference, images):
    with pytest.raises(ValueError, match="outputs have shapes"):
        assert_same_behaviour(lambda x: x.mean(axis=(1, 2)), reference, images)


def test_the_public_names():
    assert {"assert_same_behaviour", "Sameness", "LayerSameness"} <= set(convlens.__all__)

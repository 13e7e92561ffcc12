"""Models of several inputs, and labels that must be of the model's classes, without code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from convlens.pytest_plugin.inputs import hold_inputs

DRAW = np.random.default_rng(0)
RANGE = (0.0, 1.0)


def two_inputs() -> Any:
    """A network of images and numbers with two outputs; the number comes first."""
    speed, image = keras.Input((2,), name="speed"), keras.Input((8, 8, 1), name="camera")
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), speed])
    outputs = [layers.Dense(1, name="steer")(x), layers.Dense(3, "softmax", name="sign")(x)]
    return keras.Model([speed, image], outputs, name="car")


def siamese() -> Any:
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    trunk = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="trunk")
    apart = layers.Subtract()([trunk(left), trunk(right)])
    return keras.Model([left, right], layers.Dense(1, "sigmoid", name="same")(apart), name="pair")


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path / "data.npz", **arrays)
    return str(path / "data.npz")


def test_a_model_of_one_input_holds_nothing(tiny):
    assert hold_inputs(tiny, None, RANGE, 0).values == {}
    assert hold_inputs(two_inputs(), None, RANGE, 0).image == "camera"
    assert hold_inputs(tiny, "missing.npz", RANGE, 0).words == ""


def test_inputs_without_rows_are_held_at_0_or_at_a_texture():
    held = hold_inputs(two_inputs(), None, RANGE, 0)
    assert {name: value.tolist() for name, value in held.values.items()} == {"speed": [0, 0]}
    assert held.words.startswith("input 'speed' is held at 0 (an array 'speed' in the .npz")
    held = hold_inputs(siamese(), "photos", (0, 255), 0)
    assert list(held.values) == ["right"]
    assert held.values["right"].shape == (8, 8, 1)
    assert 20 < held.values["right"].std() < 255
    assert "input 'right' is held at a texture" in held.words


def test_rows_of_an_npz_give_the_mean_or_the_first(tmp_path):
    speeds = np.array([[1, 2], [3, 4]], np.uint8)
    held = hold_inputs(two_inputs(), saved(tmp_path, speed=speeds), RANGE, 0)
    assert held.values["speed"].tolist() == [2, 3]
    assert held.words == "input 'speed' is held at the mean of its rows"
    right = DRAW.random((3, 8, 8, 1))
    held = hold_inputs(siamese(), saved(tmp_path, right=right), RANGE, 0)
    assert np.array_equal(held.values["right"], right[0])
    whole = SimpleNamespace(
        inputs=[keras.Input((8, 8, 1), name="a"), keras.Input((), dtype="int32", name="word")]
    )
    held = hold_inputs(whole, saved(tmp_path, word=np.array([7, 9])), RANGE, 0)
    assert held.values["word"] == 7
    assert held.words == "input 'word' is held at its first row"


@pytest.mark.parametrize(
    "rows", [np.zeros((3, 4)), np.zeros((0, 2)), np.full((2, 2), np.nan), np.array(["a"] * 4)]
)
def test_rows_that_do_not_fit_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match=r"the array 'speed' must have finite rows of shape \(n, "):
        hold_inputs(two_inputs(), saved(tmp_path, speed=rows), RANGE, 0)


def test_an_input_without_a_fixed_shape_needs_rows():
    model = SimpleNamespace(
        inputs=[keras.Input((8, 8, 1), name="a"), keras.Input((None,), name="words")]
    )
    with pytest.raises(ValueError, match=r"input 'words' has no fixed shape \(None,\): give its"):
        hold_inputs(model, None, RANGE, 0)


def test_several_inputs_and_outputs_are_checked_without_code(pytester):
    two_inputs().save(pytester.path / "car.keras")
    arguments = ("-k", "gram or finite or repeatable or accuracy", "-rs")
    result = pytester.runpytest("car.keras", *arguments)
    assert result.parseoutcomes().keys() == {"passed", "deselected"}
    result.stdout.fnmatch_lines(["*; input 'speed' is held at 0 (an array 'speed' in the .npz *"])
    arrays = {"camera": DRAW.random((30, 8, 8, 1)), "labels": np.arange(30) % 3}
    np.savez(pytester.path / "drive.npz", speed=DRAW.random((30, 2)), **arrays)
    result = pytester.runpytest("car.keras", "--convlens-images=drive.npz", *arguments)
    text = result.stdout.str()
    assert "images: 30 from drive.npz; input 'speed' is held at the mean of its rows" in text
    assert "car.keras: accuracy" in text  # it fails, as its weights are random
    np.savez(pytester.path / "drive.npz", speed=DRAW.random((29, 2)), **arrays)
    result = pytester.runpytest("car.keras", "--convlens-images=drive.npz", *arguments)
    result.stdout.fnmatch_lines(["*input 'speed' has 29 rows for 30 images: give one an image*"])
    np.savez(pytester.path / "drive.npz", **arrays)
    result = pytester.runpytest("car.keras", "--convlens-images=drive.npz", *arguments)
    result.stdout.fnmatch_lines(["*its rows), and not at what belongs to each image*"])


def test_the_accuracy_is_that_of_each_images_own_rows(pytester):
    """The class is the larger of the two numbers, and nothing that an image shows."""
    speed, image = keras.Input((2,), name="speed"), keras.Input((8, 8, 1), name="camera")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, kernel_initializer="zeros")(image))
    model = keras.Model({"speed": speed, "camera": image}, layers.Softmax()(speed + 0 * x))
    model.save(pytester.path / "car.keras")
    speeds = DRAW.random((40, 2)).astype(np.float32)
    labels = speeds.argmax(axis=1)
    job = ("car.keras", "--convlens-images=drive.npz", "-k", "accuracy")
    for given, outcome in ((labels, "passed"), (1 - labels, "failed")):
        np.savez(
            pytester.path / "drive.npz",
            camera=DRAW.random((40, 8, 8, 1)),
            speed=speeds,
            labels=given,
        )
        result = pytester.runpytest(*job, "--convlens-accuracy=1")
        assert result.parseoutcomes()[outcome] == 1


def test_both_branches_of_a_siamese_network_are_one_trunk(pytester):
    siamese().save(pytester.path / "pair.keras")
    result = pytester.runpytest("pair.keras", "-k", "gram or deconvnet or repeatable", "-v")
    assert "pair.keras::gram[trunk.conv] PASSED" in result.stdout.str()
    assert result.parseoutcomes().get("failed", 0) == 0


def test_folders_of_another_number_of_classes_judge_nothing(pytester, tiny):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *tiny.layers[4:5], layers.Dense(3, "softmax")]
    )
    model.save(pytester.path / "net.keras")
    for number, name in enumerate(["b", "a", "c"] * 4):
        folder = pytester.path / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(DRAW.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{number}.png")
    arguments = ("net.keras", "--convlens-images=photos", "-k", "accuracy", "-rs")
    result = pytester.runpytest(*arguments, "--convlens-accuracy=0")
    assert result.parseoutcomes().keys() == {"passed", "deselected"}
    (pytester.path / "photos" / "empty").mkdir()
    result = pytester.runpytest(*arguments, "--convlens-accuracy=0")
    assert result.parseoutcomes().keys() == {"skipped", "deselected"}
    assert "there are folders of 4 classes, but" in result.stdout.str()

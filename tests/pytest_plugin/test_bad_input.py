"""Bad input gets one clear line, and no traceback."""

from __future__ import annotations

import numpy as np
import pytest

USAGE = pytest.ExitCode.USAGE_ERROR


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--convlens", "mnist_cn"], "there is no such model; did you mean mnist_cnn?"),
        (["--convlens", "nosuch.keras"], "--convlens nosuch.keras: the file does not exist"),
        (["--convlens", "."], "no such model|is a folder"),
        (["--convlens-range", "1,0"], "--convlens-range must be LOW,HIGH with LOW below HIGH"),
        (["--convlens-range", "a"], "--convlens-range must be LOW,HIGH"),
        (
            ["-o", "convlens_effort=much"],
            "convlens_effort must be quick, standard, full, not 'much'",
        ),
        (["--convlens-steps", "0"], "--convlens-steps must be between 1 and 1,000,000, not 0"),
        (["--convlens-units", "0"], "--convlens-units must be between 1 and 1,000,000, not 0"),
        (["--convlens-seed", "-1"], "--convlens-seed must be 0 or more, not -1"),
        (["--convlens-memory", "0"], "--convlens-memory must be more than 0 GiB"),
        (["--convlens-preset", "lucid"], "invalid choice: 'lucid'"),
        (["nosuch.keras"], "file or directory not found: nosuch.keras"),
    ],
)
def test_options(pytester, arguments, message):
    result = pytester.runpytest(*arguments)
    assert result.ret == USAGE
    import re

    assert re.search(message.replace("?", r"\?"), result.stderr.str())
    assert "Traceback" not in result.stderr.str()


def test_a_picture_folder_that_cannot_be_written_to(pytester):
    pytester.makefile(".txt", blocked="")
    result = pytester.runpytest("--convlens", "mnist_cnn", "--convlens-pictures", "blocked.txt/x")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["ERROR: --convlens-pictures blocked.txt/x: cannot write there *"])


def collection_error(pytester, *arguments):
    """Return the lines of the one error that collecting gave."""
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = result.stdout.str()
    assert "Traceback" not in text
    body = text.split("ERROR collecting")[1].split("=====")[0].splitlines()[1:]
    lines = [line for line in body if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.keras", b"", "truncated, or not a Keras file"),
        ("text.keras", b"hello", "truncated, or not a Keras file"),
        ("old.h5", b"\x89HDF\r\n\x1a\n", "could not be loaded"),
        ("disguised.keras", b"\x89HDF\r\n\x1a\n", "could not be loaded"),
    ],
)
def test_files_that_are_no_models(pytester, name, content, message):
    (pytester.path / name).write_bytes(content)
    line = collection_error(pytester, str(pytester.path / name))
    assert name in line
    assert message in line


def test_a_truncated_file(pytester, tiny_file):
    tiny_file.write_bytes(tiny_file.read_bytes()[:-900])
    assert "truncated, or not a Keras file" in collection_error(pytester, str(tiny_file))


def test_an_archive_that_is_no_model(pytester):
    import zipfile

    with zipfile.ZipFile(pytester.path / "z.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "could not be loaded" in collection_error(pytester, str(pytester.path / "z.keras"))


@pytest.mark.parametrize(("saved", "said"), [("99.1.0", True), ("3.0.0", False)])
def test_a_file_that_a_later_keras_saved(pytester, tiny_file, saved, said):
    import json
    import zipfile

    with zipfile.ZipFile(tiny_file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = entries["config.json"].replace(b'"seed": null', b'"seed": null, "unheard_of": 1')
    assert config != entries["config.json"]
    entries["config.json"] = config
    entries["metadata.json"] = json.dumps({"keras_version": saved}).encode()
    with zipfile.ZipFile(tiny_file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    line = collection_error(pytester, str(tiny_file))
    assert "could not be loaded" in line
    assert ("saved by Keras 99.1.0" in line) == said
    assert ("pip install -U keras" in line) == said


def test_a_lambda_layer_is_not_run(pytester):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Lambda(lambda x: x + 1)])
    model.save(pytester.path / "lambda.keras")
    line = collection_error(pytester, str(pytester.path / "lambda.keras"))
    assert "lambda.keras holds a Lambda layer or other code, which safe mode refuses" in line


def test_a_legacy_file_is_loaded(pytester, tiny, tiny_items):
    tiny.save(pytester.path / "old.h5")
    result = pytester.runpytest(str(pytester.path / "old.h5"), "-k", "gram")
    result.assert_outcomes(passed=2, deselected=tiny_items - 2)


def test_a_legacy_file_with_code_is_loaded_when_that_is_allowed(pytester):
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1))
    x = layers.Lambda(lambda x: 2 * x, output_shape=(8, 8, 1), name="double")(image)
    keras.Model(image, layers.Conv2D(2, 3, name="conv")(x)).save(pytester.path / "code.h5")
    line = collection_error(pytester, str(pytester.path / "code.h5"))
    assert "code.h5 can run code: layer 'double' is a Lambda layer, whose Python code" in line
    assert "pass --convlens-allow-legacy if you trust the file's source" in line
    result = pytester.runpytest("code.h5", "--convlens-allow-legacy", "-k", "gram")
    assert result.parseoutcomes()["passed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 13, 13, 1)), "takes images of shape (n, 13, 13, 2), not (2, 13, 13, 1)"),
        (np.full((2, 13, 13, 2), np.nan), "values that are not finite"),
        (np.zeros((0, 13, 13, 2)), "it holds no image"),
    ],
)
def test_images_that_do_not_fit(pytester, tiny_file, images, message):
    np.savez(pytester.path / "images.npz", images=images)
    line = collection_error(pytester, str(tiny_file), "--convlens-images", "images.npz")
    assert message in line


def test_images_outside_the_stated_range(pytester, tiny_file):
    np.savez(pytester.path / "images.npz", images=np.full((2, 13, 13, 2), 200.0))
    arguments = (str(tiny_file), "--convlens-images", "images.npz", "--convlens-range", "0,1")
    line = collection_error(pytester, *arguments)
    assert "the images' values range from 200 to 200, but tiny.keras takes 0 to 1" in line


@pytest.mark.slow
def test_image_sources_that_cannot_be_read(pytester, tiny_file):
    (pytester.path / "bad.npz").write_bytes(b"PK\x03\x04 cut")
    np.savez(pytester.path / "other.npz", weights=np.zeros(3))
    np.savez(pytester.path / "pickled.npz", images=np.array([{}], dtype=object))
    (pytester.path / "empty").mkdir()
    for source, message in {
        "bad.npz": "bad.npz cannot be read as .npz",
        "pickled.npz": "pickled.npz cannot be read as .npz",
        "none.npz": "none.npz cannot be read as .npz (No such file",
        "other.npz": "it has weights (3,), but no array of images",
        "empty": "the folder holds no picture",
        "what": "give a folder of pictures, a saved tf.data.Dataset, an .npz file or",
        "nomodule:images": "there is no module 'nomodule'",
    }.items():
        assert message in collection_error(pytester, str(tiny_file), "--convlens-images", source)


def test_a_folder_of_pictures_is_resized_and_read(pytester):
    import keras
    from keras import layers
    from PIL import Image

    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 3, name="c")], name="color")
    model.save(pytester.path / "color.keras")
    folder = pytester.path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3), dtype=np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    arguments = (str(pytester.path / "color.keras"), "--convlens-images", "photos", "-k", "gram")
    result = pytester.runpytest(*arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["images: 2 from photos"])
    (folder / "2.png").write_bytes(b"no picture")
    assert "2.png is not a picture" in collection_error(pytester, *arguments)


def test_nan_weights_are_located_by_every_item(pytester, tiny):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    tiny.save(pytester.path / "nan.keras")
    result = pytester.runpytest(str(pytester.path / "nan.keras"), "--convlens-steps=5")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 2  # finite[conv_a] and finite[classes] have good weights
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*finite?conv_b? _*",
            "nan.keras layer 'conv_b' is not finite:",
            "*kernel: 1 of 270 values (1 NaN, 0 infinite), the first at (0, 0, 0, 0)",
        ]
    )
    body = result.stdout.str().split("convlens: nan.keras")[0]  # pytest's own summary follows
    assert body.count("layer 'conv_b', kernel: 1 of 270 values") == outcomes["failed"] - 1


def test_factories_that_do_not_exist_or_return_something_else(pytester):
    pytester.makepyfile(mine="def number(): return 3")
    pytester.syspathinsert()
    for spec, message in {
        "nomodule:build": "there is no module 'nomodule'; run `python -m pytest`",
        "mine:nothing": "module 'mine' has no function 'nothing'",
        "mine:number": "mine:number returned int, not a Keras model",
    }.items():
        assert message in collection_error(pytester, "--convlens", spec)


@pytest.mark.quick(1)
@pytest.mark.parametrize("argument", ["exported", "--convlens=exported", "net.tflite"])
def test_models_of_other_formats_are_told_what_to_do(pytester, argument):
    pytester.mkdir("exported")
    (pytester.path / "exported" / "saved_model.pb").write_bytes(b"")
    (pytester.path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    result = pytester.runpytest(argument)
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    text = result.stdout.str() + result.stderr.str()
    assert "is a TFLite model" in text or "exported is a SavedModel" in text
    assert "model.save('model.keras')" in text
    assert "Traceback" not in text
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest(".").assert_outcomes(passed=1)  # nobody asked for them


@pytest.mark.slow
def test_a_saved_model_gets_the_items_that_need_no_layers(pytester, tiny):
    import numpy as np

    images = np.random.default_rng(0).random((30, 13, 13, 2), np.float32)
    kernel, bias = tiny.layers[-1].get_weights()
    bias = bias - np.log(tiny.predict(images, verbose=0)).mean(axis=0)  # so that classes differ
    tiny.layers[-1].set_weights([kernel, bias])
    tiny.export(pytester.path / "exported", verbose=False)
    answers = tiny.predict(images, verbose=0).argmax(axis=1)
    np.savez(pytester.path / "data.npz", images=images, labels=answers)
    arguments = ("--convlens-allow-legacy", "--convlens-images=data.npz", "-rs")
    recorded = ("--convlens-baselines=b", "--convlens-update=missing", "--convlens-accuracy=1")
    result = pytester.runpytest("exported", *arguments, *recorded, "-v")
    text = result.stdout.str()
    for name in ("finite[saved_model]", "repeatable", "accuracy", "baseline[saved_model]"):
        assert f"exported::{name} PASSED" in text
    assert "is a SavedModel, a compiled graph without filters to look at" in text
    assert "is a SavedModel, whose graph hides the scores before its softmax" in text
    assert result.parseoutcomes().keys() == {"passed", "skipped"}
    np.savez(pytester.path / "data.npz", images=images, labels=(answers + 1) % 3)
    result = pytester.runpytest("--convlens=exported", *arguments, *recorded, "-k", "accuracy")
    assert result.parseoutcomes()["failed"] == 1

"""--convlens-before: two items a model, one failure a cause, sentences for what cannot be read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

RUN = ("-p", "no:cacheprovider", "-k", "churn or outputs")
BEFORE = ("--convlens-before", "old.keras")
IMAGES = ("--convlens-images", "digits.npz")


@pytest.fixture
def old(pytester, mnist_cnn, digits):
    """The shipped network in old.keras and new.keras, and its digits in digits.npz."""
    for name in ("old", "new"):
        mnist_cnn.save(pytester.path / f"{name}.keras")
    np.savez(pytester.path / "digits.npz", images=digits[0], labels=digits[1])
    np.savez(pytester.path / "plain.npz", images=digits[0])
    return mnist_cnn


@pytest.fixture
def change(pytester, old):
    """Return a function that changes a layer's weights in new.keras."""
    from convlens.fixtures.mnist_cnn import build_mnist_cnn

    def edit(layer, function):
        new = build_mnist_cnn()
        new.set_weights(old.get_weights())
        new.get_layer(layer).set_weights(function(*new.get_layer(layer).get_weights()))
        new.save(pytester.path / "new.keras")

    return edit


def without_seven(kernel, bias):
    bias[7] -= 1000
    return [kernel, bias]


def counts(result):
    found = result.parseoutcomes()
    return tuple(found.get(name, 0) for name in ("passed", "failed", "follow"))


@pytest.mark.parametrize("images", ["digits.npz", "plain.npz"])
def test_the_same_answers_pass(pytester, old, images):
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, "--convlens-images", images)
    assert counts(result) == (2, 0, 0)
    assert "NO BASELINE" not in result.stdout.str()


def test_a_lost_class_is_one_failure(pytester, change):
    change("predictions", without_seven)
    result = pytester.runpytest(
        *RUN,
        "new.keras",
        *BEFORE,
        *IMAGES,
        "--convlens-json=f.json",
        "--junitxml=j.xml",
        "--convlens-pictures=pictures",
        "--convlens-report=r.html",
    )
    assert counts(result) == (0, 1, 1)
    result.stdout.fnmatch_lines(
        ["FAILED new.keras::churn - new.keras lost class 7, 20 of 20 images: never *"]
    )
    text = result.stdout.str()
    assert "wrong now: images " in text
    assert "usually: the new training set has fewer or other images of class 7" in text
    (failure,) = json.loads((pytester.path / "f.json").read_text())["failures"]
    assert (failure["check"], failure["layer"]) == ("churn", None)
    assert failure["cause"].startswith("new.keras lost class 7, 20 of 20 images: never answered")
    assert failure["explanation"].startswith("the new training set has fewer or other images")
    assert failure["followers"] == ["outputs"]
    assert failure["numbers"]["class"] == 7
    assert failure["numbers"]["class_lost"] == failure["numbers"]["lost"] == 20
    assert failure["numbers"]["accuracy_before"] == 1
    properties = {
        each.get("name"): each.get("value")
        for each in ET.parse(pytester.path / "j.xml").iter("property")
    }
    assert properties["convlens.accuracy"] == "0.9"
    assert len(properties["convlens.wrong_now"].split(", ")) == 20
    assert len(list((pytester.path / "pictures").rglob("wrong now.png"))) == 1
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert "images that are wrong now" in page
    assert "CKA" in page


def test_the_names_of_folders_are_the_classes_names(pytester, change, digits):
    from PIL import Image

    change("predictions", without_seven)
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        folder = pytester.path / "photos" / f"{'abcdefghij'[label]}-sign"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * image[..., 0])).save(folder / f"{number}.png")
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, "--convlens-images=photos")
    result.stdout.fnmatch_lines(["new.keras lost class 7 (h-sign), 20 of 20 images: never *"])


def test_a_layer_that_lost_its_training(pytester, change):
    """It fails though every answer is right, and the JSON names the layer."""

    def pruned(kernel, bias):
        kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.3)] = 0
        return [kernel, bias]

    change("conv2d_2", pruned)
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES, "--convlens-json=f.json")
    assert counts(result) == (1, 1, 0)
    (failure,) = json.loads((pytester.path / "f.json").read_text())["failures"]
    assert (failure["check"], failure["layer"]) == ("outputs", "conv2d_2")
    assert "layer 'conv2d_2' of new.keras lost its training: 30% of its" in failure["cause"]
    assert failure["numbers"]["untrained_layers"] == 1


def test_the_outputs_alone_tell_the_cause(pytester, change):
    change("predictions", without_seven)
    result = pytester.runpytest("-p", "no:cacheprovider", "new.keras::outputs", *BEFORE, *IMAGES)
    assert counts(result) == (0, 1, 0)
    assert "new.keras lost class 7" in result.stdout.str()


def test_the_agreement_that_is_asked_for(pytester, change):
    def shifted(kernel, bias):
        bias[3] += 9
        return [kernel, bias]

    change("predictions", shifted)
    run = (*RUN, "new.keras", *BEFORE, "--convlens-images=plain.npz")
    assert counts(pytester.runpytest(*run)) == (2, 0, 0)
    result = pytester.runpytest(*run, "--convlens-agreement=1")
    assert counts(result) == (1, 1, 0)
    assert "(limit 100.0%)" in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--convlens-before", "none.keras"), "--convlens-before none.keras: the file does not"),
        (("--convlens-before", "MobileNetV7"), "--convlens-before MobileNetV7: there is no such"),
        ((*BEFORE, "--convlens-agreement=2"), "--convlens-agreement must be above 0 and at most 1"),
        (("--convlens-agreement=0.9",), "--convlens-agreement goes with --convlens-before"),
    ],
)
def test_options_that_cannot_be(pytester, old, options, message):
    result = pytester.runpytest(*RUN, "new.keras", *options, *IMAGES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def save_other(path, shape=(28, 28, 1), units=10, loss=None):
    import keras

    other = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    other.add(keras.layers.Dense(units, activation="softmax" if loss is None else None))
    other.compile(loss=loss)
    other.save(path)


BAD = {
    "other sizes": ({"shape": (32, 32, 1)}, "takes images of 28×28×1 and old.keras of 32×32×1"),
    "other classes": ({"units": 12}, "has 10 classes and old.keras 12: at most the outputs 0 to 9"),
    "a regression": ({"units": 1, "loss": "mse"}, "(a regression): only answers of classes can"),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("case", BAD)
def test_an_old_model_that_cannot_be_compared(pytester, old, case):
    changes, message = BAD[case]
    save_other(pytester.path / "old.keras", **changes)
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES)
    assert counts(result) == (0, 1, 1)
    assert message in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_an_old_model_that_cannot_be_read(pytester, old):
    (pytester.path / "old.keras").write_bytes(b"no model")
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES)
    assert counts(result) == (0, 1, 1)
    assert "old.keras is truncated" in result.stdout.str()


def test_textures_are_refused(pytester, old):
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE)
    assert counts(result) == (0, 1, 1)
    assert "images like those of the training: give them with --convlens-images" in (
        result.stdout.str()
    )


def test_labels_that_do_not_fit_are_a_note(pytester, old, digits):
    np.savez(pytester.path / "digits.npz", images=digits[0], labels=digits[1][:7])
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES)
    assert counts(result) == (2, 0, 0)
    assert "the answers were compared without them" in result.stdout.str()


def test_one_image_is_too_few(pytester, old, digits):
    np.savez(pytester.path / "digits.npz", images=digits[0][:1], labels=digits[1][:1])
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES)
    assert counts(result) == (0, 1, 1)
    assert "1 image cannot tell a loss from chance: give at least 20" in result.stdout.str()


def test_a_function_is_an_old_model(pytester, old):
    pytester.makepyfile(
        other="from convlens.fixtures.mnist_cnn import load_mnist_cnn\n"
        "def make():\n    model = load_mnist_cnn()\n    return lambda images: model(images)"
    )
    pytester.syspathinsert()
    result = pytester.runpytest(*RUN, "new.keras", "--convlens-before", "other:make", *IMAGES)
    assert counts(result) == (2, 0, 0)


def test_outputs_that_cannot_be_judged_are_skipped(pytester, old, digits):
    np.savez(pytester.path / "digits.npz", images=digits[0][:30], labels=digits[1][:30])
    pytester.makepyfile(
        other="from convlens.fixtures.mnist_cnn import load_mnist_cnn\n"
        "def make():\n    model = load_mnist_cnn()\n    return lambda images: model(images)"
    )
    pytester.syspathinsert()
    run = (*RUN, "new.keras", "--convlens-before", "other:make", *IMAGES, "-rs")
    result = pytester.runpytest(*run)
    result.assert_outcomes(passed=1, skipped=1, deselected=24)
    assert "30 images are too few to tell each output of other:make" in result.stdout.str()


def test_units_without_a_partner_are_shown(pytester, change):
    """Silent filters are no partners: the strongest patches of the old ones are in the report."""

    def silent(kernel, bias):
        return [kernel, bias - 100]

    change("conv2d_1", silent)
    result = pytester.runpytest(*RUN, "new.keras", *BEFORE, *IMAGES, "--convlens-report=r.html")
    assert counts(result) == (0, 1, 1)
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert "conv2d_1: units without a partner in new.keras" in page
    assert "8 of 24; " in page

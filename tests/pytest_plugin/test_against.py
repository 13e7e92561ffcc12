"""--convlens-against: an item a layer, one failure a cause, sentences for what cannot be read."""

from __future__ import annotations

import json
import subprocess

import keras
import pytest

RUN = ("-p", "no:cacheprovider", "-k", "same")
AGAINST = ("--convlens-against", "reference.keras")


@pytest.fixture
def pair(pytester, tiny, tiny_file):
    """A reference, and the same model in tiny.keras."""
    tiny.save(pytester.path / "reference.keras")
    return tiny


@pytest.fixture
def changed(pair, tiny_file):
    kernel, bias = pair.get_layer("conv_b").get_weights()
    pair.get_layer("conv_b").set_weights([kernel.swapaxes(0, 1), bias])
    pair.save(tiny_file)


def counts(result):
    found = result.parseoutcomes()
    return tuple(found.get(name, 0) for name in ("passed", "failed", "follow"))


def test_the_same_model_passes(pytester, pair):
    result = pytester.runpytest(*RUN, "tiny.keras", *AGAINST)
    assert counts(result) == (7, 0, 0)
    assert "NO BASELINE" not in result.stdout.str()


def test_few_textures_of_many_pixels_are_shown(pytester):
    image = keras.Input((224, 224, 1))
    model = keras.Model(image, keras.layers.Conv2D(2, 7, strides=7, name="conv")(image))
    for name in ("large.keras", "reference.keras"):
        model.save(pytester.path / name)
    result = pytester.runpytest(*RUN, "large.keras", *AGAINST, "--junit-xml=junit.xml")
    assert counts(result)[1:] == (0, 0)
    assert "the first 12 of 48 synthetic textures" in (pytester.path / "junit.xml").read_text()


def test_one_cause_is_one_failure(pytester, changed):
    result = pytester.runpytest(*RUN, "tiny.keras", *AGAINST, "--convlens-json=f.json")
    assert counts(result) == (5, 1, 1)
    result.stdout.fnmatch_lines(
        ["FAILED tiny.keras::same?conv_b? - the first layer of tiny.keras that diverges*"]
    )
    (failure,) = json.loads((pytester.path / "f.json").read_text())["failures"]
    assert (failure["check"], failure["layer"]) == ("same", "conv_b")
    assert failure["followers"] == ["outputs"]
    assert failure["numbers"]["snr"] < 60


@pytest.mark.slow
def test_the_outputs_alone_tell_the_cause(pytester, changed):
    result = pytester.runpytest("-p", "no:cacheprovider", "tiny.keras::same[outputs]", *AGAINST)
    assert counts(result) == (0, 1, 0)
    assert "that diverges from reference.keras is 'conv_b'" in result.stdout.str()


@pytest.mark.slow
def test_a_function_is_a_reference(pytester, pair):
    pytester.makepyfile(other="def make(): return lambda x: x[:, 0, 0, :1].repeat(3, 1)")
    pytester.syspathinsert()
    result = pytester.runpytest(*RUN, "tiny.keras", "--convlens-against", "other:make")
    result.stdout.fnmatch_lines(["the outputs of tiny.keras differ from those of *"])
    assert result.parseoutcomes()["failed"] == 1


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("none.keras", "--convlens-against none.keras: the file does not exist"),
        ("MobileNetV7", "--convlens-against MobileNetV7: there is no such model"),
        ("none.tflite", "--convlens-against none.tflite: the file does not exist"),
    ],
)
def test_a_reference_that_is_not_there(pytester, pair, reference, message):
    result = pytester.runpytest(*RUN, "tiny.keras", "--convlens-against", reference)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_a_damaged_file_has_an_item_and_a_sentence(pytester, pair):
    (pytester.path / "new.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 64)
    result = pytester.runpytest(*RUN, "new.tflite", *AGAINST)
    assert counts(result) == (0, 1, 6)
    assert "new.tflite is damaged or truncated" in result.stdout.str()


def test_a_reference_that_cannot_be_read(pytester, pair):
    (pytester.path / "broken.keras").write_bytes(b"no model")
    result = pytester.runpytest(*RUN, "tiny.keras", "--convlens-against", "broken.keras")
    result.assert_outcomes(errors=1)
    assert "broken.keras is truncated" in result.stdout.str()


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)


def test_the_new_side_may_be_what_a_commit_has(pytester, pair):
    git("init", "-q", "-b", "main")
    git("add", "reference.keras")
    git("commit", "-qm", "first")
    result = pytester.runpytest(*RUN, "--convlens", "git:HEAD:reference.keras", *AGAINST)
    assert counts(result) == (7, 0, 0)
    lost = pytester.runpytest(*RUN, "--convlens", "git:HEAD:lost.keras", *AGAINST)
    lost.stdout.fnmatch_lines(["*git:HEAD:lost.keras cannot be read: *"])


def test_a_saved_model_is_compared_layer_by_layer(pytester, pair):
    pair.export(pytester.path / "exported", verbose=False)
    refused = pytester.runpytest(*RUN, "exported", *AGAINST)
    refused.stdout.fnmatch_lines(["*is a SavedModel*--convlens-allow-legacy*"])
    result = pytester.runpytest(*RUN, "exported", *AGAINST, "--convlens-allow-legacy")
    assert counts(result) == (7, 0, 0)
    turned = pytester.runpytest(
        *RUN, "tiny.keras", "--convlens-against", "exported", "--convlens-allow-legacy"
    )
    assert counts(turned) == (7, 0, 0)


@pytest.mark.parametrize("name", ["new.tflite", "new.onnx"])
def test_a_converted_model_alone_names_the_option(pytester, pair, name):
    (pytester.path / name).write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    result = pytester.runpytest("-p", "no:cacheprovider", name)
    result.stdout.fnmatch_lines(["*or add --convlens-against model.keras, the model that it was*"])


def test_the_report_has_the_layers_and_the_worst_images(pytester, changed):
    options = ("--convlens-report=r.html", "--convlens-markdown=r.md", "--convlens-pictures=p")
    pytester.runpytest(*RUN, "tiny.keras", *AGAINST, *options)
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert page.count("layer by layer; bars: signal-to-noise</h4>") == 1
    assert "Swipe between expected and actual: channel" in page
    summary = (pytester.path / "r.md").read_text(encoding="utf-8")
    assert "| layers | signal-to-noise | cosine | worst channel |" in summary
    rows = summary.partition("| layers |")[2].splitlines()
    assert rows[2].startswith("| conv\\_b |")  # the one with the fault is first
    assert {path.name for path in pytester.path.glob("p/*/*.png")} == {
        "conv_b-differences.png",
        "conv_b-layers.png",
    }

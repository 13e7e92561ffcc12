"""Faults of converters, planted before the export: all are caught, and the layer is named."""

from __future__ import annotations

import warnings

import pytest

from convlens import assert_same_behaviour
from convlens.fixtures.exports import EXPORT_DEFECTS, export_places, plant_before_export

# Those that a run of the core tries; the others are marked slow.
# The one layer with values above 6.
PLACES = {"relu6-for-relu": "stem_relu"}
IN_WORDS = {"softmax-twice": "it has two softmaxes at its end, and the reference has one"}
QUICK = ("batch-norm-variance", "relu6-for-relu", "shifted-padding", "flatten-order")


def named_in(error):
    first = str(error.value).splitlines()[0]
    return first.partition(" is '")[2].partition("'")[0].split(" + "), first


@pytest.mark.parametrize(
    "defect",
    [pytest.param(d, marks=() if d in QUICK else pytest.mark.slow) for d in EXPORT_DEFECTS],
)
def test_a_fault_before_the_export_is_named(variety, images, defect):
    places = export_places(variety, defect)
    assert places
    place = PLACES.get(defect, places[len(places) // 2])
    with pytest.raises(AssertionError) as error:
        assert_same_behaviour(plant_before_export(variety, defect, place), variety, images)
    named, first = named_in(error)
    assert place in named or (defect in IN_WORDS and IN_WORDS[defect] in first), f"{place}: {first}"


@pytest.mark.weekly
@pytest.mark.parametrize("kind", ["tflite", "onnx", "saved_model"])
@pytest.mark.parametrize("defect", EXPORT_DEFECTS)
def test_a_fault_is_named_in_each_format(variety, images, export, defect, kind):
    places = export_places(variety, defect)
    place = PLACES.get(defect, places[len(places) // 2])
    path = export(plant_before_export(variety, defect, place), kind)
    with pytest.raises(AssertionError) as error:
        assert_same_behaviour(path, variety, images, allow_legacy=True)
    named, first = named_in(error)
    assert place in named or (defect in IN_WORDS and IN_WORDS[defect] in first), f"{place}: {first}"


@pytest.mark.weekly
@pytest.mark.parametrize("kind", ["tflite", "onnx", "saved_model"])
def test_a_healthy_export_agrees_in_each_format(variety, images, export, kind):
    path = export(variety, kind)
    assert not assert_same_behaviour(path, variety, images, allow_legacy=True).unmatched


@pytest.fixture
def export(tmp_path, without_erfc):
    """Return a function (model, kind) that writes a model in another format."""

    def write(model, kind):
        import tensorflow as tf

        path = tmp_path / ("exported" if kind == "saved_model" else f"exported.{kind}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "tflite":
                path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
            elif kind == "onnx":
                pytest.importorskip("tf2onnx", reason="Keras exports to ONNX with tf2onnx")
                model.export(path, format="onnx", verbose=False)
                without_erfc(path)
            else:
                model.export(path, format="tf_saved_model", verbose=False)
        return path

    return write


def test_a_healthy_copy_agrees(variety, images):
    from convlens.fixtures._rebuild import copy_of

    assert not assert_same_behaviour(copy_of(variety), variety, images).unmatched


@pytest.mark.parametrize(
    ("defect", "layer", "message"),
    [
        ("none", None, "unknown defect 'none'; possible defects: batch-norm-variance, "),
        (
            "flatten-order",
            "stem",
            "cannot be planted at 'stem' of variety; possible layers: dense_1",
        ),
    ],
)
def test_what_cannot_be_planted(variety, defect, layer, message):
    with pytest.raises(ValueError, match=message):
        plant_before_export(variety, defect, layer)

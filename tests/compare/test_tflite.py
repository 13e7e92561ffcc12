"""TFLite models beside the Keras model that they come from."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_same_behaviour
from convlens.compare.same import compare_models
from convlens.compare.sources import open_source
from convlens.compare.tflite import TFLiteModel
from convlens.files import tflite as runtimes
from convlens.fixtures._tflite_file import TFLiteFile
from convlens.fixtures.artefacts import ARTEFACT_DEFECTS, artefact_places, plant_in_artefact

KINDS = ("float32", "float16", "dynamic range", "int8")


@pytest.fixture
def files(reference, images, convert):
    """Return a function that converts the network, once for each kind."""
    return lambda kind: convert(reference.model, images, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_conversion_agrees(reference, images, files, kind):
    found = assert_same_behaviour(files(kind), reference, images)
    # A converter may leave weights as small as these as they are.
    assert found.arithmetic in (kind, "float32")
    assert ("conv_a", "bn_a", "relu_a") in [layer.group for layer in found.layers]
    assert found.unmatched == ()
    assert found.notes == ()
    if kind == "int8":
        assert max(x.noise.ratio for x in found.layers) < 2.5


@pytest.mark.slow
def test_both_runtimes_read_every_tensor(images, files):
    pytest.importorskip("ai_edge_litert", reason="the extra [tflite] is not installed")
    own, other = (
        TFLiteModel(files("float32"), runtime=name).tensors(images[:1])
        for name in ("ai-edge-litert", "tensorflow")
    )
    assert own.keys() == other.keys()
    for name, value in own.items():
        np.testing.assert_allclose(value, other[name], atol=1e-5)


# Defects that only a network with more kinds of layers has a place for.
OF_VARIETY = (
    *("counted-padding", "corner-alignment", "flatten-order", "relu6-for-relu", "other-pooling"),
    *("reversed-inputs", "other-slope"),
)
# Faults that an integer model does not have, or that its steps hide.
NOT_IN_INT8 = {
    "dropped-activation": "the range of an integer result ends where the activation does",
    "relu6-for-relu": "the range of an integer result ends where the activation does",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("defect", ARTEFACT_DEFECTS)
def test_a_fault_is_named(request, images, convert, tmp_path, kind, defect):
    check_faults(request, images, convert, tmp_path, kind, defect, every=False)


@pytest.mark.weekly
@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("defect", ARTEFACT_DEFECTS)
def test_a_fault_is_named_at_each_place(request, images, convert, tmp_path, kind, defect):
    check_faults(request, images, convert, tmp_path, kind, defect, every=True)


def check_faults(request, images, convert, tmp_path, kind, defect, *, every):
    """Plant a defect at each place, or at the middle one, and hold the result to be named."""
    if ARTEFACT_DEFECTS[defect].quantized and kind == "float32":
        pytest.skip("it needs an integer model")
    if defect in NOT_IN_INT8 and kind == "int8":
        pytest.skip(NOT_IN_INT8[defect])
    name = "variety" if defect in OF_VARIETY else "reference"
    keras_model = request.getfixturevalue(name)
    content = convert(getattr(keras_model, "model", keras_model), images, kind).read_bytes()
    places = artefact_places(content, defect)
    assert places
    if defect == "relu6-for-relu":
        places = places[:1]  # the one layer with values above 6
    for i, place in enumerate(places):
        if not every and i != len(places) // 2:
            continue
        broken = tmp_path / f"{i}.tflite"
        broken.write_bytes(plant_in_artefact(content, defect, place))
        with pytest.raises(AssertionError) as error:
            assert_same_behaviour(broken, keras_model, images)
        first = str(error.value).splitlines()[0]
        if "has no softmax at its end" in first:  # it is the operation that was left out
            assert defect == "truncated-operation"
            continue
        named = first.partition(" is '")[2].partition("'")[0].split(" + ")
        # Two layers that exchanged their weights are both broken, and the earlier one is named.
        broken_at = " ".join(places) if defect == "exchanged-weights" else place
        assert any(layer in broken_at for layer in named if layer), f"{place}: {first}"


@pytest.mark.parametrize("content", [b"\0", b"\x1c\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 90])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "new.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"new\.tflite is (damaged|truncated|empty)"):
        TFLiteModel(path)


def edit_inputs(graph):
    graph.tensors[graph.inputs[0]].shape = [1, 10**6, 10**6, 3]


def edit_inputs_away(graph):
    graph.inputs = []


def edit_buffer(graph):
    graph.tensors[1].buffer = 10**6


def edit_reader(graph):
    op = graph.operators[1]
    op.inputs = [int(op.outputs[0]), *map(int, op.inputs[1:])]


def edit_code(graph):
    graph.operators[0].opcodeIndex = 10**4


HOSTILE = {
    edit_inputs: "more than half of the memory",
    edit_inputs_away: "has no input",
    edit_buffer: "out of range buffer",
    edit_reader: "both input .* and output",
    edit_code: "damaged, or not safe to run",
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", HOSTILE)
def test_a_hostile_file_is_a_sentence(files, tmp_path, edit):
    file = TFLiteFile(files("float32").read_bytes())
    edit(file.graph)
    path = tmp_path / "new.tflite"
    path.write_bytes(file.packed())
    with pytest.raises(ValueError, match=HOSTILE[edit]) as error:
        TFLiteModel(path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_truncated_file_is_a_sentence(files, tmp_path):
    content = files("float32").read_bytes()
    path = tmp_path / "new.tflite"
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match="damaged or truncated"):
            TFLiteModel(path)


@pytest.mark.slow
def test_negative_padding_of_tensorflows_interpreter_is_found(convert, tmp_path):
    """The fault is real: TensorFlow 2.20 and 2.21 return the bias alone for such a convolution."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="before")(image)
    x = keras.layers.Conv2D(4, 3, 4, padding="same", name="strided")(x)
    x = keras.layers.Dense(3, name="classes")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x, name="negative_padding")
    images = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    path = convert(model, images)
    pytest.importorskip("ai_edge_litert", reason="the extra [tflite] is not installed")
    right = compare_models(
        TFLiteModel(path, runtime="ai-edge-litert"), open_source(model), images, names=("n", "r")
    )
    assert right.passed
    wrong = compare_models(
        TFLiteModel(path, runtime="tensorflow"), open_source(model), images, names=("n", "r")
    )
    first = wrong.first
    assert first is not None
    assert "strided" in first.group
    assert "run by tensorflow" in wrong.message


def test_a_missing_runtime_is_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "new.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no runtime of TFLite is installed: pip install 'pyt"):
        TFLiteModel(path)

"""ONNX models beside a Keras model: channels first, external data, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convlens import assert_same_behaviour
from convlens.compare import onnx_model
from convlens.compare.sources import open_source

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def network():
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(5, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Conv2D(4, 3, name="second"),
            layers.GlobalAveragePooling2D(name="mean"),
        ],
        name="reference",
    )


def write(model, path: Path, change=lambda weights: weights) -> Path:
    """Write the network by hand, as exporters do: channels first, and one image at a time."""
    from onnx import TensorProto, helper, numpy_helper

    first, second = (model.get_layer(name).get_weights() for name in ("first", "second"))
    weights = {"w1": first[0], "b1": first[1], "w2": second[0], "b2": second[1]}
    weights = change(weights)
    constants = [
        numpy_helper.from_array(
            np.ascontiguousarray(v.transpose(3, 2, 0, 1) if v.ndim == 4 else v), k
        )
        for k, v in weights.items()
    ]
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["images", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"]),
        node("GlobalAveragePool", ["c2"], ["g"]),
        node("Flatten", ["g"], ["out"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "reference",
        [onnx.helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 12, 12])],
        [onnx.helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4])],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((3, 12, 12, 3), dtype=np.float32)


def test_a_healthy_model_agrees_and_its_conventions_are_told(network, pictures, tmp_path):
    found = assert_same_behaviour(write(network, tmp_path / "new.onnx"), network, pictures)
    assert [layer.group for layer in found.layers if layer.layer != "input"] == [
        (name,) for name in ("first", "first", "pool", "second", "mean")
    ]
    assert found.unmatched == ()
    assert [note.partition(" takes ")[2] for note in found.notes] == [
        "its channels first, (n, c, h, w)",
        "1 image at a time: its batch is fixed",
    ]


def test_a_fault_is_named(network, pictures, tmp_path):
    new = write(network, tmp_path / "new.onnx", lambda w: {**w, "w2": w["w2"].swapaxes(0, 1)})
    with pytest.raises(AssertionError, match="diverges from reference is 'second'"):
        assert_same_behaviour(new, network, pictures)


def test_data_outside_the_file_is_not_read(network, pictures, tmp_path):
    path = write(network, tmp_path / "new.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(ValueError, match="keeps the tensor 'w1' in another file"):
        assert_same_behaviour(path, network, pictures)


def test_a_damaged_file(network, pictures, tmp_path):
    path = tmp_path / "new.onnx"
    path.write_bytes(b"\x08\x07 no model")
    with pytest.raises(ValueError, match=r"is damaged, or not an ONNX file|does not run"):
        assert_same_behaviour(path, network, pictures)


def test_a_missing_runtime_is_a_sentence(network, pictures, tmp_path, monkeypatch):
    path = write(network, tmp_path / "new.onnx")
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx and onnxruntime not found: pip install 'pytest"):
        assert_same_behaviour(path, network, pictures)


def graph_of(shape, nodes=(("Relu", ["x"], ["y"]),), kind=onnx.TensorProto.FLOAT):
    made = [onnx.helper.make_node(*node) for node in nodes]
    value = onnx.helper.make_tensor_value_info
    inputs = [] if shape is None else [value("x", kind, shape)]
    graph = onnx.helper.make_graph(made, "hostile", inputs, [value("y", kind, None)])
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("shape", "nodes", "kind", "message"),
    [
        (["n", 10**6, 10**6, 3], (("Relu", ["x"], ["y"]),), 1, "more than half of the free mem"),
        ([], (("Relu", ["x"], ["y"]),), 1, r"an input 'x' of tensor\(float\) and shape \[\]"),
        (["n", 3], (("Identity", ["x"], ["y"]),), 8, r"an input 'x' of tensor\(string\)"),
        (None, (("RandomNormal", [], ["y"]),), 1, "has no input"),
        (["n", 3], (("NoSuchOperation", ["x"], ["y"]),), 1, "does not run on onnxruntime"),
    ],
)
def test_a_hostile_file_is_a_sentence(tmp_path, shape, nodes, kind, message):
    model = graph_of(shape, nodes, kind)
    for node in model.graph.node:
        if node.op_type == "RandomNormal":
            node.attribute.append(onnx.helper.make_attribute("shape", [1, 3]))
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(ValueError, match=message) as error:
        onnx_model.OnnxModel(tmp_path / "new.onnx")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_an_empty_file_is_a_sentence(tmp_path, suffix):
    path = tmp_path / f"new{suffix}"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        open_source(path)


def test_constants_as_inputs_are_a_sentence(network, pictures, tmp_path):
    model = graph_of(["n", 12, 12, 3], (("Add", ["x", "mean"], ["y"]),))
    value = onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, [1, 1, 1, 3])
    model.graph.input.append(value)
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(ValueError, match=r"has 2 inputs \('x' .*some exporters turn constants"):
        assert_same_behaviour(tmp_path / "new.onnx", network, pictures)

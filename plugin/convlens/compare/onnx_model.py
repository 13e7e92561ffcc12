"""Run ONNX models, and read every tensor that they compute."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from convlens.compare.feeds import Feeds
from convlens.compare.runtime import Arithmetic, Step, Values

INSTALL = "pip install 'pytest-convlens[onnx]'"
_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_INPUTS = {"float": "float32", "double": "float64"} | {
    kind: kind for kind in ("float16", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool")
}
_NEEDED = ("onnx", "onnxruntime")
# onnxruntime's levels of messages: errors alone.
_ERRORS = 3


class OnnxModel:
    """An ONNX file with onnxruntime on the CPU; see `Runtime`."""

    steps: Mapping[str, Step] = {}

    def __init__(self, path: Path) -> None:
        """Examine and load a file.

        Raises:
            ValueError: onnx or onnxruntime is missing; a file that is damaged, keeps data outside,
                or is too large; one that onnxruntime does not take.
        """
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise ValueError(f"{path} cannot be run: {' and '.join(missing)} not found: {INSTALL}")
        import onnxruntime

        self._path = path
        self.title = f"onnxruntime {version('onnxruntime')}"
        model = read_onnx(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS

        def session(content: bytes) -> Any:
            try:
                return onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # of several types, by operation
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"{path} does not run on {self.title}: {reason}") from None

        self._deployed = session(model.SerializeToString())
        inputs = self._deployed.get_inputs()
        self._feeds = Feeds(str(path), {each.name: _declared(path, each) for each in inputs})
        self._batch = _side(inputs[0].shape[0])
        own = self._feeds.image_shape
        # Channels stand first where few of them stand before larger sides.
        self._turned = len(own) == 3 and _is_few(own[0]) and not _is_few(own[-1])
        self.input_shape = (*own[1:], own[0]) if self._turned else tuple(own)
        self.channels_first = True  # exporters turn maps, whatever the input's order
        self.output_names = tuple(each.name for each in self._deployed.get_outputs())
        self.notes: tuple[str, ...] = ()
        if self._turned:
            self.notes += (f"{path.name} takes its channels first, (n, c, h, w)",)
        if self._batch == 1:
            self.notes += (f"{path.name} takes 1 image at a time: its batch is fixed",)
        constants = {each.data_type for each in model.graph.initializer}
        self.arithmetic: Arithmetic = "float16" if 10 in constants else "float32"
        self.sources: Mapping[str, tuple[str, ...]]
        self._names, self.sources = _expose(model)
        self._all = session(model.SerializeToString())

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold inputs that do not take the images; see `Feeds.hold`."""
        self._feeds.hold(values)

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return the outputs, without the intermediate tensors."""
        return list(self._run(self._deployed, list(self.output_names), images).values())

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return all tensors of numbers that have the images as their first axis."""
        return self._run(self._all, self._names, images)

    def _run(self, session: Any, names: list[str], images: NDArray[Any]) -> dict[str, Values]:
        shown = np.moveaxis(images, -1, 1) if self._turned else images
        parts: dict[str, list[Values]] = {}
        for given, count in self._feeds.batches(shown, self._batch):
            filled = dict(zip(self._feeds.names, map(np.ascontiguousarray, given), strict=True))
            try:
                found = session.run(names, filled)
            except Exception as error:  # onnxruntime has types of its own
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"{self._path} does not run on {self.title}: {reason}") from None
            size = len(given[0])
            for name, value in zip(names, found, strict=True):
                if value.ndim > 1 and len(value) == size:
                    parts.setdefault(name, []).append(np.asarray(value[:count], np.float32))
        return {name: np.concatenate(each) for name, each in parts.items()}


def read_onnx(path: Path) -> Any:
    """Return the model of a file after examining it.

    Raises:
        ValueError: a damaged file, one larger than half of the free memory, or one that keeps data
            in other files.
    """
    import onnx

    size = path.stat().st_size
    if size > psutil.virtual_memory().available // 2:
        raise ValueError(f"{path} has {size} bytes, more than half of the free memory")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf, in several types
        raise ValueError(f"{path} is damaged, or not an ONNX file: {error}") from None
    for tensor in _constants(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(
                f"{path} keeps the tensor {tensor.name!r} in another file, which is not read: save "
                "it with its data inside (onnx.save(model, path, save_as_external_data=False))"
            )
    return model


def _constants(graph: Any) -> list[Any]:
    """Return the constant tensors of a graph and of those inside it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                found += _constants(inner)
    return found


def _expose(model: Any) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Make every tensor of floats that depends on the input an output.

    Returns:
        their names, and the graph, see `Runtime`.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {each.name: each.type.tensor_type.elem_type for each in inferred.graph.value_info}
    known = {each.name for each in model.graph.input}
    outputs = [each.name for each in model.graph.output]
    names, sources = list(known), {}
    for node in model.graph.node:
        if not known & set(node.input):
            continue
        known.update(node.output)
        floats = [name for name in node.input if name in known and kinds.get(name, 1) in _FLOATS]
        sources.update(dict.fromkeys(node.output, tuple(floats)))
        for name in node.output:
            if name in outputs:
                names.append(name)
            elif kinds.get(name) in _FLOATS:
                names.append(name)
                model.graph.output.append(
                    onnx.helper.make_tensor_value_info(name, kinds[name], None)
                )
    inputs = {each.name for each in model.graph.input}
    return [name for name in names if name not in inputs], sources


def _declared(path: Path, value: Any) -> tuple[tuple[int | None, ...], Any]:
    """Return an input's shape without the batch's axis, and its type.

    Raises:
        ValueError: an input that takes no batches of numbers.
    """
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _INPUTS or not value.shape:
        raise ValueError(
            f"{path} has an input {value.name!r} of {value.type} and shape {value.shape}: convlens "
            "gives batches of numbers"
        )
    return tuple(map(_side, value.shape[1:])), np.dtype(_INPUTS[kind])


def _side(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _is_few(side: int | None) -> bool:
    return side is not None and side <= 4

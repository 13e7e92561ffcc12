"""Run TFLite models, and read every tensor that they compute."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from convlens.compare.feeds import Feeds
from convlens.compare.runtime import Arithmetic, Step, Values
from convlens.files.tflite import find_runtime

_IDENTIFIER = b"TFL3"
_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}
_QUANTIZED = ("int8", "uint8", "int16")
# Operations whose second input is a kernel.
CONV, DEPTHWISE, DENSE = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"
_PADDINGS = ("same", "valid")
_MAX_TENSORS = 1_000_000


class TFLiteModel:
    """A TFLite file with its interpreter, run with the default delegates; see `Runtime`."""

    channels_first = False

    def __init__(self, path: Path, *, runtime: str | None = None) -> None:
        """Examine and load a file.

        Args:
            path: the file.
            runtime: distribution of the interpreter; by default the first that is installed.

        Raises:
            ValueError: no interpreter, a file that is damaged, refers to data outside, or is too
                large, or one that the interpreter does not take.
        """
        self._path = path
        try:
            package, interpreter, schema = find_runtime(runtime)
        except ValueError as error:
            raise ValueError(f"{path} cannot be run: {error}") from None
        self.graph = read_graph(path, schema)
        self.title = f"{package} {version(package)}"
        try:
            with warnings.catch_warnings():
                # They tell of the option's memory, and that TensorFlow's interpreter moved.
                warnings.simplefilter("ignore")
                # Without this option, memory is used again and most tensors hold others' values.
                self._all = interpreter.Interpreter(
                    str(path), experimental_preserve_all_tensors=True
                )
                self._deployed = interpreter.Interpreter(str(path))
            for each in (self._all, self._deployed):
                each.allocate_tensors()
        except Exception as error:  # of several types, by version and by operation
            raise ValueError(f"{path} does not run on {self.title}: {_short(error)}") from None
        self._inputs = self._deployed.get_input_details()
        self._feeds = Feeds(str(path), {d["name"]: _declared(d) for d in self._inputs})
        self.input_shape = self._feeds.image_shape
        self.batch = int(self._inputs[0]["shape"][0])
        self.arithmetic: Arithmetic = self.graph.arithmetic
        self.steps: Mapping[str, Step] = self.graph.steps
        own = [int(d["index"]) for d in self._deployed.get_output_details()]
        signed = self.graph.signed_outputs
        self._outputs = signed if sorted(signed) == sorted(own) else own
        self.output_names = tuple(self.graph.names[i] for i in self._outputs)
        self.sources: Mapping[str, tuple[str, ...]] = self.graph.sources
        self.notes: tuple[str, ...] = ()
        if self._inputs[0]["shape_signature"][0] != -1 and self.batch == 1:
            self.notes = (f"{path.name} takes 1 image at a time: its batch is fixed",)
        if self._outputs != own:
            self.notes += (
                f"{path.name} lists its outputs in another order than its signature, which is "
                f"followed here: get_output_details()[0] is output {self._outputs.index(own[0])}",
            )
        kinds = {np.dtype(d["dtype"]).name for d in self._inputs} - {"float32"}
        if kinds:
            self.notes += (
                f"{path.name} takes images of {' and '.join(sorted(kinds))}, which its scale and "
                "zero point are applied to here",
            )

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold inputs that do not take the images; see `Feeds.hold`."""
        self._feeds.hold(values)

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return the dequantized outputs, by the interpreter as it is deployed."""
        parts = [
            [self._read(self._deployed, i) for i in self._outputs]
            for _ in self._run(self._deployed, images)
        ]
        return [np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True)]

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return all tensors that depend on the images."""
        parts: dict[str, list[Values]] = {}
        for _ in self._run(self._all, images):
            for i in self.graph.computed:
                value = self._read(self._all, i)
                if value.ndim > 0 and value.size:
                    rows = value.reshape(self.batch, -1) if value.shape[0] != self.batch else value
                    parts.setdefault(self.graph.names[i], []).append(rows)
        return {name: np.concatenate(each)[: len(images)] for name, each in parts.items()}

    def constant(self, i: int) -> Values:
        """Return the real values of a constant."""
        return self._read(self._all, i)

    def _run(self, interpreter: Any, images: NDArray[Any]) -> Any:
        """Run batch after batch, of the size that the file has."""
        want = tuple(images.shape[1:])
        if any(w not in (None, s) for w, s in zip(self.input_shape, want, strict=True)):
            raise ValueError(f"{self._path} takes images of shape {self.input_shape}, not {want}")
        for given, _ in self._feeds.batches(images, self.batch):
            shapes = [tuple(d["shape"]) for d in interpreter.get_input_details()]
            if shapes != [value.shape for value in given]:
                for detail, value in zip(self._inputs, given, strict=True):
                    interpreter.resize_tensor_input(detail["index"], value.shape)
                interpreter.allocate_tensors()
            for detail, value in zip(self._inputs, given, strict=True):
                interpreter.set_tensor(detail["index"], _quantized(detail, value))
            try:
                interpreter.invoke()
            except RuntimeError as error:
                raise ValueError(
                    f"{self._path} does not run on {self.title}: {_short(error)}"
                ) from None
            yield

    def _read(self, interpreter: Any, i: int) -> Values:
        return self.graph.dequantized(i, interpreter.get_tensor(i))


@dataclass(frozen=True)
class Geometry:
    """The strides (y, x), the padding and the dilation (y, x) of an operation with a kernel."""

    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    dilation: tuple[int, int] = (1, 1)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the same operation in Keras."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation,
            "data_format": "channels_last",
        }


@dataclass(frozen=True)
class _Quantization:
    """The steps and zero points of a tensor, one or one for each channel of an axis."""

    scale: NDArray[np.float64]
    zero: NDArray[np.float64]
    axis: int


class Graph:
    """The structure of a TFLite file: its tensors, operations and quantization.

    Attributes:
        names: unique name of each tensor.
        computed: numbers of the tensors that depend on the images, in the order of computation.
        sources: name of a tensor → names of those that its operation takes; see `Runtime`.
        steps: the steps of quantized tensors, constants too, by name.
        arithmetic: the coarsest arithmetic.
        makers: number of a tensor → kind of the operation that computes it, and its inputs.
        geometries: number of a tensor that an operation with a kernel computes → its geometry.
        activations: number of a tensor → number of the activation that is fused with its operation.
        signed_outputs: numbers of the outputs in the order of the Keras model, as the signature
            "output_0", "output_1", … has it; empty without one.
    """

    def __init__(self, model: Any, kinds: Mapping[int, str]) -> None:
        main = model.subgraphs[0]
        self.names: list[str] = []
        for i, tensor in enumerate(main.tensors):
            name = _text(tensor.name) or f"tensor {i}"
            self.names.append(name if name not in self.names else f"{name}#{i}")
        self._types = [_TYPES.get(t.type, "") for t in main.tensors]
        self._quantization = [_quantization(t) for t in main.tensors]
        known = {int(i) for i in main.inputs}
        self.computed = [i for i in sorted(known) if self._is_number(i)]
        self.makers: dict[int, tuple[str, list[int]]] = {}
        self.geometries: dict[int, Geometry] = {}
        self.activations: dict[int, int] = {}
        for op in main.operators:
            code = model.operatorCodes[op.opcodeIndex]
            kind = kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
            inputs = [int(i) for i in op.inputs if i >= 0]
            if not known & set(inputs):
                continue  # what is computed of constants alone, such as the DEQUANTIZE of weights
            for i in map(int, op.outputs):
                known.add(i)
                self.makers[i] = kind, inputs
                self.activations[i] = int(getattr(op.builtinOptions, "fusedActivationFunction", 0))
                if kind in (CONV, DEPTHWISE, DENSE) and not set(inputs[1:2]) & known:
                    self.geometries[i] = _geometry(op.builtinOptions)
                if self._is_number(i):
                    self.computed.append(i)
        self._known = known
        # Delegates leave out what no output is computed from.
        needed = {int(i) for i in (*main.inputs, *main.outputs)}
        for i in reversed(self.makers):
            needed.update(self.makers[i][1] if i in needed else ())
        self.computed = [i for i in self.computed if i in needed]
        self.sources = {
            self.names[i]: tuple(self.names[k] for k in inputs if k in known and self._is_number(k))
            for i, (_, inputs) in self.makers.items()
        }
        self._place = {i: place for place, i in enumerate(self.computed)}
        signatures = model.signatureDefs or ()
        named = {_text(o.name): int(o.tensorIndex) for o in (signatures and signatures[0].outputs)}
        counted = [f"output_{i}" for i in range(len(named))]
        self.signed_outputs = [named[n] for n in counted] if set(counted) == set(named) else []
        self.steps = {
            self.names[i]: step
            for i in range(len(self.names))
            if (step := self._step(i)) is not None
        }
        self.arithmetic = self._arithmetic()

    def between(self, tensor: str, known: frozenset[str]) -> set[int]:
        """Return the numbers of a tensor and of its sources, up to known ones."""
        found: set[int] = set()
        ahead = [self.names.index(tensor)]
        while ahead:
            i = ahead.pop()
            if i in found or i not in self._known or not self._is_number(i):
                continue
            found.add(i)
            _, inputs = self.makers.get(i, ("", []))
            ahead += [k for k in inputs if self.names[k] not in known]
        return found

    def place(self, i: int) -> int:
        """Return a tensor's place in the order of computation."""
        return self._place[i]

    def depends_on_images(self, i: int) -> bool:
        """Return whether a tensor is no constant."""
        return i in self._known

    def _is_number(self, i: int) -> bool:
        return "float" in self._types[i] or self._scale(i) is not None

    def _scale(self, i: int) -> NDArray[np.float64] | None:
        found = self._quantization[i]
        return found.scale if found and self._types[i] in (*_QUANTIZED, "int32") else None

    def _step(self, i: int) -> Step | None:
        found = self._quantization[i]
        if found is None or self._types[i] not in _QUANTIZED:
            return None
        limits = np.iinfo(self._types[i])
        low, high = ((end - found.zero) * found.scale for end in (limits.min, limits.max))
        return Step(found.scale, float(low.max()), float(high.min()))

    def dequantized(self, i: int, value: NDArray[Any]) -> Values:
        """Return a tensor's real values."""
        found = self._quantization[i]
        if found is None or self._scale(i) is None:
            return np.asarray(value, np.float32)
        shape = [1] * value.ndim
        if found.scale.size > 1:
            shape[found.axis] = -1
        real = (value.astype(np.float64) - found.zero.reshape(shape)) * found.scale.reshape(shape)
        return real.astype(np.float32)

    def _arithmetic(self) -> Arithmetic:
        computed = {self._types[i] for i in self._known}
        constants = {t for i, t in enumerate(self._types) if i not in self._known}
        if computed & set(_QUANTIZED):
            return "int8"
        if constants & {"int8", "uint8"}:
            return "dynamic range"
        return "float16" if "float16" in computed | constants else "float32"


def read_graph(path: Path, schema: Any) -> Graph:
    """Return the structure of a file after examining it.

    Raises:
        ValueError: a file that is not TFLite, is damaged, is larger than half of the free memory,
            or declares data or tensors that it does not hold.
    """
    size = path.stat().st_size
    if size > psutil.virtual_memory().available // 2:
        raise ValueError(f"{path} has {size} bytes, more than half of the free memory")
    content = path.read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"{path} is truncated, or not a TFLite file")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        if not model.subgraphs or len(model.subgraphs[0].tensors or ()) > _MAX_TENSORS:
            raise ValueError("it has no graph, or too many tensors")
        graph = model.subgraphs[0]
        numbers = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs)}
        if numbers and not -1 <= min(numbers) <= max(numbers) < len(graph.tensors):
            raise ValueError("an operation names a tensor that is not there")
        declared = sum(_bytes(tensor) for tensor in graph.tensors)
        if declared > psutil.virtual_memory().available // 2:
            raise ValueError(f"its tensors take {declared} bytes, more than half of the memory")
        for buffer in model.buffers or ():
            if buffer.offset and buffer.offset + buffer.size > size:
                raise ValueError("it refers to data outside the file")
        kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        return Graph(model, kinds)
    except struct.error:
        raise ValueError(
            f"{path} is damaged or truncated: it refers to bytes behind its end"
        ) from None
    except Exception as error:  # flatbuffers raises errors of nearly every type
        raise ValueError(f"{path} is damaged, or not safe to run: {_short(error)}") from None


def _declared(detail: Any) -> tuple[tuple[int | None, ...], Any]:
    """Return an input's shape without the batch's axis, and the type of what it is given here."""
    sides = zip(detail["shape"][1:], detail["shape_signature"][1:], strict=True)
    return tuple(None if s == -1 else int(n) for n, s in sides), np.float32


def _quantized(detail: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Return values as an input takes them."""
    scale, zero = detail["quantization"]
    kind = np.dtype(detail["dtype"])
    if not scale:
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(kind)


def _geometry(options: Any) -> Geometry:
    if not hasattr(options, "strideH"):
        return Geometry()
    return Geometry(
        (int(options.strideH), int(options.strideW)),
        _PADDINGS[options.padding],
        (int(options.dilationHFactor), int(options.dilationWFactor)),
    )


def _quantization(tensor: Any) -> _Quantization | None:
    found = tensor.quantization
    if found is None or found.scale is None:
        return None
    # Copies: views would hold the whole file in memory.
    scale, zero = (np.array(each, np.float64) for each in (found.scale, found.zeroPoint))
    return _Quantization(scale, zero, int(found.quantizedDimension or 0))


def _bytes(tensor: Any) -> int:
    shape = [] if tensor.shape is None else [abs(int(s)) for s in tensor.shape]
    found = 1
    for side in shape:
        found *= side
    return found * np.dtype(_TYPES.get(tensor.type) or "float64").itemsize


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Receptive fields: the pixels from which a position of a feature map is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import CONVOLUTIONS, Call, runs_as_keras
from convlens.engine.model.network import Network
from convlens.engine.model.shapes import Shape
from convlens.engine.runtime import backend

_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_ELEMENTWISE = (
    keras.layers.ReLU,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Dropout,
    keras.layers.Rescaling,
)
_INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}
_FREE_SIZE = 9
Side = NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top to bottom, columns left to right, ends excluded.

    Where a layer pads, the rectangle may reach outside the image.
    """

    top: int
    left: int
    bottom: int
    right: int


def receptive_field(
    model: keras.Model | Network,
    layer: str,
    position: tuple[int, int],
    size: tuple[int, int],
    *,
    padded: bool = False,
) -> Box:
    """Return the receptive field of one position of a layer's feature map, in pixels.

    The field follows the kernels, strides, dilations, paddings and interpolations down every path.
    Gates (maps of one position that are combined with a larger map, as in squeeze and excitation)
    are left out, because they connect every position to the whole image. Any other operation that
    mixes positions counts as reading its whole input.

    Args:
        model: a Keras model or a `Network`.
        layer: the layer's name; the field of a layer without positions is the whole image.
        position: (row, column) in the layer's feature map.
        size: size of the images, (h, w).
        padded: include the padding, as if every map continued beyond its edges; the field then has
            the same size at all positions and may reach outside the image.

    Returns:
        The smallest rectangle of pixels that contains the field.

    Raises:
        ValueError: an unknown layer.
    """
    network = Network.of(model)
    target = network.outputs[network.find(layer)]
    if len(target.shape) != 4:
        return Box(0, 0, *size)
    fields: dict[int, _Field] = {id(target): _Field(*(np.array([at]) for at in position))}
    sizes = _map_sizes(network, layer, size)
    for call in reversed(network.calls(layer)):
        for source, field in _input_fields(call, fields, sizes):
            if not padded:
                field = field.within(*(sizes[id(source)] or size))
            known = fields.get(id(source))
            fields[id(source)] = field if known is None else known | field
    return fields[id(network.image)].box


@dataclass(frozen=True)
class Reach:
    """The receptive field of any position of a map, as if every map continued beyond its edges.

    Attributes:
        size: (h, w) of the field in pixels; the whole image's where an operation mixes all
            positions.
        stride: distance (down, right) in pixels of the fields of neighboring positions.
    """

    size: tuple[int, int]
    stride: tuple[float, float]


def reaches(network: Network, shapes: Mapping[int, Shape]) -> dict[int, Reach]:
    """Return the reach of each tensor, by its id, found in one pass over the network.

    The same operations are followed as in `receptive_field`.

    Args:
        network: the network.
        shapes: the shape of each tensor, by its id, for images of the size in question; see
            `Network.shapes`. Tensors without a shape are left out.
    """
    h, w = _positions(shapes[id(network.image)]) or (1, 1)
    found = {id(network.image): Reach((1, 1), (1.0, 1.0))}
    sizes = {key: _positions(shape) for key, shape in shapes.items()}
    for call in network.graph:
        below = [t for t in call.inputs if id(t) in found]
        for out in call.outputs:
            if not below or id(out) not in sizes:
                continue
            parts = [
                _reach_through(call, source, out, found[id(source)], sizes)
                for source in below
                if not _is_gate(call, source, out, sizes)
            ]
            known = [part for part in parts if part is not None]
            whole = len(known) < len(parts) or not known
            made = (
                [*known, Reach((h, w), _whole_stride(sizes[id(out)], (h, w)))] if whole else known
            )
            found[id(out)] = Reach(
                (
                    min(h, max(part.size[0] for part in made)),
                    min(w, max(part.size[1] for part in made)),
                ),
                (max(part.stride[0] for part in made), max(part.stride[1] for part in made)),
            )
    return found


def _whole_stride(size: tuple[int, int] | None, image: tuple[int, int]) -> tuple[float, float]:
    """Return the stride of a map whose positions all read the whole image."""
    if size is None:
        return (1.0, 1.0)
    return image[0] / size[0], image[1] / size[1]


def _reach_through(
    call: Call,
    source: Any,
    out: Any,
    below: Reach,
    sizes: Mapping[int, tuple[int, int] | None],
) -> Reach | None:
    """Return the reach of a call's output through one input; None if it mixes all positions."""
    size, out_size = sizes[id(source)], sizes[id(out)]
    if size is None or out_size is None:
        return None
    first, last = (_input_field(call.op, _Field(*at), size) for at in _corners(out_size))
    if first is None or last is None:
        return below if out_size == size and _is_pointwise(call, source) else None
    made = [
        _along(begin, end, n, m, field, stride)
        for begin, end, n, m, field, stride in zip(
            (first.rows, first.columns),
            (last.rows, last.columns),
            size,
            out_size,
            below.size,
            below.stride,
            strict=True,
        )
    ]
    return Reach((made[0][0], made[1][0]), (made[0][1], made[1][1]))


def _corners(size: tuple[int, int]) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
    """Return the first and the last position of a map, (rows, columns) each."""
    h, w = size
    return (np.array([0]), np.array([0])), (np.array([h - 1]), np.array([w - 1]))


def _along(
    first: Side, last: Side, size: int, out_size: int, field: int, stride: float
) -> tuple[int, float]:
    """Return the size and the stride of an output's field along one side, in pixels.

    Args:
        first, last: the inputs of the first and the last output.
        size, out_size: number of inputs and of outputs.
        field, stride: those of the inputs' own fields.
    """
    span = int(max(np.ptp(side) if side.size else 0 for side in (first, last)))
    if out_size > 1 and first.size and last.size:
        step = float(last[0] - first[0]) / (out_size - 1)
    else:
        step = size / out_size
    return round(field + span * stride), stride * step


@dataclass(frozen=True)
class _Field:
    """Positions of a map: all crossings of some rows and columns.

    Dilated kernels and wide strides leave gaps, so this is not always a rectangle.
    """

    rows: Side
    columns: Side

    def __or__(self, other: _Field) -> _Field:
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return _Field(np.union1d(self.rows, other.rows), np.union1d(self.columns, other.columns))

    def within(self, h: int, w: int) -> _Field:
        rows, columns = self.rows, self.columns
        return _Field(rows[(rows >= 0) & (rows < h)], columns[(columns >= 0) & (columns < w)])

    @property
    def is_empty(self) -> bool:
        return not (self.rows.size and self.columns.size)

    @property
    def box(self) -> Box:
        if self.is_empty:
            return Box(0, 0, 0, 0)  # only padding is read
        ends = [int(f(side)) for f in (np.min, np.max) for side in (self.rows, self.columns)]
        return Box(ends[0], ends[1], ends[2] + 1, ends[3] + 1)


def _input_fields(
    call: Call, fields: dict[int, _Field], sizes: dict[int, tuple[int, int] | None]
) -> list[tuple[Any, _Field]]:
    """Return the field of each input that a call reads to compute the fields of its outputs."""
    out = next((o for o in call.outputs if id(o) in fields), None)
    if out is None:
        return []
    found = []
    out_size = sizes[id(out)]
    for source in call.inputs:
        size = sizes[id(source)]
        if _is_gate(call, source, out, sizes):
            continue
        field = None
        if size is not None and out_size is not None:
            field = _input_field(call.op, fields[id(out)], size)
            if field is None and out_size == size and _is_pointwise(call, source):
                field = fields[id(out)]
        # A tensor without positions counts as read whole.
        found.append((source, field or _Field(*(np.arange(n) for n in size or (1, 1)))))
    return found


def _is_gate(
    call: Call, source: Any, out: Any, sizes: Mapping[int, tuple[int, int] | None]
) -> bool:
    """Return whether an input has one position and is combined with a map of the output's size."""
    out_size = sizes[id(out)]
    mixed = any(sizes[id(other)] == out_size for other in call.inputs)
    return sizes[id(source)] == (1, 1) and out_size not in (None, (1, 1)) and mixed


def _input_field(op: Any, field: _Field, size: tuple[int, int]) -> _Field | None:
    """Return the input field of an operation of known geometry; None for other operations."""
    sides = (field.rows, field.columns)
    if not isinstance(op, keras.Layer) or not runs_as_keras(op):
        return None  # a call of the user's own can move positions
    if isinstance(op, keras.layers.Conv2DTranspose):
        extra = (None, None) if op.output_padding is None else _pair(op.output_padding)
        steps = zip(sides, op.kernel_size, op.strides, op.dilation_rate, extra, strict=True)
        return _Field(*(_transposed_inputs(i, k, s, d, op.padding, e) for i, k, s, d, e in steps))
    if isinstance(op, (*CONVOLUTIONS, *_POOLS)):
        kernel = op.pool_size if isinstance(op, _POOLS) else op.kernel_size
        dilation = 1 if isinstance(op, _POOLS) else op.dilation_rate
        windows = zip(sides, _pair(kernel), _pair(op.strides), _pair(dilation), size, strict=True)
        return _Field(*(_window_inputs(i, k, s, d, n, op.padding) for i, k, s, d, n in windows))
    if isinstance(op, keras.layers.ZeroPadding2D):
        return _Field(*(i - p[0] for i, p in zip(sides, op.padding, strict=True)))
    if isinstance(op, keras.layers.Cropping2D):
        return _Field(*(i + c[0] for i, c in zip(sides, op.cropping, strict=True)))
    if isinstance(op, keras.layers.UpSampling2D):
        reach = _INTERPOLATIONS.get(op.interpolation)
        if reach is None:
            return None
        pairs = zip(sides, op.size, strict=True)
        return _Field(*(_interpolated_inputs(i, f, reach) for i, f in pairs))
    return None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _window_inputs(
    outputs: Side, kernel: int, stride: int, dilation: int, size: int, padding: str
) -> Side:
    """Return the inputs that the windows of a convolution or pool cover."""
    reach = (kernel - 1) * dilation + 1
    before = 0
    if padding == "same":
        before = max((-(-size // stride) - 1) * stride + reach - size, 0) // 2
    taps = np.arange(kernel) * dilation - before
    return np.unique(outputs[:, None] * stride + taps)


def _transposed_inputs(
    outputs: Side, kernel: int, stride: int, dilation: int, padding: str, extra: int | None
) -> Side:
    """Return the inputs from which a transposed convolution computes some outputs.

    Args:
        outputs: positions along a side.
        kernel, stride, dilation, padding: settings of the convolution.
        extra: its `output_padding`; None for an output of `stride` times the input's size.
    """
    reach = (kernel - 1) * dilation + 1
    cut = reach - (stride if extra is None else reach % 2 + extra)  # from both ends together
    before = max(cut, 0) // 2 if padding == "same" else 0
    at = outputs[:, None] + before - np.arange(kernel) * dilation
    return np.unique(at[at % stride == 0] // stride)


def _interpolated_inputs(outputs: Side, factor: int, reach: int) -> Side:
    """Return the inputs between which an interpolation computes some outputs.

    Args:
        outputs: positions along a side.
        factor: size of the output over that of the input.
        reach: distance in inputs at which the interpolation's weights end; 0 for the nearest input.
    """
    if reach == 0:
        return np.unique(outputs // factor)
    # Pixels are squares: the middle of output i lies at (i + ½) / factor - ½ among the inputs'.
    twice = 2 * outputs + 1 - factor
    first = twice // (2 * factor)
    exact = twice % (2 * factor) == 0  # on an input, where the others' weights are 0
    near = first[~exact, None] + np.arange(1 - reach, reach + 1)
    return np.union1d(first[exact], near)


def _is_pointwise(call: Call, source: Any) -> bool:
    """Return whether each position of a call's output depends only on that position of `source`."""
    if _is_known_pointwise(call.op):
        return True
    draw = np.random.default_rng(0)
    values = {
        id(t): draw.random([1, *(s or _FREE_SIZE for s in t.shape[1:])], dtype=np.float32)
        for t in call.inputs
    }
    changed = dict(values)
    changed[id(source)] = values[id(source)].copy()
    changed[id(source)][:, 0, 0] += draw.random(source.shape[3:], dtype=np.float32) + 0.5
    before, after = (_apply(call, v) for v in (values, changed))
    differs = np.abs(after - before).max(axis=(0, *range(3, after.ndim))) > 0
    differs[0, 0] = False
    return not differs.any()


def _is_known_pointwise(op: Any) -> bool:
    """Return whether Keras's own code says that an operation works on each position alone."""
    if isinstance(op, keras.layers.BatchNormalization | keras.layers.Concatenate):
        return runs_as_keras(op) and op.axis == -1
    if isinstance(op, keras.layers.Layer):
        return isinstance(op, _ELEMENTWISE) and runs_as_keras(op)
    return getattr(keras.activations, getattr(op, "__name__", ""), None) is op


def _apply(call: Call, values: dict[int, Any]) -> Any:
    args, kwargs = keras.tree.map_structure(
        lambda t: ops.convert_to_tensor(values[id(t)]) if id(t) in values else t,
        (call.args, call.kwargs),
    )
    return backend.to_numpy(call.compute(args, kwargs)[0])


def _map_sizes(
    network: Network, layer: str, size: tuple[int, int]
) -> dict[int, tuple[int, int] | None]:
    """Return the size (h, w) of every tensor below a layer; None for tensors without positions.

    A tensor (n, h, w) counts as a map of one channel, as in preprocessing that swaps colors.
    """
    calls = network.calls(layer)
    symbols = {id(t): t for call in calls for t in [*call.inputs, *call.outputs]}
    fixed = all(None not in t.shape[1:] for t in symbols.values())
    shapes = {key: tuple(t.shape) for key, t in symbols.items()}
    if not fixed:
        image = ops.zeros((1, *size, network.image.shape[-1]))
        values = network.run(image, list(symbols.values()))
        shapes = {key: tuple(v.shape) for key, v in zip(symbols, values, strict=True)}
    return {key: _positions(shape) for key, shape in shapes.items()}


def _positions(shape: Sequence[int | None]) -> tuple[int, int] | None:
    """Return the size (h, w) of a map of a shape (n, h, w, …); None without positions."""
    if len(shape) not in (3, 4) or shape[1] is None or shape[2] is None:
        return None
    return shape[1], shape[2]

"""Receptive fields: the pixels from which a position of a feature map is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import (
    AVERAGE_POOLS,
    CONVOLUTIONS,
    CROPPINGS,
    ENLARGEMENTS,
    MAX_POOLS,
    PADDINGS,
    RECURRENT,
    TRANSPOSED,
    Call,
    runs_as_keras,
)
from convlens.engine.model.frames import Frames
from convlens.engine.model.network import Network
from convlens.engine.model.shapes import Shape
from convlens.engine.model.trace import Sized
from convlens.engine.runtime import backend

_POOLS = (*MAX_POOLS, *AVERAGE_POOLS)
_WINDOWED: tuple[type[Any], ...] = (*CONVOLUTIONS, *_POOLS)
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
Size = tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """A box of pixels: a span of a series, a rectangle of an image, a cuboid of a volume.

    Where a layer pads, the box may reach outside the image.

    Attributes:
        start: the first pixel along each side, (row, column) in an image.
        end: the pixel after the last along each side.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]


def receptive_field(
    model: keras.Model | Network,
    layer: str,
    position: tuple[int, ...],
    size: tuple[int, ...],
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
        position: the position in the layer's feature map, (row, column) in one of an image.
        size: size of the images along each side, (h, w).
        padded: include the padding, as if every map continued beyond its edges; the field then has
            the same size at all positions and may reach outside the image.

    Returns:
        The smallest box of pixels that contains the field.

    Raises:
        ValueError: an unknown layer.
    """
    network = Network.of(model)
    target = network.outputs[network.find(layer)]
    sizes = _map_sizes(network, layer, size)
    if len(target.shape) != len(size) + 2:
        return Box((0,) * len(size), tuple(size))
    fields: dict[int, _Field] = {id(target): _Field.at(position)}
    for call in reversed(network.calls(layer)):
        for source, field in _input_fields(call, fields, sizes):
            if not padded:
                field = field.within(sizes[id(source)] or size)
            known = fields.get(id(source))
            fields[id(source)] = field if known is None else known | field
    return fields[id(network.image)].box


@dataclass(frozen=True)
class Reach:
    """The receptive field of any position of a map, as if every map continued beyond its edges.

    Attributes:
        size: of the field in pixels along each side; the whole image's where an operation mixes all
            positions.
        stride: distance in pixels of the fields of neighboring positions along each side.
        start: first pixel of the first position's field along each side; negative where the field
            begins in the padding.
    """

    size: Size
    stride: tuple[float, ...]
    start: tuple[float, ...]


def reaches(network: Network, shapes: Mapping[int, Shape]) -> dict[int, Reach]:
    """Return the reach of each tensor, by its id, found in one pass over the network.

    The same operations are followed as in `receptive_field`.

    Args:
        network: the network.
        shapes: the shape of each tensor, by its id, for images of the size in question; see
            `Network.shapes`. Tensors without a shape are left out.
    """
    rank = len(network.input_shape) - 1
    whole = _positions(shapes[id(network.image)], rank) or (1,) * rank
    found = {id(network.image): Reach((1,) * rank, (1.0,) * rank, (0.0,) * rank)}
    sizes = {key: _positions(shape, rank) for key, shape in shapes.items()}
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
            if len(known) < len(parts) or not known:
                stride = _whole_stride(sizes[id(out)], whole)
                starts = zip(*(found[id(source)].start for source in below), strict=True)
                known.append(Reach(whole, stride, tuple(map(min, starts))))
            found[id(out)] = Reach(
                tuple(map(min, whole, map(max, zip(*(part.size for part in known), strict=True)))),
                tuple(map(max, zip(*(part.stride for part in known), strict=True))),
                tuple(map(min, zip(*(part.start for part in known), strict=True))),
            )
    return found


def _whole_stride(size: Size | None, image: Size) -> tuple[float, ...]:
    """Return the stride of a map whose positions all read the whole image."""
    if size is None:
        return (1.0,) * len(image)
    return tuple(whole / own for whole, own in zip(image, size, strict=True))


def _reach_through(
    call: Call,
    source: Any,
    out: Any,
    below: Reach,
    sizes: Mapping[int, Size | None],
) -> Reach | None:
    """Return the reach of a call's output through one input; None if it mixes all positions."""
    size, out_size = sizes[id(source)], sizes[id(out)]
    if size is None or out_size is None:
        return None
    corners = (0,) * len(out_size), tuple(side - 1 for side in out_size)
    first, last = (_input_field(call.op, _Field.at(corner), size) for corner in corners)
    if first is None or last is None:
        return below if out_size == size and _is_pointwise(call, source, len(size)) else None
    made = [
        _along(begin, end, n, m, field, stride)
        for begin, end, n, m, field, stride in zip(
            first.sides,
            last.sides,
            size,
            out_size,
            below.size,
            below.stride,
            strict=True,
        )
    ]
    starts = tuple(
        start + stride * float(begin.min(initial=0))
        for begin, start, stride in zip(first.sides, below.start, below.stride, strict=True)
    )
    return Reach(tuple(field for field, _ in made), tuple(stride for _, stride in made), starts)


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
    """Positions of a map: all crossings of some numbers along each side, such as rows and columns.

    Dilated kernels and wide strides leave gaps, so this is not always a box.
    """

    sides: tuple[Side, ...]

    @classmethod
    def at(cls, position: Sequence[int]) -> _Field:
        return cls(tuple(np.array([number]) for number in position))

    @classmethod
    def whole(cls, size: Size) -> _Field:
        return cls(tuple(np.arange(side) for side in size))

    def __or__(self, other: _Field) -> _Field:
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return _Field(tuple(map(np.union1d, self.sides, other.sides)))

    def within(self, size: Size) -> _Field:
        pairs = zip(self.sides, size, strict=True)
        return _Field(tuple(side[(side >= 0) & (side < n)] for side, n in pairs))

    @property
    def is_empty(self) -> bool:
        return not all(side.size for side in self.sides)

    @property
    def box(self) -> Box:
        if self.is_empty:  # only padding is read
            return Box((0,) * len(self.sides), (0,) * len(self.sides))
        return Box(
            tuple(int(side.min()) for side in self.sides),
            tuple(int(side.max()) + 1 for side in self.sides),
        )


def _input_fields(
    call: Call, fields: dict[int, _Field], sizes: dict[int, Size | None]
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
            if field is None and out_size == size and _is_pointwise(call, source, len(size)):
                field = fields[id(out)]
        if field is None:  # read whole, as a tensor without positions is
            rank = len(fields[id(out)].sides)
            field = _Field.whole(size or (1,) * rank)
        found.append((source, field))
    return found


def _is_gate(call: Call, source: Any, out: Any, sizes: Mapping[int, Size | None]) -> bool:
    """Return whether an input has one position and is combined with a map of the output's size."""
    out_size = sizes[id(out)]
    size = sizes[id(source)]
    if size is None or out_size is None or math.prod(size) > 1 or math.prod(out_size) == 1:
        return False
    return any(sizes[id(other)] == out_size for other in call.inputs)


def _input_field(op: Any, field: _Field, size: Size) -> _Field | None:
    """Return the input field of an operation of known geometry; None for other operations."""
    sides = field.sides
    if isinstance(op, Frames):
        inside = _input_field(op.op, _Field(sides[1:]), size[1:])
        return None if inside is None else _Field((sides[0], *inside.sides))
    if not isinstance(op, keras.Layer) or not runs_as_keras(op):
        return None  # a call of the user's own can move positions
    if getattr(op, "data_format", None) == "channels_first" or _rank(op) != len(sides):
        return None
    each = partial(_for_each, rank=len(sides))
    if isinstance(op, TRANSPOSED):
        extra = each(op.output_padding)
        steps = zip(sides, op.kernel_size, op.strides, op.dilation_rate, extra, strict=True)
        return _Field(
            tuple(_transposed_inputs(i, k, s, d, op.padding, e) for i, k, s, d, e in steps)
        )
    if isinstance(op, RECURRENT):
        return None  # each step reads what the steps before it read
    if isinstance(op, _WINDOWED):
        kernel = op.pool_size if isinstance(op, _POOLS) else op.kernel_size
        dilation = 1 if isinstance(op, _POOLS) else op.dilation_rate
        windows = zip(sides, each(kernel), each(op.strides), each(dilation), size, strict=True)
        return _Field(tuple(_window_inputs(i, k, s, d, n, op.padding) for i, k, s, d, n in windows))
    if isinstance(op, PADDINGS):
        return _Field(tuple(i - n for i, n in zip(sides, _firsts(op.padding), strict=True)))
    if isinstance(op, CROPPINGS):
        return _Field(tuple(i + n for i, n in zip(sides, _firsts(op.cropping), strict=True)))
    if isinstance(op, ENLARGEMENTS):
        reach = _INTERPOLATIONS.get(getattr(op, "interpolation", "nearest"))
        if reach is None:
            return None
        pairs = zip(sides, each(op.size), strict=True)
        return _Field(tuple(_interpolated_inputs(i, f, reach) for i, f in pairs))
    return None


def _rank(op: Any) -> int | None:
    """Return the number of sides of the maps that a layer of known geometry takes, else None."""
    families = (CONVOLUTIONS, _POOLS, PADDINGS, CROPPINGS, ENLARGEMENTS)
    kinds = [kind for family in families for kind in family if isinstance(op, kind)]
    return int(kinds[0].__name__.removesuffix("Transpose")[-2]) if kinds else None


def _for_each(value: Any, rank: int) -> tuple[Any, ...]:
    """Return a setting for each side, given one for all or a tuple."""
    return (value,) * rank if value is None or isinstance(value, int) else tuple(value)


def _firsts(edges: Any) -> tuple[int, ...]:
    """Return what is added or cut before each side, of (before, after) for one side or for each."""
    return (edges[0],) if isinstance(edges[0], int) else tuple(first for first, _ in edges)


def _window_inputs(
    outputs: Side, kernel: int, stride: int, dilation: int, size: int, padding: str
) -> Side:
    """Return the inputs that the windows of a convolution or pool cover."""
    reach = (kernel - 1) * dilation + 1
    before = 0
    if padding == "same":
        before = max((-(-size // stride) - 1) * stride + reach - size, 0) // 2
    elif padding == "causal":
        before = reach - 1
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


def _is_pointwise(call: Call, source: Any, rank: int) -> bool:
    """Return whether each position of a call's output depends only on that position of `source`."""
    if _is_known_pointwise(call.op):
        return True
    if isinstance(call.op, Sized):
        return False  # it arranges the batch anew
    draw = np.random.default_rng(0)
    values = {
        id(t): draw.random([1, *(s or _FREE_SIZE for s in t.shape[1:])], dtype=np.float32)
        for t in call.inputs
    }
    corner = (0, *(0 for _ in range(rank)))
    changed = dict(values)
    changed[id(source)] = values[id(source)].copy()
    changed[id(source)][corner] += draw.random(source.shape[1 + rank :], dtype=np.float32) + 0.5
    before, after = (_apply(call, v) for v in (values, changed))
    differs = np.abs(after - before).max(axis=(0, *range(1 + rank, after.ndim))) > 0
    differs[corner[1:]] = False
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


def _map_sizes(network: Network, layer: str, size: Size) -> dict[int, Size | None]:
    """Return the size of every tensor below a layer; None for tensors without positions.

    In a network of images a tensor (n, h, w) counts as a map of one channel, as in preprocessing
    that swaps colors.
    """
    calls = network.calls(layer)
    symbols = {id(t): t for call in calls for t in [*call.inputs, *call.outputs]}
    fixed = all(None not in t.shape[1:] for t in symbols.values())
    shapes = {key: tuple(t.shape) for key, t in symbols.items()}
    if not fixed:
        image = ops.zeros((1, *size, network.image.shape[-1]))
        values = network.run(image, list(symbols.values()))
        shapes = {key: tuple(v.shape) for key, v in zip(symbols, values, strict=True)}
    return {key: _positions(shape, len(size)) for key, shape in shapes.items()}


def _positions(shape: Sequence[int | None], rank: int) -> Size | None:
    """Return the size of a map of a shape (n, *size, c), with as many sides as `rank`.

    A shape without the axis of channels counts as a map of one channel; of one dimension, it is a
    vector.

    Returns:
        None for a tensor of another number of axes, or without a fixed size.
    """
    if len(shape) != rank + 2 and not (rank > 1 and len(shape) == rank + 1):
        return None
    size = shape[1 : rank + 1]
    return None if any(side is None for side in size) else tuple(side or 0 for side in size)

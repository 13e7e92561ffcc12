"""The deconvnet of Zeiler & Fergus 2014: project a unit's activation down to the pixels.

All other activations of the layer are set to zero. The signal then passes down: through a max-pool
to the position of the maximum for this image (its switch), through a ReLU as ReLU(signal), and
through a convolution by the transposed kernel, without the bias. In terms of derivatives this is
the vector-Jacobian product in which each ReLU's backward pass is ReLU(signal), whatever the sign of
its input. It is therefore defined for any graph of differentiable layers.

Other layers: ReLU6 rectifies the signal like ReLU, also where it saturated. Leaky ReLU, PReLU, ELU,
GELU, swish and the other smooth activations are not rectifiers: they multiply the signal by their
derivative at the recorded input. Batch normalization (in inference mode), average pools, additions
and concatenations are linear and apply their transpose. If two windows of overlapping pools have
the same switch, their signals are added; if two values of a window are equal, the first in
row-major order is the switch.

Two related methods are here too: 'guided' backpropagation (Springenberg et al. 2015) and the plain
'gradient' (Simonyan et al. 2013). They differ only in the ReLUs, and start from 1 instead of the
activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.network import INPUT, Network, Units
from convlens.engine.model.rectify import METHODS, Method
from convlens.engine.model.targets import output_of, tensor_of
from convlens.engine.runtime import backend

Position = Literal["strongest", "map"] | tuple[int, ...]
Place = Literal["strongest", "map", "given"]


@dataclass(frozen=True)
class Reconstruction:
    """Projections of activations down to the pixels.

    Attributes:
        images: (n, h, w, c) the reconstructions; they may have negative values.
        inputs: (n, h, w, c) the explained images.
        model: the model's name.
        layer: name of the projected layer.
        method: 'deconvnet', 'guided' or 'gradient'.
        units: (n,) the unit of each reconstruction.
        activations: (n,) the projected activation; for a whole map, its largest one.
        positions: (n, sides) position of that activation, (row, column) in a map of an image; 0 in
            a layer without positions.
        stages: the signal at each layer's output on its way down, by layer; the signal at 'input'
            is `images`. Without the option `stages`, only 'input'.
    """

    images: NDArray[np.float32]
    inputs: NDArray[np.float32]
    model: str
    layer: str
    method: Method
    units: NDArray[np.int64]
    activations: NDArray[np.float32]
    positions: NDArray[np.int64]
    stages: dict[str, NDArray[np.float32]]


def deconvolve(
    model: keras.Model | Network,
    images: ArrayLike,
    layer: str | None,
    units: Units = None,
    *,
    method: Method = "deconvnet",
    position: Position = "strongest",
    stages: bool = False,
    together: Sequence[str] = (),
    batch_size: int = 64,
) -> Reconstruction:
    """Project units' activations down to the pixels by the deconvnet.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        layer: name of the layer to project; None for the class scores before the softmax.
        units: one unit for each image, or one unit for all images; for a single image, any number
            of units, or None for all units of the layer.
        method: 'deconvnet' projects the activation; 'guided' backpropagation and the plain
            'gradient' start from 1, and so give derivatives of the activation.
        position: 'strongest' projects only the unit's largest activation, (row, column) only the
            activation at that position, 'map' the whole feature map.
        stages: also return the signal at every layer's output.
        together: layers, `layer` among them, that share one compiled function. It saves time where
            each of many layers is projected: compiling takes longer than a few projections.
        batch_size: number of pairs of image and unit in a batch.

    Returns:
        One reconstruction for each pair of image and unit; see `Reconstruction`.

    Raises:
        ValueError: an unknown layer or method, a unit or position out of range, images of a wrong
            shape, unequal numbers of images and units, `layer` not among `together`.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> deconvolve(load_mnist_cnn(), images[0], "conv2d_3", [3, 17]).images.shape
        (2, 28, 28, 1)
    """
    network = Network.of(model)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}")
    top = None if layer is not None else tensor_of(network, output_of(network, None))
    layer = output_of(network, layer)
    top = network.outputs[layer] if top is None else top
    given = np.asarray(images)
    x, chosen = _pair_units(
        network.check_batch(given),
        network.check_units(layer, units),
    )
    place, at = _place(network, layer, position)
    tapped = network.below(layer) if stages else []
    if top is not network.outputs[layer]:
        tapped = [name for name in tapped if name != layer]
    tops = [network.outputs[network.find(name)] for name in together] or [top]
    if not any(each is top for each in tops):
        raise ValueError(f"layer {layer!r} must be one of together={list(together)}")
    which = ops.convert_to_tensor(next(i for i, t in enumerate(tops) if t is top), "int32")

    def build() -> Callable[..., Any]:
        return lambda x, units, at, which, taps: _project_units(
            network, tops, method, place, x, units, at, which, taps
        )

    key = ("deconvolve", tuple(map(id, tops)), method, place, tuple(tapped))
    down = network.compiled(key, build)
    parts = []
    for first in range(0, len(x), batch_size):
        batch = ops.convert_to_tensor(x[first : first + batch_size])
        units_of = ops.convert_to_tensor(chosen[first : first + batch_size].astype(np.int32))
        taps = _zero_taps(network, tapped, batch.shape)
        parts.append(down(batch, units_of, ops.convert_to_tensor(at, "int32"), which, taps))
    activations, where, signals = (list(column) for column in zip(*parts, strict=True))
    collected = _concatenate(signals)
    return Reconstruction(
        images=collected[INPUT],
        inputs=x,
        model=network.name,
        layer=layer,
        method=method,
        units=chosen,
        activations=np.concatenate([backend.to_numpy(a) for a in activations]),
        positions=np.concatenate([ops.convert_to_numpy(w) for w in where])[
            :, : len(network.positions(layer))
        ].astype(np.int64),
        stages=collected,
    )


def project(
    model: keras.Model | Network, images: ArrayLike, layer: str, signal: ArrayLike
) -> dict[str, NDArray[np.float32]]:
    """Project any signal at a layer's output down to the pixels by the deconvnet.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) the images that determine the switches.
        layer: name of the layer at which the signal starts.
        signal: the signal, shaped like the layer's output for these images.

    Returns:
        The signal at each layer's output on its way down, by layer, and at 'input'.

    Raises:
        ValueError: an unknown layer, images or a signal of a wrong shape.
    """
    network = Network.of(model)
    layer = network.find(layer)
    x = ops.convert_to_tensor(network.check_images(images))
    cotangent = np.asarray(signal, dtype=np.float32)
    tapped = network.below(layer)
    taps = _zero_taps(network, tapped, x.shape)
    want = tuple(taps[layer].shape)
    if cotangent.shape != want:
        raise ValueError(
            f"the signal at {network.name} layer {layer!r} must have shape {want}, "
            f"not {cotangent.shape}"
        )

    def build() -> Callable[..., Any]:
        top = network.outputs[layer]
        return lambda x, cotangent, taps: _project_signals(
            network, [top], "deconvnet", x, taps, lambda _: [cotangent]
        )

    down = network.compiled(("project", layer), build)
    return _concatenate([down(x, ops.convert_to_tensor(cotangent), taps)])


def _project_signals(
    network: Network,
    tops: list[Any],
    method: Method,
    x: Any,
    taps: dict[str, Any],
    choose: Callable[[list[Any]], list[Any]],
) -> dict[str, Any]:
    """Return the signals by layer that `choose(maps)` causes, from the maps at the symbols `tops`.

    `choose` returns a signal at each of the tops; the projections of all of them are added up.
    """
    names = list(taps)

    def forward(values: list[Any]) -> list[Any]:
        tapped = dict(zip(names, values[1:], strict=True))
        return network.run(values[0], tops, method=method, taps=tapped)

    maps, pullback = backend.vjp(forward, [x, *(taps[name] for name in names)])
    chosen = [ops.cast(s, m.dtype) for s, m in zip(choose(maps), maps, strict=True)]
    return dict(zip([INPUT, *names], pullback(chosen), strict=True))


def _project_units(
    network: Network,
    tops: list[Any],
    method: Method,
    place: Place,
    x: Any,
    units: Any,
    at: Any,
    which: Any,
    taps: dict[str, Any],
) -> tuple[Any, Any, dict[str, Any]]:
    """Return the activation and position of each pair, and the signals.

    The number `which` says at which of the tops the units are. A position has as many numbers as
    any of the tops has sides, with zeros last.
    """
    found: list[Any] = []
    sides = max(len(network.input_shape) - 1, *(len(top.shape) - 2 for top in tops))

    def choose(maps: list[Any]) -> list[Any]:
        each = [_choose_unit(m, method, place, units, at, sides) for m in maps]
        chosen = [ops.equal(which, i) for i in range(len(maps))]
        for results in zip(*(results for _, *results in each), strict=True):
            # By where, as 0 times infinity is NaN.
            found.append(
                sum(
                    ops.where(c, r, ops.zeros_like(r)) for c, r in zip(chosen, results, strict=True)
                )
            )
        return [
            ops.where(c, signal, ops.zeros_like(signal))
            for c, (signal, *_) in zip(chosen, each, strict=True)
        ]

    signals = _project_signals(network, tops, method, x, taps, choose)
    return found[0], found[1], signals


def _choose_unit(
    maps: Any, method: Method, place: Place, units: Any, at: Any, sides: int
) -> tuple[Any, Any, Any]:
    """Return the signal of each pair's unit, the activation there, and its position (n, sides)."""
    shape = ops.shape(maps)
    n, channels = shape[0], maps.shape[-1]
    flat = ops.reshape(maps, (n, -1, channels))
    channel = ops.one_hot(units, channels, dtype=flat.dtype)[:, None, :]
    of_unit = ops.sum(flat * channel, axis=-1)  # (n, positions)
    if place == "given":
        best = ops.zeros_like(units) + at
    else:
        best = ops.cast(ops.argmax(of_unit, axis=-1), "int32")
    alone = ops.one_hot(best, of_unit.shape[-1] or ops.shape(of_unit)[-1], dtype=flat.dtype)
    mask = channel if place == "map" else channel * alone[:, :, None]
    sent = flat if method == "deconvnet" else ops.ones_like(flat)
    activation = ops.sum(of_unit * alone, axis=-1)
    numbers, rest = [ops.zeros_like(best)] * (sides - len(shape[1:-1])), best
    for side in reversed(shape[1:-1]):
        numbers.insert(0, rest % side)
        rest = rest // side
    return ops.reshape(sent * mask, shape), activation, ops.stack(numbers, axis=-1)


def _zero_taps(network: Network, tapped: list[str], shape: Any) -> dict[str, Any]:
    """Return zeros shaped like each tapped layer's output for a batch of `shape`."""
    if not tapped:
        return {}
    symbols = [network.outputs[name] for name in tapped]
    if any(s is None for symbol in symbols for s in symbol.shape[1:]):
        values = network.run(ops.zeros(shape), symbols)
        return {n: ops.zeros_like(v) for n, v in zip(tapped, values, strict=True)}
    return {
        name: ops.zeros((shape[0], *symbol.shape[1:]), dtype=symbol.dtype)
        for name, symbol in zip(tapped, symbols, strict=True)
    }


def _pair_units(
    x: NDArray[np.float32], units: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(x) == len(units):
        return x, units
    if len(units) == 1:
        return x, np.repeat(units, len(x))
    if len(x) == 1:
        return np.repeat(x, len(units), axis=0), units
    raise ValueError(
        f"{len(x)} images and {len(units)} units cannot be paired: "
        "give one unit for each image, one unit, or one image"
    )


def _place(network: Network, layer: str, position: Position) -> tuple[Place, int]:
    """Return the place to project, and its index among the map's positions where it is given."""
    if position == "strongest" or position == "map":
        return position, 0
    if isinstance(position, str):
        raise ValueError(f"position must be 'strongest', 'map' or (row, column), not {position!r}")
    network.check_position(layer, position)
    return "given", int(
        np.ravel_multi_index(position, [side or 0 for side in network.positions(layer)])
    )


def _concatenate(parts: list[dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    return {
        name: np.concatenate([backend.to_numpy(part[name]) for part in parts]).astype(np.float32)
        for name in parts[0]
    }

"""The deconvnet of Zeiler & Fergus 2014: what in the image excited a unit.

From one activation of a layer, all others set to zero, the signal goes down to the pixels: through
a max-pool to the position that held the maximum for this image (its switch), through a ReLU by
ReLU(signal), through a convolution by the transposed kernel, without the bias. As derivatives that
is the vector-Jacobian product in which each ReLU's backward pass is ReLU(signal), whatever the sign
of its input; so it holds for any graph of differentiable layers.

What the other layers do on the way down: ReLU6 rectifies as ReLU does, also where it saturated.
Leaky ReLU, PReLU, ELU, GELU, swish and the other smooth activations are not rectifiers: they pass
the signal times their derivative at the recorded input. Batch normalization (in inference mode),
average pools, additions and concatenations are linear, and pass it through their transpose. Where
pools overlap and two windows chose one position, their signals add up; where two values of a window
are equal, the first in row-major order is the switch.

Two methods that differ from it in the ReLUs alone, and start from 1 in place of the activation, are
here too: 'guided' backpropagation (Springenberg et al. 2015) and the plain 'gradient' (Simonyan et
al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable
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

Position = Literal["strongest", "map"] | tuple[int, int]


@dataclass(frozen=True)
class Reconstruction:
    """Projections of activations down to the pixels.

    Attributes:
        images: (n, h, w, c) the reconstructions; they may be negative.
        inputs: (n, h, w, c) the images that they explain.
        model: the model's name.
        layer: the layer whose activations were projected.
        method: 'deconvnet', 'guided' or 'gradient'.
        units: (n,) the unit of each reconstruction.
        activations: (n,) the projected activation; for a whole map, its largest.
        positions: (n, 2) row and column of that activation, 0 where a layer has no positions.
        stages: the signal that arrived at each layer's output on the way down, by layer, and at
            'input', which is `images`; only 'input' unless stages were asked for.
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
    batch_size: int = 64,
) -> Reconstruction:
    """Project units' activations down to the pixels by the deconvnet.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        layer: the layer whose activations are examined; None for the classes' scores before the
            softmax.
        units: one for each image, or one for all of them; with one image, any number of units of
            it; None for all the layer's units of one image.
        method: 'deconvnet' sends the activation down; 'guided' backpropagation and the plain
            'gradient' send down 1, and so give derivatives of the activation.
        position: 'strongest' keeps the unit's largest activation alone, (row, column) the one
            there, 'map' the whole feature map.
        stages: also return the signal at every layer's output on the way down.
        batch_size: how many pairs of image and unit are projected at a time.

    Returns:
        One reconstruction for each pair of image and unit; see `Reconstruction`.

    Raises:
        ValueError: an unknown layer or method, a unit or position out of range, images of a wrong
            shape, numbers of images and units that do not pair up.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> deconvolve(load_mnist_cnn(), images[0], "conv2d_3", [3, 17]).images.shape
        (2, 28, 28, 1)
    """
    network = Network.of(model)
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(map(repr, METHODS))}, not {method!r}")
    top = None if layer is not None else tensor_of(network, output_of(network, None))
    layer = output_of(network, layer)
    top = network.outputs[layer] if top is None else top
    given = np.asarray(images)
    x, chosen = _pair(
        network.check_images(given[None] if given.ndim == 3 else given),
        network.check_units(layer, units),
    )
    place = _place(network, layer, position)
    tapped = network.below(layer) if stages else []
    if top is not network.outputs[layer]:
        tapped = [name for name in tapped if name != layer]

    def build() -> Callable[..., Any]:
        return lambda x, units, taps: _examine(network, top, method, place, x, units, taps)

    key = ("deconvolve", id(top), method, place, tuple(tapped))
    down = network.compiled(key, build)
    parts = []
    for first in range(0, len(x), batch_size):
        batch = ops.convert_to_tensor(x[first : first + batch_size])
        units_of = ops.convert_to_tensor(chosen[first : first + batch_size].astype(np.int32))
        parts.append(down(batch, units_of, _zeros(network, tapped, batch.shape)))
    activations, where, signals = (list(column) for column in zip(*parts, strict=True))
    collected = _collect(signals)
    return Reconstruction(
        images=collected[INPUT],
        inputs=x,
        model=network.name,
        layer=layer,
        method=method,
        units=chosen,
        activations=np.concatenate([ops.convert_to_numpy(a) for a in activations]),
        positions=np.concatenate([ops.convert_to_numpy(w) for w in where]).astype(np.int64),
        stages=collected,
    )


def project(
    model: keras.Model | Network, images: ArrayLike, layer: str, signal: ArrayLike
) -> dict[str, NDArray[np.float32]]:
    """Send any signal at a layer's output down the deconvnet.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c), which set the switches.
        layer: where the signal starts.
        signal: shaped like the layer's output for these images.

    Returns:
        The signal at each layer's output on the way down, by layer, and at 'input'.

    Raises:
        ValueError: an unknown layer, images or a signal of a wrong shape.
    """
    network = Network.of(model)
    layer = network.find(layer)
    x = ops.convert_to_tensor(network.check_images(images))
    cotangent = np.asarray(signal, dtype=np.float32)
    tapped = network.below(layer)
    taps = _zeros(network, tapped, x.shape)
    want = tuple(taps[layer].shape)
    if cotangent.shape != want:
        raise ValueError(
            f"the signal at {network.name} layer {layer!r} has shape {want}, not {cotangent.shape}"
        )

    def build() -> Callable[..., Any]:
        top = network.outputs[layer]
        return lambda x, cotangent, taps: _pull(
            network, top, "deconvnet", x, taps, lambda _: cotangent
        )[1]

    down = network.compiled(("project", layer), build)
    return _collect([down(x, ops.convert_to_tensor(cotangent), taps)])


def _pull(
    network: Network,
    top: Any,
    method: Method,
    x: Any,
    taps: dict[str, Any],
    choose: Callable[[Any], Any],
) -> tuple[Any, dict[str, Any]]:
    """Return the maps at the symbol `top`, and what `choose(maps)` sends down, by layer."""
    names = list(taps)

    def forward(values: list[Any]) -> Any:
        tapped = dict(zip(names, values[1:], strict=True))
        return network.run(values[0], [top], method=method, taps=tapped)[0]

    maps, pullback = backend.vjp(forward, [x, *(taps[name] for name in names)])
    signals = pullback(ops.cast(choose(maps), maps.dtype))
    return maps, dict(zip([INPUT, *names], signals, strict=True))


def _examine(
    network: Network,
    top: Any,
    method: Method,
    place: Literal["strongest", "map"] | int,
    x: Any,
    units: Any,
    taps: dict[str, Any],
) -> tuple[Any, Any, dict[str, Any]]:
    """Return each pair's activation, its position (row, column), and the signals."""
    found: list[Any] = []

    def choose(maps: Any) -> Any:
        shape = ops.shape(maps)
        n, channels = shape[0], maps.shape[-1]
        width = maps.shape[2] if len(maps.shape) == 4 else 1
        flat = ops.reshape(maps, (n, -1, channels))
        channel = ops.one_hot(units, channels, dtype=flat.dtype)[:, None, :]
        of_unit = ops.sum(flat * channel, axis=-1)  # (n, positions)
        if isinstance(place, int):
            best = ops.full_like(units, place)
        else:
            best = ops.cast(ops.argmax(of_unit, axis=-1), "int32")
        at = ops.one_hot(best, of_unit.shape[-1] or ops.shape(of_unit)[-1], dtype=flat.dtype)
        found.append(ops.sum(of_unit * at, axis=-1))
        found.append(ops.stack([best // width, best % width], axis=-1))
        mask = channel if place == "map" else channel * at[:, :, None]
        sent = flat if method == "deconvnet" else ops.ones_like(flat)
        return ops.reshape(sent * mask, shape)

    _, signals = _pull(network, top, method, x, taps, choose)
    return found[0], found[1], signals


def _zeros(network: Network, tapped: list[str], shape: Any) -> dict[str, Any]:
    """Return a zero shaped like each tapped layer's output for a batch of `shape`."""
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


def _pair(
    x: NDArray[np.float32], units: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if len(x) == len(units):
        return x, units
    if len(units) == 1:
        return x, np.repeat(units, len(x))
    if len(x) == 1:
        return np.repeat(x, len(units), axis=0), units
    raise ValueError(
        f"{len(x)} images and {len(units)} units do not pair up: "
        "give one unit for each image, one unit, or one image"
    )


def _place(network: Network, layer: str, position: Position) -> Literal["strongest", "map"] | int:
    if position == "strongest" or position == "map":
        return position
    if isinstance(position, str):
        raise ValueError(f"position is 'strongest', 'map' or (row, column), not {position!r}")
    network.check_position(layer, position)
    width = network.outputs[layer].shape[2] if len(network.outputs[layer].shape) == 4 else 1
    return int(position[0]) * int(width) + int(position[1])


def _collect(parts: list[dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    return {
        name: np.concatenate([ops.convert_to_numpy(part[name]) for part in parts]).astype(
            np.float32
        )
        for name in parts[0]
    }

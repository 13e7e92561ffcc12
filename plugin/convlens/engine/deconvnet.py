"""The deconvnet of Zeiler & Fergus 2014: what in the image excited a unit.

From one activation of a layer, all others set to zero, the signal goes down to the pixels: through
a max-pool to the position that held the maximum for this image (its switch), through a ReLU by
ReLU(signal), through a convolution by the transposed kernel, without the bias. As derivatives that
is the vector-Jacobian product in which each ReLU's backward pass is ReLU(signal), whatever the sign
of its input; so it holds for any graph of differentiable layers.

What the other layers do on the way down: ReLU6 rectifies as ReLU does, also where it saturated.
Leaky ReLU, PReLU, ELU, GELU, swish and the other smooth activations are not rectifiers: they pass
the signal times their derivative at the recorded input. Batch normalisation (in inference mode),
average pools, additions and concatenations are linear, and pass it through their transpose. Where
pools overlap and two windows chose one position, their signals add up; where two values of a window
are equal, the first in row-major order is the switch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine import backend
from convlens.engine.network import INPUT, Network, Units

Position = Literal["strongest", "map"] | tuple[int, int]


@dataclass(frozen=True)
class Reconstruction:
    """Projections of activations down to the pixels.

    Attributes:
        images: (n, h, w, c) the reconstructions; they may be negative.
        inputs: (n, h, w, c) the images that they explain.
        model: the model's name.
        layer: the layer whose activations were projected.
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
    units: NDArray[np.int64]
    activations: NDArray[np.float32]
    positions: NDArray[np.int64]
    stages: dict[str, NDArray[np.float32]]


def deconvolve(
    model: keras.Model | Network,
    images: ArrayLike,
    layer: str,
    units: Units = None,
    *,
    position: Position = "strongest",
    stages: bool = False,
    batch_size: int = 64,
) -> Reconstruction:
    """Project units' activations down to the pixels by the deconvnet.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        layer: the layer whose activations are examined.
        units: one for each image, or one for all of them; with one image, any number of units of
            it; None for all the layer's units of one image.
        position: 'strongest' keeps the unit's largest activation alone, (row, column) the one
            there, 'map' the whole feature map.
        stages: also return the signal at every layer's output on the way down.
        batch_size: how many pairs of image and unit are projected at a time.

    Returns:
        One reconstruction for each pair of image and unit; see `Reconstruction`.

    Raises:
        ValueError: an unknown layer, a unit or position out of range, images of a wrong shape,
            numbers of images and units that do not pair up.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> deconvolve(load_mnist_cnn(), images[0], "conv2d_3", [3, 17]).images.shape
        (2, 28, 28, 1)
    """
    network = Network.of(model)
    layer = network.find(layer)
    given = np.asarray(images)
    x, chosen = _pair(
        network.check_images(given[None] if given.ndim == 3 else given),
        network.check_units(layer, units),
    )
    place = _place(network, layer, position)
    tapped = network.below(layer) if stages else []

    def build() -> Callable[..., Any]:
        return lambda x, units, taps: _examine(network, layer, place, x, units, taps)

    key = ("deconvolve", layer, place, tuple(tapped))
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
        return lambda x, cotangent, taps: _pull(network, layer, x, taps, lambda _: cotangent)[1]

    down = network.compiled(("project", layer), build)
    return _collect([down(x, ops.convert_to_tensor(cotangent), taps)])


def _pull(
    network: Network, layer: str, x: Any, taps: dict[str, Any], choose: Callable[[Any], Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the layer's maps, and the signals that `choose(maps)` sends down, by layer."""
    names = list(taps)

    def forward(values: list[Any]) -> Any:
        tapped = dict(zip(names, values[1:], strict=True))
        return network.run(values[0], [network.outputs[layer]], rectify=True, taps=tapped)[0]

    maps, pullback = backend.vjp(forward, [x, *(taps[name] for name in names)])
    signals = pullback(ops.cast(choose(maps), maps.dtype))
    return maps, dict(zip([INPUT, *names], signals, strict=True))


def _examine(
    network: Network,
    layer: str,
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
        keep = flat * channel if place == "map" else flat * channel * at[:, :, None]
        return ops.reshape(keep, shape)

    _, signals = _pull(network, layer, x, taps, choose)
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
    shape = network.outputs[layer].shape
    if not (isinstance(position, tuple) and len(position) == 2):
        raise ValueError(f"position is 'strongest', 'map' or (row, column), not {position!r}")
    h, w = (shape[1], shape[2]) if len(shape) == 4 else (1, 1)
    row, column = position
    if h is None or w is None:
        raise ValueError(f"layer {layer!r} has no fixed size: position is 'strongest' or 'map'")
    if not (0 <= row < h and 0 <= column < w):
        raise ValueError(f"position {position} is outside layer {layer!r}, which is {h}×{w}")
    return int(row) * int(w) + int(column)


def _collect(parts: list[dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    return {
        name: np.concatenate([ops.convert_to_numpy(part[name]) for part in parts]).astype(
            np.float32
        )
        for name in parts[0]
    }

"""Sketches of activations: statistics, random projections and samples of each channel.

Sketches are computed in the same compiled call as the forward pass, so that no whole feature map
leaves the device. Random projections approximately preserve lengths and angles (Johnson &
Lindenstrauss 1984), so the maps of two runs can be compared by their sketches, channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.flatten import CROPPINGS, PADDINGS
from convlens.engine.model.network import INPUT, Network
from convlens.engine.model.rounding import Coarse
from convlens.engine.runtime import backend
from convlens.engine.runtime.batches import batch_within, equal_batches

PROJECTIONS = 8
GRAM_PROJECTIONS = 4
MAX_CHANNELS = 4096
MAX_SAMPLES = 4096
SAMPLED_POSITIONS = 4
GRAM_POSITIONS = 256
# Maps of the first image that are kept for pictures: of single channels, and mixed of all.
SHOWN_CHANNELS = 32
MIXED_MAPS = 8
SHOWN_SIDE = 48
# Bytes of all maps that are read of a batch. Few of them are in memory at a time.
_BUDGET = 2**29
# As many values of each output are kept as they are.
MAX_RESULTS = 2**17
# Layers that only pass or rearrange values at inference. A subclass may do more.
_MOVERS = (
    *(keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.Identity),
    *(*PADDINGS, *CROPPINGS, keras.layers.RepeatVector),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
    *(keras.layers.Dropout, keras.layers.GaussianNoise),
    *(keras.layers.GaussianDropout, keras.layers.AlphaDropout),
)


@dataclass(frozen=True)
class LayerSketch:
    """One layer's activations over images, summarized.

    Attributes:
        kind: the layer's type, such as 'Conv2D'.
        shape: shape of one image's activations, such as (h, w, c).
        dtype: data type of the activations.
        mean, rms, high: (c,) each channel's mean, root mean square and largest value.
        projection: (k, c) each channel's maps, summed with random signs; a column's length divided
            by √k approximates the channel's rms.
        samples: (s,) activations at random images, positions and channels, drawn from the seed.
        gram: (c, g) the Gram matrix F·Fᵀ over a grid of positions, divided by their number,
            averaged over the images and multiplied by random signs.
        shown: (m, h, w) some of the first image's feature maps, subsampled: a series as one row, a
            volume as its slice in the middle; None in a layer without positions.
        channels: (m,) their channels, evenly spread; empty if they are the first ones.
        mixed: (k, h, w) sums of all of the first image's feature maps, each with its own weights;
            see `mixing`. Where few channels changed, their maps can be told from these. None in a
            layer without positions, or of more than `MAX_CHANNELS` channels.

    A layer of more than `MAX_CHANNELS` channels is summarized by as many signed sums of channels.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    mean: NDArray[np.float32]
    rms: NDArray[np.float32]
    high: NDArray[np.float32]
    projection: NDArray[np.float32]
    samples: NDArray[np.float32]
    gram: NDArray[np.float32]
    shown: NDArray[np.float32] | None
    channels: tuple[int, ...] = ()
    mixed: NDArray[np.float32] | None = None


# The sketch of 'input' and of each layer, and each of the model's outputs for the first images.
Sketches = tuple[dict[str, LayerSketch], dict[str, NDArray[np.float32]]]


def sketched_layers(network: Network) -> tuple[str, ...]:
    """Return the names of the layers to sketch, in the graph's order: all that compute values."""
    outputs = network.output_tensors
    chosen = [
        name
        for name, layer in network.layers.items()
        if type(layer) not in _MOVERS or name in outputs
    ]
    return tuple(chosen)


def compared_entries(network: Network) -> tuple[str, ...]:
    """Return the names of all that a comparison judges: the images, layers and other outputs."""
    return tuple(dict.fromkeys([INPUT, *sketched_layers(network), *network.output_tensors]))


def sketch_layers(
    network: Network,
    images: ArrayLike,
    *,
    seed: int = 0,
    bits: int | None = None,
    scale: float = 1.0,
) -> Sketches:
    """Return sketches of the images and of each layer's activations, and the model's outputs.

    All that is drawn is drawn by shape and never by name, as Keras numbers layers anew for each
    model.

    Args:
        network: the network.
        images: (n, h, w, c) in the model's own range.
        seed: seed of the projections and of the sampled positions.
        bits: number of bits that the factors of all products are rounded to, to simulate a coarser
            machine; None to run as usual.
        scale: scale at which they are rounded; see `Coarse`.

    Returns:
        The sketch of 'input' and of each layer, by name, in the graph's order (that of an output
        layer before its activation); and each of the model's outputs (m, …) for the first images.

    Raises:
        ValueError: images of a wrong shape, or with values that are not finite.
    """
    x = network.check_images(images)
    sketching = Sketching(network, seed)
    maps, results = sketching.maps, sketching.results

    # What is compiled is kept, so it may not hold what is gathered.
    def build() -> Callable[..., Any]:
        def summarize(batch: Any, scale: Any) -> Any:
            coarse = None if bits is None else Coarse(bits, scale)
            values = network.run(batch, [*maps, *results], coarse=coarse)
            return [summarize_maps(v, seed) for v in values[: len(maps)]], values[len(maps) :]

        return summarize

    run = network.compiled(("sketch", seed, bits), build)
    for batch, new in equal_batches(x, batch_within(_BUDGET, [*maps, *results], x)):
        summaries, outputs = run(
            ops.convert_to_tensor(batch), ops.convert_to_tensor(np.float32(scale))
        )
        sketching.add(summaries, outputs, new)
    return sketching.sketches()


class Sketching:
    """The sketches of all layers, in the making.

    Attributes:
        maps: the symbolic tensors that are sketched.
        results: the symbolic tensors of the model's outputs.
    """

    def __init__(self, network: Network, seed: int) -> None:
        sketched = {name: _value_of(network, name) for name in sketched_layers(network)}
        symbols = {INPUT: network.image, **sketched}
        self.maps = list(symbols.values())
        self.results = list(network.output_tensors.values())
        self._seed = seed
        self._kinds = {
            name: type(network.layers[name]).__name__ if name in sketched else "Input"
            for name in symbols
        }
        self._parts: dict[str, list[_Summary]] = {name: [] for name in symbols}
        self._outputs: dict[str, list[NDArray[np.float32]]] = {
            name: [] for name in network.output_tensors
        }

    def add(self, summaries: list[_Summary], results: list[Any], new: int) -> None:
        """Add a batch of which the first `new` images count.

        Args:
            summaries: the results of `summarize_maps` for each of `maps`.
            results: the values of `results`.
            new: number of images.
        """
        for kept, result in zip(self._outputs.values(), results, strict=True):
            size = max(1, math.prod(result.shape[1:]))
            left = max(1, MAX_RESULTS // size) - sum(map(len, kept))
            if left > 0:
                # Not a part of what may be a large array.
                kept.append(backend.to_numpy(result)[: min(new, left)].astype(np.float32))
        for part, summary in zip(self._parts.values(), summaries, strict=True):
            wanted = {k: v for k, v in summary.items() if k not in _OF_FIRST or not part}
            part.append({k: ops.convert_to_numpy(v)[:new] for k, v in wanted.items()})

    def sketches(self) -> Sketches:
        """Return what `sketch_layers` returns."""
        layers = {
            name: _join_summaries(self._kinds[name], part, str(symbol.dtype), self._seed)
            for (name, part), symbol in zip(self._parts.items(), self.maps, strict=True)
        }
        return layers, {name: np.concatenate(kept) for name, kept in self._outputs.items()}


def _value_of(network: Network, layer: str) -> Any:
    """Return the symbolic tensor to sketch for a layer.

    This is its output; for an output layer of the model the pre-activation, because a saturated
    softmax hides changes.
    """
    if layer in network.output_tensors:
        return network.preactivations.get(layer, network.outputs[layer])
    return network.outputs[layer]


_Summary = dict[str, Any]
# Parts of a summary that are of the first image alone.
_OF_FIRST = ("shown", "mixed")


def first_maps(network: Network, image: NDArray[np.float32], layer: str) -> NDArray[np.float32]:
    """Return all feature maps (c, h, w) of a layer for one image, subsampled as in its sketch.

    Args:
        network: the network.
        image: (h, w, c).
        layer: 'input' or the name of a sketched layer with positions.
    """
    symbol = network.image if layer == INPUT else _value_of(network, layer)

    def maps(x: Any) -> Any:
        return _subsampled(network.run(x, [symbol])[0])

    found = network.once(maps, ops.convert_to_tensor(image[None]))
    return backend.to_numpy(found)[0].astype(np.float32).transpose(2, 0, 1)


def mixing(channels: int, seed: int) -> NDArray[np.float32]:
    """Return the weights (k, channels) between -1 and 1 of the maps in each mixed map."""
    drawn = _generator("mixed", seed).integers(0, 2**16, (MIXED_MAPS, channels))
    return ((drawn + 0.5) / 2**15 - 1).astype(np.float32)


def _subsampled(x: Any) -> Any:
    """Return the first image's maps (1, h, w, c) with sides of at most `SHOWN_SIDE`.

    Those of a series are one row, and those of a volume its slice in the middle.
    """
    x = x[:1]
    if len(x.shape) == 3:
        x = x[:, None]
    while len(x.shape) > 4:
        x = x[:, x.shape[1] // 2]
    step = max(1, math.ceil(max(x.shape[1:3]) / SHOWN_SIDE))
    return ops.cast(x[:1, ::step, ::step], "float32")


def summarize_maps(x: Any, seed: int) -> _Summary:
    """Return the summary of a batch of activations (n, …, c), with the images as first axis."""
    shape, c = tuple(x.shape), int(x.shape[-1])
    p = int(np.prod(shape[1:-1]))
    flat = ops.cast(ops.reshape(x, (-1, p, c)), "float32")
    if c > MAX_CHANNELS:
        flat = _folded(flat, seed)
    grid = ops.take(flat, _evenly_spaced(p, GRAM_POSITIONS), axis=1)
    signs = _random_signs("gram", (flat.shape[-1], GRAM_PROJECTIONS), seed)
    summary = {
        "projection": ops.matmul(_position_signs(p, seed), flat),
        "square": ops.mean(flat * flat, axis=1),
        "high": ops.max(flat, axis=1),
        "samples": ops.take(
            flat, _sample_numbers(f"position {p}", p, SAMPLED_POSITIONS, seed), axis=1
        ),
        "gram": ops.matmul(ops.transpose(grid, (0, 2, 1)), ops.matmul(grid, signs)) / grid.shape[1],
        "shape": ops.convert_to_tensor(np.array([shape[1:]], np.int32)),
    }
    if len(shape) > 2:
        maps = _subsampled(x)
        summary["shown"] = ops.take(maps, _evenly_spaced(c, SHOWN_CHANNELS), axis=-1)
        if c <= MAX_CHANNELS:
            summary["mixed"] = ops.matmul(maps, mixing(c, seed).T)
    return summary


def _folded(flat: Any, seed: int) -> Any:
    """Return (n, p, MAX_CHANNELS) signed sums of activations (n, p, c) of many channels."""
    p, c = flat.shape[1:]
    groups = math.ceil(c / MAX_CHANNELS)
    padded = ops.pad(flat, ((0, 0), (0, 0), (0, groups * MAX_CHANNELS - c)))
    signs = _random_signs("channels", (groups, MAX_CHANNELS), seed)
    return ops.sum(ops.reshape(padded, (-1, p, groups, MAX_CHANNELS)) * signs, axis=2)


def _join_summaries(kind: str, parts: list[_Summary], dtype: str, seed: int) -> LayerSketch:
    """Return a layer's sketch from the summaries of its batches."""
    first = parts[0]
    rows = np.concatenate([part["projection"] for part in parts]).astype(np.float64)
    n = len(rows)
    signs = _random_signs("images", (n, PROJECTIONS), seed)
    samples = np.concatenate([part["samples"] for part in parts])
    kept = _sample_numbers("samples", samples.size, MAX_SAMPLES, seed)
    return LayerSketch(
        kind=kind,
        shape=tuple(int(s) for s in first["shape"][0]),
        dtype=dtype,
        mean=rows[:, 0].mean(axis=0).astype(np.float32),
        rms=np.sqrt(_mean([part["square"] for part in parts])).astype(np.float32),
        high=np.concatenate([part["high"] for part in parts]).max(axis=0),
        projection=(np.einsum("nkc,nk->kc", rows[:, 1:], signs) / math.sqrt(n)).astype(np.float32),
        samples=samples.reshape(-1)[kept],
        gram=_mean([part["gram"] for part in parts]).astype(np.float32),
        shown=first["shown"][0].transpose(2, 0, 1) if "shown" in first else None,
        channels=_shown_channels(first),
        mixed=first["mixed"][0].transpose(2, 0, 1) if "mixed" in first else None,
    )


def _shown_channels(first: _Summary) -> tuple[int, ...]:
    if "shown" not in first:
        return ()
    return tuple(_evenly_spaced(int(first["shape"][0][-1]), SHOWN_CHANNELS).tolist())


def _mean(parts: list[NDArray[Any]]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.concatenate(parts).astype(np.float64).mean(axis=0)
    return mean


def _position_signs(positions: int, seed: int) -> NDArray[np.float32]:
    """Return (1 + k, p): a row that computes the mean, and k rows of random signs over √p."""
    signs = _random_signs(f"positions {positions}", (PROJECTIONS, positions), seed)
    mean = np.full((1, positions), 1 / positions, np.float32)
    return np.concatenate([mean, signs / np.float32(math.sqrt(positions))])


def _random_signs(purpose: str, shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Return random signs; a longer array begins with the signs of a shorter one."""
    draws = _generator(purpose, seed).integers(0, 2, shape)
    return (2 * draws - 1).astype(np.float32)


def _sample_numbers(purpose: str, count: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Return at most `limit` different random numbers below `count`, sorted."""
    if count <= limit:
        return np.arange(count)
    return np.sort(_generator(f"{purpose} of {count}", seed).choice(count, limit, replace=False))


def _evenly_spaced(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` evenly spaced numbers below `count`."""
    return np.arange(count) if count <= limit else np.linspace(0, count - 1, limit).astype(np.int64)


def _generator(purpose: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *purpose.encode()])

"""Record of a network for a baseline: a sketch of each layer, predictions and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.baselines import provenance
from convlens.baselines.compact import choose_detail, compact_output, compacted, pack, unpack
from convlens.baselines.fingerprint import fingerprint, rounded
from convlens.baselines.provenance import Provenance, Weights
from convlens.baselines.store import Name
from convlens.engine.features.sketch import LayerSketch, Sketches, sketch_layers
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime.tolerance import Rounding
from convlens.pictures import grid

# Seed of the random projections; records with different seeds cannot be compared.
SEED = 0
_DESCRIBED = ("kind", "shape", "dtype", "shown")
_ARRAYS = [f.name for f in fields(LayerSketch) if f.name not in _DESCRIBED]
# The images' rounding errors that a fingerprint ignores, relative to the images' size.
_IMAGE_ROUNDING = 1e-4


@dataclass(frozen=True)
class Rerun:
    """A network and the images of its record.

    Attributes:
        network: the network.
        images: (n, h, w, c).
    """

    network: Network
    images: NDArray[np.float32]

    def __call__(
        self, bits: int, scale: float
    ) -> tuple[dict[str, LayerSketch], dict[str, NDArray[np.float32]]]:
        """Return the sketches and the outputs with the factors of products rounded."""
        return sketch_layers(self.network, self.images, seed=SEED, bits=bits, scale=scale)


@dataclass(frozen=True)
class Record:
    """Record of a network's outputs for given images.

    Attributes:
        layers: layer name → sketch, in graph order; the input is the layer 'input'.
        outputs: name → output (m, …) for the first m images, in the order of the model; an output
            has the name of the layer that returns it.
        source: provenance without the weights, as JSON: versions, device, settings, hash of the
            images, seed.
        weights: weights that are hashed when the provenance is first needed; None if the source
            includes them.
        rerun: run of the network on the same images with coarser products; None if the record was
            read from a file.
        output_shapes: output → its whole shape, where the record was read from a file that has
            a part of it.
    """

    layers: dict[str, LayerSketch]
    outputs: dict[str, NDArray[np.float32]]
    source: Provenance
    weights: Weights | None = field(default=None, repr=False, compare=False)
    rerun: Rerun | None = field(default=None, repr=False, compare=False)
    output_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def shape_of(self, output: str) -> tuple[int, ...]:
        """Return the shape that an output had before some of it was left out of a file."""
        return self.output_shapes.get(output, self.outputs[output].shape)

    def rounding(self, layer: str) -> Rounding:
        """Return the rounding behind a layer's output, on the machine that made the record."""
        precision, depth = self.source.get("rounding", {}).get(layer, ("float32", 0))
        return Rounding(str(precision), int(depth))

    @cached_property
    def provenance(self) -> Provenance:
        """The source and the hashes of the weights, as JSON.

        Hashing the weights of a large network takes a considerable part of a forward pass.
        Therefore it is done only for records that differ or are stored. It must be done before the
        weights change.
        """
        return self.source if self.weights is None else {**self.source, **self.weights.describe()}

    @property
    def predictions(self) -> NDArray[np.float32]:
        """The model's first output (m, …)."""
        return next(iter(self.outputs.values()))

    @property
    def subtitle(self) -> str:
        """A summary of the contents."""
        return f"{self.provenance['count']} images, weights {self.provenance['weights hash']}"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines the outputs: weights, settings, images and seed."""
        return self.fingerprint_like("")

    def fingerprint_like(self, other: str) -> str:
        """Return the fingerprint that equals `other` if the images differ by rounding alone.

        Layers count in their order, without their names. Weights are hashed to the last bit: they
        are read from a file, which is the same on every machine.
        """
        known = self.provenance
        facts = [list(known[name].values()) for name in ("weights", "settings")]
        facts += [[known[name] for name in ("count", "seed", "dtypes")]]
        images = self.layers[INPUT]
        numbers = [rounded(a, _IMAGE_ROUNDING) for a in (images.projection, images.rms)]
        return fingerprint(facts, numbers, other)


def record_network(
    network: Network,
    images: ArrayLike,
    *,
    hash_weights: bool = True,
    sketches: Sketches | None = None,
) -> Record:
    """Run a network on images once, and return a record to detect changes with.

    Args:
        network: the network.
        images: images (n, h, w, c) in the model's value range.
        hash_weights: True to hash the weights now; otherwise they are hashed when the provenance
            is first needed and must not change before.
        sketches: the sketches of the network on these images, with the seed `SEED`; None to make
            them.

    Raises:
        FloatingPointError: the output of a layer has NaN or infinity, which cannot be compared.
        ValueError: images of a wrong shape or with values that are not finite.
    """
    network.refresh()
    x = network.check_images(images)
    layers, outputs = sketches or sketch_layers(network, x, seed=SEED)
    for name, sketch in layers.items():
        finite = np.isfinite(np.vstack([sketch.projection, sketch.mean, sketch.rms, sketch.high]))
        if not finite.all():
            bad = int(np.flatnonzero(~finite.all(axis=0))[0])
            raise FloatingPointError(
                f"{network.name} layer {name!r} gives NaN or infinity in channel {bad}, which "
                "cannot be compared: find the faulty weights with assert_finite"
            )
    return Record(
        layers,
        outputs,
        {
            **provenance.of_network(network, SEED),
            **(Weights(network).describe() if hash_weights else {}),
            "images": provenance.hash_arrays([x]),
            "count": len(x),
            "rounding": {name: _rounding_of(network, name) for name in layers},
            "environment": provenance.environment(),
        },
        None if hash_weights else Weights(network),
        Rerun(network, x),
    )


def _rounding_of(network: Network, layer: str) -> list[Any]:
    found = network.rounding(layer)
    return [found.precision, found.depth]


def pictures(record: Record) -> dict[str, NDArray[np.uint8]]:
    """Return layer → its first feature maps for the first image, side by side."""
    shown = {name: sketch.shown for name, sketch in record.layers.items()}
    return {name: show(maps, maps) for name, maps in shown.items() if maps is not None}


def show(maps: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return feature maps (m, h, w) side by side; black and white are the limits of `scale`."""
    low, high = float(scale.min()), float(scale.max())
    levels = np.clip((maps - low) / (high - low or 1.0), 0, 1) * 255
    return grid(np.round(levels).astype(np.uint8), columns=4)


def to_arrays(record: Record) -> tuple[dict[Name, NDArray[Any]], dict[str, Any]]:
    """Return a record as arrays and JSON, in less detail where the network is large.

    Each array has the numbers of all layers, one after the other, as an array for each layer would
    take more room for its name than for its numbers. Feature maps have 256 levels.
    """
    detail = choose_detail(record.layers.values())
    layers = {name: compacted(sketch, detail) for name, sketch in record.layers.items()}
    outputs = {name: compact_output(output) for name, output in record.outputs.items()}
    arrays: dict[Name, NDArray[Any]] = {
        field: pack(getattr(sketch, field) for sketch in layers.values()) for field in _ARRAYS
    }
    arrays["outputs"] = pack(outputs.values())
    described, maps = [], [np.zeros(0, np.uint8)]
    for name, sketch in layers.items():
        entry: dict[str, Any] = {"layer": name, "kind": sketch.kind, "shape": sketch.shape}
        entry["dtype"] = sketch.dtype
        entry["arrays"] = {field: getattr(sketch, field).shape for field in _ARRAYS}
        if sketch.shown is not None:
            low, high = float(sketch.shown.min()), float(sketch.shown.max())
            levels = (sketch.shown - low) / (high - low or 1.0) * 255
            maps.append(np.round(levels).astype(np.uint8).reshape(-1))
            entry["shown"] = [low, high, *sketch.shown.shape]
        described.append(entry)
    arrays["shown"] = np.concatenate(maps)
    header = {
        "layers": described,
        "outputs": {
            name: {"shape": output.shape, "kept": outputs[name].shape}
            for name, output in record.outputs.items()
        },
    }
    return arrays, {**header, "provenance": record.provenance}


def from_arrays(arrays: Mapping[Name, NDArray[Any]], header: Mapping[str, Any]) -> Record:
    """Return the record that `to_arrays` converted.

    Raises:
        KeyError, TypeError, ValueError: the arrays and the header are not those of a record.
    """
    if isinstance(header["outputs"], list):
        return _from_arrays_by_layer(arrays, header)
    taken = {field: _Reader(unpack(arrays[field]), field) for field in (*_ARRAYS, "outputs")}
    maps = _Reader(arrays["shown"], "shown")
    layers = {}
    for entry in header["layers"]:
        shown = None
        if "shown" in entry:
            low, high, *shape = entry["shown"]
            shown = _levels(maps.take(shape), float(low), float(high), entry)
        found = {field: taken[field].take(entry["arrays"][field]) for field in _ARRAYS}
        layers[str(entry["layer"])] = _sketch(entry, found, shown)
    outputs = {
        str(name): taken["outputs"].take(each["kept"]) for name, each in header["outputs"].items()
    }
    for reader in (*taken.values(), maps):
        reader.check_end()
    shapes = {
        str(name): tuple(int(side) for side in each["shape"])
        for name, each in header["outputs"].items()
    }
    return _record(layers, outputs, header, shapes)


class _Reader:
    """Takes arrays off one array, one after the other."""

    def __init__(self, values: NDArray[Any], name: str) -> None:
        self._values, self._name, self._at = values, name, 0

    def take(self, shape: Any) -> NDArray[Any]:
        sides = tuple(int(side) for side in shape)
        if any(side < 0 for side in sides):
            raise ValueError(f"array {self._name!r} has a part of shape {sides}")
        end = self._at + math.prod(sides)
        if end > self._values.size:
            raise ValueError(f"array {self._name!r} is shorter than the header states")
        part = self._values.reshape(-1)[self._at : end].reshape(sides)
        self._at = end
        return part

    def check_end(self) -> None:
        if self._at != self._values.size:
            raise ValueError(f"array {self._name!r} is longer than the header states")


def _from_arrays_by_layer(arrays: Mapping[Name, NDArray[Any]], header: Mapping[str, Any]) -> Record:
    """Return a record of format version 2, which has arrays of their own for each layer."""
    layers = {}
    for i, entry in enumerate(header["layers"]):
        shown = None
        if "shown" in entry:
            low, high = (float(v) for v in entry["shown"])
            shown = _levels(arrays["layers", i, "shown"], low, high, entry)
        found = {field: _floats(arrays, ("layers", i, field)) for field in _ARRAYS}
        layers[str(entry["layer"])] = _sketch(entry, found, shown)
    outputs = {
        str(name): _floats(arrays, ("outputs", i)) for i, name in enumerate(header["outputs"])
    }
    return _record(layers, outputs, header, {name: each.shape for name, each in outputs.items()})


def _levels(
    levels: NDArray[Any], low: float, high: float, entry: Mapping[str, Any]
) -> NDArray[np.float32]:
    if levels.ndim != 3 or levels.dtype != np.uint8:
        raise ValueError(f"feature maps of layer {entry['layer']!r} have shape {levels.shape}")
    return (low + (high - low) / 255 * levels).astype(np.float32)


def _sketch(
    entry: Mapping[str, Any],
    found: dict[str, NDArray[np.float32]],
    shown: NDArray[np.float32] | None,
) -> LayerSketch:
    c = found["mean"].shape
    fit = (
        len(c) == 1
        and found["rms"].shape == c
        and found["high"].shape in (c, (0,))
        and found["projection"].ndim == found["gram"].ndim == 2
        and len(found["projection"]) > 0
        and found["projection"].shape[1:] == found["gram"].shape[:1] == c
    )
    if not fit or found["samples"].ndim != 1:
        raise ValueError(f"the shapes of the arrays of layer {entry['layer']!r} do not match")
    return LayerSketch(
        kind=str(entry["kind"]),
        shape=tuple(int(s) for s in entry["shape"]),
        dtype=str(entry["dtype"]),
        shown=shown,
        **found,
    )


def _record(
    layers: dict[str, LayerSketch],
    outputs: dict[str, NDArray[np.float32]],
    header: Mapping[str, Any],
    shapes: dict[str, tuple[int, ...]],
) -> Record:
    if INPUT not in layers or not outputs:
        raise ValueError("it has no images, or no output")
    return Record(layers, outputs, dict(header["provenance"]), output_shapes=shapes)


def _floats(arrays: Mapping[Name, NDArray[Any]], name: Name) -> NDArray[np.float32]:
    if arrays[name].dtype != np.float32:
        raise ValueError(f"array {name} is {arrays[name].dtype}, not float32")
    return arrays[name]

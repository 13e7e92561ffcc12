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
from convlens.baselines.maps import MIXED_BITS, SHOWN_BITS, from_levels, to_levels
from convlens.baselines.provenance import Provenance, Weights
from convlens.baselines.store import Name
from convlens.engine.features.sketch import LayerSketch, Sketches, first_maps, sketch_layers
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime.tolerance import Rounding

# Seed of the random projections; records with different seeds cannot be compared.
SEED = 0
_DESCRIBED = ("kind", "shape", "dtype", "shown", "channels", "mixed")
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

    def maps(self, layer: str) -> NDArray[np.float32]:
        """Return all feature maps (c, h, w) of a layer for the first image, subsampled."""
        return first_maps(self.network, self.images[0], layer)


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
    described, maps = [], _Maps()
    for name, sketch in layers.items():
        entry: dict[str, Any] = {"layer": name, "kind": sketch.kind, "shape": sketch.shape}
        entry["dtype"] = sketch.dtype
        entry["arrays"] = {field: getattr(sketch, field).shape for field in _ARRAYS}
        if sketch.shown is not None:
            maps.add("shown", sketch.shown, SHOWN_BITS)
            entry |= {"shown": sketch.shown.shape, "channels": sketch.channels}
        if sketch.mixed is not None:
            maps.add("mixed", sketch.mixed, MIXED_BITS)
            entry["mixed"] = sketch.mixed.shape
        described.append(entry)
    arrays |= maps.arrays()
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
    maps = _MapsReader(arrays)
    layers = {}
    for entry in header["layers"]:
        found = {field: taken[field].take(entry["arrays"][field]) for field in _ARRAYS}
        layers[str(entry["layer"])] = _sketch(entry, found, maps.take(entry))
    outputs = {
        str(name): taken["outputs"].take(each["kept"]) for name, each in header["outputs"].items()
    }
    for reader in (*taken.values(), *maps.readers):
        reader.check_end()
    shapes = {
        str(name): tuple(int(side) for side in each["shape"])
        for name, each in header["outputs"].items()
    }
    return _record(layers, outputs, header, shapes)


class _Maps:
    """The maps of all layers, one after the other: their levels, and the limits of each."""

    def __init__(self) -> None:
        self._limits = [np.zeros(0, np.float32)]
        self._levels: dict[str, list[NDArray[Any]]] = {
            "shown": [np.zeros(0, np.uint8)],
            "mixed": [np.zeros(0, np.uint16)],
        }

    def add(self, kind: str, maps: NDArray[np.float32], bits: int) -> None:
        levels, limits = to_levels(maps, bits)
        self._levels[kind].append(levels.reshape(-1))
        self._limits.append(limits)

    def arrays(self) -> dict[Name, NDArray[Any]]:
        mixed = np.concatenate(self._levels["mixed"]).astype("<u2").view(np.uint8)
        return {
            "limits": pack(self._limits),
            "shown": np.concatenate(self._levels["shown"]),
            "mixed": np.ascontiguousarray(mixed.reshape(-1, 2).T),  # bytes that are alike together
        }


class _MapsReader:
    """Takes the maps of one layer after the other."""

    def __init__(self, arrays: Mapping[Name, NDArray[Any]]) -> None:
        self._shown = _Reader(arrays["shown"], "shown")
        self._mixed = self._limits = _Reader(np.zeros(0), "mixed")
        if "mixed" in arrays:  # files of before have none
            planes = arrays["mixed"]
            if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) != 2:
                raise ValueError(f"mixed maps are stored as bytes (2, n), not as {planes.shape}")
            joined = np.ascontiguousarray(planes.T).reshape(-1).view("<u2")
            self._mixed = _Reader(joined, "mixed")
            self._limits = _Reader(unpack(arrays["limits"]), "limits")

    @property
    def readers(self) -> tuple[_Reader, ...]:
        return self._shown, self._mixed, self._limits

    def take(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a sketch has of maps, for a layer's entry in the header."""
        if "shown" not in entry:
            return {"shown": None}
        if "channels" not in entry:  # a file of before
            low, high, *shape = entry["shown"]
            return {"shown": _levels(self._shown.take(shape), float(low), float(high), entry)}
        shown = self._maps(self._shown, entry["shown"], SHOWN_BITS, entry)
        channels = tuple(int(channel) for channel in entry["channels"])
        count = int(entry["shape"][-1])
        if len(channels) != len(shown) or not all(0 <= channel < count for channel in channels):
            raise ValueError(f"feature maps of layer {entry['layer']!r} have channels {channels}")
        mixed = None
        if "mixed" in entry:
            mixed = self._maps(self._mixed, entry["mixed"], MIXED_BITS, entry)
            if mixed.shape[1:] != shown.shape[1:]:
                raise ValueError(f"mixed maps of layer {entry['layer']!r} have another size")
        return {"shown": shown, "channels": channels, "mixed": mixed}

    def _maps(
        self, reader: _Reader, shape: Any, bits: int, entry: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        levels = reader.take(shape)
        _check_levels(levels, entry)
        return from_levels(levels, self._limits.take((len(levels), 2)), bits)


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
        layers[str(entry["layer"])] = _sketch(entry, found, {"shown": shown})
    outputs = {
        str(name): _floats(arrays, ("outputs", i)) for i, name in enumerate(header["outputs"])
    }
    return _record(layers, outputs, header, {name: each.shape for name, each in outputs.items()})


def _levels(
    levels: NDArray[Any], low: float, high: float, entry: Mapping[str, Any]
) -> NDArray[np.float32]:
    _check_levels(levels, entry)
    return (low + (high - low) / 255 * levels).astype(np.float32)


def _check_levels(levels: NDArray[Any], entry: Mapping[str, Any]) -> None:
    if levels.ndim != 3 or levels.dtype.kind != "u":
        raise ValueError(f"feature maps of layer {entry['layer']!r} have shape {levels.shape}")


def _sketch(
    entry: Mapping[str, Any],
    found: dict[str, NDArray[np.float32]],
    maps: Mapping[str, Any],
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
        **{**found, **maps},
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

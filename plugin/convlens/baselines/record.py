"""Record of a network for a baseline: a sketch of each layer, predictions and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.baselines import provenance
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
    """

    layers: dict[str, LayerSketch]
    outputs: dict[str, NDArray[np.float32]]
    source: Provenance
    weights: Weights | None = field(default=None, repr=False, compare=False)
    rerun: Rerun | None = field(default=None, repr=False, compare=False)

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
    """Return a record as arrays and JSON; the shown feature maps are rounded to 256 levels."""
    arrays: dict[Name, NDArray[Any]] = {
        ("outputs", i): output for i, output in enumerate(record.outputs.values())
    }
    described = []
    for i, (name, sketch) in enumerate(record.layers.items()):
        arrays |= {("layers", i, field): getattr(sketch, field) for field in _ARRAYS}
        entry: dict[str, Any] = {"layer": name, "kind": sketch.kind, "shape": sketch.shape}
        entry["dtype"] = sketch.dtype
        if sketch.shown is not None:
            low, high = float(sketch.shown.min()), float(sketch.shown.max())
            levels = (sketch.shown - low) / (high - low or 1.0) * 255
            arrays["layers", i, "shown"] = np.round(levels).astype(np.uint8)
            entry["shown"] = [low, high]
        described.append(entry)
    header = {"layers": described, "outputs": list(record.outputs)}
    return arrays, {**header, "provenance": record.provenance}


def from_arrays(arrays: Mapping[Name, NDArray[Any]], header: Mapping[str, Any]) -> Record:
    """Return the record that `to_arrays` converted.

    Raises:
        KeyError, TypeError, ValueError: the arrays and the header are not those of a record.
    """
    layers = {}
    for i, entry in enumerate(header["layers"]):
        shown = None
        if "shown" in entry:
            low, high = (float(v) for v in entry["shown"])
            shown = (low + (high - low) / 255 * arrays["layers", i, "shown"]).astype(np.float32)
            if shown.ndim != 3:
                raise ValueError(
                    f"feature maps of layer {entry['layer']!r} have shape {shown.shape}"
                )
        found = {field: _floats(arrays, ("layers", i, field)) for field in _ARRAYS}
        c = found["mean"].shape
        fit = (
            len(c) == 1
            and found["rms"].shape == found["high"].shape == c
            and found["projection"].shape[1:] == found["gram"].shape[:1] == c
        )
        if not fit or found["samples"].ndim != 1:
            raise ValueError(f"the shapes of the arrays of layer {entry['layer']!r} do not match")
        layers[str(entry["layer"])] = LayerSketch(
            kind=str(entry["kind"]),
            shape=tuple(int(s) for s in entry["shape"]),
            dtype=str(entry["dtype"]),
            shown=shown,
            **found,
        )
    outputs = {
        str(name): _floats(arrays, ("outputs", i)) for i, name in enumerate(header["outputs"])
    }
    if INPUT not in layers or not outputs:
        raise ValueError("it has no images, or no output")
    return Record(layers, outputs, dict(header["provenance"]))


def _floats(arrays: Mapping[Name, NDArray[Any]], name: Name) -> NDArray[np.float32]:
    if arrays[name].dtype != np.float32:
        raise ValueError(f"array {name} is {arrays[name].dtype}, not float32")
    return arrays[name]

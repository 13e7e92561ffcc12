"""What is recorded of a network: each layer's sketch, the predictions, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.baselines import provenance
from convlens.baselines.provenance import Provenance, Weights
from convlens.engine.features.sketch import LayerSketch, sketch_layers
from convlens.engine.model.network import Network
from convlens.pictures import grid

# Of the projections: two records can be compared only if theirs are the same.
SEED = 0
MOST_PREDICTIONS = 2**17
_ARRAYS = [f.name for f in fields(LayerSketch) if f.name not in ("shape", "dtype", "shown")]


@dataclass(frozen=True)
class Record:
    """What a network does with images.

    Attributes:
        layers: 'input' and layer → its sketch, in the graph's order.
        predictions: (m, …) the first output, of as many images as are kept.
        source: JSON: the versions, device, settings, images' hash, seed.
        weights: the network's, read when the provenance is first asked for; None where the source
            says all.
    """

    layers: dict[str, LayerSketch]
    predictions: NDArray[np.float32]
    source: Provenance
    weights: Weights | None = field(default=None, repr=False, compare=False)

    @cached_property
    def provenance(self) -> Provenance:
        """JSON: the source, and the weights' hashes.

        Hashing a large network's weights takes a good part of a forward pass, so that it is done
        only for what differs or is kept; and before the weights can change.
        """
        return self.source if self.weights is None else {**self.source, **self.weights.describe()}

    @property
    def fingerprint(self) -> str:
        """A hash of what decides the behavior: weights, layers' settings, images and seed."""
        decides = ("weights", "settings", "images", "seed", "dtypes")
        return provenance.hash_json({key: self.provenance[key] for key in decides})


def record_network(network: Network, images: ArrayLike, *, identified: bool = True) -> Record:
    """Run a network over images once, and keep what tells whether it has changed.

    Args:
        network: the model taken apart.
        images: (n, h, w, c) in the model's own range.
        identified: whether the weights are hashed now; else they are when the provenance is first
            asked for, before which nobody may change them.

    Raises:
        FloatingPointError: a layer gives NaN or infinity, which nothing can be compared with.
        ValueError: images of a wrong shape, or values not finite.
    """
    network.refresh()
    x = network.check_images(images)
    layers, predictions = sketch_layers(network, x, seed=SEED)
    for name, sketch in layers.items():
        finite = np.isfinite(np.vstack([sketch.projection, sketch.mean, sketch.rms, sketch.high]))
        if not finite.all():
            bad = int(np.flatnonzero(~finite.all(axis=0))[0])
            raise FloatingPointError(
                f"{network.name} layer {name!r} gives NaN or infinity in channel {bad}: nothing "
                "can be compared with that; find the weights with assert_finite"
            )
    images_kept = max(1, MOST_PREDICTIONS // max(1, predictions[0].size))
    return Record(
        layers,
        predictions[:images_kept],
        {
            **provenance.of_network(network, SEED),
            **(Weights(network).describe() if identified else {}),
            "images": provenance.hash_arrays([x]),
            "count": len(x),
            "environment": provenance.environment(),
        },
        None if identified else Weights(network),
    )


def pictures(record: Record) -> dict[str, NDArray[np.uint8]]:
    """Return layer → its first feature maps of the first image, side by side."""
    shown = {name: sketch.shown for name, sketch in record.layers.items()}
    return {name: show(maps, maps) for name, maps in shown.items() if maps is not None}


def show(maps: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return feature maps (m, h, w) side by side, on the gray scale of other ones."""
    low, high = float(scale.min()), float(scale.max())
    levels = np.clip((maps - low) / (high - low or 1.0), 0, 1) * 255
    return grid(np.round(levels).astype(np.uint8), columns=4)


def to_arrays(record: Record) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return a record as arrays and JSON; feature maps for people are rounded to 256 levels."""
    arrays: dict[str, NDArray[Any]] = {"predictions": record.predictions}
    described = []
    for i, (name, sketch) in enumerate(record.layers.items()):
        arrays |= {f"{i}.{field}": getattr(sketch, field) for field in _ARRAYS}
        entry: dict[str, Any] = {"layer": name, "shape": sketch.shape, "dtype": sketch.dtype}
        if sketch.shown is not None:
            low, high = float(sketch.shown.min()), float(sketch.shown.max())
            levels = (sketch.shown - low) / (high - low or 1.0) * 255
            arrays[f"{i}.shown"] = np.round(levels).astype(np.uint8)
            entry["shown"] = [low, high]
        described.append(entry)
    return arrays, {"layers": described, "provenance": record.provenance}


def from_arrays(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Record:
    """Return the record that `to_arrays` took apart.

    Raises:
        KeyError, TypeError, ValueError: it is no such thing.
    """
    layers = {}
    for i, entry in enumerate(header["layers"]):
        shown = None
        if "shown" in entry:
            low, high = (float(v) for v in entry["shown"])
            shown = (low + (high - low) / 255 * arrays[f"{i}.shown"]).astype(np.float32)
            if shown.ndim != 3:
                raise ValueError(f"feature maps of layer {entry['layer']!r} are {shown.shape}")
        found = {field: _floats(arrays, f"{i}.{field}") for field in _ARRAYS}
        c = found["mean"].shape
        fit = (
            len(c) == 1
            and found["rms"].shape == found["high"].shape == c
            and found["projection"].shape[1:] == found["gram"].shape[:1] == c
        )
        if not fit or found["samples"].ndim != 1:
            raise ValueError(f"arrays of layer {entry['layer']!r} do not fit each other")
        layers[str(entry["layer"])] = LayerSketch(
            shape=tuple(int(s) for s in entry["shape"]),
            dtype=str(entry["dtype"]),
            shown=shown,
            **found,
        )
    return Record(layers, _floats(arrays, "predictions"), dict(header["provenance"]))


def _floats(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    if arrays[name].dtype != np.float32:
        raise ValueError(f"array {name} is {arrays[name].dtype}, not float32")
    return arrays[name]

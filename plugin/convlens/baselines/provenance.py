"""Provenance of a baseline: weights, images, versions and machine."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.baselines.weights import mark_weights
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

Provenance = dict[str, Any]
_MAX_SAMPLED_VALUES = 2**16
# Settings of a layer that affect its training or its name, but not what it computes.
_IGNORED_SETTINGS = ("name", "dtype", "trainable", "seed")
_IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint")


def environment() -> Provenance:
    """Return the versions, the device and the settings of this run."""
    return {
        "convlens": version("pytest-convlens"),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "backend": backend.backend_name(),
        **backend.settings(),
        "device": device(),
        "family": family(),
    }


def device() -> str:
    """Return the name of the device that networks run on."""
    found = backend.accelerators()
    return found[0] if found else _processor()


def family() -> str:
    """Return the kind of device that networks run on, such as 'gpu' or 'cpu-x86_64'."""
    if backend.accelerators():
        return "gpu"
    return f"cpu-{platform.machine() or 'unknown'}"


def of_network(network: Network, seed: int) -> Provenance:
    """Return a network's name and settings."""
    return {
        "model": network.model.name,
        "output": network.output_layer,
        "settings": {name: _hash_settings(layer) for name, layer in network.layers.items()},
        "dtypes": sorted({layer.compute_dtype for layer in network.layers.values()}),
        "seed": seed,
    }


class Weights:
    """Description of a network's weights; it releases the layers after its first use."""

    def __init__(self, network: Network) -> None:
        self._layers = dict(network.layers)

    def describe(self) -> Provenance:
        """Return the hashes of the weights and the precision to which they are rounded.

        The weights are read in place; the network does not run.
        """
        weights, precision, marks = {}, {}, {}
        for name, layer in self._layers.items():
            arrays = weights_of(layer)
            values = list(arrays.values())
            if values:
                weights[name] = hash_arrays(values)
                marks[name] = mark_weights(arrays)
                precision[name] = _coarsest([_precision(v) for v in values if v.ndim > 1])
        self._layers.clear()
        whole = hashlib.sha256("".join(weights.values()).encode()).hexdigest()
        return {
            "weights": weights,
            "weights hash": whole[:16],
            "precision": precision,
            "marks": marks,
        }


def weights_of(layer: Any) -> dict[str, NDArray[Any]]:
    """Return the name and the array of each of a layer's weights, in the layer's order."""
    found: dict[str, NDArray[Any]] = {}
    for number, value in enumerate(layer.weights):
        name = str(value.name)
        found[name if name not in found else f"{name} {number}"] = backend.host_array(value)
    return found


def hash_arrays(arrays: list[NDArray[Any]]) -> str:
    """Return a short hash of the data types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


def hash_json(value: Mapping[str, Any]) -> str:
    """Return a short hash of a mapping; objects that JSON cannot hold count by their type."""
    text = json.dumps(value, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hash_settings(layer: Any) -> str:
    kept = {
        key: value
        for key, value in layer.get_config().items()
        if key not in _IGNORED_SETTINGS and not key.endswith(_IGNORED_SUFFIXES)
    }
    return hash_json({"type": type(layer).__name__, **kept})


def _precision(values: NDArray[Any]) -> str:
    """Return the coarsest type that holds a kernel exactly: 'int8', 'float16', 'bfloat16', …

    'int8' means that all values are integer multiples, up to 127, of one step for the kernel or for
    each output channel.
    """
    if values.dtype != np.float32:
        return str(values.dtype)
    step = max(1, values.size // _MAX_SAMPLED_VALUES)
    few = values.reshape(-1)[:: step | 1]
    if not np.isfinite(few).all() or not few.any():
        return "float32"
    rows = values.reshape(-1, values.shape[-1])[:: max(1, step)]
    if _is_int8(few) or _is_int8(rows):
        return "int8"
    if not (few.view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    with np.errstate(over="ignore"):
        is_half = (few.astype(np.float16).astype(np.float32) == few).all()
    return "float16" if is_half else "float32"


def _is_int8(values: NDArray[Any]) -> bool:
    """Return whether values, or each column, are integer multiples of their maximum / 127."""
    largest = np.abs(values).max(axis=0)
    if len(values) < 4:
        return False
    whole = values * (127 / np.where(largest == 0, 1, largest))
    return bool(np.abs(whole - np.round(whole)).max() < 2e-4)


def _coarsest(found: list[str]) -> str:
    return next((kind for kind in ("int8", "float16", "bfloat16") if kind in found), "float32")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown processor"

"""What a benchmark ran on, so that only runs of the same hardware are compared."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convlens.engine.backend import backend_name

_DRIVER = Path("/proc/driver/nvidia/version")


def describe(brand: str) -> dict[str, Any]:
    """Return what is known of the machine and of what runs on it.

    Args:
        brand: the processor's name, as pytest-benchmark found it.
    """
    return {
        "processor": brand,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "accelerators": accelerators(),
        "driver": _driver(),
        "backend": backend_name(),
        "convlens": version("pytest-convlens"),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "precision": keras.config.dtype_policy().name,
        **_of_backend(),
    }


def hardware_key(described: Mapping[str, Any]) -> str:
    """Return a name for the hardware and the backend, the same whatever the clock does.

    It is made from the processor, the number of usable cores, the accelerators and the backend;
    versions, frequencies and loads play no part.
    """
    parts = [
        str(described["processor"]),
        f"{described['usable_cores'] or described['cores']} cores",
        *described["accelerators"],
        str(described["backend"]),
    ]
    whole = " + ".join(parts)
    short = re.sub(r"[^A-Za-z0-9]+", "-", whole).strip("-")[:80]
    return f"{short}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"


def accelerators() -> list[str]:
    """Return the names of the accelerators that the backend uses."""
    if backend_name() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        found.append(str(details.get("device_name", device.name)))
    return found


def _driver() -> str | None:
    try:
        return _DRIVER.read_text(encoding="ascii", errors="replace").splitlines()[0]
    except OSError:  # no such accelerator
        return None


def _of_backend() -> dict[str, Any]:
    if backend_name() == "jax":
        import jax

        return {
            "jax": jax.__version__,
            "xla": True,
            "matmul_precision": str(jax.config.jax_default_matmul_precision),
        }
    import tensorflow as tf

    threads = tf.config.threading
    return {
        "tensorflow": tf.__version__,
        "xla": "on request",
        "tf32": bool(tf.config.experimental.tensor_float_32_execution_enabled()),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "threads_within_an_op": threads.get_intra_op_parallelism_threads() or "automatic",
        "threads_between_ops": threads.get_inter_op_parallelism_threads() or "automatic",
    }

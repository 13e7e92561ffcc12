"""Describe the hardware of a benchmark, so that only runs on equal hardware are compared."""

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

from convlens.engine.runtime.backend import accelerators, backend_name, settings

_DRIVER = Path("/proc/driver/nvidia/version")


def describe(brand: str) -> dict[str, Any]:
    """Return a description of the machine and its software.

    Args:
        brand: name of the processor, from pytest-benchmark.
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
        **settings(),
    }


def hardware_key(described: Mapping[str, Any]) -> str:
    """Return a unique key for the hardware and the backend.

    It depends on the processor, the number of usable cores, the accelerators and the backend, but
    not on versions, clock frequencies or load.
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


def _driver() -> str | None:
    try:
        return _DRIVER.read_text(encoding="ascii", errors="replace").splitlines()[0]
    except OSError:  # no NVIDIA driver
        return None

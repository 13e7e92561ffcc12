"""Measure the peak memory of a run, on the host and on the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil

from convlens.engine.runtime.backend import backend_name

_INTERVAL_SECONDS = 0.005


def peak_memory(run: Callable[[], Any]) -> dict[str, float | None]:
    """Run a function once, and return its peak memory in MiB.

    Returns:
        'host_MiB': resident memory of the process, sampled 200 times per second; 'host_more_MiB':
        its increase during the run; 'device_MiB': memory of the accelerator, None without an
        accelerator or if the backend does not report it.
    """
    process = psutil.Process()
    begin = process.memory_info().rss
    peak = begin
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_INTERVAL_SECONDS):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    _reset_device()
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    peak = max(peak, process.memory_info().rss)
    device = _device_peak()
    return {
        "host_MiB": peak / 2**20,
        "host_more_MiB": (peak - begin) / 2**20,
        "device_MiB": None if device is None else device / 2**20,
    }


def _reset_device() -> None:
    if backend_name() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_logical_devices("GPU"):
            tf.config.experimental.reset_memory_stats("GPU:0")


def _device_peak() -> int | None:
    if backend_name() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        return stats.get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])

"""Measure the peak memory of a run, on the host and on the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil

from convlens.engine.runtime.backend import accelerator_peak, reset_accelerator_peak

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
    reset_accelerator_peak()
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    peak = max(peak, process.memory_info().rss)
    device = accelerator_peak()
    return {
        "host_MiB": peak / 2**20,
        "host_more_MiB": (peak - begin) / 2**20,
        "device_MiB": None if device is None else device / 2**20,
    }

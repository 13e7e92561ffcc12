"""The most memory that a run takes, on the host and on the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil

from convlens.engine.runtime.backend import accelerator_peak, reset_accelerator_peak

_EVERY_SECONDS = 0.005


def peak_memory(run: Callable[[], Any]) -> dict[str, float | None]:
    """Run something once, and return the peaks while it ran, in MiB.

    Returns:
        'host_MiB': the process's resident set, sampled 200 times a second; 'host_more_MiB': how
        much of it came while it ran; 'device_MiB': the accelerator's, None without one or where its
        backend keeps no count.
    """
    process = psutil.Process()
    begin = process.memory_info().rss
    peak = begin
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(_EVERY_SECONDS):
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

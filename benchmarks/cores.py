"""Benchmarks of the cores, each compared with a theoretical limit and with other tools."""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens import (
    activations,
    assert_matches_baseline,
    deconvolve,
    gram_matrix,
    maximize,
    top_images,
)
from convlens.benchmarks import peers
from convlens.benchmarks.contest import (
    Check,
    Contest,
    Work,
    check_finite,
    check_nonzero,
    check_risen,
)
from convlens.benchmarks.subjects import Setting, Subject, subject
from convlens.benchmarks.timing import Run
from convlens.engine.model.flops import ascent_flops, forward_flops
from convlens.engine.runtime.backend import backend_name

_ONE_AT_A_TIME = "one filter at a time"


def features(setting: Setting) -> Contest:
    """Benchmark the feature activations of all convolutions."""
    of = subject(setting)
    images = of.images(setting.batch or (1024 if of.shape[0] < 64 else 16))
    last = of.network.conv_layers[-1]
    return Contest(
        f"activations of {len(of.network.conv_layers)} convolutions, {len(images)} images",
        {
            "bare forward passes": peers.bare_forward(of.model, last, lambda: [images]),
            "convlens": lambda: activations(of.network, images, batch_size=len(images)),
        },
        "convlens",
        ("bare forward passes",),
        Work(len(images), gflop=len(images) * forward_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda maps: check_finite(*maps.values())},
        setting=setting,
    )


def ascent(setting: Setting) -> Contest:
    """Benchmark the gradient ascent of the filters of one convolution against other tools."""
    of = subject(setting)
    count = min(setting.batch or 64, of.network.units(of.layer))
    if of.shape[0] >= 64 and setting.batch is None:
        count = 16
    steps = (300 if count == 64 else 20) if setting.full else (50 if count == 64 else 3)
    units = range(count)
    start = maximize(of.network, of.layer, units, steps=1).start
    contestants: dict[str, Run] = {
        "bare passes": peers.bare_passes(of.model, of.layer, start, steps),
        "convlens": lambda: maximize(of.network, of.layer, units, steps=steps),
        "convlens, tracing included": lambda: maximize(of.model, of.layer, units, steps=steps),
    }
    others: dict[str, Run] = {}
    if setting.full and setting.model == "mnist_cnn":
        others[_ONE_AT_A_TIME] = peers.one_at_a_time(of.model, of.layer, start, steps)
    if setting.dtype == "float32" and (setting.full or setting.model == "mnist_cnn"):
        others |= _installed(  # activations do not rise within three steps in these tools
            {
                "tf-keras-vis": lambda: peers.tf_keras_vis(of.model, of.layer, start, steps),
                "xplique": lambda: peers.xplique_ascent(of.model, of.layer, start, steps),
            }
        )
    rises = _rises(of, start)
    checks: dict[str, Check] = dict.fromkeys(others, rises)
    checks["convlens"] = checks["convlens, tracing included"] = lambda r: rises(r.images)
    return Contest(
        f"ascent: {count} filters of {of.layer} at {of.shape[0]}×{of.shape[1]}, {steps} steps",
        contestants | others,
        "convlens",
        ("bare passes", *others),
        Work(count, steps, count * steps * ascent_flops(of.network, of.layer, of.shape) / 1e9),
        tuple(others),
        tuple(name for name in others if name != _ONE_AT_A_TIME),
        checks,
        setting,
    )


def classes(setting: Setting) -> Contest:
    """Benchmark the gradient ascent of a classifier's class images."""
    of = subject(setting)
    count = min(10, of.network.units(of.network.output_layer or of.layer))
    steps = (300 if setting.full else 50) if of.shape[0] < 64 else 3
    start = maximize(of.network, None, range(count), steps=1).start
    last = of.network.output_layer or of.layer
    return Contest(
        f"ascent: {count} class images, {steps} steps",
        {
            "bare passes": peers.bare_passes(of.model, last, start, steps),
            "convlens": lambda: maximize(of.network, None, range(count), steps=steps),
        },
        "convlens",
        ("bare passes",),
        Work(count, steps, count * steps * ascent_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda r: check_risen(r.trace[0], r.trace[-1])},
        setting=setting,
    )


def deconvnet(setting: Setting) -> Contest:
    """Benchmark the deconvnet for pairs of image and unit, and pairs of image and class."""
    of = subject(setting)
    count = setting.batch or (64 if of.shape[0] < 64 else 8)
    images = of.images(count)
    units = np.arange(count) % of.network.units(of.layer)
    contestants: dict[str, Run] = {
        "one gradient": peers.bare_gradient(of.model, of.layer, images, units),
        "convlens": lambda: deconvolve(of.network, images, of.layer, units),
    }
    others: dict[str, Run] = {}
    if setting.model == "mnist_cnn":
        labels = np.arange(count) % 10
        contestants["convlens, classes"] = lambda: deconvolve(of.network, images, None, labels)
        if setting.dtype == "float32":
            others = _installed(
                {"xplique, classes": lambda: peers.xplique_deconvnet(of.model, images, labels)}
            )

    def shown(found: Any) -> None:
        check_nonzero(found.images)

    return Contest(
        f"deconvnet: {count} pairs, {of.layer} and class scores",
        contestants | others,
        "convlens",
        ("one gradient", *others),
        Work(count, gflop=count * ascent_flops(of.network, of.layer, of.shape) / 1e9),
        guests=tuple(others),
        checks={"convlens": shown, "convlens, classes": shown, "xplique, classes": check_nonzero},
        setting=setting,
    )


def top(setting: Setting) -> Contest:
    """Benchmark the search for the nine strongest images of every filter of a network."""
    of = subject(setting)
    small = of.shape[0] < 64
    count = setting.batch or ((60_000 if setting.full else 4096) if small else 64)
    images = np.random.default_rng(0).integers(0, 256, (count, *of.shape), dtype=np.uint8)
    last, filters = (
        of.network.conv_layers[-1],
        sum(of.network.units(n) for n in of.network.conv_layers),
    )

    def prepare(batch: Any) -> Any:
        return batch / np.float32(255)

    def batches() -> Any:
        return (prepare(images[i : i + 256]) for i in range(0, len(images), 256))

    return Contest(
        f"top 9 of {count:,} images for {filters} filters",
        {
            "bare forward passes": peers.bare_forward(of.model, last, batches),
            "convlens": lambda: top_images(of.network, images, prepare=prepare),
        },
        "convlens",
        ("bare forward passes",),
        Work(count, gflop=count * forward_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda r: check_finite(*r.activations.values())},
        setting=setting,
    )


def baseline(setting: Setting) -> Contest:
    """Benchmark the comparison of a network with its baseline against a forward pass."""
    of = subject(setting, whole=True)
    count = setting.batch or (64 if of.shape[0] < 64 else 8)
    images = of.images(count)
    last = of.network.output_layer or of.layer
    folder = tempfile.mkdtemp(prefix="convlens-benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    check = partial(assert_matches_baseline, of.network, folder, "network", images=images)
    check(update="all")

    def compared(found: Any) -> None:
        if not len(found.layers) > 1:
            raise RuntimeError("no layer was compared")

    return Contest(
        f"baseline of {len(of.network.layers)} layers, {count} images",
        {
            "bare forward passes": peers.bare_forward(of.model, last, lambda: [images]),
            "convlens": check,
        },
        "convlens",
        ("bare forward passes",),
        Work(count, gflop=count * forward_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": compared},
        setting=setting,
    )


def gram(setting: Setting) -> Contest:
    """Benchmark Gram matrices of feature maps against NumPy's product."""
    n, h, c = (16, 64, 256) if setting.full else (8, 32, 128)
    maps = np.random.default_rng(0).random((n, h, h, c), dtype=np.float32)
    flat = maps.reshape(n, h * h, c)

    def product() -> NDArray[Any]:
        return np.stack([one.T @ one for one in flat])

    wanted = product()

    def right(found: Any) -> None:
        np.testing.assert_allclose(found, wanted, rtol=1e-4)

    return Contest(
        f"Gram matrices of {n} maps, {h}×{h}×{c}",
        {
            "NumPy's product": product,
            "convlens": lambda: gram_matrix(maps),
        },
        "convlens",
        ("NumPy's product",),
        Work(n, gflop=2 * n * h * h * c * c / 1e9),
        checks={"convlens": right},
        setting=setting,
    )


def zero_code(setting: Setting) -> Contest:
    """Benchmark the process `pytest --convlens mnist_cnn` against the import of Keras."""
    return Contest(
        "the zero-code run: pytest --convlens mnist_cnn, as a process",
        {
            "import of Keras": _process([sys.executable, "-c", "import keras"]),
            "convlens": _process(_zero_code_run(setting)),
        },
        "convlens",
        ("import of Keras",),
        Work(1),
        checks={"convlens": _passed},
        setting=setting,
        processes=True,
    )


def report(setting: Setting) -> Contest:
    """Benchmark the zero-code run with a report against the same run without."""
    run = _zero_code_run(setting)
    return Contest(
        "the zero-code run with a report: --convlens-report, as a process",
        {
            "without a report": _process(run),
            "convlens": _process([*run, "--convlens-report", "report.html"]),
        },
        "convlens",
        ("without a report",),
        Work(1),
        checks={"without a report": _passed, "convlens": _passed},
        setting=setting,
        processes=True,
    )


def _zero_code_run(setting: Setting) -> list[str]:
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return [*run, "--convlens", "mnist_cnn", "--convlens-steps", "300" if setting.full else "30"]


def _process(command: list[str]) -> Run:
    # An empty folder has neither baselines nor a user's configuration that could change the run.
    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=folder
            ).stdout

    return run


def _passed(out: Any) -> None:
    if not re.search(r"^\d+ passed in", out, re.MULTILINE):
        raise RuntimeError(f"the run did not pass:\n{out}")


def _rises(of: Subject, start: NDArray[Any]) -> Check:
    """Return a check that each image (n, h, w, c) activates its unit more than the start image."""

    def means(images: NDArray[Any]) -> NDArray[Any]:
        maps = activations(of.network, images, of.layer)[of.layer]
        found: NDArray[Any] = maps.mean(axis=(1, 2)).astype(np.float32).diagonal()
        return found

    before = means(start)

    def check(images: Any) -> None:
        check_risen(before, means(np.asarray(images, np.float32)))

    return check


def _installed(makers: dict[str, Callable[[], Run]]) -> dict[str, Run]:
    """Return the contestants of installed tools; they need TensorFlow as backend."""
    found: dict[str, Run] = {}
    if backend_name() != "tensorflow":
        return found
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError:
            print(f"{name} is not installed: pip install 'pytest-convlens[peers]'")
    return found

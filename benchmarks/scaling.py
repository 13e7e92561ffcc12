"""Benchmarks of the growth of cost with the number of units, pixels and images, and of effort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from convlens import Lens, Maximization, Network, maximize, top_images
from convlens.benchmarks.contest import Contest, Series, Work, check_finite, check_risen
from convlens.benchmarks.peers import bare_passes
from convlens.benchmarks.subjects import Setting
from convlens.benchmarks.timing import Run
from convlens.checks.check import Effort
from convlens.engine.ascent.plan import EffortLevel
from convlens.engine.model.flops import ascent_flops, forward_flops
from convlens.fixtures.mnist_cnn import load_mnist_cnn


def units(setting: Setting) -> Contest:
    """Benchmark the ascent for different numbers of units: VGG19's block4_conv1 at 48×48."""
    layer, side, steps = "block4_conv1", 48, 2
    network = _vgg19()
    shape = (side, side, 3)
    counts = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if setting.full else (1, 4, 16, 64)

    def run(count: int) -> Run:
        return lambda: maximize(
            network, layer, range(count), steps=steps, checkpoints=1, size=shape[:2]
        )

    return _series(
        f"ascent of VGG19 {layer} at {side}×{side}, {steps} steps, by units",
        "units",
        {count: run(count) for count in counts},
        Work(counts[-1], steps, counts[-1] * steps * ascent_flops(network, layer, shape) / 1e9),
        lambda result: check_risen(result.trace[0], result.trace[-1]),
        replace(setting, model="VGG19"),
    )


def pixels(setting: Setting) -> Contest:
    """Benchmark the ascent for different image sizes: VGG19's block3_conv1, 4 units."""
    layer, count, steps = "block3_conv1", 4, 2
    network = _vgg19()
    sides = (64, 128, 256, 512) if setting.full else (64, 96, 128)

    def run(side: int) -> Run:
        return lambda: maximize(
            network, layer, range(count), steps=steps, checkpoints=1, size=(side, side)
        )

    work = count * steps * ascent_flops(network, layer, (sides[-1], sides[-1], 3)) / 1e9
    return _series(
        f"ascent of VGG19 {layer}, {count} units, {steps} steps, by pixels",
        "pixels",
        {side * side: run(side) for side in sides},
        Work(count, steps, work),
        lambda result: check_risen(result.trace[0], result.trace[-1]),
        replace(setting, model="VGG19"),
    )


def effort(setting: Setting) -> Contest:
    """Benchmark the planned ascents of a network by effort: some layers of ResNet50.

    The limit is as many bare passes, on as many units and on images of the same sizes.
    """
    level: EffortLevel = "standard" if setting.full else "quick"
    side = 224 if setting.full else 96
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    lens = Lens(model, np.random.default_rng(0).random((2, side, side, 3), dtype=np.float32))
    layers = ("conv2_block2_2_conv", "conv3_block2_1_conv", "conv4_block2_3_conv")
    plans = [lens.plan_ascent(layer, level) for layer in layers]
    work = Effort(level=level)

    def run() -> list[Maximization]:
        return [work.maximize(lens, plan.layer) for plan in plans]

    starts = [
        lens.maximize(plan.layer, plan.units, steps=1, size=plan.size).start for plan in plans
    ]
    bare = [
        bare_passes(model, plan.layer, start, plan.steps)
        for plan, start in zip(plans, starts, strict=True)
    ]
    count = sum(len(plan.units) for plan in plans)
    flops = sum(
        len(plan.units) * plan.steps * ascent_flops(lens.network, plan.layer, (*plan.size, 3))
        for plan in plans
    )

    def check(results: list[Maximization]) -> None:
        for result in results:
            check_risen(result.trace[0], result.trace[-1])

    return Contest(
        f"ascents of {len(plans)} layers of ResNet50 at {side}×{side}, effort {level}",
        {"bare passes": lambda: [run_one() for run_one in bare], "convlens": run},
        "convlens",
        ("bare passes",),
        Work(count, gflop=flops / 1e9),
        checks={"convlens": check},
        setting=replace(setting, model="ResNet50"),
    )


def images(setting: Setting) -> Contest:
    """Benchmark the search for the top nine images in data sets of different sizes."""
    network = Network(load_mnist_cnn())
    counts = (1000, 4000, 16_000, 60_000) if setting.full else (1000, 2000, 4000)
    draw = np.random.default_rng(0).integers(0, 256, (counts[-1], 28, 28, 1), dtype=np.uint8)

    def prepare(batch: Any) -> Any:
        return batch / np.float32(255)

    def run(count: int) -> Run:
        return lambda: top_images(network, draw[:count], prepare=prepare)

    last = network.conv_layers[-1]
    return _series(
        "top 9 images for the filters of mnist_cnn, by images",
        "images",
        {count: run(count) for count in counts},
        Work(counts[-1], gflop=counts[-1] * forward_flops(network, last, (28, 28, 1)) / 1e9),
        lambda result: check_finite(*result.activations.values()),
        replace(setting, model="mnist_cnn"),
    )


def _vgg19() -> Network:
    keras.utils.set_random_seed(0)
    return Network(
        keras.applications.VGG19(include_top=False, weights=None, input_shape=(None, None, 3))
    )


def _series(
    title: str,
    label: str,
    runs: Mapping[int, Run],
    work: Work,
    check: Callable[[Any], None],
    setting: Setting,
) -> Contest:
    names = {f"{size:,} {label}": size for size in runs}
    contestants = {name: runs[size] for name, size in names.items()}
    return Contest(
        title,
        contestants,
        ours=list(names)[-1],
        references=(),
        work=work,
        checks=dict.fromkeys(names, check),
        setting=setting,
        series=Series(label, names),
    )

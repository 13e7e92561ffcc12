"""Run the zero-code checks and the baseline comparison on a model with a planted defect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import zoo_networks as networks

from convlens import Lens, assert_matches_baseline
from convlens.baselines.check import Store, compare_with_baseline, current_device, observe
from convlens.checks.battery import BATTERY
from convlens.checks.check import Effort, run_check
from convlens.fixtures.defects import AUGMENTATION, DEFECTS, SOFTMAX, places, plant
from convlens.fixtures.digits import load_digits

BASELINE = "baseline"
# The layers that defects add.
ADDED = {"softmax-twice": SOFTMAX, "augmentation-left-on": f"{AUGMENTATION}.shift"}


@dataclass(frozen=True)
class Alarm:
    """A failed check of the battery, or a failed baseline comparison.

    Attributes:
        check: name of the check.
        layer: layer of the check, or the first layer that its message quotes.
        message: message of the failure.
    """

    check: str
    layer: str | None
    message: str


def lens_of(model: keras.Model, high: float) -> Lens:
    """Return a lens of a model with the shipped digits in its colors and value range."""
    images, labels = load_digits()
    if model.input_shape[-1] == 3:
        images = networks.colored(images) / 255.0 * high
    return Lens(model, images, labels, value_range=(0.0, high), source="200 shipped digits")


def battery(lens: Lens, effort: Effort, names: tuple[str, ...] | None = None) -> list[Alarm]:
    """Return the failed checks in the order of the run; all checks, or those of some names."""
    alarms = []
    for check in BATTERY:
        if names is not None and check.name not in names:
            continue
        for layer in check.layers(lens, effort):
            if check.reason_to_skip(lens, layer) is not None:
                continue
            try:
                check.verdict(run_check(check, lens, layer, effort))
            except AssertionError as error:
                named = _quoted(str(error), lens) if layer is None else layer
                alarms.append(Alarm(check.name, named, str(error)))
    return alarms


def baseline_alarm(lens: Lens, folder: Path) -> Alarm | None:
    """Return the failure of the baseline comparison; None if it passes."""
    try:
        place = Store(folder, current_device())
        comparison = compare_with_baseline(place, lens.name, observe(lens))
    except (AssertionError, FloatingPointError) as error:
        return Alarm(BASELINE, _quoted(str(error), lens), str(error))
    if comparison.passed:
        return None
    # An added layer is named in the verdict, before the first layer that differs.
    added = (name for name in ADDED.values() if comparison.verdict.endswith(f"added {name}."))
    return Alarm(BASELINE, next(added, comparison.first), comparison.message)


def _quoted(message: str, lens: Lens) -> str | None:
    at = {name: message.find(f"'{name}'") for name in lens.network.outputs}
    found = {name: place for name, place in at.items() if place >= 0}
    return min(found, key=lambda name: found[name]) if found else None


class Zoo:
    """A healthy network for planting one defect after another."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.healthy, self.high = networks.load(name)
        self.lens = lens_of(networks.load(name)[0], self.high)
        self.folder = folder
        assert_matches_baseline(self.lens, folder, self.lens.name, update="missing")

    def broken(self, defect: str, layer: str) -> Lens:
        """Return the network with a defect; reuse compiled functions if the graph is the same."""
        images, labels = self.lens.images, self.lens.labels
        model = plant(self.healthy, defect, layer, images=images, labels=labels)
        if model.to_json() != self.healthy.to_json():
            return lens_of(model, self.high)
        self.lens.model.set_weights(model.get_weights())
        return self.lens

    def places(self, defect: str) -> tuple[str, ...]:
        """Return the layers where the defect can be planted."""
        return places(self.healthy, defect)


def faulty_layers(defect: str, layer: str, lens: Lens, check: str) -> set[str]:
    """Return the layers that a check may name first.

    A filter that a batch normalization silences is dead at its convolution, which `dead` judges by
    the ReLU behind both.
    """
    if defect == "silent-after-batch-norm" and check != BASELINE:
        return {layer, *lens.network.sources(layer)}
    return {ADDED.get(defect, layer)}


def found(alarms: list[Alarm], defect: str, layer: str, lens: Lens) -> dict[str, bool]:
    """Return failed check → whether the first layer it names is the faulty one."""
    order = [*lens.network.outputs]
    result = {}
    for check in dict.fromkeys(alarm.check for alarm in alarms):
        named = [a.layer for a in alarms if a.check == check and a.layer is not None]
        first = min(named, key=order.index) if named else None
        result[check] = first in faulty_layers(defect, layer, lens, check)
    return result


__all__ = ["BASELINE", "DEFECTS", "Alarm", "Zoo", "baseline_alarm", "battery", "found", "lens_of"]

"""The zero-code battery over one model, and what it and a baseline make of planted defects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import zoo_networks as networks

from convlens import Lens, assert_matches_baseline
from convlens.baselines.check import Store, compare_with_baseline, current_device, observe
from convlens.battery import PROPERTIES, Settings, look_at
from convlens.fixtures.defects import DEFECTS, SOFTMAX, places, plant
from convlens.fixtures.digits import load_digits

BASELINE = "baseline"


@dataclass(frozen=True)
class Alarm:
    """A check that failed: an item of the battery, or the baseline.

    Attributes:
        check: the item's name.
        layer: the layer that it names: the item's own, else the first that its message quotes.
        message: what it says.
    """

    check: str
    layer: str | None
    message: str


def lens_of(model: keras.Model, high: float) -> Lens:
    """Return a model bound to the shipped digits in the colors and the range that it takes."""
    images, labels = load_digits()
    if model.input_shape[-1] == 3:
        images = networks.colored(images) / 255.0 * high
    return Lens(model, images, labels, value_range=(0.0, high), source="200 shipped digits")


def battery(lens: Lens, settings: Settings) -> list[Alarm]:
    """Return the items that fail, in the order of the run."""
    alarms = []
    for prop in PROPERTIES:
        for layer in prop.layers(lens):
            if prop.reason_to_skip(lens, layer) is not None:
                continue
            try:
                seen = look_at(prop, lens, layer, settings)
                prop.judge(lens, layer, seen)
            except AssertionError as error:
                named = _quoted(str(error), lens) if layer is None else layer
                alarms.append(Alarm(prop.name, named, str(error)))
    return alarms


def baseline_alarm(lens: Lens, folder: Path) -> Alarm | None:
    """Return how the baseline in a folder fails; None where it holds."""
    try:
        place = Store(folder, current_device())
        comparison = compare_with_baseline(place, lens.name, observe(lens))
    except (AssertionError, FloatingPointError) as error:
        return Alarm(BASELINE, _quoted(str(error), lens), str(error))
    if comparison.passed:
        return None
    # Where a layer is new, the verdict says so before it says where the others differ.
    named = SOFTMAX if comparison.verdict.endswith(f"added {SOFTMAX}.") else comparison.first
    return Alarm(BASELINE, named, comparison.message)


def _quoted(message: str, lens: Lens) -> str | None:
    at = {name: message.find(f"'{name}'") for name in lens.network.outputs}
    found = {name: place for name, place in at.items() if place >= 0}
    return min(found, key=lambda name: found[name]) if found else None


class Zoo:
    """A healthy network, in which one defect after another is planted."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.healthy, self.high = networks.load(name)
        self.lens = lens_of(networks.load(name)[0], self.high)
        self.folder = folder
        assert_matches_baseline(self.lens, folder, self.lens.name, update="missing")

    def broken(self, defect: str, layer: str) -> Lens:
        """Return the network with a defect, by the same compiled functions where they still fit."""
        images, labels = self.lens.images, self.lens.labels
        model = plant(self.healthy, defect, layer, images=images, labels=labels)
        if model.to_json() != self.healthy.to_json():
            return lens_of(model, self.high)
        self.lens.model.set_weights(model.get_weights())
        return self.lens

    def places(self, defect: str) -> tuple[str, ...]:
        """Return where the defect can be planted."""
        return places(self.healthy, defect)


def to_be_named(defect: str, layer: str) -> str:
    """Return the layer whose output is wrong first."""
    return SOFTMAX if defect == "softmax-twice" else layer


def found(alarms: list[Alarm], defect: str, layer: str, order: list[str]) -> dict[str, bool]:
    """Return each check that failed, and whether the first layer that it names is the right one."""
    result = {}
    for check in dict.fromkeys(alarm.check for alarm in alarms):
        named = [a.layer for a in alarms if a.check == check and a.layer is not None]
        first = min(named, key=order.index) if named else None
        result[check] = first == to_be_named(defect, layer)
    return result


__all__ = ["BASELINE", "DEFECTS", "Alarm", "Zoo", "baseline_alarm", "battery", "found", "lens_of"]

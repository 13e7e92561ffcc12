"""The benchmark cases: each combines a core with a network and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from convlens.benchmarks import cores, scaling, styles
from convlens.benchmarks.contest import Contest
from convlens.benchmarks.subjects import Setting

Build = Callable[[Setting], Contest]

# Cores for any network, for any classifier, and cores with a network of their own.
ANY_NETWORK: dict[str, Build] = {
    "activations": cores.features,
    "ascent": cores.ascent,
    "deconvnet": cores.deconvnet,
    "top": cores.top,
    "baseline": cores.baseline,
}
CLASSIFIERS: dict[str, Build] = {"classes": cores.classes}
OWN_NETWORK: dict[str, Build] = {
    "gram": cores.gram,
    "style": styles.style,
    "style-loss": styles.style_loss,
    "zero-code": cores.zero_code,
    "units": scaling.units,
    "pixels": scaling.pixels,
    "images": scaling.images,
    "effort": scaling.effort,
}
# Cores for --convlens-bench=full only: this one needs the zero-code run twice.
OWN_NETWORK_FULL: dict[str, Build] = {"report": cores.report}
_VARIED_CORES = ("activations", "ascent", "deconvnet")


@dataclass(frozen=True)
class Case:
    """A core with its settings.

    Attributes:
        core: name of the core.
        build: function that returns the contest.
        setting: settings of the contest.
    """

    core: str
    build: Build
    setting: Setting

    @property
    def name(self) -> str:
        """Unique name of the case, such as 'ascent-VGG19-mixed_bfloat16'."""
        if self.core in OWN_NETWORK | OWN_NETWORK_FULL:
            return self.core
        setting, parts = self.setting, []
        if setting.dtype != "float32":
            parts.append(setting.dtype)
        if setting.xla:
            parts.append("xla")
        if setting.device is not None:
            parts.append(setting.device)
        if setting.batch is not None:
            parts.append(f"batch{setting.batch}")
        return "-".join([self.core, setting.model, *parts])


def cases(
    full: bool, accelerated: bool, loads: dict[str, Callable[[], Any]] | None = None
) -> list[Case]:
    """Return the cases of the suite.

    Args:
        full: True for every network, data type, device and batch size; False for a selection that
            takes three minutes on two cores.
        accelerated: True if there is an accelerator. Then all networks are also compiled with XLA,
            which would take hours on a CPU.
        loads: name → function that loads a user's network, in place of the suite's own networks.
    """
    base = Setting(full=full)
    if loads is not None:
        users = [replace(base, model=name, load=load) for name, load in loads.items()]
        settings = [*users, *(replace(s, dtype="mixed_bfloat16") for s in users if full)]
        return [
            Case(core, build, setting)
            for setting in settings
            for core, build in (ANY_NETWORK | CLASSIFIERS).items()
        ]
    found = [Case(core, build, base) for core, build in (ANY_NETWORK | CLASSIFIERS).items()]
    for model in ("VGG19", "ResNet50"):
        for core, build in ANY_NETWORK.items():
            if full or core == "ascent":
                found.append(Case(core, build, replace(base, model=model)))
    if full:
        found += [
            Case(core, ANY_NETWORK[core], s)
            for s in _variants(base, accelerated)
            for core in _VARIED_CORES
        ]
        found += [Case("ascent", cores.ascent, replace(base, batch=n)) for n in (1, 8)]
    own = OWN_NETWORK | (OWN_NETWORK_FULL if full else {})
    return found + [Case(core, build, base) for core, build in own.items()]


def _variants(base: Setting, accelerated: bool) -> Iterator[Setting]:
    for model in ("mnist_cnn", "VGG19"):
        on = replace(base, model=model)
        yield replace(on, dtype="mixed_bfloat16")
        yield replace(on, dtype="mixed_float16")
        # On the CPU, TensorFlow's XLA crashes in loops of a few hundred steps.
        if accelerated:
            yield replace(on, xla=True)
            yield replace(on, device="cpu:0")

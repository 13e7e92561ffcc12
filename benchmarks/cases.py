"""Which cores are timed on which networks, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from convlens.benchmarks import cores, scaling, styles
from convlens.benchmarks.contest import Contest
from convlens.benchmarks.subjects import Setting

Build = Callable[[Setting], Contest]

# Those that take a network of the user's choice, and those that bring their own.
ON_ANY: dict[str, Build] = {
    "activations": cores.features,
    "ascent": cores.ascent,
    "deconvnet": cores.deconvnet,
    "top": cores.top,
    "baseline": cores.baseline,
}
OF_CLASSIFIERS: dict[str, Build] = {"classes": cores.classes}
ON_THEIR_OWN: dict[str, Build] = {
    "gram": cores.gram,
    "style": styles.style,
    "style-loss": styles.style_loss,
    "zero-code": cores.zero_code,
    "units": scaling.units,
    "pixels": scaling.pixels,
    "images": scaling.images,
}
# What takes the zero-code run twice.
ON_THEIR_OWN_IN_FULL: dict[str, Build] = {"report": cores.report}
_TYPED = ("activations", "ascent", "deconvnet")


@dataclass(frozen=True)
class Case:
    """A core and how it is run.

    Attributes:
        core: its name.
        build: makes the contest.
        setting: of it.
    """

    core: str
    build: Build
    setting: Setting

    @property
    def name(self) -> str:
        """What tells it from the others, such as 'ascent-VGG19-mixed_bfloat16'."""
        if self.core in ON_THEIR_OWN | ON_THEIR_OWN_IN_FULL:
            return self.core
        at, given = self.setting, []
        if at.dtype != "float32":
            given.append(at.dtype)
        if at.xla:
            given.append("xla")
        if at.device is not None:
            given.append(at.device)
        if at.batch is not None:
            given.append(f"batch{at.batch}")
        return "-".join([self.core, at.model, *given])


def cases(
    full: bool, accelerated: bool, loads: dict[str, Callable[[], Any]] | None = None
) -> list[Case]:
    """Return what the suite times.

    Args:
        full: every network, type, device and batch; else what takes three minutes on two cores.
        accelerated: whether there is an accelerator, on which all networks are also compiled by
            XLA; on a CPU that takes hours.
        loads: the user's networks by name, in place of the suite's own.
    """
    base = Setting(full=full)
    if loads is not None:
        users = [replace(base, model=name, load=load) for name, load in loads.items()]
        settings = [*users, *(replace(s, dtype="mixed_bfloat16") for s in users if full)]
        return [
            Case(core, build, setting)
            for setting in settings
            for core, build in (ON_ANY | OF_CLASSIFIERS).items()
        ]
    found = [Case(core, build, base) for core, build in (ON_ANY | OF_CLASSIFIERS).items()]
    for model in ("VGG19", "ResNet50"):
        for core, build in ON_ANY.items():
            if full or core == "ascent":
                found.append(Case(core, build, replace(base, model=model)))
    if full:
        found += [
            Case(core, ON_ANY[core], s) for s in _variants(base, accelerated) for core in _TYPED
        ]
        found += [Case("ascent", cores.ascent, replace(base, batch=n)) for n in (1, 8)]
    own = ON_THEIR_OWN | (ON_THEIR_OWN_IN_FULL if full else {})
    return found + [Case(core, build, base) for core, build in own.items()]


def _variants(base: Setting, accelerated: bool) -> Iterator[Setting]:
    for model in ("mnist_cnn", "VGG19"):
        on = replace(base, model=model)
        yield replace(on, dtype="mixed_bfloat16")
        yield replace(on, dtype="mixed_float16")
        # TensorFlow's XLA on the CPU ends the process in loops of some hundred steps.
        if accelerated:
            yield replace(on, xla=True)
            yield replace(on, device="cpu:0")

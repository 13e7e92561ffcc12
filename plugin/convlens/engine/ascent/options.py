"""Options and presets of activation maximization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from convlens.engine.ascent.optimizers import OptimizerName
from convlens.engine.ascent.parametrization import Basis, Parametrization
from convlens.engine.ascent.transforms import Transforms

Preset = Literal["keras-vis", "feature-visualization"]
Kept = Literal["measured", "climbed", "last"]
MAX_STEPS = 1_000_000  # the random draws of all steps are made beforehand


@dataclass(frozen=True)
class AscentOptions:
    """Options of an ascent; `maximize` describes most of them.

    Attributes:
        last_step: size of the last steps as a share of `step_size`; 1 for steps of one size.
        fade: share of the steps in which the random transformations fade out; 0 for transformations
            that do not fade.
        waking: share of the steps in which the threshold of a ReLU unit is lowered, so that the
            gradient comes from more positions than those that fire; see `Scores.to_climb`.
        kept: the iterate to return: 'measured' for the one with the highest measured activation,
            'climbed' for the one after the step whose penalized objective, taken before the step
            on the transformed image, was the highest, 'last' for the last one.
        preset: the preset that the options come from; None for the defaults.
    """

    steps: int
    step_size: float
    last_step: float
    fade: float
    waking: float
    optimizer: OptimizerName
    parametrization: Parametrization
    transforms: Transforms
    undo_jitter: bool
    norm_weight: float
    tv_weight: float
    diversity_weight: float
    kept: Kept
    preset: Preset | None = None

    @property
    def factors(self) -> tuple[float, float, float]:
        """The weights of the norm, the total variation and the diversity term."""
        return self.norm_weight, self.tv_weight, self.diversity_weight

    @property
    def structure(self) -> tuple[object, ...]:
        """The options that a compiled loop is made for; it takes all others as arguments."""
        return (
            self.optimizer,
            self.parametrization,
            self.transforms.resamples,
            self.undo_jitter,
            bool(self.norm_weight),
            bool(self.tv_weight),
            self.kept == "climbed",
        )


_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 300,
        "step_size": None,
        "last_step": 0.002,
        "fade": 0.5,
        "waking": 0.5,
        "optimizer": "adam",
        "basis": "pixel",
        "decorrelate": False,
        "jitter": 0.05,
        "scale": (1.0, 1.0),
        "rotation": 0.0,
        "undo_jitter": True,
        "norm_weight": 0.0,
        "tv_weight": 0.0,
        "diversity_weight": 2.0,
        "clip": True,
        "kept": "measured",
    }
)
_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "keras-vis": {
            "steps": 200,
            "step_size": 1.0,
            "last_step": 1.0,
            "fade": 0.0,
            "waking": 0.0,
            "optimizer": "rmsprop",
            "undo_jitter": False,
            "norm_weight": 10.0,
            "tv_weight": 10.0,
            "clip": False,
            "kept": "climbed",
        },
        "feature-visualization": {
            "basis": "fourier",
            "decorrelate": None,  # True for images of 3 channels
            "jitter": 0.06,
            "scale": (0.9, 1.1),
            "rotation": 10.0,
        },
    }
)


def ascent_options(
    preset: Preset | None,
    value_range: tuple[float, float],
    channels: int | None,
    keep_best: bool | None,
    **given: Any,
) -> AscentOptions:
    """Return the options of a preset, or the defaults, overridden by `given` values except None.

    `keep_best` is False to return the last iterate; else the recipe's best one is returned.

    Raises:
        ValueError: an unknown preset, an option out of its bounds.
    """
    if preset is not None and preset not in _PRESETS:
        names = " or ".join(map(repr, _PRESETS))
        raise ValueError(f"preset must be {names}, or None, not {preset!r}")
    chosen = {**_DEFAULTS, **(_PRESETS[preset] if preset else {})}
    chosen.update({name: value for name, value in given.items() if value is not None})
    basis: Basis = chosen.pop("basis")
    decorrelate = chosen.pop("decorrelate")
    if decorrelate is None:
        decorrelate = channels == 3
    _check_options(basis, decorrelate, channels, chosen)
    space = Parametrization(basis, bool(decorrelate), bool(chosen.pop("clip")), value_range)
    low, high = (float(factor) for factor in chosen.pop("scale"))
    transforms = Transforms(float(chosen.pop("jitter")), (low, high), float(chosen.pop("rotation")))
    if keep_best is False:
        chosen["kept"] = "last"
    if chosen["step_size"] is None:
        chosen["step_size"] = space.default_step
    return AscentOptions(parametrization=space, transforms=transforms, preset=preset, **chosen)


def check_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """Return (low, high) as floats.

    Raises:
        ValueError: not two finite numbers, the first below the second.
    """
    try:
        low, high = (float(v) for v in value_range)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"value_range must be (low, high) with low < high, not {value_range!r}")
    return low, high


def _check_options(
    basis: str, decorrelate: bool, channels: int | None, chosen: dict[str, Any]
) -> None:
    if not 1 <= chosen["steps"] <= MAX_STEPS:
        raise ValueError(f"steps must be between 1 and {MAX_STEPS:,}, not {chosen['steps']}")
    if chosen["step_size"] is not None and not chosen["step_size"] > 0:
        raise ValueError(f"step_size must be above 0, not {chosen['step_size']}")
    for name in ("jitter", "rotation", "diversity_weight"):
        if not chosen[name] >= 0:
            raise ValueError(f"{name} must be 0 or more, not {chosen[name]}")
    if basis not in ("pixel", "fourier"):
        raise ValueError(f"basis must be 'pixel' or 'fourier', not {basis!r}")
    if decorrelate and channels != 3:
        raise ValueError(f"decorrelate needs images of 3 channels, not {channels}")
    try:
        low, high = chosen["scale"]
        fine = 0 < low <= high < math.inf
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(f"scale must be (min, max) with 0 < min <= max, not {chosen['scale']!r}")

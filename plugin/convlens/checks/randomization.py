"""Randomization: an explanation changes when layers of the network are re-initialized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite
from convlens.engine.explain.randomization import RandomizationCurve


@dataclass(frozen=True)
class RandomizationSensitivity:
    """Similarity to the trained network's explanation after each step of the randomization.

    In each step one more layer is re-initialized, from the top of the network down.

    Attributes:
        layers: the re-initialized layers, the top one first.
        spearman: (k,) mean over the images of the rank correlation of absolute values.
        ssim: (k,) mean over the images of the structural similarity.
        compared: (k,) number of images with a comparison; in the others the explanation has the
            same value at every pixel.
    """

    layers: tuple[str, ...]
    spearman: NDArray[np.float64]
    ssim: NDArray[np.float64]
    compared: NDArray[np.int64]


def assert_randomization_sensitive(
    curve: RandomizationCurve, *, limit: float = 0.6, ssim_limit: float = 0.6
) -> RandomizationSensitivity:
    """Assert that an explanation changes when the layers that it explains are re-initialized.

    After each layer, the mean over the images of both similarities to the trained network's
    explanation must not exceed its limit (Adebayo et al. 2018, "Sanity Checks for Saliency Maps").
    An explanation that fails depends on the image and on lower layers alone: it is no evidence of
    what the named layer has learned.

    Args:
        curve: the result of `randomization_curve`.
        limit: largest Spearman rank correlation of the absolute explanations.
        ssim_limit: largest structural similarity of the explanations.

    Returns:
        The similarities after each layer; see `RandomizationSensitivity`.

    Raises:
        AssertionError: the explanation is still similar after some layer; no layer was
            re-initialized; an explanation is not finite; or fewer than half of the images can be
            compared.
        ValueError: a limit below -1, or of 1 or more.
    """
    __tracebackhide__ = True
    for name, value in (("limit", limit), ("ssim_limit", ssim_limit)):
        if not -1 <= value < 1:
            raise ValueError(f"{name} must be at least -1 and less than 1, not {value!r}")
    what = f"{curve.model}: {curve.method} of {curve.layer!r}"
    if not curve.layers or not len(curve.units):
        raise AssertionError(f"{what}: no layer was re-initialized, or no image was explained")
    assert_finite({"trained": curve.explanation, "after": curve.explanations}, name=what)
    usable = np.isfinite(curve.spearman) & np.isfinite(curve.ssim)
    compared = usable.sum(axis=1)
    n = len(curve.units)
    raise_offenders(
        f"{what}: more than half of {n} images cannot be compared, because their explanation has "
        "the same value at every pixel:",
        [
            f"after {name!r}: {count} of {n} could be compared"
            for name, count in zip(curve.layers, compared, strict=True)
            if count < max(1, n / 2)
        ],
    )
    spearman, ssim = (
        np.where(usable, v, 0).sum(axis=1) / compared for v in (curve.spearman, curve.ssim)
    )
    steps = list(zip(curve.layers, spearman, ssim, strict=True))
    excess = np.maximum(spearman - limit, ssim - ssim_limit)
    wrong = np.flatnonzero(~(excess <= 0))
    if len(wrong):
        line = "  ".join(f"{name} {a:.2f}/{b:.2f}" for name, a, b in steps)
        raise_offenders(
            f"{what} is still similar after {curve.layers[wrong[0]]!r} "
            f"{'and all above it ' if wrong[0] else ''}was re-initialized, in {len(wrong)} of "
            f"{len(steps)} steps: rank correlation at most {limit:g} and structural similarity at "
            f"most {ssim_limit:g} are allowed, seed {curve.seed}\n  curve: {line}",
            [
                f"after {curve.layers[i]!r}: rank correlation {spearman[i]:.3f}, structural "
                f"similarity {ssim[i]:.3f}; most in {_worst(curve, int(i))}"
                for i in wrong[np.argsort(-excess[wrong], kind="stable")]
            ],
        )
    return RandomizationSensitivity(curve.layers, spearman, ssim, compared)


def _worst(curve: RandomizationCurve, step: int) -> str:
    """Return the image whose explanation changed least at a step, with its unit."""
    image = int(np.nanargmax(curve.spearman[step]))
    return f"image {image}, unit {curve.units[image]} ({curve.spearman[step, image]:.3f})"

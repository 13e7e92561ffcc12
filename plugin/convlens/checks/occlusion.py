"""Occlusion: a class's score depends on the object and not on the background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite
from convlens.engine.explain.occlusion import Occlusion


def assert_occlusion_sensitive(
    occlusion: Occlusion, *, drop: float = 0.1, fraction: float = 1.0
) -> NDArray[np.float32]:
    """Assert that hiding some part of an image lowers the score of its class.

    For each image max_p (s - s_p) ≥ drop·|s|, with s the score before the softmax on the whole
    image and s_p with patch p hidden.

    Args:
        occlusion: the result of `occlude`.
        drop: smallest fall of the score, relative to the score.
        fraction: share of the images in which the score must fall, 0 to 1.

    Returns:
        (n,) each image's largest fall, relative to its score.

    Raises:
        AssertionError: the score falls in too few images, a score is not finite, or the patches
            hide nothing.
    """
    __tracebackhide__ = True
    _assert_hides(occlusion)
    falls = occlusion.drops.max(axis=1)
    size = np.maximum(np.abs(occlusion.score), np.finfo(np.float32).tiny)
    relative = (falls / size).astype(np.float32)
    wrong = np.flatnonzero(~((relative >= drop) & (falls > 0)))
    if len(wrong) > (1 - fraction) * len(relative) + 1e-9:
        raise_offenders(
            f"{occlusion.model}: hiding parts of {len(wrong)} of {len(relative)} images does not "
            f"lower the score of their class by {drop:g} of it:",
            [
                f"image {i}, class {occlusion.classes[i]}: {occlusion.score[i]:.4g} falls by at "
                f"most {falls[i]:.4g}"
                for i in wrong[np.argsort(relative[wrong], kind="stable")]
            ],
        )
    return relative


def assert_occlusion_on_object(
    occlusion: Occlusion, masks: ArrayLike, *, factor: float = 2.0, fraction: float = 1.0
) -> NDArray[np.float32]:
    """Assert that hiding the object lowers its class's score more than hiding the background.

    For each image a > 0 and a > factor·b, with a the mean of the heat map (how far the score falls
    where a pixel is hidden) over the object, and b over the background, where it may be negative.

    Args:
        occlusion: the result of `occlude`.
        masks: (n, h, w), true on the object.
        factor: factor by which the object's fall must exceed the background's.
        fraction: share of the images in which it must, 0 to 1.

    Returns:
        (n, 2) mean fall on the object and on the background.

    Raises:
        AssertionError: the score depends on the background in too many images, a score is not
            finite, or the patches hide nothing.
        ValueError: masks of a wrong shape, or a mask that is empty or covers its image.
    """
    __tracebackhide__ = True
    on = np.asarray(masks).astype(bool)
    want = occlusion.images.shape[:3]
    if on.shape != want:
        raise ValueError(f"masks must have shape {want}, one for each image, not {on.shape}")
    shares = on.mean(axis=(1, 2))
    if ((shares == 0) | (shares == 1)).any():
        i = int(np.flatnonzero((shares == 0) | (shares == 1))[0])
        what = "empty" if shares[i] == 0 else "as large as the image"
        raise ValueError(
            f"the mask of image {i} is {what}: it must cover the object and nothing else"
        )
    _assert_hides(occlusion)
    heat = occlusion.heat
    inside = np.array([h[m].mean() for h, m in zip(heat, on, strict=True)])
    outside = np.array([h[~m].mean() for h, m in zip(heat, on, strict=True)])
    wrong = np.flatnonzero(~((inside > 0) & (inside > factor * outside)))
    if len(wrong) > (1 - fraction) * len(on) + 1e-9:
        excess = inside[wrong] - factor * outside[wrong]
        raise_offenders(
            f"{occlusion.model}: in {len(wrong)} of {len(on)} images the score of the class does "
            f"not depend on the object ({factor:g} times the background, at least "
            f"{fraction:.0%} of the images):",
            [
                f"image {i}, class {occlusion.classes[i]}: {occlusion.score[i]:.4g} falls by "
                f"{inside[i]:.4g} on the object, {outside[i]:.4g} on the background"
                for i in wrong[np.argsort(excess, kind="stable")]
            ],
        )
    return np.stack([inside, outside], axis=1).astype(np.float32)


def _assert_hides(occlusion: Occlusion) -> None:
    """Assert that there is something to judge: finite scores, and patches that change pixels."""
    __tracebackhide__ = True
    name = f"{occlusion.model}: the occlusion"
    assert_finite({"score": occlusion.score, "scores": occlusion.scores}, name=name)
    same = np.isclose(occlusion.images, occlusion.value, rtol=0, atol=1e-7).all(axis=(1, 2, 3))
    if same.any():
        raise AssertionError(
            f"{name} hides nothing: image {int(np.flatnonzero(same)[0])} is as uniform as the patch"
        )

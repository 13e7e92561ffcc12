"""What a class's score hangs on is the object, and not the background."""

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
        occlusion: what `occlude` returned.
        drop: the fall that is asked for, relative to the score.
        fraction: the share of the images for which it must hold.

    Returns:
        (n,) each image's largest fall, relative to its score.

    Raises:
        AssertionError: too many images whose score does not fall, scores that are not finite, or
            patches that hide nothing.
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
        occlusion: what `occlude` returned.
        masks: (n, h, w), true on the object.
        factor: how many times the background's fall the object's must exceed.
        fraction: the share of the images for which it must hold.

    Returns:
        (n, 2) the mean fall on the object and on the background.

    Raises:
        AssertionError: too many images whose score hangs on the background, scores that are not
            finite, or patches that hide nothing.
        ValueError: masks of another shape, or one that is empty or covers its image.
    """
    __tracebackhide__ = True
    on = np.asarray(masks).astype(bool)
    want = occlusion.images.shape[:3]
    if on.shape != want:
        raise ValueError(f"masks have shape {want}, one an image, not {on.shape}")
    shares = on.mean(axis=(1, 2))
    if ((shares == 0) | (shares == 1)).any():
        i = int(np.flatnonzero((shares == 0) | (shares == 1))[0])
        what = "empty" if shares[i] == 0 else "as large as the image"
        raise ValueError(f"the mask of image {i} is {what}: object and background are compared")
    _assert_hides(occlusion)
    heat = occlusion.heat
    inside = np.array([h[m].mean() for h, m in zip(heat, on, strict=True)])
    outside = np.array([h[~m].mean() for h, m in zip(heat, on, strict=True)])
    wrong = np.flatnonzero(~((inside > 0) & (inside > factor * outside)))
    if len(wrong) > (1 - fraction) * len(on) + 1e-9:
        excess = inside[wrong] - factor * outside[wrong]
        raise_offenders(
            f"{occlusion.model}: in {len(wrong)} of {len(on)} images the score of the class does "
            f"not hang on the object ({factor:g} times the background, at least "
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

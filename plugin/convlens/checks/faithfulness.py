"""Faithfulness: the class depends on the pixels that an explanation ranks first."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite
from convlens.engine.explain.faithfulness import (
    Substitute,
    check_saliency,
    deletion_curve,
    insertion_curve,
)
from convlens.engine.model.network import Network


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the deletion and insertion curves, and those of the control orders.

    Attributes:
        classes: (n,) the followed classes.
        deletion, insertion: (n,) the areas of the explanation.
        random_deletion, random_insertion: (r, n) those of random orders of the same pixels.
        own: share of the comparisons between an image's own explanation and other images' that its
            own one wins; NaN for a single image.
    """

    classes: NDArray[np.int64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]
    own: float


def assert_faithful(
    model: keras.Model | Network,
    images: ArrayLike,
    saliency: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    margin: float = 0.05,
    fraction: float = 0.6,
    own: float = 0.7,
    orders: int = 8,
    deleted: Substitute = "mean",
    inserted: Substitute = "mean",
    steps: int = 28,
    seed: int = 0,
    batch_size: int = 256,
) -> Faithfulness:
    """Assert that an explanation ranks the pixels first on which the class depends.

    In an image the area under the deletion curve (Petsiuk et al. 2018) must be below that of every
    random order and at least `margin` below their mean, and the area under the insertion curve
    above likewise; in at least `fraction` of the images. With two images or more, each one's
    explanation must also beat those of up to `orders` others on its own image, in at least `own` of
    all comparisons of areas: explanations of the wrong images beat random orders wherever objects
    lie in the middle, and win about half.

    Args:
        model, images, saliency, classes, steps, batch_size: as in `deletion_curve`.
        margin: smallest distance to the mean area of the random orders, above 0.
        fraction: share of the images in which the explanation must beat the random orders, 0 to 1.
        own: share of the comparisons with other images' explanations that must be won, 0 to 1.
        orders: number of random orders, and maximum number of other images' explanations.
        deleted: substitute for deleted pixels.
        inserted: the image that an insertion begins with. The paper begins with 'blur'; a blurred
            small image still shows the object, so that orders differ less.
        seed: seed of the random orders, and of the order of equal values.

    Returns:
        The areas; see `Faithfulness`.

    Raises:
        AssertionError: random orders do as well in too many images; the explanations suit other
            images as well; saliency is not finite, or the same at every pixel of an image; an
            output is not finite.
        ValueError: as `deletion_curve` raises; `orders` is below 1; or `margin`, `fraction` or
            `own` is out of range.
    """
    __tracebackhide__ = True
    if not (margin > 0 and 0 < fraction <= 1 and 0 < own <= 1 and orders >= 1):
        raise ValueError(
            "margin must be above 0, fraction and own above 0 and at most 1, orders at least 1, "
            f"not {margin!r}, {fraction!r}, {own!r} and {orders!r}"
        )
    network = Network.of(model)
    given = np.asarray(images)
    x = network.check_pictures(given)
    values = check_saliency(saliency, x)
    assert_finite({"saliency": values}, name=f"{network.name}: the explanation")
    flat = values.reshape(len(x), -1)
    same = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    raise_offenders(
        f"{network.name}: {len(same)} of {len(x)} explanations give every pixel the same value, "
        "and so no order:",
        [f"image {i}: {flat[i, 0]:g} everywhere" for i in same],
    )

    def areas(
        ranked: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        options = {"steps": steps, "seed": seed, "batch_size": batch_size}
        out = deletion_curve(network, x, ranked, classes, substitute=deleted, **options)
        into = insertion_curve(network, x, ranked, classes, substitute=inserted, **options)
        return out.area, into.area, out.classes

    deletion, insertion, followed = areas(values)
    draw = np.random.default_rng(seed)
    control = [areas(draw.random(values.shape)) for _ in range(orders)]
    random_out: NDArray[np.float64] = np.stack([c[0] for c in control])
    random_in: NDArray[np.float64] = np.stack([c[1] for c in control])
    measured = {"deletion": deletion, "insertion": insertion}
    measured |= {"random deletion": random_out, "random insertion": random_in}
    assert_finite(measured, name=f"{network.name}: an area under a curve")
    fell = random_out.mean(axis=0) - deletion
    rose = insertion - random_in.mean(axis=0)
    held = (np.minimum(fell, rose) >= margin) & (deletion < random_out.min(axis=0))
    held &= insertion > random_in.max(axis=0)
    wrong = np.flatnonzero(~held)
    if len(wrong) > (1 - fraction) * len(x) + 1e-9:
        raise_offenders(
            f"{network.name}: in {len(wrong)} of {len(x)} images random orders of the pixels do as "
            f"well as the explanation, or nearly ({orders} orders, each to be beaten and their "
            f"mean by {margin:g}, in at least {fraction:.0%} of the images):",
            [
                f"image {i}, class {followed[i]}: deletion {deletion[i]:.3f}, random "
                f"{_spread(random_out[:, i])}; insertion {insertion[i]:.3f}, random "
                f"{_spread(random_in[:, i])}"
                for i in wrong[np.argsort(np.minimum(fell, rose)[wrong], kind="stable")]
            ],
        )
    others = [
        areas(np.roll(values, shift, axis=0)) for shift in range(1, min(orders, len(x) - 1) + 1)
    ]
    wins = [np.stack([deletion < o[0], insertion > o[1]]) for o in others]
    share = float(np.mean(wins)) if wins else float("nan")
    if wins and not share >= own:
        each = np.mean(wins, axis=(0, 1))
        raise_offenders(
            f"{network.name}: the explanations suit other images as well as their own: their own "
            f"wins {share:.0%} of the comparisons with {len(others)} others (at least {own:.0%} "
            "must be won):",
            [
                f"image {i}, class {followed[i]}: its own wins {each[i]:.0%}"
                for i in np.argsort(each, kind="stable")
                if each[i] < own
            ],
        )
    return Faithfulness(followed, deletion, insertion, random_out, random_in, share)


def _spread(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"

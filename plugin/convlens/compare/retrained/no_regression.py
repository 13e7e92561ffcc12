"""Hold a retrained model beside the one before, and judge what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.compare.keras_model import KerasModel
from convlens.compare.retrained.answers import answers_of, check_classes, check_shapes
from convlens.compare.retrained.churn import compare_answers, explain
from convlens.compare.retrained.hidden import LayerSimilarity, compare_hidden
from convlens.compare.retrained.limits import Limits
from convlens.compare.retrained.outputs import compare_outputs
from convlens.compare.retrained.retraining import Retraining
from convlens.compare.retrained.weights import LayerFinding, compare_weights
from convlens.compare.runtime import Runtime
from convlens.compare.same import source_name
from convlens.compare.sources import open_source
from convlens.engine.model.classes import class_numbers

# Fewer images tell no loss from chance.
MIN_IMAGES = 20


def assert_no_regression(
    new: Any,
    old: Any,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    min_agreement: float | None = None,
    allow_legacy: bool = False,
) -> Retraining:
    """Assert that a retrained classifier lost nothing that the one before could do.

    The limits are those of healthy trainings. Of 60 ordered pairs of three recipes (two data sets)
    none alarmed with labels on all images, and 8 of 3,200 on random samples of 50 to 2,000 images.
    Without labels, pairs of models that are right below 95 % need a `min_agreement` of their own.

    Args:
        new, old: each a Keras model, a `Network`, a function of images (n, h, w, c) that returns
            classes (n, classes), the path of a .keras, .h5, .tflite or .onnx file, or
            ``git:REV:path``.
        images: at least 20 images (n, h, w, c) as both models take them, like those that the
            models are for.
        labels: the classes of the images: whole numbers (n,) or one-hot rows (n, classes). Without
            them the old model's answers count as right.
        min_agreement: smallest share of images, 0 to 1, that both models must answer alike; by
            default 0.95, less the old model's errors where there are labels.
        allow_legacy: also load HDF5 files; see `load_model`.

    Returns:
        What changed: answers, classes, outputs, weights, and hidden layers.

    Raises:
        AssertionError: something was lost. The message names the classes and the layers, with the
            numbers of the images that are wrong now.
        ValueError: models, images or labels that cannot be read or compared.
    """
    __tracebackhide__ = True
    limits = limits_for(min_agreement)
    names = _name(new, "new"), _name(old, "old")
    if names[0] == names[1]:
        names = f"the new {names[0]}", f"the old {names[1]}"
    opened = [open_source(each, allow_legacy=allow_legacy) for each in (new, old)]
    given = np.asarray(images, np.float32)
    if given.ndim < 3 or not len(given) or not np.isfinite(given).all():
        raise ValueError(
            f"images must be finite and of shape (n, h, w, c) with n ≥ {MIN_IMAGES}, not "
            f"{given.shape}"
        )
    truth = None if labels is None else class_numbers(labels, len(given))
    found = compare_trainings(opened[0], opened[1], given, truth, names=names, limits=limits)
    if not found.passed:
        raise AssertionError(found.message)
    return found


def limits_for(min_agreement: float | None) -> Limits:
    """Return the limits, with an agreement that was asked for.

    Raises:
        ValueError: it is no share.
    """
    if min_agreement is None:
        return Limits()
    if not 0 < min_agreement <= 1:
        raise ValueError(f"min_agreement must be above 0 and at most 1, not {min_agreement!r}")
    return Limits(min_agreement=min_agreement, is_given=True)


def compare_trainings(
    new: Runtime,
    old: Runtime,
    images: NDArray[Any],
    truth: NDArray[np.int64] | None,
    *,
    names: tuple[str, str],
    limits: Limits,
    class_names: Sequence[str] = (),
) -> Retraining:
    """Hold two opened models side by side.

    Args:
        new, old: the models.
        images: images (n, h, w, c) as both take them.
        truth: (n,) the classes of the images, or None.
        names: the models' names.
        limits: limits of what a healthy training changes.
        class_names: names of the classes, where they are known.

    Raises:
        ValueError: models that cannot be compared, too few images, labels of other classes.
    """
    check_shapes(new, old, names)
    if len(images) < MIN_IMAGES:
        count = "1 image cannot" if len(images) == 1 else f"{len(images)} images cannot"
        raise ValueError(
            f"{count} tell a loss from chance: give at least {MIN_IMAGES}, and some of each class"
        )
    before, now = answers_of(old, images, names[1]), answers_of(new, images, names[0])
    check_classes(now, before)
    if truth is not None and not (truth.min() >= 0 and truth.max() < now.count):
        raise ValueError(
            f"labels range from {truth.min()} to {truth.max()}, but {names[0]} has classes 0 to "
            f"{now.count - 1}"
        )
    churn = compare_answers(now, before, truth, limits)
    churn = explain(
        churn, now, before, truth, images, lambda x: answers_of(new, x, names[0]).classes
    )
    weights: tuple[LayerFinding, ...] = ()
    hidden: tuple[LayerSimilarity, ...] = ()
    if isinstance(new, KerasModel) and isinstance(old, KerasModel):
        weights = compare_weights(new.network, old.network)
        hidden = compare_hidden(new.network, old.network, np.asarray(images, np.float32))
    outputs = compare_outputs(now, before, truth)
    answers = before.classes, now.classes
    return Retraining(*names, limits, churn, outputs, weights, hidden, answers, class_names)


def _name(source: Any, which: str) -> str:
    is_function = callable(source) and not isinstance(source, keras.Model)
    return f"the {which} model" if is_function else source_name(source)

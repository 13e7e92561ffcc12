"""The base of checks of the vector of classes that a model ends with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convlens.checks.check import ModelCheck
from convlens.engine.features.survey import Wanted
from convlens.engine.model.classes import class_layer, predicted_classes
from convlens.lens import Lens


class ClassesCheck(ModelCheck):
    """A property of the scores of the classes; skipped where the model has no such output."""

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        try:
            output = class_layer(lens.network)
        except ValueError as reason:
            return str(reason)
        if lens.network.units(output) < 2:
            return f"{lens.name} has a single output, and so no other class to tell it from"
        return None


def lens_answers(lens: Lens) -> NDArray[np.float32]:
    """Return what the model says of each image (n, classes), the largest for its class.

    Raises:
        ValueError: a model without a vector of classes.
    """
    if lens.rows:
        return predicted_classes(lens.network, lens.images, lens.rows)
    return lens_scores(lens)


def lens_scores(lens: Lens) -> NDArray[np.float32]:
    """Return the class scores (n, classes) before the softmax, from the survey that is shared.

    Raises:
        ValueError: a model without a vector of classes.
    """
    scores = lens.survey(Wanted(scores=True)).scores
    assert scores is not None
    return scores

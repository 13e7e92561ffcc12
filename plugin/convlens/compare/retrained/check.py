"""The checks of a retrained model beside the one before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from convlens.checks.check import Figures, Measures, ModelCheck
from convlens.compare.retrained.no_regression import assert_no_regression
from convlens.compare.retrained.pictures import draw_gone, draw_similarity, draw_wrong, gone
from convlens.compare.retrained.retraining import Retraining
from convlens.engine.model.network import Network

_MIN_CURVE = 2


@dataclass(frozen=True)
class SeenRetraining:
    """A retraining, with what its figures need.

    Attributes:
        found: what changed.
        images: the images (n, *positions, c).
        value_range: (low, high) of their pixels.
        old: the old model as a network; None where it is none of Keras's.
    """

    found: Retraining
    images: NDArray[Any]
    value_range: tuple[float, float]
    old: Network | None

    @property
    def reason_to_skip(self) -> str:
        """The reason why the outputs cannot be judged; "" where they can."""
        found = self.found
        if found.outputs or found.weights or found.hidden:
            return ""
        return (
            f"{found.churn.images} images are too few to tell each output of {found.old} from "
            f"those of {found.new}, and their layers cannot be compared"
        )


class ChurnCheck(ModelCheck):
    """Zero-code check, where the model before was given."""

    name = "churn"
    summary = "images are answered as the model before answers them, and none are lost"
    assertion = staticmethod(assert_no_regression)
    needs_finite_weights = False

    def measures(self, seen: SeenRetraining) -> Measures:
        """Return agreement, lost and gained images, accuracy, calibration, and the worst class."""
        found = seen.found.churn
        measured: dict[str, float | int | str] = {
            "agreement": found.agreement,
            "min_agreement": found.min_agreement,
            "lost": len(found.lost),
            "gained": len(found.gained),
        }
        if found.accuracy is not None and found.calibration is not None:
            measured["p_value"] = found.p_value
            measured["accuracy_before"], measured["accuracy"] = found.accuracy
            measured["calibration_error_before"], measured["calibration_error"] = found.calibration
        worst = next(iter(found.failing), None)
        if worst is not None:
            measured |= {
                "class": worst.number,
                "class_images": worst.images,
                "class_lost": len(worst.lost),
                "class_p_value": worst.p_value,
                "wrong_now": ", ".join(map(str, seen.found.wrong_now)),
            }
        return measured

    def verdict(self, seen: SeenRetraining) -> Measures:
        __tracebackhide__ = True
        if not seen.found.churn.passed:
            raise AssertionError(seen.found.message)
        return {}

    def figures(self, lens: Any, layer: Any, seen: SeenRetraining) -> Figures:
        """Return the images that are wrong now."""
        if not seen.found.wrong_now:
            return {}
        return {"wrong now": partial(draw_wrong, seen.found, seen.images, seen.value_range)}


class OutputsCheck(ModelCheck):
    """Zero-code check, where the model before was given."""

    name = "outputs"
    summary = "outputs tell what those of the model before do, and no layer lost its training"
    assertion = staticmethod(assert_no_regression)
    needs_finite_weights = False

    def measures(self, seen: SeenRetraining) -> Measures:
        """Return the worst R² with its class, and the similarity of the last hidden layer."""
        found = seen.found
        measured: dict[str, float | int | str] = {"untrained_layers": len(found.weights)}
        worst = min(found.outputs, key=lambda each: each.explained, default=None)
        if worst is not None:
            measured |= {"explained": worst.explained, "class": worst.output}
        if found.last_hidden is not None:
            measured["cka"] = found.last_hidden.cka
        return measured

    def verdict(self, seen: SeenRetraining) -> Measures:
        __tracebackhide__ = True
        if not seen.found.outputs_passed:
            raise AssertionError(seen.found.message)
        return {}

    def figures(self, lens: Any, layer: Any, seen: SeenRetraining) -> Figures:
        """Return the curve of CKA, and the strongest patches of units without a partner."""
        found: dict[str, Any] = {}
        if len(seen.found.hidden) >= _MIN_CURVE:
            found["similarity"] = partial(draw_similarity, seen.found)
        most = None if seen.old is None else gone(seen.found, seen.old)
        if seen.old is not None and most is not None:
            found["without a partner"] = partial(
                draw_gone, seen.found, seen.old, most, seen.images, seen.value_range
            )
        return found


CHECKS = ChurnCheck, OutputsCheck

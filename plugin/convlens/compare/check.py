"""The check of a model against a reference, one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.checks.check import Effort, Figures, LayerCheck, Measures
from convlens.compare.figures import figures_of
from convlens.compare.same import assert_same_behaviour
from convlens.compare.sameness import OUTPUTS, Sameness
from convlens.lens import Lens


@dataclass(frozen=True)
class SeenLayer:
    """One layer of two models side by side.

    Attributes:
        found: the whole comparison.
        layer: the layer's name, or that of the outputs.
        outputs: whether the outputs are meant.
        leader: the layer that tells the cause of this one's failure; "" for this one.
    """

    found: Sameness
    layer: str
    outputs: bool
    leader: str = ""


class SameBehaviour(LayerCheck):
    """Zero-code check, where a reference was given."""

    name = "same"
    summary = "each layer does what the reference's does"
    assertion = staticmethod(assert_same_behaviour)
    needs_finite_weights = False

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        """Return the outputs and the layers that the images reach, in the network's order."""
        return same_entries(lens)

    def measures(self, seen: SeenLayer) -> Measures:
        """Return the numbers of the layer's difference; none where it has no counterpart."""
        own = seen.found.of_layer(seen.layer)
        shown = min(seen.found.outputs, key=lambda x: x.snr) if seen.outputs else None
        shown = own.difference if own is not None and shown is None else shown
        if shown is None:
            return {}
        share = own.share if own is not None and not seen.outputs else None
        return {
            **({} if share is None else {"error_share": share}),
            "snr": shown.snr,
            "cosine": shown.cosine,
            "worst_channel": shown.worst_channel,
            "channel_snr": shown.channel_snr,
            "worst_image": shown.worst_image,
        }

    def verdict(self, seen: SeenLayer) -> Measures:
        __tracebackhide__ = True
        if fails(seen):
            if seen.leader:
                raise AssertionError(f"fails as {self.name}[{seen.leader}] does")
            raise AssertionError(seen.found.message)
        return {}

    def figures(self, lens: Lens, layer: str | None, seen: SeenLayer) -> Figures:
        """Draw the table of layers and, where the item tells the cause, the first that differs."""
        cause = fails(seen) and not seen.leader
        if not cause and not (seen.outputs and seen.found.passed):
            return {}
        return figures_of(seen.found, cause=cause)


def fails(seen: SeenLayer) -> bool:
    """Return whether a layer differs, or the outputs do."""
    if seen.outputs:
        return not seen.found.outputs_passed
    own = seen.found.of_layer(seen.layer)
    return own is not None and not own.passed


def same_entries(lens: Lens) -> tuple[str, ...]:
    """Return the names of the items: the outputs, then each layer that the images reach."""
    network = lens.network
    reached = [name for name in network.outputs if network.reaches(name)]
    return (outputs_name(reached), *reached)


def outputs_name(layers: Sequence[str]) -> str:
    """Return the name of the outputs' item, which is no layer's."""
    return OUTPUTS if OUTPUTS not in layers else f"model {OUTPUTS}"

"""The form of a check's failure: one headline, the worst offenders, and no frames of its own."""

from __future__ import annotations

from collections.abc import Sequence

MAX_SHOWN = 10


def raise_offenders(headline: str, offenders: Sequence[str], hint: str = "") -> None:
    """Raise AssertionError with the headline and at most ten offenders, then a count.

    Args:
        headline: the property that should hold, with the model, the layer and the tolerance.
        offenders: one line each, the worst first; with none, nothing is raised.
        hint: a last line; none if empty.
    """
    __tracebackhide__ = True
    if not offenders:
        return
    lines = [f"  {line}" for line in offenders[:MAX_SHOWN]]
    if len(offenders) > MAX_SHOWN:
        lines.append(f"  … and {len(offenders) - MAX_SHOWN} more")
    raise AssertionError("\n".join([headline, *lines, *([hint] if hint else [])]))


def listed(numbers: Sequence[object]) -> str:
    """Return numbers or names separated by commas: at most ten, then a count."""
    shown = ", ".join(map(str, numbers[:MAX_SHOWN]))
    more = len(numbers) - MAX_SHOWN
    return shown if more <= 0 else f"{shown} … and {more} more"

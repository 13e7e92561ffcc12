"""How every check fails: one headline, the worst offenders, and no frames of its own."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 10


def raise_offenders(headline: str, offenders: Sequence[str]) -> None:
    """Raise AssertionError with the headline and at most ten offenders, then a count.

    Args:
        headline: what should have held, with the model, the layer and the tolerance.
        offenders: one line each, the worst first; with none, nothing is raised.
    """
    __tracebackhide__ = True
    if not offenders:
        return
    lines = [f"  {line}" for line in offenders[:MOST]]
    if len(offenders) > MOST:
        lines.append(f"  … and {len(offenders) - MOST} more")
    raise AssertionError("\n".join([headline, *lines]))

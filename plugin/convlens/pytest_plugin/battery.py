"""The checks of a run: the built-in battery, and those that conftests and plugins add."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from convlens.checks.check import Check

_CHECKS = pytest.StashKey["tuple[Check, ...]"]()
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# Names in item ids and in the report that do not come from the battery.
_TAKEN = ("baseline", "same", "churn", "outputs", "tests")


def checks_of(config: pytest.Config) -> tuple[Check, ...]:
    """Return the checks that every model gets, in order.

    Raises:
        pytest.UsageError: what was added is not a list of checks, or a check has another one's
            name.
    """
    if _CHECKS not in config.stash:
        from convlens.checks.battery import BATTERY

        checks = list(BATTERY)
        for added in config.hook.pytest_convlens_checks(config=config):
            if not isinstance(added, Sequence):
                raise pytest.UsageError(
                    f"pytest_convlens_checks must return a list of checks, not {added!r}"
                )
            for check in added:
                _examine(check, [*_TAKEN, *(other.name for other in checks)])
                checks.append(check)
        config.stash[_CHECKS] = tuple(checks)
    return config.stash[_CHECKS]


def _examine(check: Check, taken: Sequence[str]) -> None:
    from convlens.checks.check import Check

    name = getattr(check, "name", None)
    if not (isinstance(check, Check) and isinstance(name, str) and _NAME.fullmatch(name)):
        raise pytest.UsageError(
            "pytest_convlens_checks must return instances of subclasses of convlens.LayerCheck or "
            f"convlens.ModelCheck with a name of letters, digits, - and _, not {check!r}"
        )
    if name in taken:
        raise pytest.UsageError(
            f"pytest_convlens_checks returned a check named {name!r}, which is the name of "
            f"another one: give it a name that is none of {', '.join(taken)}"
        )

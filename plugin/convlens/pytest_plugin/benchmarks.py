"""Options of the benchmark suite, which is loaded only for a run of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from convlens.pytest_plugin.targets import Target

PACKAGE = "convlens.benchmarks"
NAME = "convlens-benchmarks"
SUBJECTS = pytest.StashKey[list[Target]]()


def add_options(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("convlens-bench", "convlens's benchmarks: pytest --pyargs " + PACKAGE)
    group.addoption(
        "--convlens-bench",
        choices=("quick", "full"),
        default="quick",
        help="'quick' takes three minutes on two cores (default); 'full' times every network, type "
        "and batch at the sizes of the published figures, as long as it takes",
    )
    group.addoption(
        "--convlens-bench-fail",
        type=float,
        metavar="RATIO",
        help="fail each core that takes RATIO times as long as in the latest stored run of the "
        "same hardware (1.25: a quarter longer), beyond the spread, in seconds and relative to its "
        "limit",
    )
    group.addoption(
        "--convlens-bench-page",
        metavar="PATH",
        help="write the results as an HTML page; one is also written beside each JSON file",
    )


def configure(config: pytest.Config, targets: list[Target]) -> bool:
    """Check the options, keep the models to time, and return whether this run is of the suite.

    The suite's folder, whose conftest.py registers it, or its name was given on the command line.

    Raises:
        pytest.UsageError: a limit below 1, or a limit without a run of the suite.
    """
    config.stash[SUBJECTS] = targets
    limit = config.getoption("convlens_bench_fail")
    if limit is not None and not 1 <= limit < float("inf"):
        raise pytest.UsageError(
            f"--convlens-bench-fail must be a ratio of at least 1, not {limit:g}"
        )
    if config.pluginmanager.has_plugin(NAME):
        return True
    heads = [str(arg).split("::")[0] for arg in config.args]
    if config.option.pyargs and any(f"{h}.".startswith(f"{PACKAGE}.") for h in heads):
        # Loaded by its name, as any plugin is: nothing here imports the suite.
        config.pluginmanager.import_plugin(f"{PACKAGE}.suite")
        return config.pluginmanager.has_plugin(NAME)
    if limit is not None:
        raise pytest.UsageError(
            f"--convlens-bench-fail is an option of the benchmarks: add --pyargs {PACKAGE}"
        )
    return False


def subjects(config: pytest.Config) -> dict[str, Callable[[], Any]] | None:
    """Return the models of --convlens, each by a function that loads it; None without."""
    from convlens.pytest_plugin.models import load_target

    targets = config.stash[SUBJECTS]
    return {t.spec: partial(_model, load_target, config, t) for t in targets} or None


def _model(load: Callable[..., Any], config: pytest.Config, target: Target) -> Any:
    found = load(config, target)
    return getattr(found, "model", found)  # a factory may return a Network

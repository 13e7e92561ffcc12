"""Ratios from one run, the contestants taking turns: ``python -m convlens.benchmarks``.

Machines are noisy; what is compared is timed in turn, A B C A B C …, and each round gives a ratio
of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence

import numpy as np

from convlens.benchmarks.contests import CONTESTS, Contest, UnavailableError
from convlens.benchmarks.hardware import accelerators
from convlens.benchmarks.subjects import Setting
from convlens.benchmarks.timing import finished, in_turns, ratios
from convlens.engine.backend import backend_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the contests that are named, or all, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m convlens.benchmarks")
    parser.add_argument("contests", nargs="*", metavar="CONTEST", help=", ".join(CONTESTS))
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="sizes that take seconds")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.contests if name not in CONTESTS]
    if unknown:
        parser.error(f"there is no contest {unknown[0]!r}: give {', '.join(CONTESTS)}")
    import keras

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(accelerators()) or 'no GPU'}, "
        f"{backend_name()}, Keras {keras.__version__}"
    )
    for name in given.contests or CONTESTS:
        try:
            contest = CONTESTS[name](Setting(full=not given.small))
        except UnavailableError as error:
            print(f"\n{name}: {error}")
            continue
        times = in_turns(contest.contestants, given.rounds, contest.slow)
        check(contest)
        report(contest, times)
    return 0


def check(contest: Contest) -> None:
    """Run each contestant that can be checked once more.

    Raises:
        RuntimeError: one gives no working result.
    """
    for name, run in contest.contestants.items():
        if name in contest.checks:
            contest.checks[name](finished(run()))


def report(contest: Contest, times: dict[str, list[float]]) -> None:
    """Print each contestant's median, and its ratios to the references with their quartiles."""
    print(f"\n{contest.title}")
    for name, taken in times.items():
        line = f"{name:34}{np.median(taken):9.3f} s ({min(taken):.3f} to {max(taken):.3f})"
        for other in contest.references:
            if other != name:
                of = ratios(taken, times[other])
                line += f"   {of['median']:.3g} ({of['q1']:.3g} to {of['q3']:.3g}) of {other}"
        print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

"""Ratios from one run, the contestants taking turns: ``python -m convlens.benchmarks``.

Machines are noisy; what is compared is timed in turn, A B C A B C …, and each round gives a ratio
of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence

import numpy as np

from convlens.benchmarks.contests import CONTESTS, Contest

_SLOW_ROUNDS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the contests that are named, or all, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m convlens.benchmarks")
    parser.add_argument("contests", nargs="*", metavar="CONTEST", help=", ".join(CONTESTS))
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.contests if name not in CONTESTS]
    if unknown:
        parser.error(f"there is no contest {unknown[0]!r}: give {', '.join(CONTESTS)}")
    import keras
    import tensorflow as tf

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, "
        f"{len(tf.config.list_logical_devices('GPU'))} GPUs, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    for name in given.contests or CONTESTS:
        contest = CONTESTS[name]()
        report(contest, measure(contest, given.rounds))
    return 0


def measure(contest: Contest, rounds: int) -> dict[str, list[float]]:
    """Return each contestant's seconds, a figure a round, after one round to warm up."""
    for name, run in contest.contestants.items():
        if name not in contest.slow:
            run()
    times: dict[str, list[float]] = {name: [] for name in contest.contestants}
    for turn in range(rounds):
        for name, run in contest.contestants.items():
            if name not in contest.slow or turn < _SLOW_ROUNDS:
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
    return times


def report(contest: Contest, times: dict[str, list[float]]) -> None:
    """Print each contestant's median, and the median of its ratios to the references."""
    print(f"\n{contest.title}")
    for name, taken in times.items():
        line = f"{name:34}{np.median(taken):9.3f} s ({min(taken):.3f} to {max(taken):.3f})"
        for other in contest.references:
            if other != name:
                pairs = [a / b for a, b in zip(taken, times[other], strict=False)]
                line += f"   {np.median(pairs):.3g} of {other}"
        print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

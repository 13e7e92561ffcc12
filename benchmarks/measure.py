"""Run the contestants in turns under pytest-benchmark, and compute figures from the times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from convlens.benchmarks.contest import Contest
from convlens.benchmarks.memory import peak_memory
from convlens.benchmarks.peak import peak_gflops
from convlens.benchmarks.timing import quartiles, ratios, seconds
from convlens.engine.runtime.backend import accelerators, backend_name

_MIN_ROUNDS = 3
Info = dict[str, Any]


class Pedantic(Protocol):
    """pytest-benchmark's `benchmark.pedantic`."""

    def __call__(
        self, target: Callable[[], Any], /, *, setup: Callable[[], None], rounds: int
    ) -> Any: ...


def measure(
    contest: Contest,
    pedantic: Pedantic,
    *,
    budget: float,
    max_rounds: int = 9,
    slow_rounds: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Info:
    """Time all contestants in turns, A B C A B C …, and return the figures.

    To warm up, each contestant runs twice, or once if one run uses the budget: the first call
    traces and compiles. Its result must be valid. Then each round runs the other contestants, timed
    here, and ours, timed by pytest-benchmark. A time ends when the result is on the host.

    Args:
        contest: contest to run.
        pedantic: pytest-benchmark's function, which times ours.
        budget: approximate time for all rounds in seconds; at least three rounds are run.
        max_rounds: maximum number of rounds.
        slow_rounds: number of rounds for the slow contestants.
        progress: callback (rounds done, total rounds).

    Raises:
        RuntimeError: the result of a contestant that is not a guest is invalid.
    """
    quick = [name for name in contest.contestants if name not in contest.slow]
    left: dict[str, str] = {}
    first, turn = ({}, budget) if contest.processes else _warm_up(contest, quick, budget, left)
    rounds = int(np.clip(budget / turn, _MIN_ROUNDS, max_rounds))
    times: dict[str, list[float]] = {name: [] for name in contest.contestants}

    def others() -> None:
        done = len(times[contest.ours])
        progress(done, rounds)
        for name in contest.contestants:
            if name != contest.ours and (name in quick or done < slow_rounds):
                _take_turn(contest, name, times, left, check=name not in first)

    def ours() -> None:
        _take_turn(contest, contest.ours, times, left, check=contest.ours not in first)

    pedantic(ours, setup=others, rounds=rounds)
    times = {name: taken for name, taken in times.items() if name not in left}
    found = {**_described(contest), **_figures(contest, times, first), "left": left}
    if not contest.processes:
        found.update(peak_memory(contest.contestants[contest.ours]))
    return found


def _warm_up(
    contest: Contest, names: list[str], budget: float, left: dict[str, str]
) -> tuple[dict[str, float], float]:
    """Run and check each contestant; return the times, and an estimate of the time per round."""
    firsts: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        _take_turn(contest, name, firsts, left, check=True)
    first = {name: taken[0] for name, taken in firsts.items() if taken}
    turn = sum(first.values())
    if turn < budget / 2:
        turn = sum(_timed(contest, name, check=False) for name in first)
    return first, turn


def _take_turn(
    contest: Contest,
    name: str,
    times: dict[str, list[float]],
    left: dict[str, str],
    check: bool,
) -> None:
    """Run a contestant and record its time; remove a guest if its result is invalid."""
    if name in left:
        return
    try:
        times[name].append(_timed(contest, name, check))
    except RuntimeError as error:
        if name not in contest.guests:
            raise
        left[name] = str(error)


def _timed(contest: Contest, name: str, check: bool) -> float:
    taken, result = seconds(contest.contestants[name])
    if check:
        contest.check(name, result)
    return taken


def _described(contest: Contest) -> Info:
    setting = contest.setting
    return {
        "title": contest.title,
        "model": setting.model,
        "size": "full" if setting.full else "quick",
        "backend": backend_name(),
        "device": setting.device or (accelerators() or ["cpu"])[0],
        "dtype": setting.dtype,
        "xla": setting.xla,
        "ours": contest.ours,
        "references": list(contest.references),
        "images": contest.work.images,
        "steps": contest.work.steps,
    }


def _figures(
    contest: Contest, times: Mapping[str, list[float]], first: Mapping[str, float]
) -> Info:
    mine = float(np.median(times[contest.ours]))
    work = contest.work
    found: Info = {
        "seconds": {name: quartiles(taken) for name, taken in times.items()},
        "first_call_seconds": dict(first),
        "ratios": {
            name: {
                other: ratios(taken, times[other])
                for other in contest.references
                if other != name and other in times
            }
            for name, taken in times.items()
        },
        "images_per_second": work.images / mine,
    }
    if contest.ours in first:
        found["tracing_seconds"] = max(0.0, first[contest.ours] - mine)
    if work.steps is not None:
        found["steps_per_second"] = work.steps / mine
    if work.gflop is not None:
        on_cpu = (contest.setting.device or "").startswith("cpu")
        peak = peak_gflops(
            _product_dtype(contest.setting.dtype), not on_cpu and bool(accelerators())
        )
        found["gflop"] = work.gflop
        found["gflop_per_second"] = work.gflop / mine
        found["peak_gflop_per_second"] = peak
        found["peak_fraction"] = work.gflop / mine / peak
    if contest.series is not None:
        sizes = contest.series.sizes
        medians = {name: float(np.median(times[name])) for name in sizes}
        found["series"] = {
            "label": contest.series.label,
            "sizes": list(sizes.values()),
            "seconds": [medians[name] for name in sizes],
            "slope": slope(list(sizes.values()), list(medians.values())),
        }
    return found


def slope(sizes: list[int], taken: list[float]) -> float:
    """Return the slope of log(seconds) over log(size); 1 means a constant cost per unit."""
    return float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])


def _product_dtype(policy: str) -> str:
    return policy.removeprefix("mixed_")

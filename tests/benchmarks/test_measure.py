"""Times include asynchronous work, contestants take turns, and results are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from convlens.benchmarks.contest import Contest, Series, Work
from convlens.benchmarks.measure import measure, slope
from convlens.benchmarks.tables import comparisons
from convlens.benchmarks.timing import ratios, seconds, wait_for


class Device:
    """A clock and a device that computes asynchronously."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_until = 0.0

    def clock(self) -> float:
        return self.now

    def launch(self, cost: float) -> Pending:
        self.now += 0.001  # the call itself
        self.busy_until = self.now + cost
        return Pending(self)


class Pending:
    """A tensor that is not yet computed; reading it waits for its computation."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.device.now = max(self.device.now, self.device.busy_until)
        return np.zeros(1)


@dataclass(frozen=True)
class Result:
    parts: dict[str, Any]


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: [1, {"a": t}], lambda t: Result({"b": t})])
def test_times_include_the_work_of_an_asynchronous_device(wrap):
    device = Device()
    begin = device.clock()
    wrap(device.launch(5.0))
    unsynchronized = device.clock() - begin
    device.now = device.busy_until
    synchronized, _ = seconds(lambda: wrap(device.launch(5.0)), device.clock)
    assert unsynchronized == pytest.approx(0.001)  # the time without waiting
    assert synchronized == pytest.approx(5.001)


def test_wait_for_returns_the_result_itself():
    result = Result({"b": Pending(Device())})
    assert wait_for(result) is result


def pedantic(target, /, *, setup, rounds):
    for _ in range(rounds):
        setup()
        target()


def contest(order: list[str], **more: Any) -> Contest:
    def runs(name: str) -> Any:
        return lambda: order.append(name) or name

    names = ("limit", "ours", "peer")
    return Contest(
        "work",
        {name: runs(name) for name in names},
        "ours",
        ("limit", "peer"),
        Work(images=10, steps=5),
        **more,
    )


def test_contestants_take_turns_and_slow_ones_stop_early():
    order: list[str] = []
    found = measure(
        contest(order, slow=("peer",)), pedantic, budget=1e-9, max_rounds=9, slow_rounds=2
    )
    warm_up, rounds = order[:2], order[2:-1]  # the last run measures the memory
    assert warm_up == ["limit", "ours"]
    assert rounds == ["limit", "peer", "ours"] * 2 + ["limit", "ours"]
    assert set(found["seconds"]) == {"limit", "ours", "peer"}
    assert found["ratios"]["ours"].keys() == {"limit", "peer"}
    assert set(found["first_call_seconds"]) == {"limit", "ours"}
    median = found["seconds"]["ours"]["median"]
    assert found["images_per_second"] == pytest.approx(10 / median)
    assert found["steps_per_second"] == pytest.approx(5 / median)
    assert found["host_MiB"] > 0


def test_the_number_of_rounds_is_limited():
    order: list[str] = []
    measure(contest(order), pedantic, budget=1e6, max_rounds=7)
    assert order.count("ours") == 2 + 7 + 1


@pytest.mark.parametrize("name", ["ours", "peer"])
@pytest.mark.parametrize("slow", [(), ("peer",)])
def test_a_contestant_with_an_invalid_result_is_named(name, slow):
    def fails(result: Any) -> None:
        assert result == name
        raise RuntimeError("does no work")

    with pytest.raises(RuntimeError, match=f"{name}: does no work"):
        measure(contest([], checks={name: fails}, slow=slow), pedantic, budget=0.1)


@pytest.mark.parametrize("slow", [(), ("peer",)])
def test_a_guest_with_an_invalid_result_leaves_and_is_named(slow):
    def fails(result: Any) -> None:
        raise RuntimeError("does no work")

    order: list[str] = []
    given = contest(order, checks={"peer": fails}, slow=slow, guests=("peer",))
    found = measure(given, pedantic, budget=0.1, max_rounds=5)
    assert order.count("peer") == 1
    assert found["left"] == {"peer": "peer: does no work"}
    assert set(found["seconds"]) == {"limit", "ours"}
    assert found["ratios"]["ours"].keys() == {"limit"}
    assert comparisons(found)[-1] == "peer gave no valid result"


def test_a_series_has_a_slope():
    sizes = [1, 10, 100]
    assert slope(sizes, [3.0, 30.0, 300.0]) == pytest.approx(1.0)
    assert slope(sizes, [3.0, 3.0, 3.0]) == pytest.approx(0.0)
    named = {"limit": 1, "peer": 10, "ours": 100}
    found = measure(contest([], series=Series("units", named)), pedantic, budget=0.01)
    assert found["series"]["sizes"] == [1, 10, 100]
    assert np.isfinite(found["series"]["slope"])


def test_processes_are_not_warmed_up_and_each_is_checked():
    order: list[str] = []
    checked: list[str] = []
    held = contest(order, processes=True, checks={"ours": checked.append})
    found = measure(held, pedantic, budget=0.1)
    assert order == ["limit", "peer", "ours"] * 3
    assert checked == ["ours"] * 3
    assert "host_MiB" not in found
    assert "tracing_seconds" not in found


def test_ratios_are_computed_round_by_round():
    assert ratios([1.0, 2.0, 9.0], [1.0, 1.0, 3.0]) == {"median": 2.0, "q1": 1.5, "q3": 2.5}

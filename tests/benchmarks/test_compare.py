"""Runs on the same hardware are compared by medians and spread; others are refused."""

from __future__ import annotations

from typing import Any

import pytest

from convlens.benchmarks.compare import NotComparableError, compare, latest_run
from convlens.benchmarks.hardware import describe, hardware_key


def around(median: float, spread: float) -> dict[str, float]:
    """Return quartiles; the spread is half their distance, as a share of the median."""
    return {"median": median, "q1": median * (1 - spread), "q3": median * (1 + spread)}


def figures(
    seconds: float,
    ratio: float | None = None,
    spread: float = 0.02,
    limit_spread: float = 0.02,
    **more: Any,
) -> dict[str, Any]:
    """Return the figures of a core: its time, and its ratio to its limit if it has one."""
    limits = {} if ratio is None else {"bare passes": around(ratio, limit_spread)}
    return {
        "case": "ascent-mnist_cnn",
        "title": "ascent: 64 filters, 50 steps",
        "ours": "convlens",
        "references": list(limits),
        "seconds": {"convlens": around(seconds, spread)},
        "ratios": {"convlens": limits},
    } | more


def changed(now: dict[str, Any], then: dict[str, Any]) -> Any:
    (change,) = compare({"a": now}, {"a": then})
    return change


@pytest.mark.parametrize("ratio", [None, 1.0])
def test_a_slower_core_fails(ratio):
    slower = None if ratio is None else 1.5 * ratio
    change = changed(figures(15.0, slower), figures(10.0, ratio))
    assert change.own.factor == pytest.approx(1.5)
    assert change.fails(1.25)
    assert not change.fails(1.6)
    assert "a: 1.50 times as long as stored" in str(change)
    assert ("relative to bare passes: 1.50 times" in str(change)) == (ratio is not None)


@pytest.mark.parametrize("ratio", [None, 1.0])
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_a_faster_or_equal_core_passes(ratio, factor):
    now = figures(10.0 * factor, None if ratio is None else ratio * factor)
    assert not changed(now, figures(10.0, ratio)).fails(1.0)


@pytest.mark.parametrize("ratio", [None, 1.0])
def test_a_slowdown_within_the_spread_passes_with_a_note(ratio):
    slower = None if ratio is None else 1.15 * ratio
    now = figures(15.0, slower, spread=0.3, limit_spread=0.12)
    change = changed(now, figures(10.0, ratio, spread=0.3, limit_spread=0.12))
    assert change.own.factor > 1.1
    assert not change.fails(1.1)
    assert "a: 1.50 times as long as stored, within the spread" in str(change)


def test_load_on_the_machine_does_not_appear_as_a_slower_core():
    change = changed(figures(30.0, 1.0), figures(10.0, 1.0))
    assert not change.fails(1.25)
    assert "a: 3.00 times as long as stored; relative to bare passes: 1.00 times" in str(change)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.2])
def test_a_limit_that_became_faster_does_not_make_the_core_slower(factor):
    """The limit is steady in both runs, but 41 times as fast in the new one."""
    change = changed(figures(10.0 * factor, 41 * factor), figures(10.0, 1.0))
    assert change.limit_judges
    assert not change.fails(1.25)


def test_a_core_that_became_slower_on_a_faster_machine_is_not_blamed():
    assert not changed(figures(10.0, 1.5), figures(10.0, 1.0)).fails(1.25)


@pytest.mark.parametrize("wide", ["now", "then", "both"])
@pytest.mark.parametrize(
    ("factor", "ratio", "fails"),
    [
        (0.9, 41.0, False),  # a faster core, whose limit swung
        (1.0, 1.0, False),
        (1.0, 41.0, False),
        (1.5, 1.5, True),
        (1.5, 0.1, True),  # the limit swung so that it hides the slower core
    ],
)
def test_a_limit_whose_spread_is_wide_does_not_judge(wide, factor, ratio, fails):
    now = figures(10.0 * factor, ratio, limit_spread=0.5 if wide != "then" else 0.02)
    then = figures(10.0, 1.0, limit_spread=0.5 if wide != "now" else 0.02)
    change = changed(now, then)
    assert not change.limit_judges
    assert change.fails(1.25) == fails
    assert "bare passes" in str(change)
    assert (
        "which does not count: within a run, that ratio's quartiles are 100% of its median apart "
        "(allowed: 25%)"
    ) in str(change)


def test_a_limit_judges_up_to_a_spread_of_a_quarter():
    for spread, judges in ((0.124, True), (0.126, False)):
        change = changed(figures(10.0, 1.0, limit_spread=spread), figures(10.0, 1.0))
        assert change.limit_judges == judges


def test_work_of_different_size_is_not_compared():
    assert compare({"a": figures(15.0, title="300 steps")}, {"a": figures(10.0)}) == []
    assert compare({"b": figures(15.0)}, {"a": figures(10.0)}) == []


def stored(hardware: str, median: float = 1.0) -> dict[str, Any]:
    return {
        "machine_info": {"convlens": {"hardware": hardware}},
        "benchmarks": [{"extra_info": figures(10 * median)}, {"extra_info": {}}],
    }


def test_the_latest_run_of_the_same_hardware_is_found():
    runs = [("1", stored("gpu", 1.0)), ("2", stored("cpu", 2.0)), ("3", stored("gpu", 3.0))]
    name, found = latest_run(runs, "gpu")
    assert name == "3"
    assert found["ascent-mnist_cnn"]["seconds"]["convlens"]["median"] == 30.0


def test_other_hardware_is_refused_with_the_reason():
    with pytest.raises(
        NotComparableError, match=r"from other hardware \(gpu\).* the same hardware \(cpu\)"
    ):
        latest_run([("1", stored("gpu"))], "cpu")
    with pytest.raises(NotComparableError, match="no run of the suite is stored"):
        latest_run([("1", {"machine_info": {}, "benchmarks": []})], "cpu")


def test_the_hardware_key_does_not_depend_on_the_clock_or_the_versions():
    described = describe("Some CPU @ 2.5 GHz")
    key = hardware_key(described)
    assert key == hardware_key({**described, "keras": "9.9", "hz_actual": 1, "tensorflow": "9"})
    others = [
        {**described, "processor": "Another"},
        {**described, "usable_cores": 64},
        {**described, "accelerators": ["NVIDIA H200"]},
        {**described, "backend": "jax"},
    ]
    assert len({key, *(hardware_key(other) for other in others)}) == 5

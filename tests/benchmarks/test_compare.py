"""Runs on the same hardware are compared by medians and spread; others are refused."""

from __future__ import annotations

from typing import Any

import pytest

from convlens.benchmarks.compare import NotComparableError, compare, latest_run
from convlens.benchmarks.hardware import describe, hardware_key


def figures(median: float, spread: float = 0.02, limit: bool = True, **more: Any) -> dict[str, Any]:
    around = {"median": median, "q1": median - spread, "q3": median + spread}
    return {
        "case": "ascent-mnist_cnn",
        "title": "ascent: 64 filters, 50 steps",
        "ours": "convlens",
        "references": ["bare passes"] if limit else [],
        "seconds": {"convlens": {k: 10 * v for k, v in around.items()}},
        "ratios": {"convlens": {"bare passes": around} if limit else {}},
    } | more


def changed(now: dict[str, Any], then: dict[str, Any]) -> Any:
    (change,) = compare({"a": now}, {"a": then})
    return change


@pytest.mark.parametrize("limit", [True, False])
def test_a_slower_core_fails(limit):
    change = changed(figures(1.5, limit=limit), figures(1.0, limit=limit))
    assert change.slowdown == pytest.approx(1.5)
    assert change.fails(1.25)
    assert not change.fails(1.6)
    assert "a: 1.50 times as long" in str(change)


def test_a_faster_or_equal_core_passes():
    for median in (0.5, 1.0):
        assert not changed(figures(median), figures(1.0)).fails(1.0)


def test_a_slowdown_within_the_spread_passes_with_a_note():
    change = changed(figures(1.5, spread=0.3), figures(1.0, spread=0.3))
    assert change.slowdown > 1.25
    assert not change.fails(1.25)
    assert "within the spread" in str(change)


def test_load_on_the_machine_does_not_appear_as_a_slower_core():
    busy = figures(1.0, seconds={"convlens": {"median": 30.0, "q1": 29.0, "q3": 31.0}})
    assert changed(busy, figures(1.0)).slowdown == pytest.approx(1.0)


def test_work_of_different_size_is_not_compared():
    assert compare({"a": figures(1.5, title="300 steps")}, {"a": figures(1.0)}) == []
    assert compare({"b": figures(1.5)}, {"a": figures(1.0)}) == []


def stored(hardware: str, median: float = 1.0) -> dict[str, Any]:
    return {
        "machine_info": {"convlens": {"hardware": hardware}},
        "benchmarks": [{"extra_info": figures(median)}, {"extra_info": {}}],
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

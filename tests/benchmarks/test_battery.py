"""The benchmark of the whole battery: what it reads, computes and shows."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from convlens.benchmarks import battery
from convlens.benchmarks.battery import BatteryRun

RESULTS = """<testsuites><testsuite>
<testcase name="finite[a]" time="2.5"/><testcase name="finite[b]" time="0.5"/>
<testcase name="dead[a]" time="1"><failure message="no"/></testcase>
<testcase name="accuracy" time="0"><skipped message="no labels"/></testcase>
<testcase name="classes" time="1"><failure message="no"/><error message="no"/></testcase>
</testsuite></testsuites>"""


def run(name: str = "net", seconds: float = 20.0) -> BatteryRun:
    return BatteryRun(name, seconds, 30.0, 1234.5, {"passed": 2}, {"finite": 3.0, "dead": 0.01})


def test_items_are_counted_by_outcome_and_timed_by_check():
    outcomes, checks = battery._outcomes(ElementTree.fromstring(RESULTS).iter("testcase"))
    assert outcomes == {"passed": 2, "failed": 2, "skipped": 1}
    assert checks == {"finite": 3, "dead": 1, "accuracy": 0, "classes": 1}


def test_the_tables_have_a_line_a_run_and_a_check():
    assert battery.totals([run()]).splitlines()[-1] == "| net | 20 | 30 | 1234 | 2 passed |"
    lines = battery.breakdown([run(), run("other")]).splitlines()
    assert lines[0] == "| seconds of | net | other |"
    assert lines[2:] == ["| finite | 3 | 3 |", "| import, loading, collection | 17 | 17 |"]


def test_the_slope_is_that_of_depth_alone():
    runs = {n: run(seconds=10 + n - 2) for n in (2, 10, 18, 34, 66)}
    assert battery.depth_slope(runs) == pytest.approx(1)
    runs = {n: run(seconds=10 + (n - 2) ** 2) for n in (2, 10, 18, 34, 66)}
    assert battery.depth_slope(runs) == pytest.approx(2)


def test_a_chain_has_its_convolutions():
    model = battery.chain(3)
    assert sum("conv" in layer.name for layer in model.layers) == 3
    assert model.output_shape == (None, 10)


@pytest.mark.slow
def test_a_network_is_run_in_a_process_of_its_own():
    found = battery.run_battery("mnist_cnn", ["--convlens", "mnist_cnn"], ["-k", "finite"])
    assert found.outcomes == {"passed": 5}
    assert list(found.checks) == ["finite"]
    assert found.seconds > 1
    assert found.cpu_seconds > 1
    assert 200 < found.peak_mib < 8000


@pytest.mark.slow
def test_a_run_that_cannot_be_is_an_error():
    with pytest.raises(RuntimeError, match="nothing: pytest ended with 5"):
        battery.run_battery("nothing", ["--convlens", "mnist_cnn"], ["-k", "none_of_them"])

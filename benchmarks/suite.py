"""The benchmark suite as a pytest plugin, which is registered only in benchmark runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from convlens.benchmarks.cases import Case, cases
from convlens.benchmarks.compare import Change, NotComparableError, compare, latest_run
from convlens.benchmarks.hardware import describe, hardware_key
from convlens.benchmarks.measure import Info, measure
from convlens.benchmarks.subjects import UnavailableError
from convlens.benchmarks.tables import terminal_table
from convlens.engine.runtime.backend import accelerators
from convlens.pytest_plugin.benchmarks import NAME, subjects
from convlens.pytest_plugin.progress import item_progress

ALONE = (
    "the benchmark suite runs alone, because parallel processes would compete for the cores: leave "
    "out -n and --dist (or give -n 0)"
)
# Approximate time for the rounds of a case.
_QUICK_SECONDS, _FULL_SECONDS = 3.0, 60.0


class Suite:
    """State and results of one run of the suite.

    Attributes:
        full: True for --convlens-bench=full.
        figures: case → figures of the cases that have run.
        changes: changes in comparison with the stored run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.full = config.getoption("convlens_bench") == "full"
        self.figures: dict[str, Info] = {}
        self.changes: list[Change] = []
        self._stored: tuple[str, dict[str, Info]] | None = None
        self._machine: dict[str, Any] | None = None
        self._saved: set[Path] = set()
        self._pages: list[Path] = []
        self._page_errors: list[str] = []

    @property
    def _limit(self) -> float:
        return float(self.config.getoption("convlens_bench_fail"))

    @property
    def _sessions(self) -> Any:
        return self.config.pluginmanager.get_plugin("pytest-benchmark")

    def cases(self) -> list[Case]:
        """Return the cases to run."""
        return cases(self.full, bool(accelerators()), subjects(self.config))

    def run(self, case: Case, benchmark: Any) -> None:
        """Run a case, store its figures, and fail it if it is slower than in the stored run."""
        with case.setting.applied(), item_progress(self.config, case.name, "rounds") as progress:
            try:
                contest = case.build(case.setting)
            except UnavailableError as reason:
                benchmark.skipped = True
                pytest.skip(str(reason))
            benchmark.group = contest.title
            info = measure(
                contest,
                benchmark.pedantic,
                budget=_FULL_SECONDS if self.full else _QUICK_SECONDS,
                slow_rounds=3 if self.full else 1,
                progress=progress,
            )
        info = {"case": case.name, "core": case.core, **info}
        benchmark.extra_info.update(info)
        self.figures[case.name] = info
        self._judge(case.name, info)

    def _judge(self, name: str, info: Info) -> None:
        """Fail the case if it is slower than in the stored run, so that pytest counts it."""
        if self._stored is None:
            return
        stored, figures = self._stored
        for change in compare({name: info}, figures):
            self.changes.append(change)
            if change.fails(self._limit):
                allowed = f"allowed: {self._limit:g} times as long"
                pytest.fail(f"slower than in {stored} ({allowed}): {change}", pytrace=False)

    def machine(self, cpu: Mapping[str, Any]) -> dict[str, Any]:
        """Return a description of the machine with the key of its hardware."""
        if self._machine is None:
            described = describe(cpu.get("brand_raw") or cpu.get("arch", "unknown"))
            self._machine = {**described, "hardware": hardware_key(described)}
        return self._machine

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Add the description of the machine; remove clock frequencies, which vary between runs."""
        cpu = machine_info.get("cpu", {})
        machine_info["cpu"] = {k: v for k, v in cpu.items() if not k.startswith("hz_")}
        machine_info["convlens"] = self.machine(cpu)

    def pytest_sessionstart(self) -> None:
        """Find the stored run for the comparison, before time is spent on the benchmarks."""
        self._saved = self._files()
        if self.config.getoption("convlens_bench_fail") is None:
            return
        sessions = self._sessions
        machine = sessions.get_machine_info()
        try:
            self._stored = latest_run(
                sessions.storage.load("*/[0-9]*"), machine["convlens"]["hardware"]
            )
        except NotComparableError as error:
            raise pytest.UsageError(f"--convlens-bench-fail: {error}") from None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the pages."""
        if self.figures:
            self._write_pages()
        if self._page_errors:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def _write_pages(self) -> None:
        from convlens.benchmarks.page import write_page

        machine = self._sessions.get_machine_info()["convlens"]
        places = [file.with_suffix(".html") for file in sorted(self._files() - self._saved)]
        given = self.config.getoption("convlens_bench_page")
        json = self._sessions.json
        if json:
            places.append(Path(json).with_suffix(".html"))
        if given:
            places.append(Path(given))
        for place in places:
            try:
                write_page(place, list(self.figures.values()), machine, datetime.now(UTC))
            except OSError as error:
                self._page_errors.append(str(error))
            else:
                self._pages.append(place)

    def _files(self) -> set[Path]:
        return set(self._sessions.storage.query("*/[0-9]*"))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the results in the terminal."""
        if not self.figures:
            return
        terminalreporter.section("convlens: benchmarks")
        for line in terminal_table(list(self.figures.values())):
            terminalreporter.write_line(line)
        if self._stored is not None:
            self._show_changes(terminalreporter, self._stored[0])
        for page in self._pages:
            terminalreporter.write_line(f"page: {page}")
        for problem in self._page_errors:
            terminalreporter.write_line(f"a page was not written: {problem}", red=True)

    def _show_changes(self, reporter: pytest.TerminalReporter, stored: str) -> None:
        limit = self._limit
        reporter.write_line(f"compared with {stored} (limit: {limit:g} times as long):")
        if not self.changes:
            reporter.write_line("  the stored run has none of the cases of this run", yellow=True)
        for change in self.changes:
            failed = change.fails(limit)
            reporter.write_line(f"  {'FAILED ' if failed else ''}{change}", red=failed)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the suite where pytest loads this module as a plugin."""
    register(config)


def register(config: pytest.Config) -> Suite | None:
    """Register the suite once and return it; return None in a worker of xdist.

    Raises:
        pytest.UsageError: pytest-benchmark is not installed, or tests would run in parallel.
    """
    suite: Suite | None = config.pluginmanager.get_plugin(NAME)
    if suite is not None:
        return suite
    if "PYTEST_XDIST_WORKER" in os.environ:
        return None  # the tests of the suite fail there with the reason
    if not config.pluginmanager.has_plugin("benchmark"):
        raise pytest.UsageError(
            "the benchmark suite needs pytest-benchmark: pip install 'pytest-convlens[bench]'"
        )
    if config.getoption("dist", "no") != "no":
        raise pytest.UsageError(ALONE)
    suite = Suite(config)
    config.pluginmanager.register(suite, NAME)
    return suite

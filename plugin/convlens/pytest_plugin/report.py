"""The report of a run: each process writes its results to a spool, and the page is made of it."""

from __future__ import annotations

import platform
import re
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin import readers
from convlens.pytest_plugin.causes import CAUSES, FACTS, FOLLOWS
from convlens.pytest_plugin.fixtures import LayerParam, own_fixture
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.notes import ERRORS, NOTE, note, properties
from convlens.pytest_plugin.rerun import command_line
from convlens.report.text import one_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from types import FrameType

    from convlens.baselines.compare import Comparison
    from convlens.pictures import Figure
    from convlens.report.entry import Exhibit
    from convlens.report.spool import Spool

RECORDER = "convlens-recorder"
_SPOOL_INPUT, _PROBLEM_OUTPUT = "convlens_spool", "convlens_report_problem"
_EXHIBIT = pytest.StashKey["Exhibit"]()
# A test that uses one of these looks at a model.
_FIXTURES = (
    *("lens", "conv_layer", "convlens_model", "mnist_cnn"),
    *("vgg16", "vgg19", "pretrained", "baseline"),
)
_NAMES = {"report": "report", "markdown": "summary"}
# What xdist writes above a failure, and the report says in a column of its own.
_WORKER = re.compile(r"\A\[gw\d+\] .*\n")
_PACKAGES = ("pytest", "keras", "tensorflow", "jax", "numpy")


def add_options(group: pytest.OptionGroup) -> None:
    """Add the options of the report."""
    group.addoption(
        "--convlens-report",
        metavar="PATH",
        help="write the results as one HTML page, with pictures",
    )
    group.addoption(
        "--convlens-markdown",
        metavar="PATH",
        help="write a summary in Markdown, such as for the summary page of a CI job",
    )
    group.addoption(
        "--convlens-json",
        metavar="PATH",
        help="write the failures as JSON: model, layer, cause, numbers, and the command to accept",
    )


def configure(config: pytest.Config) -> None:
    """Prepare the report, if an option asks for one.

    Raises:
        pytest.UsageError: a place that cannot be written to.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        if _SPOOL_INPUT in worker:
            _record(config, Path(worker[_SPOOL_INPUT]))
        return
    wanted = {
        name: config.invocation_params.dir / path
        for name in ("report", "markdown", "json")
        if (path := config.getoption(f"convlens_{name}")) is not None
    }
    for name, path in wanted.items():
        _check_place(f"--convlens-{name}", path)
    readers.configure(config, wanted.pop("json", None))
    if wanted:
        try:
            spool = Path(tempfile.mkdtemp(prefix="convlens-report-"))
        except OSError as error:
            place = tempfile.gettempdir()
            raise pytest.UsageError(
                f"the report keeps pictures in {place} until it is made, and cannot write there "
                f"({error.strerror}): set TMPDIR to a folder with room"
            ) from None
        _record(config, spool)
        config.pluginmanager.register(Reporter(config, spool, wanted), "convlens-reporter")
        config.pluginmanager.register(Stopper(), "convlens-stopper")


def _check_place(option: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
        folder = path.exists() and path.is_dir()  # which a name that is too long cannot be asked
    except OSError as error:
        raise pytest.UsageError(f"{option} {path}: cannot write there ({error.strerror})") from None
    if folder:
        raise pytest.UsageError(f"{option} {path}: is a folder; give the name of a file in it")


def _record(config: pytest.Config, folder: Path) -> None:
    from convlens.report.spool import Spool

    config.pluginmanager.register(Recorder(Spool(folder)), RECORDER)


class Recorder:
    """Writes the figures of this process's items to the spool. Its errors never end an item.

    Attributes:
        problem: error of the first file that could not be written; empty if all were.
    """

    def __init__(self, spool: Spool) -> None:
        self.problem = ""
        self._spool = spool
        self._order: dict[str, int] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._order = {item.nodeid: number for number, item in enumerate(items)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        with self._going_on(item, "the report does not have it"):
            exhibit = _exhibit(item, self._order.get(item.nodeid, 0))
            if exhibit is not None:
                item.stash[_EXHIBIT] = exhibit
                self._spool.write_exhibit(exhibit)  # so that one that crashes is known of

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        exhibit = item.stash.get(_EXHIBIT, None)
        if exhibit is not None:
            with self._going_on(item, "the report lacks its pictures"):
                self._spool.write_exhibit(exhibit)

    # First, so that an error in another plugin's hook costs no picture.
    @pytest.hookimpl(tryfirst=True)
    def pytest_convlens_figures(self, item: pytest.Item, figures: Mapping[str, Figure]) -> None:
        """Add figures to an item."""
        from convlens.report.encode import add_figure

        exhibit = item.stash.get(_EXHIBIT, None)
        if exhibit is None:
            return
        for name, figure in figures.items():
            with self._going_on(item, f"the report lacks the picture {name!r}"):
                add_figure(self._spool, exhibit, figure)

    @pytest.hookimpl(tryfirst=True)
    def pytest_convlens_compared(self, item: pytest.Item, comparison: Comparison) -> None:
        """Add a comparison with a baseline to an item."""
        from convlens.report.encode import add_comparison

        exhibit = item.stash.get(_EXHIBIT, None)
        if exhibit is not None:
            with self._going_on(item, "the report lacks the comparison with the baseline"):
                add_comparison(self._spool, exhibit, comparison)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker, send the problem to the process that makes the report."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_PROBLEM_OUTPUT] = self.problem

    @contextmanager
    def _going_on(self, item: pytest.Item, trouble: str) -> Iterator[None]:
        """Turn an error in writing, such as on a full disk, or in drawing into a message."""
        try:
            yield
        except OSError as error:
            self.problem = self.problem or str(error)
        except ERRORS as error:
            note(item, f"{trouble}: {one_line(error)}")


class Reporter:
    """Gathers the outcome of each item, and writes the report, however the run ends."""

    def __init__(self, config: pytest.Config, folder: Path, wanted: dict[str, Path]) -> None:
        from convlens.report.spool import Spool

        self._config = config
        self._spool = Spool(folder)
        self._wanted = wanted
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._spool.add_event({"kind": "facts", "facts": _facts(config)})

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_SPOOL_INPUT] = str(self._spool.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that was killed has no output.
        self._lacks(getattr(node, "workeroutput", {}).get(_PROBLEM_OUTPUT, ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        try:
            event = _event(report)
        except Exception as error:  # other plugins make reports, too
            self._notes.append(f"{report.nodeid} is shown without its numbers: {one_line(error)}")
            event = _bare_event(report.nodeid, str(report.when), report.outcome)
        self._spool.add_event(event)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            event = _bare_event(report.nodeid, "teardown", "error")
            with suppress(Exception):  # a collector of others may have an error that cannot be read
                event["message"] = report.longreprtext
            self._spool.add_event(event)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        from convlens.files.atomic import write_atomic

        causes = self._config.stash[CAUSES].found
        self._spool.add_event({"kind": "causes", "causes": causes})
        cut = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        if exitstatus not in cut:
            self._spool.add_event({"kind": "finished"})
        recorder = self._config.pluginmanager.get_plugin(RECORDER)
        assert isinstance(recorder, Recorder)  # which pytest_configure registered
        self._lacks(recorder.problem)
        try:
            for name, path in self._wanted.items():
                write_atomic(path, self._text(name).encode("utf-8", "replace"))
        except Exception as error:  # whatever it is, the run has ended and its verdicts stand
            self._problems.append(f"the report was not written: {one_line(error)}")
            self._wanted = {}
        finally:
            shutil.rmtree(self._spool.folder, ignore_errors=True)
        if self._problems:
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED

    def _text(self, name: str) -> str:
        """Return the page or the summary; as text alone where it cannot be made."""
        from convlens.report.assemble import assemble
        from convlens.report.markdown import render_markdown
        from convlens.report.page import render
        from convlens.report.plain import plain_markdown, plain_page

        try:
            if name == "report":
                run = assemble(self._spool, self._notes.append)
                return render(run, self._spool, on_problem=self._notes.append)
            return render_markdown(assemble(self._spool))
        except Exception as error:  # in a template, or in what a plugin gave
            problem = one_line(error)
            self._notes.append(f"the {_NAMES[name]} shows the items as text alone: {problem}")
            plain = plain_page if name == "report" else plain_markdown
            return plain(self._spool.events(), problem)

    def _lacks(self, problem: str) -> None:
        if problem:
            self._problems.append(f"the report lacks what could not be kept: {problem}")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for problem in self._problems:
            terminalreporter.write_line(problem, red=True)
        for text in self._notes:
            terminalreporter.write_line(text, yellow=True)
        for name, path in self._wanted.items():
            terminalreporter.write_line(f"{_NAMES[name]}: {path}")


class Stopper:
    """Ends the run at SIGTERM as at Ctrl-C, so that the report of what was finished is written.

    Only the main thread can handle signals, and a handler that somebody else has set stays.
    """

    def __init__(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        self._finishing = False
        if self._ours:
            signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self._finishing:  # the report is about to be written: nothing else is left to stop
            raise KeyboardInterrupt("stopped by SIGTERM")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        self._finishing = True
        try:
            return (yield)
        finally:
            self.pytest_unconfigure()

    def pytest_unconfigure(self) -> None:
        """Give the signal back."""
        if self._ours and signal.getsignal(signal.SIGTERM) == self._stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exhibit(item: pytest.Item, order: int) -> Exhibit | None:
    """Return the description of an item before it runs; None if it does not use convlens."""
    from convlens.report.entry import Exhibit

    if isinstance(item, ModelItem):
        name, claim = item.check.name, str(getattr(item.check, "summary", ""))
        return Exhibit(item.nodeid, item.model, item.layer or "", name, name, claim, order)
    if not any(own_fixture(item, name) for name in _FIXTURES):
        return None
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    layer = parameters.get("conv_layer", "")
    layer = layer.name if isinstance(layer, LayerParam) else str(layer)
    doc = str(getattr(getattr(item, "obj", None), "__doc__", None) or "")
    claim = doc.strip().partition("\n")[0].rstrip(".")
    file = item.nodeid.partition("::")[0]
    title = item.nodeid.partition("::")[2] or item.name
    return Exhibit(item.nodeid, file, layer, "tests", title, claim, order)


def _event(report: pytest.TestReport) -> dict[str, Any]:
    """Return a report on an item's phase as the spool keeps it."""
    outcome: str = report.outcome
    reason = ""
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
        reason = str(report.wasxfail).removeprefix("reason: ")
    elif report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message.partition("\n")[0] if crash else ""
        known = {"call": "failed", "???": "crashed"}  # xdist says ??? of one whose worker died
        outcome = known.get(str(report.when), "error")
    return {
        **_bare_event(report.nodeid, str(report.when), outcome),
        "message": _WORKER.sub("", report.longreprtext) or reason if report.failed else "",
        "reason": reason,
        "numbers": {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in properties(report)
            if name not in (NOTE, *FACTS)
        },
        "follows": str(dict(properties(report)).get(FOLLOWS, "")),
        "notes": [str(value) for name, value in properties(report) if name == NOTE],
        "seconds": getattr(report, "duration", 0.0),
        "worker": getattr(report, "worker_id", ""),
    }


def _bare_event(nodeid: str, when: str, outcome: str) -> dict[str, Any]:
    """Return a phase's outcome, with nothing else that a report can have."""
    return {
        "kind": "report",
        "nodeid": nodeid,
        "when": when,
        "outcome": outcome,
        "message": "",
        "reason": "",
        "numbers": {},
        "follows": "",
        "notes": [],
        "seconds": 0.0,
        "worker": "",
    }


def _facts(config: pytest.Config) -> dict[str, str]:
    found = {
        "began": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command_line(config),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # one backend is enough
            continue
    return {**found, "machine": f"{platform.system()} {platform.machine()}"}

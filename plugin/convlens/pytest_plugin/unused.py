"""Used and unused baselines: listed at the end, and removed only after a whole run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from convlens.pytest_plugin.targets import TARGETS

_OUTPUT = "convlens_usage"
_MAX_NAMES = 30
_NOT_APPLIED = "not applied"
_SHARED = ("used", "written", "seen", "asking", "partial", "applied", "stale", "former")


class Usage:
    """The baselines that a process of a run used; the controller of xdist gathers them.

    Attributes:
        folder: of the baselines.
        base: folder that their names start from.
        former: names of baselines whose models are recorded under another name now.
        used: names of the baselines that were used.
        written: the files that were recorded, each with what changed in it.
        seen: collected files, and collected models that are not files.
        asking: node ids of tests that have the fixture `baseline`.
        partial: reasons why the suite did not run whole; empty if it did.
        accept: key → fingerprint of the changes that --convlens-accept lists.
        applied, stale: keys of those that are the baseline now, and that are out of date.
    """

    def __init__(
        self, config: pytest.Config, folder: Path, base: Path, accept: Mapping[str, str]
    ) -> None:
        self.config = config
        self.folder = folder
        self.base = base
        self.former: set[str] = set()
        self.accept = accept
        self.applied: set[str] = set()
        self.stale: set[str] = set()
        self.used: set[str] = set()
        self.written: set[str] = set()
        self.seen: set[str] = set()
        self.asking: set[str] = set()
        self.partial: set[str] = set()

    def use(self, key: str) -> None:
        """Note that a baseline was used."""
        self.used.add(key)

    def ask(self, nodeid: str) -> None:
        """Note that a test has the fixture `baseline`."""
        self.asking.add(nodeid)

    def wrote(self, path: Path, changed: Sequence[str]) -> None:
        """Note that a baseline was recorded, and the names of the layers that changed in it."""
        note = ""
        if changed:
            shown = ", ".join(changed[:_MAX_NAMES])
            more = len(changed) - _MAX_NAMES
            note = f"; changed: {shown}{f' and {more} more' if more > 0 else ''}"
        self.written.add(f"{path}{note}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        head = report.nodeid.split("::")[0]
        file = self.config.rootpath / head
        if file.is_file() and file.is_relative_to(self.base):
            head = file.relative_to(self.base).as_posix()
        self.seen.add(head)
        if not report.passed:
            self.partial.add("part of it could not be collected or was skipped")

    def pytest_deselected(self) -> None:
        self.partial.add("tests were deselected")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.partial.add("tests were skipped or expected to fail")
        elif report.failed:
            self.partial.add("tests failed")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = {name: sorted(getattr(self, name)) for name in _SHARED}
        elif exitstatus == pytest.ExitCode.OK and self._is_stale():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _is_stale(self) -> bool:
        """Return whether the list of accepted changes has entries that apply to nothing.

        One whose test was not in a part of the suite may still apply to the rest.
        """
        left = self.accept.keys() - self.applied
        if self.config.getoption("collectonly"):
            return False
        is_part = bool(self._why_partial(pytest.ExitCode.OK))
        return bool(self.stale - self.applied or (left and not (self.applied and is_part)))

    def _accepted(self) -> list[str]:
        """Return the lines about the list of accepted changes; none where none was given."""
        option = self.config.getoption
        if option("convlens_accept") is None or option("collectonly"):
            return []
        path = option("convlens_accept")
        lines = [f"{path}: applied {len(self.applied)} of {len(self.accept)}"]
        for key in sorted(self.accept.keys() - self.applied):
            why = "no test of this run has this baseline"
            if key in self.stale:
                why = "what is there now is not the change that was accepted: review it again"
            lines.append(f"{_NOT_APPLIED}: {key}: {why}")
        return lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Gather the names from a worker of xdist."""
        found = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if found is None:
            self.partial.add("a worker crashed")
            return
        for name, values in found.items():
            getattr(self, name).update(values)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> None:
        """List recorded and unused baselines; remove the unused ones if the option says so."""
        if hasattr(self.config, "workerinput"):  # a worker of xdist knows its own tests alone
            return
        remove = self.config.getoption("convlens_remove_unused")
        lines = [f"recorded: {path}" for path in sorted(self.written)] + self._accepted()
        if self.config.getoption("collectonly") or not os.path.isdir(self.folder):
            lines += []
        elif why := self._why_partial(exitstatus):
            if remove:
                lines.append(f"no unused baseline was looked for or removed: {'; '.join(why)}")
        else:
            lines += self._unused(remove)
        if lines:
            terminalreporter.section("convlens: baselines")
            for line in lines:
                terminalreporter.line(line, red=line.startswith(_NOT_APPLIED))

    def _why_partial(self, exitstatus: int) -> list[str]:
        why = set(self.partial)
        option = self.config.getoption
        if any("::" in str(arg) for arg in self.config.args):
            why.add("tests were named one by one")
        if any(target.only is not None for target in self.config.stash[TARGETS]):
            why.add("tests were named one by one")
        if option("lf", False) or option("stepwise", False):
            why.add("only tests that failed before were run")
        if exitstatus != pytest.ExitCode.OK and not why:
            why.add("the run was interrupted, or had nothing to run")
        return sorted(why)

    def _unused(self, remove: bool) -> list[str]:
        """Return a line for each baseline that nobody used, and remove it if `remove` says so."""
        from convlens.baselines.store import (
            BaselineFileError,
            files,
            read_key,
            remove as remove_file,
        )

        lines, has_unused = [], False
        for path in files(self.folder):
            try:
                key = read_key(path)
            except BaselineFileError as error:
                lines.append(f"unreadable: {error}")
                continue
            if key in self.used or not self._in_scope(key):
                continue
            if key.partition(" :: ")[0] in self.asking:
                lines.append(
                    f"not used this time: {path} ({key}); its test exists, and may need it under "
                    "another condition: delete the file if it does not"
                )
                continue
            has_unused = True
            if remove:
                remove_file(path)
            what = "removed" if remove else "unused"
            lines.append(f"{what}: {path} ({key})")
        if has_unused and not remove:
            lines.append("remove unused baselines with --convlens-remove-unused")
        return lines

    def _in_scope(self, key: str) -> bool:
        """Return whether this run would have used a baseline, if anything still did.

        It is of a file or model that was collected, or of a file that is gone from under what
        was collected.
        """
        head = key.split("::")[0].rstrip()
        if head in self.seen:
            return True
        file = self.base / head
        if file.exists() or not file.suffix or ":" in head:
            return False
        if key in self.former:
            return True
        places = [self.config.invocation_params.dir / str(arg) for arg in self.config.args]
        return any(place.resolve() in file.resolve().parents for place in places)

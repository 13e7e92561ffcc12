"""Output of a run for other programs: --convlens-json, and annotations for GitHub Actions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convlens.pytest_plugin.causes import CAUSES
from convlens.pytest_plugin.ci import in_github_actions
from convlens.pytest_plugin.rerun import command_line
from convlens.report.cause import Cause
from convlens.report.failures_json import render_json
from convlens.report.text import one_line

# GitHub shows as many annotations of a step, and drops the others without a word.
_MAX_ANNOTATIONS = 10


class FailuresFile:
    """Writes the causes of a run's failures to a file, however the run ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problem = ""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        from convlens.files.atomic import write_atomic

        cut = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        config = session.config
        text = render_json(
            config.stash[CAUSES].found,
            command=command_line(config),
            finished=exitstatus not in cut,
        )
        try:
            write_atomic(self._path, text.encode())
        except OSError as error:
            self._problem = f"the failures were not written: {one_line(error)}"
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._problem:
            terminalreporter.write_line(self._problem, red=True)
        else:
            terminalreporter.write_line(f"failures: {self._path}")


class Annotations:
    """Prints each cause as an annotation, which GitHub shows in the pull request."""

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        causes = config.stash[CAUSES].found
        # Those that can be accepted come first: they are what a reviewer decides.
        for cause in sorted(causes, key=lambda cause: not cause.command)[:_MAX_ANNOTATIONS]:
            terminalreporter.write_line(annotation(cause))


def configure(config: pytest.Config, file: Path | None) -> None:
    """Register what was asked for: a file by an option, annotations by a job of GitHub."""
    if hasattr(config, "workerinput"):
        return
    if file is not None:
        config.pluginmanager.register(FailuresFile(file), "convlens-json")
    if in_github_actions():
        config.pluginmanager.register(Annotations(), "convlens-annotations")


def annotation(cause: Cause) -> str:
    """Return the command of GitHub Actions that shows a cause beside its file.

    A message is escaped as the workflow commands of GitHub ask for it, so that no text of a model
    starts another command.
    """
    title = f"{cause.model}: {cause.layer}" if cause.layer else cause.model
    properties = {"file": _in_workspace(cause.file), "title": title}
    given = ",".join(f"{k}={_escape_property(v)}" for k, v in properties.items() if v)
    texts = [text if name == "cause" else f"{name}: {text}" for name, text in cause.lines]
    if cause.following:
        texts.insert(1, cause.following)
    message = _escape("\n".join(texts))
    return f"::error {given}::{message}"


def _in_workspace(file: str) -> str:
    """Return a path as GitHub knows it, from the root of the checkout."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if file and workspace and Path(file).is_relative_to(workspace):
        return Path(file).relative_to(workspace).as_posix()
    return file


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")

"""Run the blocks of one page, in order, in one folder."""

from __future__ import annotations

import configparser
import contextlib
import io
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import NOT_RUN, QUICK, added_to, commands_of
from folder import STATES
from pages import Block, blocks_of

_NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?"
_LOOSE = re.compile(rf"(?P<number>{_NUMBER})|(?P<fill>[=.]{{4,}}|\s{{2,}}|…)", re.ASCII)


class PageRun:
    """A run of one page's blocks, one after the other."""

    def __init__(self, page: str, pytester: pytest.Pytester, names: dict[str, Any]) -> None:
        self.page = page
        self.pytester = pytester
        self.folder: Path = pytester.path
        self.names = names
        self.output = ""
        self.blocks = blocks_of(page)
        self.commands = [
            command
            for block in self.blocks
            if block.language == "console"
            for line in block.lines
            for command in commands_of(line)
        ]

    def run(self, block: Block) -> None:
        """Run a block.

        Raises:
            AssertionError: it does not do what the page says.
        """
        state = STATES[block.state] if block.state else None
        if state is not None:
            state.reach(self.folder, self.execute)
        how: dict[str, Callable[[Block], None]] = {
            "python": self._raising if state is not None and state.fails else self._python,
            "ini": self._configuration,
            "toml": self._configuration,
            "yaml": self._workflow,
            "text": self._output,
        }
        if block.language == "console":
            for line in block.lines:
                for command in commands_of(line):
                    self._command(command, fails=state is not None and state.fails)
        elif block.language in how:
            if state is not None and state.command:
                self._command(state.command, fails=state.fails)
            how[block.language](block)
        else:
            raise AssertionError(f"{block.page}:{block.line}: nothing runs {block.language!r}")

    def _command(self, command: str, fails: bool = False) -> None:
        if (self.page, command) in NOT_RUN:
            return
        status = self.execute(command)
        assert (status != 0) == fails, f"{command}: exit status {status}\n{self.output}"

    def execute(self, command: str) -> int:
        """Run a command, keep what it prints, and return its exit status."""
        words = shlex.split(command)
        as_module = words[:3] == ["python", "-m", "pytest"]
        if as_module:
            self.pytester.syspathinsert()
            words = words[2:]
        if words[0] != "pytest":
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.folder, capture_output=True, text=True
            )
            self.output = done.stdout + done.stderr
            return done.returncode
        alone = "--pyargs" in words  # the benchmarks' modules would be loaded twice
        start = self.pytester.runpytest_subprocess if alone else self.pytester.runpytest
        strict = ["--strict-config"] if (self.folder / "pytest.ini").exists() else []
        result = start(*QUICK, *words[1:], *added_to(command), *strict)
        self.output = result.stdout.str() + result.stderr.str()
        return int(result.ret)

    def _python(self, block: Block) -> None:
        file = block.file or (f"test_line_{block.line}.py" if block.is_test else None)
        if file is not None:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.file is None:
            printed = io.StringIO()
            code = compile(block.text, f"{block.page}:{block.line}", "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, self.names)
            self.output = printed.getvalue()
        if block.is_test and not self._is_run_later(str(file)):
            self._command(f"pytest {file}")

    def _raising(self, block: Block) -> None:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - the text block has its message
            self._python(block)
        self.output = str(raised.value)

    def _is_run_later(self, file: str) -> bool:
        words = {word for command in self.commands for word in shlex.split(command)[1:]}
        return file in words or file.split("/")[0] in words

    def _configuration(self, block: Block) -> None:
        if block.language == "ini":
            configparser.ConfigParser().read_string(block.text)
        else:
            tomllib.loads(block.text)
        name = {"ini": "pytest.ini", "toml": "pyproject.toml"}[block.language]
        (self.folder / (block.file or name)).write_text(block.text, encoding="utf-8")

    def _workflow(self, block: Block) -> None:
        for command in workflow_commands(block.text):
            for part in commands_of(command):
                if part not in self.commands:
                    self._command(part)

    def _output(self, block: Block) -> None:
        missing = [
            line
            for line in block.text.splitlines()
            if not any(_like(line).fullmatch(seen) for seen in self.output.splitlines())
        ]
        assert not missing, f"{block.page}:{block.line}: {missing} not in\n{self.output}"


def workflow_commands(text: str) -> list[str]:
    """Return what the steps of a workflow's jobs run."""
    jobs = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def _like(line: str) -> re.Pattern[str]:
    """Return what matches a line of output whose numbers, and the room for them, may differ."""
    parts, end = [], 0
    for found in _LOOSE.finditer(line):
        parts.append(re.escape(line[end : found.start()]))
        if found["number"]:
            parts.append(_NUMBER)
        elif found["fill"].isspace():
            parts.append(r"\s+")
        elif found["fill"] == "…":
            parts.append(".*")
        else:
            parts.append(f"{re.escape(found['fill'][0])}+")
        end = found.end()
    parts.append(re.escape(line[end:].rstrip()))
    return re.compile("".join(parts) + r"\s*")

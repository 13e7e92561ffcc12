"""Fixtures for runs on small models, in separate processes, under faulty conditions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import HANGS

QUICK = ("--convlens-steps=5", "--convlens-units=2")


@pytest.fixture(autouse=True)
def _not_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a small file system in memory, with a size in KiB."""
    mounted: list[Path] = []

    def mount(kib: int, *, read_only: bool = False) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = f"size={kib}k" + (",ro" if read_only else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "convlens", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs to mount a small disk: run as root on Linux")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def start(pytester: pytest.Pytester) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts pytest in the test's folder."""

    def begin(*args: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *QUICK, *args],
            cwd=pytester.path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


@pytest.fixture
def run_here(
    everything_is_loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Return a function that does as that of `run`, but in this process, which has all loaded."""

    def whole(*args: str, **environment: str) -> tuple[int, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest_inprocess(*QUICK, *args)
        return int(result.ret), checked(result.stdout.str() + result.stderr.str())

    return whole


def checked(said: str) -> str:
    """Return the output of a run that has met no error of its own."""
    assert "INTERNALERROR" not in said
    assert "Traceback" not in said
    return said


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs pytest to its end and returns its status and output."""

    def whole(*args: str, **environment: Any) -> tuple[int, str]:
        process = start(*args, **environment)
        said, _ = process.communicate(timeout=HANGS)
        return process.returncode, checked(said)

    return whole

"""Caches and folders that cannot be written to."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_a_run_passes_with_read_only_caches(run, tiny_file, disk, pytester):
    place = str(disk(16, read_only=True))
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\ncache_dir = '" + place + "/cache'")
    status, said = run(
        *("tiny.keras", "-k", "not classes", "--convlens-report=report.html"),
        *("--convlens-pictures=pictures", "--convlens-update=missing"),
        HOME=place,
        KERAS_HOME=f"{place}/keras",
        XDG_CACHE_HOME=f"{place}/cache",
        TMPDIR=place,  # Python then uses another folder
        PYTHONDONTWRITEBYTECODE="",
    )
    assert status == 0, said
    assert (tiny_file.parent / "report.html").is_file()
    assert list((tiny_file.parent / "convlens-baselines").glob("*.npz"))


def test_errors_name_the_read_only_folder(run_here, tiny_file, disk):
    place = disk(16, read_only=True)
    for option, status in (("report", 4), ("markdown", 4), ("pictures", 4)):
        found, said = run_here("tiny.keras", "-k", "dead", f"--convlens-{option}={place}/new/x")
        assert found == status
        (line,) = [line for line in said.splitlines() if "Read-only" in line]
        assert f"--convlens-{option}" in line
        assert str(place) in line
    found, said = run_here(
        "tiny.keras", f"--convlens-baselines={place}", "--convlens-update=missing"
    )
    assert found == 1
    assert f"cannot write to {place} (Read-only file system)" in said
    assert "give another one with --convlens-baselines" in said
    assert "8 passed" not in said

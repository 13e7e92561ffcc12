"""Atomic writes: killed processes leave nothing for long, and running ones lose nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import psutil
import pytest

from convlens.files import atomic
from convlens.files.atomic import write_all_atomic, write_atomic

# The process stops within a write, before the file has its final name.
WRITER = """
import os, sys, time
from convlens.files import atomic

def stop(*_):
    print("writing", flush=True)
    time.sleep(60)

atomic.os.replace = stop
atomic.write_atomic(sys.argv[1], b"new")
"""


@pytest.fixture
def writer(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def temporary(folder):
    return list(folder.glob(".*.tmp"))


def test_the_next_write_removes_what_a_killed_process_left(writer, tmp_path):
    writer.kill()
    writer.wait()
    assert len(temporary(tmp_path)) == 1
    write_atomic(tmp_path / "b.txt", b"other")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_a_killed_process_that_its_parent_has_not_read_counts_as_killed(writer, tmp_path):
    process = psutil.Process(writer.pid)
    writer.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    write_atomic(tmp_path / "b.txt", b"other")
    assert temporary(tmp_path) == []


def test_the_file_of_a_running_process_stays(writer, tmp_path):
    write_atomic(tmp_path / "b.txt", b"other")
    assert len(temporary(tmp_path)) == 1


def test_files_of_another_machine_are_removed_after_an_hour(writer, tmp_path, monkeypatch):
    writer.kill()
    writer.wait()
    monkeypatch.setattr(atomic, "_machine", lambda: "0" * 8)
    write_atomic(tmp_path / "b.txt", b"other")
    (left,) = temporary(tmp_path)
    os.utime(left, (time.time() - 3700,) * 2)
    write_atomic(tmp_path / "b.txt", b"other")
    assert temporary(tmp_path) == []


def test_files_of_other_programs_stay(tmp_path):
    names = [".tmp", ".x.tmp", ".convlens-mine.tmp", "convlens-00000000-1-a.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    write_atomic(tmp_path / "b.txt", b"other")
    assert {path.name for path in tmp_path.iterdir()} == {*names, "b.txt"}


def full(monkeypatch, number):
    """Let the disk be full at the given one of the next writes."""
    writes = iter(range(1000))
    write = atomic._write

    def limited(path, content, durable):
        if next(writes) == number:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content, durable)

    monkeypatch.setattr(atomic, "_write", limited)


@pytest.mark.parametrize("number", range(3))
def test_files_that_belong_together_are_written_all_or_not_at_all(tmp_path, monkeypatch, number):
    old, new = ({tmp_path / name: f"{name} {age}".encode() for name in "abc"} for age in (1, 2))
    write_all_atomic(old)
    full(monkeypatch, number)
    with pytest.raises(OSError, match=rf"cannot write .*{'abc'[number]} \(No space left"):
        write_all_atomic(new)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old
    write_all_atomic(new)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == new


def test_files_are_renamed_in_order_and_no_temporary_one_stays(tmp_path, monkeypatch):
    names = [tmp_path / name for name in "cab"]
    renamed = []

    def replace(source, path):
        if len(renamed) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        renamed.append(path)
        os.rename(source, path)

    monkeypatch.setattr(atomic.os, "replace", replace)
    with pytest.raises(OSError, match=r"cannot write .*b "):
        write_all_atomic(dict.fromkeys(names, b"new"))
    assert renamed == names[:2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]

"""Two simultaneous runs in one folder both pass and leave complete files."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from tests.patience import HANGS

from convlens.baselines.store import files, read, read_key

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--convlens-pictures=pictures", "--convlens-report=report.html"),
    *("--convlens-markdown=summary.md", "--convlens-update=all", "-k", "not classes"),
)


def test_two_simultaneous_runs_pass(start, run, tiny_file, pytester):
    processes = [start("tiny.keras", *OPTIONS) for _ in range(2)]
    for process in processes:
        said, _ = process.communicate(timeout=HANGS)
        assert process.returncode == 0, said
        assert re.search(r"\d+ passed", said)
    folder = pytester.path / "convlens-baselines"
    (stored,) = [read(path, read_key(path)) for path in files(folder)]
    assert stored.kind == "network"
    pictures = [*pytester.path.rglob("*.png")]
    assert len(pictures) > 8
    for picture in pictures:
        with Image.open(picture) as opened:
            opened.verify()
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert report.rstrip().endswith("</html>")
    assert 'data-outcome="failed"' not in report
    assert not [p for p in pytester.path.rglob("*") if p.name.endswith(".tmp")]
    status, _ = run("tiny.keras", "-k", "baseline")
    assert status == 0

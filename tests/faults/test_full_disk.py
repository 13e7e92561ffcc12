"""A full disk: old files stay, every item gets its verdict, and one line reports the problem."""

from __future__ import annotations

import re

import pytest

from convlens.baselines.store import files, read, read_key

pytestmark = pytest.mark.slow

ITEMS = ("tiny.keras", "-k", "finite or dead or gram")
FULL = "No space left on device"


def passed(said: str) -> int:
    found = re.search(r"(\d+) passed", said)
    return int(found[1]) if found else 0


def test_a_report_that_does_not_fit_leaves_the_old_report(run_here, tiny_file, disk):
    place = disk(16)
    (place / "report.html").write_text("the last run's")
    status, said = run_here(*ITEMS, f"--convlens-report={place}/report.html")
    assert status == 1
    assert re.search(
        rf"the report was not written: cannot write {place}/report.html .*{FULL}", said
    )
    assert f"report: {place}" not in said
    assert passed(said) == 7
    assert [p.name for p in place.iterdir()] == ["report.html"]
    assert (place / "report.html").read_text() == "the last run's"


def test_the_report_leaves_out_pictures_that_do_not_fit(run, tiny_file, disk):
    for workers in ((), ("-n2",)):
        room = disk(48)
        report = tiny_file.with_name("report.html")
        status, said = run(*ITEMS, f"--convlens-report={report}", *workers, TMPDIR=str(room))
        assert status == 1
        assert re.search(rf"the report lacks what could not be kept: cannot write .*{FULL}", said)
        assert passed(said) == 7
        text = report.read_text(encoding="utf-8")
        assert "was interrupted before its end" not in text
        assert text.count('data-outcome="passed"') > 0
        assert not list(room.iterdir())
        report.unlink()


def test_each_picture_that_does_not_fit_is_named(run_here, tiny_file, disk):
    place = disk(4)
    status, said = run_here(*ITEMS, f"--convlens-pictures={place}")
    assert status == 0  # as no picture may change a verdict
    for name in ("activations", "gram"):
        for layer in ("conv_a", "conv_b"):
            stop = rf"cannot write( to)? {place}\S*{layer}-{name}\S* \({FULL}\)"
            assert re.search(rf"the picture '{name}' was not made: {stop}", said)
    assert passed(said) == 7
    assert all(p.suffix == ".png" for p in place.rglob("*") if p.is_file())


def test_a_failed_check_is_reported_even_if_its_picture_does_not_fit(
    run_here, tiny, tiny_file, disk
):
    from convlens.fixtures.defects import plant

    plant(tiny, "dead-filter", "conv_b").save(tiny_file)
    place = disk(4)
    status, said = run_here("tiny.keras", "-k", "dead and conv_b", f"--convlens-pictures={place}")
    assert status == 1
    assert "'conv_b': 1 of 5 are dead" in said
    assert re.search(rf"cannot write( to)? {place}\S* \({FULL}\)", said)


def test_baselines_that_do_not_fit_leave_the_old_ones(run_here, tiny_file, disk, pytester):
    place = disk(240)
    folder = place / "baselines"
    pytester.makepyfile(
        test_it="""
        import numpy as np
        import os
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_it(baseline, number):
            seed = 100 * int(os.environ["ROUND"]) + number
            size = 1 if os.environ["ROUND"] == "0" else 8000
            baseline.check(np.random.default_rng(seed).random(size))
        """
    )
    options = ("test_it.py", f"--convlens-baselines={folder}")
    status, said = run_here(*options, "--convlens-update=missing", ROUND="0")
    assert (status, passed(said)) == (0, 8)
    before = {path: read(path, read_key(path)).arrays for path in files(folder)}
    status, said = run_here(*options, "--convlens-update=all", ROUND="1")
    assert status == 1
    assert 0 < passed(said) < 8
    assert said.count(FULL) >= 8 - passed(said)
    assert "--convlens-baselines" in said
    kept = 0
    for path, arrays in before.items():
        (size,) = {a.size for a in read(path, read_key(path)).arrays.values()}
        kept += size == next(iter(arrays.values())).size
    assert kept == 8 - passed(said)
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]

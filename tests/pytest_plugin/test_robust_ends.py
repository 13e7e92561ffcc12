"""Whatever fails in what is shown: the run ends, the report is written, the verdicts stand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.patience import HANGS
from tests.pytest_plugin.test_report import outcomes, read

REPORT = ("--convlens-report=report.html", "--convlens-markdown=summary.md")
OPTIONS = (*REPORT, "--convlens-pictures=pictures", "-p", "no:cacheprovider")
# A check whose figures fail in every way that is known, beside one that can be drawn.
CHECKS = """
    import sys
    import numpy as np
    import pytest
    from convlens import Column, ModelCheck
    from convlens.pictures import Curves, HeatMap, Tiles

    NAN, INF = float("nan"), float("inf")

    class NoImage(Tiles):
        def image(self):
            raise RuntimeError("planted in image()")

    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("planted in __str__")

    def raising(error):
        def make():
            raise error
        return make

    class Shown(ModelCheck):
        name = "shown"
        summary = "surrogates \\udcff hold"
        holds = True

        def run(self, lens, layer, effort):
            return None

        def measures(self, seen):
            return {"gain": NAN, "share": INF}

        def verdict(self, seen):
            assert self.holds, "the verdict \\udcff"
            return {}

        def figures(self, lens, layer, seen):
            maps = [np.zeros((4, 4), np.uint8)]
            return {
                "good": lambda: Tiles(maps, ["one"], "maps"),
                "surrogate \\udcff": lambda: Tiles(maps, ["\\udcff"], "\\udcff"),
                "gaps": lambda: Curves({"a": [1.0, NAN, 2.0]}, [0, 1, 2], "t", "x", "y"),
                "infinite": lambda: Curves({"a": [INF, -INF, 1e308]}, [0, 1, 2], "t", "x", "y"),
                "no values": lambda: Curves({"a": []}, [], "t", "x", "y"),
                "heat": lambda: HeatMap(np.full((2, 2), NAN), "m"),
                "no figure": lambda: 3,
                "image": lambda: NoImage(maps, ["one"], "image"),
                "raises": raising(ValueError("planted in make")),
                "unprintable": raising(Unprintable()),
                "skips": lambda: pytest.skip("planted skip"),
                "fails": lambda: pytest.fail("planted fail"),
                "exits": lambda: sys.exit(3),
            }

    class Failing(Shown):
        name = "failing"
        holds = False

    class NoFigures(Shown):
        name = "nofigures"

        def figures(self, lens, layer, seen):
            raise RuntimeError("planted in figures")

    class NoMeasures(Failing):
        name = "nomeasures"

        def measures(self, seen):
            raise RuntimeError("planted in measures")

    class NoColumns(Shown):
        name = "nocolumns"
        columns = (Column("broken", "{"),)
        line = "{gain:.3q} planted"

    class NoSummary(Shown):
        name = "nosummary"
        summary = None

    def pytest_convlens_checks(config):
        return [Shown(), Failing(), NoFigures(), NoMeasures(), NoSummary(), NoColumns()]

    def pytest_convlens_figures(item, figures):
        raise RuntimeError("planted in another hook")

    def pytest_convlens_compared(item, comparison):
        raise RuntimeError("planted in another hook")
"""
NAMES = ("shown", "failing", "nofigures", "nomeasures", "nosummary", "nocolumns")


@pytest.fixture(autouse=True)
def _in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)


def run(pytester, *options):
    result = pytester.runpytest("--convlens", "mnist_cnn", *options)
    said = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in said
    return result


def test_report_survives_figures_that_fail_and_the_verdicts_stand(pytester, mnist_items):
    pytester.makeconftest(CHECKS)
    result = run(pytester, "-k", " or ".join(NAMES), *OPTIONS)
    result.assert_outcomes(passed=4, failed=2, deselected=mnist_items)
    text = read(pytester)
    shown = outcomes(text)
    assert {name.removeprefix("mnist_cnn::"): outcome for name, outcome in shown.items()} == {
        "shown": "passed",
        "failing": "failed",
        "nofigures": "passed",
        "nomeasures": "failed",
        "nosummary": "passed",
        "nocolumns": "passed",
    }
    for planted in ("image()", "make", "figures", "another hook"):
        assert f"planted in {planted}" in text
        assert f"planted in {planted}" in result.stdout.str()
    for note in (
        "shown: the picture 'unprintable' was not made: Unprintable",
        "shown: the picture 'skips' was not made: planted skip",
        "shown: the picture 'fails' was not made: planted fail",
        "shown: the picture 'exits' was not made: 3",
        "nocolumns: '{gain:.3q} planted' cannot be filled with its measures: Unknown format code",
        "failing: the report lacks the picture 'heat': a picture needs finite values",
    ):
        assert note in result.stdout.str()
    assert text.count("<svg") == 5 * 3
    assert text.count("<polyline") == 5 * 2
    pictures = {p.name for p in (pytester.path / "pictures").rglob("*.png")}
    assert {"good.png", "gaps.png", "infinite.png"} <= pictures
    assert "the verdict" in text
    assert "✗" in (pytester.path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "place",
    [
        *("overview", "markdown"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("article", "all", "assemble")),
    ],
)
def test_report_survives_a_template_that_fails(pytester, monkeypatch, place):
    def broken(*args, **options):
        raise ZeroDivisionError(f"planted in {place}")

    names = {
        "overview": ("convlens.report.page.overview",),
        "article": ("convlens.report.chart.chart",),
        "markdown": ("convlens.report.markdown.overview",),
        "all": ("jinja2.Environment.get_template", "convlens.report.markdown._row"),
        "assemble": ("convlens.report.assemble._entry",),
    }
    for name in names[place]:
        monkeypatch.setattr(name, broken)
    result = run(pytester, "-k", "ascent and conv2d_1 or gram", *REPORT, "--convlens-steps=3")
    failed = result.parseoutcomes().get("failed", 0)
    assert result.ret == (1 if failed else 0)
    text = read(pytester)
    assert text.count("mnist_cnn::gram[conv2d_2]") >= 1
    summary = (pytester.path / "summary.md").read_text(encoding="utf-8")
    wrong_page, wrong_summary = "planted in" in text, "planted in" in summary
    assert wrong_page == (place != "markdown")
    assert wrong_summary == (place in ("markdown", "all", "assemble"))
    what = "is shown as" if place == "article" else "shows the items as"
    result.stdout.fnmatch_lines([f"*{what} text alone: planted in {place}"])


def test_report_survives_reports_of_other_plugins(pytester):
    pytester.makeconftest(
        """
        import pytest

        class Unprintable:
            def __str__(self): raise RuntimeError("planted")

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_logreport(report):
            report.user_properties = [("one", 1), "no pair", (1, 2), ("two", Unprintable())]
        """
    )
    pytester.makepyfile("def test_it(lens): pass\ndef test_bad(lens): assert False")
    result = pytester.runpytest(*REPORT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_bad is shown without its numbers: *"])
    assert set(outcomes(read(pytester)).values()) == {"passed", "failed"}


def test_the_verdict_on_a_baseline_survives_other_plugins(pytester):
    pytester.makeconftest(
        "def pytest_convlens_compared(item, comparison): raise RuntimeError('planted')"
    )
    pytester.makepyfile("def test_it(baseline): baseline.check([1.0])")
    pytester.runpytest("--convlens-update=missing").assert_outcomes(passed=1)
    pytester.makepyfile("def test_it(baseline): baseline.check([2.0])")
    result = pytester.runpytest(*REPORT)
    result.assert_outcomes(failed=1)
    assert "Accept this change" in read(pytester)


def test_report_shows_the_name_of_the_layer(pytester):
    pytester.makepyfile(
        """
        import pytest
        def test_layer(conv_layer): pass

        @pytest.mark.parametrize("conv_layer", ["conv2d_3"], indirect=True)
        def test_one(conv_layer): assert conv_layer == "conv2d_3"
        """
    )
    pytester.runpytest(*REPORT).assert_outcomes(passed=4)
    text = read(pytester)
    assert text.count('data-layer="conv2d_3"') >= 2
    assert 'data-layer="0"' not in text
    summary = (pytester.path / "summary.md").read_text(encoding="utf-8")
    assert "| conv2d\\_1 | ✓ |" in summary


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--collect-only",),
        ("-x",),
        ("-W", "error"),
        pytest.param(("-p", "no:terminal"), marks=pytest.mark.slow),
        pytest.param(("--maxfail=1",), marks=pytest.mark.slow),
        pytest.param(("--junitxml=out.xml",), marks=pytest.mark.slow),
        pytest.param(("-p", "no:capture"), marks=pytest.mark.slow),
    ],
)
def test_options_of_pytest_with_pictures_and_a_report(pytester, tiny, options):
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    kernel[..., 2], bias[2] = 0, -1
    tiny.get_layer("conv_a").set_weights([kernel, bias])
    tiny.save(pytester.path / "broken.keras")
    result = pytester.runpytest("broken.keras", "-k", "dead or gram", *OPTIONS, *options)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    text = read(pytester)
    if options == ("--collect-only",):
        assert result.ret == 0
        assert "No tests were run" in text
        return
    assert result.ret == 1
    assert "failed" in outcomes(text).values()
    assert list((pytester.path / "pictures").rglob("*.png"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM that a process can handle")
@pytest.mark.parametrize("handled", [False, True])
def test_report_survives_sigterm(pytester, handled):
    """Unless the suite handles the signal itself."""
    own = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))" if handled else ""
    pytester.makeconftest(f"import os, signal\n{own}")
    pytester.makepyfile(
        test_mine="""
        import time
        def test_first(lens): pass
        def test_slow(mnist_cnn):
            open("started", "w").close()
            time.sleep(3600)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *REPORT],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + HANGS
        while not (pytester.path / "started").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        process.communicate(timeout=HANGS)
    finally:
        process.kill()
    if handled:
        assert process.returncode == 7
        return
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    text = read(pytester)
    assert outcomes(text) == {
        "test_mine.py::test_first": "passed",
        "test_mine.py::test_slow": "unfinished",
    }
    assert "was interrupted before its end" in text


def test_the_handler_of_sigterm_is_given_back(pytester):
    before = signal.getsignal(signal.SIGTERM)
    pytester.makepyfile(
        """
        import signal
        def test_it():
            assert callable(signal.getsignal(signal.SIGTERM))
        """
    )
    pytester.runpytest(*REPORT).assert_outcomes(passed=1)
    assert signal.getsignal(signal.SIGTERM) is before
    pytester.runpytest().assert_outcomes(failed=1)

"""Options with senseless values: one clear line each, and nothing is written outside the folder."""

from __future__ import annotations

import numpy as np
import pytest

# Those that say where something is written are tried with places outside elsewhere.
WRITING = ("-pictures", "-report", "-markdown", "-baselines", "-bench-page")
OPTIONS = (
    *("", "-images", "-range", "-units", "-steps", "-accuracy", "-preset", "-content", "-style"),
    *("-memory", "-seed", "-weights", "-update", "-accept", "-variant", "-bench", "-bench-fail"),
    *WRITING,
)
OUTSIDE = ("/", "..", "../../../../nowhere/x", "../x.html")
VALUES = (
    *("", " ", ".", "-1", "0", "1e400", "nan", "inf,nan", "0,inf", "-inf,inf", "1,0", "9" * 40),
    *("0x10", "\n", "\x1b[31m", "\u202egnp.exe", "💥", "%s%n{}", "a::b", "a:b:c", ":", "::", "~"),
    *("x" * 300, "x/" * 3000, "os:getcwd", "nan.npz", "[", "[" * 500, "*", "\\", "C:\\x"),
    *("file:///etc/passwd", "mnist_cnn::", "VGG19::x", *OUTSIDE),
)
# No value, and one that is neither a number, a file nor a name.
FEW = ("", "\x1b[31m")
STATUSES = {
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.INTERRUPTED,
    pytest.ExitCode.USAGE_ERROR,
    pytest.ExitCode.NO_TESTS_COLLECTED,
}


@pytest.fixture
def attempt(pytester, monkeypatch, tiny_file):
    """Return a function that runs pytest in a folder beside which nothing may appear."""
    inside = pytester.mkdir("inside")
    (inside / "test_it.py").write_text("def test_it():\n    return None\n")
    beside = sorted(p.name for p in pytester.path.iterdir())
    monkeypatch.chdir(inside)

    def run(*args: str) -> None:
        own = ("--rootdir", str(inside), "-p", "no:cacheprovider", "-q")
        result = pytester.runpytest_inprocess(*own, *args)
        said = result.stdout.str() + result.stderr.str()
        assert result.ret in STATUSES, f"{args}: {said}"
        for word in ("INTERNALERROR", "Traceback"):
            assert word not in said, f"{args}: {said}"
        if result.ret == pytest.ExitCode.USAGE_ERROR:
            errors = [line for line in said.splitlines() if line.startswith(("ERROR", "E   "))]
            assert len(errors) <= 1, f"{args}: {said}"
        assert sorted(p.name for p in pytester.path.iterdir()) == beside, args

    return run


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_a_few_senseless_values(option, attempt):
    attempt(f"--convlens{option}={FEW[OPTIONS.index(option) % 2]}", "test_it.py", "--collect-only")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    "third",
    [pytest.param(0, marks=pytest.mark.slow)]
    + [pytest.param(third, marks=pytest.mark.weekly) for third in (1, 2)],
)
def test_senseless_values(option, third, attempt):
    """Each value meets a third of the options on every change, and the others once a week."""
    draw = np.random.default_rng(len(option))
    values = [*VALUES, *("".join(map(chr, draw.integers(32, 1000, 12))) for _ in range(8))]
    for value in values[(OPTIONS.index(option) + third) % 3 :: 3]:
        if not (option in WRITING and value in OUTSIDE):
            attempt(f"--convlens{option}={value}", "test_it.py", "--collect-only")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("-images", (".", "x" * 300, "os:getcwd", "sys:byteorder", "\n", "conv.npz", "a:b:c")),
        ("-range", ("0,1e-30", "-1e38,1e38", "0,inf", "-5,-4")),
        ("-seed", ("9" * 40, str(2**63))),
        ("-memory", ("1e-30", "1e300")),
        ("-units", ("9" * 40,)),
        ("-steps", ("9" * 40, str(2**31))),
        ("-accuracy", ("0", "1")),
    ],
)
def test_values_that_only_a_model_shows_to_be_senseless(option, values, attempt, tiny_file):
    for value in values:
        attempt(f"--convlens{option}={value}", str(tiny_file), "-k", "finite or ascent")

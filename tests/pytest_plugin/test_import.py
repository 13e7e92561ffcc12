"""An installed but unused plugin costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("tensorflow", "keras", "numpy", "jax", "PIL")


def test_a_run_that_does_not_use_it_imports_nothing_heavy(pytester):
    pytester.makeconftest(
        f"""
        import sys

        def pytest_sessionfinish():
            print("HEAVY", [name for name in {HEAVY} if name in sys.modules])
        """
    )
    pytester.makepyfile("def test_mine(tmp_path): assert tmp_path.is_dir()")
    result = pytester.runpytest_subprocess("-p", "no:benchmark", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*HEAVY *"])
    assert "HEAVY []" in result.stdout.str()


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, convlens; print([n for n in {HEAVY} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

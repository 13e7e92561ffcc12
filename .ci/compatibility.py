"""Run the tests with the oldest, or the newest, versions of what convlens needs.

    python .ci/compatibility.py                          # the newest, on this Python
    python .ci/compatibility.py --oldest                 # the oldest that pyproject.toml allows
    python .ci/compatibility.py --python python3.13 --write

A virtual environment is made for each run, in a temporary folder. With --write the result becomes
a row of docs/compatibility.md. `--constraints` prints the oldest versions, for pip's -c.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "compatibility.md"
SHOWN = ("pytest", "tensorflow", "keras", "numpy")
# What decides, in a few minutes: the engine, the checks, and the plugin as users run it.
TESTS = ("tests/checks", "tests/engine", "tests/pytest_plugin", "tests/baselines", "tests/report")
# Old versions of pytest-benchmark warn beside xdist, where nothing is timed, unless they are told.
PROCESSES = ("-n", "2", "--dist", "worksteal", "--benchmark-disable")


def constraints() -> list[str]:
    """Return the oldest version of each requirement.

    'numpy>=1.26' gives its series, 'numpy==1.26.*'; 'keras>=3.15.1' that release, 'keras==3.15.1'.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    found = []
    for requirement in wanted:
        name, _, version = requirement.partition(">=")
        if name not in ("ruff", "mypy"):  # which read the code, and do not run it
            exact = version.count(".") == 2
            found.append(f"{name}=={version}" if exact else f"{name}=={version}.*")
    return found


def try_it(python: str, oldest: bool, tests: list[str]) -> tuple[list[str], int]:
    """Make an environment, run the tests in it, and return the row of the table and their status.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "venv", "bin", "python")
        subprocess.run([python, "-m", "venv", own.parents[1]], check=True)
        limits = Path(folder, "oldest.txt")
        limits.write_text("\n".join(constraints()), encoding="utf-8")
        install = [own, "-m", "pip", "install", "--quiet", f"{ROOT}[test]"]
        subprocess.run([*install, *(["-c", limits] if oldest else [])], check=True)
        version = subprocess.check_output([own, "--version"], text=True).split()[1]
        code = f"from importlib.metadata import version as v; print(*map(v, {SHOWN}))"
        versions = subprocess.check_output([own, "-c", code], text=True).split()
        test = [own, "-m", "pytest", "-q", *PROCESSES, *tests]
        done = subprocess.run(test, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    summary = done.stdout.rstrip().splitlines()[-1]
    counts = re.sub(r" in [\d.]+s.*", "", summary).strip("= ")
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    folders = ", ".join(name.removeprefix("tests/") for name in tests)
    return [version, *versions, counts, today, folders], done.returncode


def write(row: list[str]) -> None:
    """Put a row into the table, in place of one of the same versions."""
    text = TABLE.read_text(encoding="utf-8")
    key = " | ".join(row[:5])
    lines = [line for line in text.splitlines() if not line.startswith(f"| {key} |")]
    TABLE.write_text("\n".join([*lines, f"| {' | '.join(row)} |", ""]), encoding="utf-8")


def main() -> int:
    """Return pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter to try")
    parser.add_argument("--oldest", action="store_true", help="with the oldest versions")
    parser.add_argument("--write", action="store_true", help=f"put the result into {TABLE.name}")
    parser.add_argument("--constraints", action="store_true", help="print the oldest versions")
    parser.add_argument("tests", nargs="*", default=TESTS, help="what pytest runs")
    given = parser.parse_args()
    if given.constraints:
        print("\n".join(constraints()))
        return 0
    row, status = try_it(given.python, given.oldest, list(given.tests))
    print(" | ".join(row))
    if given.write and status in (0, 1):  # else the tests did not run to their end
        write(row)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Each way to install it works, and finds what ships with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import convlens

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = {
    "plugin/convlens": "convlens",
    "fixtures": "convlens/fixtures",
    "benchmarks": "convlens/benchmarks",
}
REVEALED = re.compile(r'^names\.py:(\d+): note: Revealed type is "(.*)"$', re.MULTILINE)
SOURCES = ("plugin", "benchmarks", "fixtures", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(*command: object, cwd: Path) -> str:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONPATH"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_package_index_shows_the_pictures_and_follows_the_links_of_the_readme(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(file).decode()
    assert "Description-Content-Type: text/markdown" in metadata
    links = re.findall(r"(!?)\[[^\[\]]*\]\(([^)\s]+)\)", metadata)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text(encoding="utf-8")))
    for picture, link in links:
        host = "raw.githubusercontent.com" if picture else "github.com"
        branch = "main" if picture else "blob/main"
        place = f"https://{host}/pytest-convlens/pytest-convlens/{branch}/"
        assert link.startswith(place), link
        assert (ROOT / link.removeprefix(place).partition("#")[0]).exists(), link


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"convlens"}
    for needed in (
        "convlens/py.typed",
        "convlens/fixtures/data/mnist_cnn.keras",
        "convlens/fixtures/data/digits.npz",
        "convlens/pytest_plugin/__init__.py",
        "convlens/benchmarks/__init__.py",
        "convlens/benchmarks/templates/page.html",
        "convlens/report/templates/page.html",
        "convlens/report/templates/script.js",
    ):
        assert needed in names
    for folder, package in PACKAGES.items():
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / folder).as_posix()}" in names
    assert wheel.stat().st_size < 2_000_000


@pytest.mark.slow
def test_mypy_knows_the_type_of_every_public_name(wheel: Path, tmp_path: Path):
    """Reveal them in a file of a user who has the package installed."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "package")
    names = [*sorted(convlens.__all__), "nothing"]  # the last has no type, as a lost name would
    (tmp_path / "names.py").write_text(
        "import convlens\n" + "".join(f"reveal_type(convlens.{name})\n" for name in names),
        encoding="utf-8",
    )
    config = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *config, "names.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path / "package")},
        capture_output=True,
        text=True,
    )
    revealed = {int(line) - 2: text for line, text in REVEALED.findall(done.stdout)}
    assert sorted(revealed) == [*range(len(names))], done.stdout + done.stderr
    assert [name for i, name in enumerate(names) if revealed[i] == "Any"] == ["nothing"]


def interpreter(version: str) -> Path:
    """Return that Python, or the running one where this machine does not have it."""
    own = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    on_path = shutil.which(f"python{version}")
    for python in (*([Path(on_path)] if on_path else []), *sorted(own)):
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    return Path(sys.executable)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "version"),
    [
        ("wheel", "3.12"),
        # Two minutes each. Every session of `.ci/run` stands on `pip install .`.
        pytest.param("install", "3.11", marks=pytest.mark.weekly),
        pytest.param("editable", "3.13", marks=pytest.mark.weekly),
    ],
)
def test_it_works_installed(
    how: str, version: str, wheel: Path, source: Path, tmp_path: Path, mnist_items: int
):
    """Install into an environment of its own, with all that it depends on, and run the main job."""
    run(interpreter(version), "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    what = {"wheel": [wheel], "install": [source], "editable": ["-e", source]}[how]
    # Python compiles what is imported, which is a small part of TensorFlow.
    run(python, "-m", "pip", "install", "-q", "--no-compile", *what, cwd=tmp_path)
    job = ("--convlens", "mnist_cnn", "--convlens-pictures", "pictures", "--convlens-steps=60")
    out = run(python, "-m", "pytest", *job, cwd=tmp_path)
    assert f"{mnist_items} passed" in out
    assert "convlens: mnist_cnn" in out
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 5 * 3 + 1

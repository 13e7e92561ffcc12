"""The jobs that lint, test and build this project: ``nox -s tests``, ``nox --list``.

Each session makes an environment of its own, with the versions of ``requirements/``. Given
``--no-venv``, sessions run in the environment that is active instead, and install nothing.
What stands behind ``--`` goes on to the session's tool: ``nox -s tests -- tests/checks -x``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2026.2"
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
REQUIREMENTS = ROOT / "requirements"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
TWO_PROCESSES = ("-n", "2", "--dist", "worksteal")
SLOW = ("--run-slow", "-m", "slow and not weekly and not browser")
WEEKLY = ("--run-slow", "-m", "weekly", "--hypothesis-profile", "default")
# Of no environment but their own: they need older versions than the rest.
PEERS = "peers"


def install(session: nox.Session, *what: str, lock: str = "ci") -> None:
    """Install into the session's environment, with the versions of a file in requirements/."""
    session.env["PIP_BUILD_CONSTRAINT"] = str(REQUIREMENTS / "ci.txt")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules that are gone would come back
    if session.venv_backend != "none":
        session.install("-c", str(REQUIREMENTS / f"{lock}.txt"), *what)


def pytest(session: nox.Session, *options: str, env: dict[str, str] | None = None) -> None:
    """Run pytest in the session's environment."""
    session.run("python", "-m", "pytest", *options, env=env)


def built(session: nox.Session) -> str:
    """Return a folder with the package as its wheel has it: fixtures and benchmarks are in it."""
    folder = Path(session.create_tmp(), "package").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, ".")
    return str(folder)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, check the format, and hold the imports against the layers in pyproject.toml."""
    install(session, "import-linter", "ruff")
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": built(session)})


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package as it is installed."""
    install(session, ".[test,onnx,tflite]")
    folder = built(session)
    config = str(ROOT / "pyproject.toml")
    with session.chdir(folder):  # else the checkout's own folders are read
        session.run("mypy", "--config-file", config, *session.posargs, env={"MYPYPATH": folder})


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the core of every module, each of which takes seconds."""
    install(session, ".[test,onnx,tflite]")
    pytest(session, *TWO_PROCESSES, *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Run the tests marked slow: faults, random networks, each way to install the package."""
    install(session, ".[test,onnx,tflite]")
    pytest(session, "-n", "2", "--dist", "loadfile", *SLOW, *session.posargs)


@nox.session
def weekly(session: nox.Session) -> None:
    """Run the tests marked weekly: each planted defect, each kind of network, other machines."""
    install(session, ".[test,hub,onnx,tflite]", "tf2onnx>=1.17")  # Keras exports with it
    pytest(session, *TWO_PROCESSES, *WEEKLY, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documentation; a broken link fails."""
    install(session, ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Try the report in Chromium, which must be installed with its driver."""
    install(session, ".[test,browser]")
    pytest(session, "--run-slow", "-m", "browser", "tests/report", *session.posargs)


@nox.session
def record(session: nox.Session) -> None:
    """Keep what the engine finds on TensorFlow, for the session `jax`."""
    install(session, ".[test]")
    session.run("python", "tests/engine/results.py", str(session.cache_dir / "tensorflow.npz"))
    baselines = session.cache_dir / "tensorflow"
    shutil.rmtree(baselines, ignore_errors=True)
    session.run("python", "tests/baselines/record_all.py", str(baselines))


@nox.session(requires=["record"])
def jax(session: nox.Session) -> None:
    """Hold the engine on JAX, without TensorFlow, against what `record` kept."""
    needed = [name for name in PROJECT["dependencies"] if not name.startswith("tensorflow")]
    install(session, "jax[cpu]", "hypothesis", "pytest-xdist", *needed)
    install(session, "--no-deps", ".")
    env = {
        "KERAS_BACKEND": "jax",
        "CONVLENS_OTHER_BACKEND": str(session.cache_dir.resolve() / "tensorflow.npz"),
        "CONVLENS_OTHER_BASELINES": str(session.cache_dir.resolve() / "tensorflow"),
    }
    given = session.posargs or ["tests/engine", "tests/baselines/test_other_backend.py"]
    pytest(session, *TWO_PROCESSES, *given, env=env)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run what decides with the oldest versions of all that convlens needs."""
    install(session, ".[test]", lock="oldest")
    given = session.posargs or ["tests/checks", "tests/pytest_plugin"]
    # Old versions of pytest-benchmark warn beside xdist, where nothing is timed.
    pytest(session, *TWO_PROCESSES, "--benchmark-disable", *given)


@nox.session
def peers(session: nox.Session) -> None:
    """Hold the engine against independent implementations."""
    # Without what they depend on: xplique asks for all of CUDA, 4 GB, which `lock` leaves out.
    install(session, "--no-deps", "-r", "requirements/peers.txt", lock="peers")
    install(session, "--no-deps", ".", lock="peers")
    pytest(session, *(session.posargs or ["tests/engine/test_peers.py"]))


@nox.session
def build(session: nox.Session) -> None:
    """Build what a release publishes, into dist/: the archive of the sources and the wheel."""
    install(session, "build", "twine")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", *session.posargs)
    session.run("twine", "check", "--strict", *(str(path) for path in ROOT.glob("dist/*")))


@nox.session
def lock(session: nox.Session) -> None:
    """Write the files of requirements/ anew, with the newest versions that go together."""
    session.install("uv")
    extras = [name for name in PROJECT["optional-dependencies"] if name != PEERS]
    limits = Path(session.create_tmp(), "oldest.txt")
    oldest = session.run("python", ".ci/compatibility.py", "--constraints", silent=True)
    limits.write_text(str(oldest), encoding="utf-8")
    everywhere = "--universal"  # any system, and each Python from 3.11
    for name, what in {
        "ci": [everywhere, "requirements/ci.in", *(f"--extra={extra}" for extra in extras)],
        "peers": [everywhere, "--extra=test", f"--extra={PEERS}"],
        "oldest": ["--python-platform=linux", "--extra=test", f"--constraint={limits}"],
    }.items():
        session.run(
            *("uv", "pip", "compile", "pyproject.toml", *what, "--python-version=3.11"),
            *("--quiet", "--upgrade", "--no-annotate", "--custom-compile-command=nox -s lock"),
            # Its newest version is for Python 3.10 alone, but uv takes it for each.
            "--no-emit-package=backports-strenum",
            f"--output-file={REQUIREMENTS / name}.txt",
        )
    listed = (REQUIREMENTS / "peers.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in listed if not line.startswith("nvidia-"))
    (REQUIREMENTS / "peers.txt").write_text(kept, encoding="utf-8")

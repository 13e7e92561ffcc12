"""The commands that the documentation gives, and those that its tests do not run as they are."""

from __future__ import annotations

from dataclasses import dataclass

# Fewer steps and units than a user's run has: what is shown is the same but for its numbers.
QUICK = ("--convlens-steps=40", "--convlens-units=8")
# What of a model is checked where the command does not say, but for the README's first.
WHOLE = "pytest --convlens mnist_cnn --convlens-pictures convlens-pictures"
PART = ("-k", "finite or gram or baseline or test_")
# What installs; `test_packaging.py` and `.ci/run` install in each of these ways.
INSTALLING = ("python -m venv ", ". .venv/bin/activate", "pip install ")
# Too long for a test as they are.
SHORTENED = {
    # Workers, which `tests/pytest_plugin` has, import TensorFlow anew.
    'pytest -n 2 --junitxml junit.xml -k "finite or gram"': ("-n", "0"),
    "pytest --pyargs convlens.benchmarks": ("--collect-only", "-q"),
    "pytest --convlens VGG19 --convlens-weights weights/ --convlens-preset feature-visualization "
    "--convlens-pictures pictures/": ("--collect-only", "-q"),
}


@dataclass(frozen=True)
class NotRun:
    """A command that no test of the documentation runs.

    Attributes:
        reason: why.
        elsewhere: the file that has, or runs, it, where there is one.
    """

    reason: str
    elsewhere: str | None = None


SUITE = "pytest -n 2 --dist worksteal"
NOT_RUN = {
    ("README.md", SUITE): NotRun("it is the suite that this test is in", "noxfile.py"),
    ("CONTRIBUTING.md", SUITE): NotRun("it is the suite that this test is in", "noxfile.py"),
    ("CONTRIBUTING.md", "nox -s lint types"): NotRun("it reads the whole project", ".ci/run"),
    ("CONTRIBUTING.md", "nox -s lock"): NotRun("it asks for the newest versions", "noxfile.py"),
    ("docs/trained-networks.md", "python -m convlens.fixtures.pretrained VGG19"): NotRun(
        "it downloads 550 MB", "tests/fixtures/test_pretrained.py"
    ),
    (
        "docs/converted-models.md",
        "KERAS_BACKEND=jax pytest model.keras -k same --convlens-against exported "
        "--convlens-allow-legacy",
    ): NotRun("it needs JAX, beside which tests/compare/test_healthy.py holds SavedModels"),
    ("docs/examples/road_signs/README.md", "pytest"): NotRun(
        "it runs in a copy of the example", "tests/docs/test_example.py"
    ),
    **{
        ("docs/examples/road_signs/README.md", command): NotRun(
            "it runs in a copy of the example", "tests/docs/test_example.py"
        )
        for command in (
            "pytest --convlens-update failed",
            "python convert.py",
            "pytest models/signs.tflite -k same --convlens-against models/signs.keras",
        )
    },
}


def added_to(command: str) -> tuple[str, ...]:
    """Return the options behind a command of pytest that make it short enough."""
    if command in SHORTENED:
        return SHORTENED[command]
    chosen = command == WHOLE or " -k " in command or "::" in command
    return () if chosen else PART


def commands_of(line: str) -> list[str]:
    """Return the commands of a line, without those that install."""
    return [part for part in line.split(" && ") if not part.startswith(INSTALLING)]

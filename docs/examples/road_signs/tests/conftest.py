"""The model under test is the trained one, and it is looked at with signs that it never saw."""

from pathlib import Path

import pytest
from signs import held_out

from convlens import load_model

MODEL = Path(__file__).parents[1] / "models" / "signs.keras"


@pytest.fixture(scope="session")
def convlens_model():
    return load_model(MODEL)


@pytest.fixture
def convlens_images():
    return held_out()

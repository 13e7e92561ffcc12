"""Memory stays constant in a run over hundreds of models."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

pytestmark = pytest.mark.slow

COUNT = 200
MEGABYTES = 4
WATCH = """
import json
import psutil

seen = {"collected": [], "run": []}


def resident():
    return psutil.Process().memory_info().rss / 2**20


def pytest_collectreport(report):
    if report.nodeid.endswith(".keras"):
        seen["collected"].append(resident())


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        seen["run"].append(resident())


def pytest_sessionfinish():
    with open("memory.json", "w") as stream:
        json.dump(seen, stream)
"""


@pytest.fixture
def models(pytester: pytest.Pytester) -> list[str]:
    """Files of COUNT different networks with MEGABYTES each."""
    network = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(MEGABYTES * 2**20 // 4 // 600, name="wide"),
        ]
    )
    draw = np.random.default_rng(0)
    names = []
    for number in range(COUNT):
        network.layers[0].set_weights([draw.normal(size=(3, 3, 1, 6)), np.full(6, 0.5)])
        names.append(f"model{number}.keras")
        network.save(pytester.path / names[-1])
    return names


def test_memory_stays_constant(run, models, pytester):
    pytester.makeconftest(WATCH)
    status, said = run(*models, "-k", "finite or dead or gram", "-q", "--no-header")
    assert status == 0, said[-3000:]
    assert f"{4 * COUNT} passed" in said
    seen = json.loads((pytester.path / "memory.json").read_text())
    collected, during = np.array(seen["collected"]), np.array(seen["run"])
    assert len(collected) == COUNT
    # The limits are a fraction of the memory that all models together would need.
    half = COUNT // 2
    assert (
        np.median(collected[-10:]) - np.median(collected[half : half + 10]) < half * MEGABYTES / 4
    )
    assert np.median(during[-30:]) - np.median(during[:30]) < COUNT * MEGABYTES / 4


def test_a_model_file_that_changes_during_the_run_fails(run, models, pytester):
    names = models[:12]
    pytester.makeconftest(
        f"""
        import os

        def pytest_collection_finish():
            os.replace({models[-1]!r}, {names[0]!r})
        """
    )
    status, said = run(*names, "-k", "dead", "-q")
    assert status == 1
    assert f"{names[0]} was written anew during this run" in said
    assert "1 failed, 11 passed" in said

"""The benchmark of comparisons: what it measures and shows."""

from __future__ import annotations

import keras
import pytest

from convlens.benchmarks import converted
from convlens.benchmarks.converted import ComparisonRun


def test_a_row_has_the_comparisons_part_of_the_export():
    lines = converted.table([ComparisonRun("net", "int8", 12, 20.0, 1.5)]).splitlines()
    assert lines[-1] == "| net | int8 | 12 | 20.0 | 1.5 | 8% |"


@pytest.mark.slow
def test_a_network_is_converted_and_compared():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    run = converted.run_comparison("small", model, 16, "float32")
    assert run.groups >= 2
    assert min(run.export, run.comparison) > 0

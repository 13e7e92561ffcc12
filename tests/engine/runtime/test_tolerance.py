"""The tolerance of each precision: above its rounding, and below a planted difference."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convlens import filter_statistics
from convlens.engine.runtime import backend, tolerance
from convlens.engine.runtime.tolerance import TF32, Rounding

TYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", TYPES)
def test_the_unit_roundoff_bounds_the_rounding_of_numbers(name, draw):
    exact = draw.random(10_000) + 1.0
    error = np.abs(exact.astype(TYPES[name]).astype(np.float64) - exact) / exact
    unit = tolerance.unit_roundoff(name)
    assert error.max() <= unit
    assert name == "float64" or error.max() > 0.9 * unit


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision must be one of .* not 'float20'"):
        tolerance.unit_roundoff("float20")


def test_the_tolerances_are_ordered_as_the_precisions():
    order = ["float64", "float32", "float16", "bfloat16"]
    for ask in (
        tolerance.activation_tolerance,
        tolerance.stage_tolerance,
        tolerance.sum_tolerance,
        tolerance.cosine_tolerance,
    ):
        found = [ask(name) for name in order]
        assert found == sorted(found)
        assert found[1] < found[2] < found[3]
        assert ask(TF32) == ask("float16")


def test_errors_accumulate_with_the_depth_and_the_number_of_terms():
    shallow, deep = (tolerance.activation_tolerance(Rounding("bfloat16", d)) for d in (1, 16))
    assert deep == 4 * shallow
    assert tolerance.sum_tolerance("float32", 10_000) > tolerance.sum_tolerance("float32", 100)


def test_the_coarsest_of_several_counts():
    assert tolerance.coarsest(["float32", "bfloat16", TF32]) == "bfloat16"
    assert tolerance.coarsest([]) == "float32"
    joined = Rounding.join([Rounding("float16", 3), Rounding("float32", 7)])
    assert joined == Rounding("float16", 7)


@pytest.mark.parametrize("name", TYPES)
def test_arrays_of_every_type_become_floats_that_numpy_knows(name):
    found = tolerance.as_floats(np.ones(3, TYPES[name]))
    assert found.dtype == (np.float64 if name == "float64" else np.float32)
    assert tolerance.precision_of(np.dtype(TYPES[name])) == name


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("factor", [1.3, 0.37, 7.1])
def test_a_scaled_copy_is_a_duplicate_in_every_type(name, factor, draw):
    maps = np.abs(draw.standard_normal((6, 8, 8, 4)))
    maps[..., 3] = factor * maps[..., 1]
    found = filter_statistics(maps.astype(TYPES[name]))
    assert [pair[:2] for pair in found.duplicates] == [(1, 3)]


@pytest.mark.parametrize("name", TYPES)
def test_filters_that_differ_by_three_percent_are_no_duplicates(name, draw):
    maps = np.abs(draw.standard_normal((6, 8, 8, 4)))
    maps[..., 3] = maps[..., 1] * (1 + 0.03 * draw.standard_normal(maps.shape[:-1]))
    assert not filter_statistics(maps.astype(TYPES[name])).duplicates


@pytest.mark.parametrize("name", TYPES)
def test_maps_that_hardly_vary_are_no_duplicates(name, draw):
    """A sigmoid of small values: its maps are nearly constant, and each shows something else."""
    maps = 1 / (1 + np.exp(-0.03 * draw.standard_normal((6, 8, 8, 4))))
    assert not filter_statistics(maps.astype(TYPES[name])).duplicates


@pytest.mark.parametrize(
    ("mode", "expected"), [("BF16", "bfloat16"), ("tf32", TF32), ("strict", "float32")]
)
def test_the_mode_of_onednn_is_known(monkeypatch, mode, expected):
    if backend.backend_name() != "tensorflow" or backend.accelerators():
        pytest.skip("only TensorFlow on a CPU uses oneDNN")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", mode)
    assert backend.settings()["products"] == expected
    assert tolerance.of_products("float32") == expected
    assert tolerance.of_products("float16") == "float16"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert backend.settings()["products"] == "float32"


@pytest.mark.parametrize("bits", [24, 11, 8])
def test_numbers_are_rounded_to_so_many_bits(bits, draw):
    exact = draw.standard_normal(1000).astype(np.float32)
    found = backend.to_numpy(backend.rounded(backend.keras.ops.convert_to_tensor(exact), bits))
    error = np.abs(found.astype(np.float64) - exact) / np.abs(exact)
    assert error.max() <= 2.0**-bits
    step = 2.0 ** (np.floor(np.log2(np.abs(found))) - bits + 1)
    assert (found / step == np.round(found / step)).all()

"""The precision behind each layer, and runs with coarser products."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network
from convlens.engine.features.sketch import sketch_layers
from convlens.engine.model.rounding import sums_products
from convlens.engine.runtime import backend
from convlens.engine.runtime.tolerance import TF32, Rounding

needs_float64 = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has float64 only with JAX_ENABLE_X64"
)


def small(*dtypes):
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3, name=f"conv_{i}", dtype=dtype) for i, dtype in enumerate(dtypes)]
    return keras.Sequential([keras.Input((12, 12, 3), dtype="float32"), *body])


def test_one_coarse_layer_is_behind_all_later_layers():
    network = Network(small("float32", "float16", "float32"))
    assert network.rounding("input") == Rounding()
    found = [network.rounding(f"conv_{i}").precision for i in range(3)]
    assert found == ["float32", "float16", "float16"]
    assert network.rounding("conv_2").depth >= 3


def test_a_branch_beside_a_coarse_layer_is_not_coarse():
    image = keras.Input((12, 12, 3))
    coarse = layers.Conv2D(4, 3, dtype="bfloat16", name="coarse")(image)
    fine = layers.Conv2D(4, 3, name="fine")(image)
    network = Network(keras.Model(image, layers.Add(name="sum")([coarse, fine])))
    assert network.rounding("fine").precision == "float32"
    assert network.rounding("sum").precision == "bfloat16"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("mixed_float16", "float16"),
        ("mixed_bfloat16", "bfloat16"),
        pytest.param("float64", "float32", marks=needs_float64),
        ("float32", "float32"),
    ],
)
def test_a_policy_counts_by_the_type_that_it_computes_in(policy, expected):
    assert Network(small(policy)).rounding("conv_0").precision == expected


def test_quantized_layers_count_as_int8():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, name="d")])
    model.get_layer("d").quantize("int8")
    assert Network(model).rounding("d").precision == "int8"


@needs_float64
def test_the_products_of_a_coarser_machine_count(monkeypatch):
    settings = {**backend.settings(), "products": TF32}
    monkeypatch.setattr(backend, "settings", lambda: settings)
    network = Network(small("float32", "float64"))
    assert network.rounding("conv_0") == Rounding(TF32, 1)
    assert network.rounding("conv_1").precision == TF32  # its input was rounded


def test_layers_and_operations_that_sum_products_are_known():
    image = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 1)(image)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    network = Network(keras.Model(image, keras.ops.matmul(y, keras.ops.ones((4, 2)))))
    found = {type(call.op).__name__: sums_products(call.op) for call in network._flat.calls}
    assert found == {"Conv2D": True, "BatchNormalization": False, "ReLU": False, "Matmul": True}


@pytest.mark.quick(1)
@pytest.mark.parametrize(("bits", "low", "high"), [(11, 1e-5, 2e-3), (8, 1e-4, 2e-2)])
def test_coarser_products_change_each_layer_by_their_rounding(
    tiny_network, tiny_images, bits, low, high
):
    plain, _ = sketch_layers(tiny_network, tiny_images)
    coarse, _ = sketch_layers(tiny_network, tiny_images, bits=bits)
    for name in ("conv_a", "conv_b", "classes"):
        change = np.linalg.norm(coarse[name].projection - plain[name].projection)
        assert low < change / np.linalg.norm(plain[name].projection) < high
    assert (coarse["input"].projection == plain["input"].projection).all()


def test_a_run_with_coarser_products_leaves_the_network_as_it_was(tiny_network, tiny_images):
    before, _ = sketch_layers(tiny_network, tiny_images)
    sketch_layers(tiny_network, tiny_images, bits=8)
    after, _ = sketch_layers(tiny_network, tiny_images)
    assert all((after[name].samples == before[name].samples).all() for name in before)


def test_another_scale_gives_other_errors_of_the_same_size(tiny_network, tiny_images):
    plain, _ = sketch_layers(tiny_network, tiny_images)
    errors = [
        sketch_layers(tiny_network, tiny_images, bits=8, scale=scale)[0]["conv_b"].projection
        - plain["conv_b"].projection
        for scale in (1.0, 1.37)
    ]
    sizes = [np.linalg.norm(error) for error in errors]
    assert 0.3 < sizes[0] / sizes[1] < 3
    assert np.abs(np.corrcoef(errors[0].ravel(), errors[1].ravel())[0, 1]) < 0.7

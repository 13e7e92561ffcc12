"""Functions that differ between backends: differentiation and compilation."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from convlens.engine.runtime import backend


def test_vjp_of_a_matrix_product_is_the_transpose():
    draw = np.random.default_rng(0)
    matrix = ops.convert_to_tensor(draw.random((4, 3), dtype=np.float32))
    x = ops.convert_to_tensor(draw.random((3, 1), dtype=np.float32))
    y, pullback = backend.vjp(lambda x: ops.matmul(matrix, x), x)
    cotangent = ops.convert_to_tensor(draw.random((4, 1), dtype=np.float32))
    np.testing.assert_allclose(pullback(cotangent), np.asarray(matrix).T @ np.asarray(cotangent))
    np.testing.assert_allclose(y, np.asarray(matrix) @ np.asarray(x), rtol=1e-6)


def test_vjp_of_several_results_takes_none_for_zeros():
    x = ops.convert_to_tensor([1.0, 2.0])
    y, pullback = backend.vjp(lambda x: [2 * x, 3 * x, x], x, reusable=True)
    assert len(y) == 3
    one = ops.ones(2)
    np.testing.assert_array_equal(pullback([one, None, None]), [2, 2])
    np.testing.assert_array_equal(pullback([one, 2 * one, None]), [8, 8])
    np.testing.assert_array_equal(pullback([None, None, None]), [0, 0])


def test_an_input_without_influence_gets_zeros():
    x = [ops.ones((2,)), ops.ones((3,))]
    _, pullback = backend.vjp(lambda x: 2 * x[0], x)
    first, second = pullback(ops.ones((2,)))
    np.testing.assert_array_equal(first, [2, 2])
    np.testing.assert_array_equal(second, [0, 0, 0])


def test_a_compiled_function_is_traced_once_for_a_shape():
    traces = []

    def double(x):
        traces.append(x.shape)
        return 2 * x

    compiled = backend.compile(double)
    for value in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(compiled(ops.full((2,), value)), [2 * value] * 2)
    assert len(traces) == 1


@pytest.mark.parametrize("count", [0, 1, 5])
def test_repeat_carries_what_the_body_returns(count):
    def body(k, carry):
        total, power = carry
        return [total + ops.cast(k, "float32"), 2 * power]

    run = backend.compile(lambda n, carry: backend.repeat(n, body, carry))
    total, power = run(ops.convert_to_tensor(np.int32(count)), [ops.zeros(()), ops.ones(())])
    assert float(total) == sum(range(count))
    assert float(power) == 2**count


def test_a_repetition_ends_early():
    run = backend.compile(
        lambda n, carry: backend.repeat(
            n, lambda k, carry: [carry[0] + 2], carry, lambda carry: carry[0] < 5
        )
    )
    (total,) = run(ops.convert_to_tensor(np.int32(100)), [ops.zeros(())])
    assert float(total) == 6


def test_batches_of_any_size_are_traced_once():
    traces = []

    def double(x, y):
        traces.append(1)
        return 2 * x + y

    run = backend.compile(double, batched=1)
    for n in (1, 3, 2):
        x, y = ops.ones((n, 4)), ops.ones((1, 4))
        np.testing.assert_array_equal(run(x, y), np.full((n, 4), 3.0))
    assert len(traces) == (1 if backend.backend_name() == "tensorflow" else 3)
    run(ops.ones((3, 5)), ops.ones((1, 5)))
    assert len(traces) == (2 if backend.backend_name() == "tensorflow" else 4)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    with pytest.raises(RuntimeError, match="not on 'torch': set KERAS_BACKEND=tensorflow"):
        backend.backend_name()

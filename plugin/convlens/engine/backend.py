"""The one module that knows which Keras backend is running.

It offers `vjp` (reverse-mode differentiation) and `compile` (one traced graph). Every other
numerical module is written in `keras.ops` alone, so the same code runs on TensorFlow and on JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

Tensor = Any
Pullback = Callable[[Tensor], Any]


def backend_name() -> str:
    """Return the running backend: 'tensorflow' or 'jax'.

    Raises:
        RuntimeError: Keras runs on a backend that convlens cannot differentiate through.
    """
    name: str = keras.backend.backend()
    if name not in ("tensorflow", "jax"):
        raise RuntimeError(
            f"convlens runs on Keras's tensorflow or jax backend, not on {name!r}: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return name


def vjp(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Pullback]:
    """Evaluate `fn(x)` and return it with its vector-Jacobian product.

    Args:
        fn: a function of one argument (a tensor or a list of tensors) made of differentiable ops.
        x: the point at which it is evaluated.

    Returns:
        `(y, pullback)`: `pullback(cotangent)` takes a cotangent shaped like `y` and returns one
        shaped like `x`. It may be called once. Inputs that `y` does not depend on get zeros.
    """
    if backend_name() == "jax":
        import jax

        y, pull = jax.vjp(fn, x)
        return y, lambda cotangent: pull(cotangent)[0]

    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fn(x)

    def pullback(cotangent: Tensor) -> Any:
        return tape.gradient(
            y, x, output_gradients=cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return y, pullback


def compile(fn: Callable[..., Any], variables: Sequence[Any] = ()) -> Callable[..., Any]:
    """Return `fn` traced into one graph, retraced only for new shapes and dtypes.

    Args:
        fn: a function of tensors (or lists of tensors).
        variables: the Keras variables that `fn` reads. JAX would bake their values into the
            graph as constants; listing them keeps the graph right after they are assigned to.
    """
    if backend_name() == "jax":
        import jax

        @jax.jit
        def with_values(values: list[Any], *args: Any) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return fn(*args)

        return lambda *args: with_values([v.value for v in variables], *args)

    import tensorflow as tf

    # XLA is left off: on CPUs it makes the convolutions' gradients several times slower.
    traced = tf.function(fn, autograph=False, jit_compile=False)
    graphs: dict[Any, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        key = tuple((tuple(x.shape), x.dtype) for x in tf.nest.flatten(args))
        if key not in graphs:
            # Each shape is traced on purpose; calling `traced` would have TensorFlow warn of it.
            graphs[key] = traced.get_concrete_function(*args)
        return graphs[key](*args)

    return call

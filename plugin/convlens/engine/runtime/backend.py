"""Backend-specific code, the only module that knows which Keras backend is running.

It provides `vjp` (reverse-mode differentiation), `compile` (a traced graph on one or more devices,
by XLA inside `with_xla`), `repeat` (a loop in a graph), `outside_of_graphs` (compute while a graph
is traced), `shapes` (shape inference) and `settings` (versions and numerical settings). All other
numerical modules use only `keras.ops`, so the same code runs on TensorFlow and on JAX.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np

from convlens.engine.runtime.lru_cache import LRUCache

Tensor = Any
# Graphs kept of each compiled function, one for each shape of its arguments.
_MAX_SHAPES = 8
_xla = ContextVar("_xla", default=False)
Pullback = Callable[[Tensor], Any]


def backend_name() -> str:
    """Return the running backend: 'tensorflow' or 'jax'.

    Raises:
        RuntimeError: any other backend; convlens cannot differentiate through it.
    """
    name: str = keras.backend.backend()
    if name not in ("tensorflow", "jax"):
        raise RuntimeError(
            f"convlens runs on Keras's tensorflow or jax backend, not on {name!r}: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return name


def vjp(fn: Callable[[Any], Any], x: Any, *, reusable: bool = False) -> tuple[Any, Pullback]:
    """Evaluate `fn(x)` and return it with its vector-Jacobian product.

    Args:
        fn: a function of one argument (a tensor or a list of tensors) made of differentiable ops.
            It returns a tensor or a list of tensors.
        x: the argument.
        reusable: whether the pullback may be called several times; all maps of `fn` stay in memory
            until it is gone, unless a graph is traced.

    Returns:
        `(y, pullback)`: `pullback(cotangent)` takes a cotangent shaped like `y` and returns one
        shaped like `x`; in a list of cotangents None stands for zeros. Inputs without influence on
        `y` get zeros.
    """
    if backend_name() == "jax":
        import jax

        y, pull = jax.vjp(fn, x)

        def pull_back(cotangent: Any) -> Any:
            if isinstance(cotangent, list):
                pairs = zip(y, cotangent, strict=True)
                cotangent = [keras.ops.zeros_like(v) if c is None else c for v, c in pairs]
            return pull(cotangent)[0]

        return y, pull_back

    import tensorflow as tf

    # Derivatives with respect to weights would be traced, too, and never used.
    with tf.GradientTape(persistent=reusable, watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = fn(x)

    def pullback(cotangent: Any) -> Any:
        target = y
        if isinstance(cotangent, list):
            pairs = [(v, c) for v, c in zip(y, cotangent, strict=True) if c is not None]
            target, cotangent = [v for v, _ in pairs], [c for _, c in pairs]
        return tape.gradient(
            target,
            x,
            output_gradients=cotangent,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    return y, pullback


def gradients_are_slow() -> bool:
    """Return whether the backend's gradient of a convolution is slower than a convolution."""
    return backend_name() == "tensorflow" and not accelerators()


def with_pullback(fn: Callable[[Tensor], tuple[Tensor, Pullback]]) -> Callable[[Tensor], Tensor]:
    """Return a function of TensorFlow with a vector-Jacobian product of its own.

    Args:
        fn: a function of one tensor that reads no variables. It returns its value, and the function
            from a cotangent of the value to one of the argument.
    """
    import tensorflow as tf

    found: Callable[[Tensor], Tensor] = tf.custom_gradient(fn)
    return found


def shapes(fn: Callable[[Any], list[Any]], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of `fn`'s results for a float32 tensor of `shape`, without computing them.

    Raises:
        ValueError: an operation is not defined for that shape.
    """
    if backend_name() == "jax":
        import jax

        try:
            found = jax.eval_shape(fn, jax.ShapeDtypeStruct(shape, "float32"))
        except (TypeError, ZeroDivisionError) as error:
            raise ValueError(str(error)) from None
    else:
        import tensorflow as tf

        traced = tf.function(fn, autograph=False)
        found = traced.get_concrete_function(tf.TensorSpec(shape, tf.float32)).structured_outputs
    return [tuple(x.shape) for x in found]


def repeat(
    count: Any,
    body: Callable[[Any, Any], Any],
    carry: Any,
    going: Callable[[Any], Any] = lambda carry: True,
) -> Any:
    """Run ``carry = body(k, carry)`` for k from 0 to `count` - 1, and return the last `carry`.

    Args:
        count: number of iterations, an int32 tensor.
        body: a function of tensors whose results have the shapes of the carry.
        carry: a list of tensors.
        going: function of the carry whose result, a scalar, is False to end the loop early.
    """
    if backend_name() == "tensorflow":
        import tensorflow as tf

        # TensorFlow inlines a loop's body into the surrounding graph, which then has a cycle. Its
        # oneDNN pass may then visit a pool's gradient before the pool, by chance in each process,
        # and the gradient becomes ten times slower. A function that is not inlined has no cycle.
        body = tf.function(body, autograph=False, experimental_attributes={"_noinline": True})

    def condition(k: Any, carry: Any) -> Any:
        return keras.ops.logical_and(k < count, going(carry))

    def step(k: Any, carry: Any) -> Any:
        return k + 1, body(k, carry)

    first = keras.ops.zeros((), dtype="int32")
    return keras.ops.while_loop(condition, step, (first, carry))[1]


class Variables:
    """The Keras variables that compiled functions read.

    With a distribution, the functions read copies on all its devices, because the variables were
    perhaps created on one.

    Attributes:
        own: the variables.
        copies: the copies; None without a distribution.
    """

    def __init__(self, own: Sequence[Any] = (), distribution: Any = None) -> None:
        self.own = list(own)
        self.copies: list[Any] | None = None
        if distribution is not None:
            with within(distribution):
                self.copies = [
                    keras.Variable(keras.ops.convert_to_tensor(v), dtype=v.dtype) for v in own
                ]

    def refresh(self) -> None:
        """Copy the current values of the variables."""
        for variable, copy in zip(self.own, self.copies or [], strict=False):
            copy.assign(keras.ops.convert_to_tensor(variable))


def compile(
    fn: Callable[..., Any],
    variables: Variables | None = None,
    *,
    batched: int = 0,
    distribution: Any = None,
) -> Callable[..., Any]:
    """Return `fn` compiled into one graph, traced again only for new shapes and dtypes.

    On TensorFlow without a distribution, another size of the batch is no new shape.

    Args:
        fn: a function of tensors (or lists of tensors).
        variables: what `fn` reads. JAX would store the values of other variables in the graph as
            constants, and ignore later assignments.
        batched: number of leading arguments whose first axis is the batch; with a distribution
            these, and all results, are split among the devices.
        distribution: result of `distribution_of`. The batch must be a multiple of its size.
    """
    if backend_name() == "jax":
        return _compile_jax(fn, variables or Variables(), batched, distribution)
    return _compile_tensorflow(fn, variables or Variables(), batched, distribution)


def once(fn: Callable[..., Any], variables: Variables, *args: Any) -> Any:
    """Return `fn(*args)`, which reads `variables`, without keeping a graph."""
    return compile(fn, variables)(*args) if compiles_operations() else fn(*args)


def compiles_operations() -> bool:
    """Return whether each operation outside a graph is compiled by itself, as JAX does.

    That takes longer than to compile one graph.
    """
    return backend_name() == "jax"


def outside_of_graphs() -> AbstractContextManager[Any]:
    """Return a context in which tensors have values, also while a graph is traced."""
    if backend_name() == "jax":
        import jax

        return jax.ensure_compile_time_eval()
    import tensorflow as tf

    return tf.init_scope()


@contextmanager
def with_xla() -> Iterator[None]:
    """Use XLA for TensorFlow functions that are compiled in this context; JAX always uses XLA.

    Outside this context XLA is off, because on CPUs it makes the gradients of convolutions several
    times slower.
    """
    token = _xla.set(True)
    try:
        yield
    finally:
        _xla.reset(token)


def distribution_of(model: Any) -> Any:
    """Return the distribution of work on `model` over several devices; None for one device.

    On TensorFlow this is the active `tf.distribute` strategy, or else the strategy under which the
    model was created; on JAX it is Keras's active `DataParallel` distribution.
    """
    if backend_name() == "jax":
        current = keras.distribution.distribution()
        return current if isinstance(current, keras.distribution.DataParallel) else None
    import tensorflow as tf

    own = getattr(model, "distribute_strategy", None)
    strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else own
    return strategy if strategy is not None and strategy.num_replicas_in_sync > 1 else None


def distribution_size(distribution: Any) -> int:
    """Return the number of devices of a distribution; 1 for None."""
    if distribution is None:
        return 1
    if backend_name() == "jax":
        return int(np.prod(distribution.device_mesh.shape))
    return int(distribution.num_replicas_in_sync)


def free_accelerator_memory() -> int | None:
    """Return the free bytes of the first accelerator; None without an accelerator."""
    if backend_name() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
        return int(stats["bytes_limit"] - stats["bytes_in_use"]) if stats else None
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    from tensorflow.python.client import device_lib

    limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
    used = tf.config.experimental.get_memory_info("GPU:0")["current"]
    return int(limits[0] - used)


def reset_accelerator_peak() -> None:
    """Start the count of `accelerator_peak` anew, where the backend can."""
    if backend_name() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_logical_devices("GPU"):
            tf.config.experimental.reset_memory_stats("GPU:0")


def accelerator_peak() -> int | None:
    """Return the most bytes that tensors took on the first accelerator; None without a count.

    TensorFlow counts from the last `reset_accelerator_peak`, JAX from the start of the process.
    """
    if backend_name() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        return stats.get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def accelerators() -> list[str]:
    """Return the names of the backend's accelerators."""
    if backend_name() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    return [
        str(details(device).get("device_name", device.name))
        for device in tf.config.list_physical_devices("GPU")
    ]


def settings() -> dict[str, Any]:
    """Return the backend's version and the settings that affect its rounding.

    'products' is the precision to which the factors of float32 products are rounded: 'float32',
    'tensorfloat32', 'bfloat16' or 'float16'. 'TF32' is True if it is TensorFloat-32.
    """
    if backend_name() == "jax":
        import jax

        products = _jax_products()
        return {
            "jax": jax.__version__,
            "oneDNN": False,
            "products": products,
            "TF32": products == "tensorfloat32",
            "XLA": True,
            "threads": os.cpu_count(),
        }
    import tensorflow as tf

    products = _tensorflow_products()
    return {
        "tensorflow": tf.__version__,
        "oneDNN": _has_onednn(),
        "products": products,
        "TF32": products == "tensorfloat32",
        "XLA": _xla.get() or bool(tf.config.optimizer.get_jit()),
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
    }


def is_tensor(value: Any) -> bool:
    """Return whether `value` is a tensor of the backend."""
    return bool(keras.ops.is_tensor(value))


def rounded(x: Tensor, bits: int) -> Tensor:
    """Return a tensor with its numbers rounded to `bits` significant bits, 2 to 24."""
    dtype = x.dtype
    wide = keras.ops.cast(x, "float32")
    if backend_name() == "jax":
        import jax

        found = jax.lax.reduce_precision(wide, exponent_bits=8, mantissa_bits=bits - 1)
    else:
        import tensorflow as tf

        dropped = 24 - bits
        half = (1 << dropped) >> 1
        # The sign is the first bit: adding half a step rounds the magnitude to nearest.
        whole = (tf.bitcast(wide, tf.int32) + half) & ~((1 << dropped) - 1)
        found = tf.bitcast(whole, tf.float32)
    return keras.ops.cast(found, dtype)


def host_array(variable: Any) -> np.ndarray[Any, Any]:
    """Return a Keras variable's value as an array, without a copy if it is in host memory."""
    if backend_name() == "tensorflow":
        tensor = variable.value.value()
        if "CPU" in tensor.device and tensor.dtype.name != "bfloat16":
            return np.asarray(memoryview(tensor))
    # A copy, because NumPy warns about TensorFlow's variables.
    value: np.ndarray[Any, Any] = np.asarray(keras.ops.convert_to_numpy(keras.ops.copy(variable)))
    return value


def to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array; types coarser than float32, which NumPy ignores, as float32."""
    if hasattr(tensor, "assign"):  # NumPy warns about TensorFlow's variables
        tensor = keras.ops.copy(tensor)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "float16" or dtype.startswith(("bfloat", "float8")):
        tensor = keras.ops.cast(tensor, "float32")
    found: np.ndarray[Any, Any] = np.asarray(keras.ops.convert_to_numpy(tensor))
    return found


def within(distribution: Any) -> AbstractContextManager[Any]:
    """Return a context that creates variables on every device of a distribution."""
    if distribution is None or backend_name() == "jax":
        return nullcontext()
    return distribution.scope()


def _has_onednn() -> bool:
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() not in ("0", "false")


def _tensorflow_products() -> str:
    """Return the precision of the factors of TensorFlow's float32 products."""
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    cards = [details(device) for device in tf.config.list_physical_devices("GPU")]
    if cards:
        # TensorFloat-32 came with compute capability 8.0.
        able = any(card.get("compute_capability", (8, 0)) >= (8, 0) for card in cards)
        allowed = tf.config.experimental.tensor_float_32_execution_enabled()
        return "tensorfloat32" if able and allowed else "float32"
    return _onednn_products() if _has_onednn() else "float32"


def _onednn_products() -> str:
    """Return the precision that oneDNN may round factors to, by its environment variable."""
    names = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
    mode = next((os.environ[name] for name in names if name in os.environ), "STRICT").upper()
    known = {"TF32": "tensorfloat32", "F16": "float16", "BF16": "bfloat16", "ANY": "bfloat16"}
    return known.get(mode, "float32")


def _jax_products() -> str:
    """Return the precision of the factors of JAX's float32 products."""
    import jax

    platform = jax.default_backend()
    asked = str(jax.config.jax_default_matmul_precision or "default").lower()
    if platform == "cpu" or asked in ("highest", "float32"):
        return "float32"
    if platform == "tpu":
        return "tensorfloat32" if asked in ("high", "tensorfloat32") else "bfloat16"
    return "bfloat16" if asked == "bfloat16" else "tensorfloat32"


def _compile_jax(
    fn: Callable[..., Any], variables: Variables, batched: int, distribution: Any
) -> Callable[..., Any]:
    import jax

    @jax.jit
    def with_values(values: list[Any], *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables.own, values, strict=True))):
            return fn(*args)

    def spread(x: Any) -> Any:
        axes = [distribution.batch_dim_name] + [None] * (len(x.shape) - 1)
        layout = keras.distribution.TensorLayout(axes, distribution.device_mesh)
        return keras.distribution.distribute_tensor(x, layout)

    def call(*args: Any) -> Any:
        if distribution is not None:
            args = (*keras.tree.map_structure(spread, args[:batched]), *args[batched:])
        return with_values([v.value for v in variables.copies or variables.own], *args)

    return call


def _compile_tensorflow(
    fn: Callable[..., Any], variables: Variables, batched: int, distribution: Any
) -> Callable[..., Any]:
    import tensorflow as tf

    def with_copies(*args: Any) -> Any:
        values = [keras.ops.convert_to_tensor(v) for v in variables.copies or []]
        with keras.StatelessScope(state_mapping=list(zip(variables.own, values, strict=True))):
            return fn(*args)

    def spread(*args: Any) -> Any:
        return distribution.run(with_copies, args)

    whole = fn if distribution is None else spread
    xla = _xla.get()

    any_batch = batched if distribution is None and not xla else 0

    def any_size(x: Any) -> Any:
        return tf.TensorSpec((None, *x.shape[1:]), x.dtype)

    def trace(args: Any) -> Callable[..., Any]:
        args = (*tf.nest.map_structure(any_size, args[:any_batch]), *args[any_batch:])
        # One function for each shape on purpose: calling one function with many shapes would make
        # TensorFlow warn, and keep all graphs.
        traced = tf.function(whole, autograph=False, jit_compile=xla)
        graph: Callable[..., Any] = traced.get_concrete_function(*args)
        return graph

    graphs: LRUCache[Any, Callable[..., Any]] = LRUCache(_MAX_SHAPES, lambda _: 1)

    def call(*args: Any) -> Any:
        free, fixed = (tf.nest.flatten(part) for part in (args[:any_batch], args[any_batch:]))
        key = (
            *((*x.shape[1:], x.dtype) for x in free),
            *((*x.shape, x.dtype) for x in fixed),
        )
        if distribution is not None:
            args = (*_divided(args[:batched], distribution), *args[batched:])
        result = graphs.get(key, lambda: trace(args))(*args)
        if distribution is None:
            return result
        return tf.nest.map_structure(
            lambda x: tf.concat(distribution.experimental_local_results(x), axis=0), result
        )

    return call


def _divided(args: Any, strategy: Any) -> Any:
    """Return tensors split along their first axis, one part for each replica of a strategy."""
    count = strategy.num_replicas_in_sync

    def divide(x: Any) -> Any:
        size = x.shape[0] // count

        def part(context: Any) -> Any:
            first = context.replica_id_in_sync_group * size
            return x[first : first + size]

        return strategy.experimental_distribute_values_from_function(part)

    import tensorflow as tf

    return tf.nest.map_structure(divide, args)

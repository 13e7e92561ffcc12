"""Hypothesis strategies: images, feature maps, and small random convolutional networks.

Requires hypothesis: ``pip install 'pytest-convlens[strategies]'``. Failing examples shrink towards
one plain convolution, and are printed as a `NetworkSpec` that rebuilds the network.

Example:
    >>> from hypothesis import given
    >>> from convlens.strategies import cnn_models
    >>> @given(model=cnn_models())
    ... def test_it(model):
    ...     assert model.layers
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

try:
    import hypothesis
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError:  # pragma: no cover
    raise ImportError(
        "convlens.strategies needs hypothesis: pip install 'pytest-convlens[strategies]'"
    ) from None

if TYPE_CHECKING:
    import keras

Kind = Literal[
    "conv",
    "depthwise",
    "separable",
    "max_pool",
    "average_pool",
    "batch_norm",
    "activation",
    "residual",
    "concatenate",
]
Head = Literal["global_pool", "flatten"]

KINDS: tuple[Kind, ...] = (
    "conv",
    "activation",
    "max_pool",
    "average_pool",
    "batch_norm",
    "depthwise",
    "separable",
    "residual",
    "concatenate",
)
ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "tanh", "sigmoid", "softplus"),
    *("gelu", "silu"),
)
PROFILE = "convlens"
# Weights are drawn from the seed afterwards, because Keras's initializers use a global generator.
_PLACEHOLDER = "zeros"
_PADDINGS: tuple[Literal["same", "valid"], ...] = ("same", "valid")


@dataclass(frozen=True)
class Step:
    """One layer, or one block of layers, of a network.

    Attributes:
        kind: kind of layer or block: 'residual' adds a convolution's output to its input,
            'concatenate' concatenates the outputs of two convolutions.
        filters: number of output channels.
        size: (rows, columns) of the kernel or window.
        strides: stride in both directions.
        dilation: dilation of the kernel; must be 1 if `strides` is above 1.
        padding: 'same' or 'valid'.
        activation: activation of a convolution or of an activation layer.
    """

    kind: Kind
    filters: int = 1
    size: tuple[int, int] = (1, 1)
    strides: int = 1
    dilation: int = 1
    padding: Literal["same", "valid"] = "same"
    activation: str = "linear"


@dataclass(frozen=True)
class NetworkSpec:
    """A specification of a network, from which the network can be built any number of times.

    Attributes:
        input_shape: shape of one image, (h, w, c).
        steps: the layers in order; the first is a convolution.
        classes: number of classes of the final dense softmax; None for no softmax.
        head: layer before the final dense layer.
        seed: seed of the weights.
    """

    input_shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    classes: int | None = None
    head: Head = "global_pool"
    seed: int = 0

    def build(self) -> keras.Model:
        """Return the network: functional, channels-last, with weights drawn from the seed.

        Layers are named by kind and position: 'conv_1', 'max_pool_2', …. Batch normalizations get
        statistics like those of a trained network.
        """
        import keras
        from keras import layers

        image = keras.Input(self.input_shape, name="image")
        x = image
        for number, step in enumerate(self.steps, start=1):
            x = _MAKERS[step.kind](x, step, f"{step.kind}_{number}")
        if self.classes is not None:
            if self.head == "flatten":
                x = layers.Flatten(name="flatten")(x)
            else:
                x = layers.GlobalAveragePooling2D(name="global_pool")(x)
            x = layers.Dense(
                self.classes, activation="softmax", kernel_initializer=_PLACEHOLDER, name="classes"
            )(x)
        model = keras.Model(image, x, name="network")
        draw = np.random.default_rng(self.seed)
        for weight in model.weights:
            weight.assign(_draw_weight(weight.path.split("/")[-1], tuple(weight.shape), draw))
        return model

    def images(self, count: int = 2) -> NDArray[np.float32]:
        """Return `count` different images (n, h, w, c) with values in [0, 1], from the seed."""
        draw = np.random.default_rng([self.seed, 1])
        return draw.random((count, *self.input_shape), np.float32)


def images(
    shape: tuple[int, int, int] | st.SearchStrategy[tuple[int, int, int]] | None = None,
    *,
    count: int | st.SearchStrategy[int] = 2,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> st.SearchStrategy[NDArray[np.float32]]:
    """Return a strategy for batches of images (n, h, w, c), float32; they shrink to the low value.

    Args:
        shape: (h, w, c), or a strategy for it; by default up to 12×12 with 1 or 3 channels.
        count: number of images, or a strategy for it.
        value_range: (low, high) of the pixels.
    """
    low, high = (float(np.float32(v)) for v in value_range)
    if not low < high:
        raise ValueError(f"value_range must be (low, high) with low < high, not {value_range}")
    sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from((1, 3)))
    return _arrays(
        st.tuples(_strategy(count), sizes if shape is None else _strategy(shape)).map(
            lambda drawn: (drawn[0], *drawn[1])
        ),
        low,
        high,
    )


def feature_maps(
    shape: tuple[int, int, int] | st.SearchStrategy[tuple[int, int, int]] | None = None,
    *,
    count: int | st.SearchStrategy[int] = 2,
    magnitude: float = 100.0,
) -> st.SearchStrategy[NDArray[np.float32]]:
    """Return a strategy for feature maps (n, h, w, c), float32; they shrink to zeros.

    Args:
        shape: (h, w, c), or a strategy for it; by default up to 8×8 with up to 6 channels.
        count: number of feature maps, or a strategy for it.
        magnitude: maximum absolute value.
    """
    if not magnitude > 0:
        raise ValueError(f"magnitude must be above 0, not {magnitude}")
    sizes = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 6))
    return _arrays(
        st.tuples(_strategy(count), sizes if shape is None else _strategy(shape)).map(
            lambda drawn: (drawn[0], *drawn[1])
        ),
        -float(np.float32(magnitude)),
        float(np.float32(magnitude)),
    )


@st.composite
def network_specs(
    draw: st.DrawFn,
    *,
    max_steps: int = 5,
    max_side: int = 13,
    max_filters: int = 4,
    kinds: Sequence[Kind] = KINDS,
    activations: Sequence[str] = ACTIVATIONS,
    classifier: bool | None = None,
) -> NetworkSpec:
    """Return a strategy for specifications of small networks; `cnn_models` builds the networks.

    They shrink to a single 1×1 convolution with one filter.

    Args:
        max_steps: maximum number of layers or blocks before the head.
        max_side: maximum height and width of an image.
        max_filters: maximum number of output channels of a convolution.
        kinds: kinds of layers to choose from, the simplest first.
        activations: activations to choose from, the simplest first.
        classifier: True to end with a softmax over classes, False not to; None for both.
    """
    side = st.integers(4, max_side)
    shape = (draw(side), draw(side), draw(st.sampled_from((1, 2, 3))))
    steps: list[Step] = []
    h, w, c = shape
    for number in range(draw(st.integers(1, max_steps))):
        kind: Kind = "conv" if number == 0 else draw(st.sampled_from(tuple(kinds)))
        step, (h, w, c) = _draw_step(draw, kind, (h, w, c), max_filters, tuple(activations))
        steps.append(step)
    ends = draw(st.booleans()) if classifier is None else classifier
    return NetworkSpec(
        shape,
        tuple(steps),
        classes=draw(st.integers(2, 4)) if ends else None,
        head=draw(st.sampled_from(("global_pool", "flatten"))) if ends else "global_pool",
        seed=draw(st.integers(0, 2**16)),
    )


@st.composite
def cnn_models(draw: st.DrawFn, /, **options: Any) -> keras.Model:
    """Return a strategy for small Keras models with random weights.

    A failing example prints its specification, from which it can be rebuilt. Keras's global state
    is cleared before each model, so that models do not accumulate.

    Args:
        options: options of `network_specs`.
    """
    import keras

    spec = draw(network_specs(**options))
    hypothesis.note(f"model = {spec!r}.build()")
    keras.utils.clear_session(free_memory=False)
    return spec.build()


def register_profile(name: str = PROFILE, *, max_examples: int = 100) -> None:
    """Register and load a hypothesis settings profile for tests of networks.

    It has no deadline, because the first call of a network compiles, and no health check for
    slowness. If the environment variable CI is set, it is derandomized, so that a build does not
    fail by chance.

    Args:
        name: name of the profile.
        max_examples: number of examples in each test.
    """
    hypothesis.settings.register_profile(
        name,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),
        max_examples=max_examples,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile(name)


def _draw_step(
    draw: st.DrawFn,
    kind: Kind,
    shape: tuple[int, int, int],
    max_filters: int,
    activations: tuple[str, ...],
) -> tuple[Step, tuple[int, int, int]]:
    """Return a step that is valid for maps of a shape, and its output shape."""
    h, w, c = shape
    if kind == "batch_norm":
        return Step(kind), shape
    if kind == "activation":
        return Step(kind, activation=draw(st.sampled_from(activations))), shape
    size = (draw(st.integers(1, min(3, h))), draw(st.integers(1, min(3, w))))
    activation = draw(st.sampled_from(activations))
    filters = draw(st.integers(1, max_filters))
    if kind == "residual":
        return Step(kind, c, size, activation=activation), shape
    if kind == "concatenate":
        return Step(kind, filters, size, activation=activation), (h, w, 2 * filters)
    padding = draw(st.sampled_from(_PADDINGS))
    strides = draw(st.integers(1, 3))
    if kind in ("max_pool", "average_pool"):
        return Step(kind, c, size, strides, padding=padding), _output_shape(
            (h, w, c), size, strides, 1, padding
        )
    # Always drawn: an example with fewer draws would count as simpler than a plain convolution.
    dilation = draw(st.integers(1, 2))
    if strides > 1:
        dilation = 1
    reach = [(k - 1) * dilation + 1 for k in size]
    if padding == "valid" and (reach[0] > h or reach[1] > w):
        dilation = 1
    given = c if kind == "depthwise" else filters
    step = Step(kind, given, size, strides, dilation, padding, activation)
    return step, _output_shape((h, w, given), size, strides, dilation, padding)


def _output_shape(
    shape: tuple[int, int, int], size: tuple[int, int], strides: int, dilation: int, padding: str
) -> tuple[int, int, int]:
    """Return the output shape of a convolution or pool with this window."""
    sides = []
    for side, k in zip(shape[:2], size, strict=True):
        reach = 1 if padding == "same" else (k - 1) * dilation + 1
        sides.append((side - reach) // strides + 1)
    return sides[0], sides[1], shape[2]


def _conv(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.Conv2D(
        step.filters,
        step.size,
        strides=step.strides,
        padding=step.padding,
        dilation_rate=step.dilation,
        activation=step.activation,
        kernel_initializer=_PLACEHOLDER,
        name=name,
    )(x)


def _depthwise(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.DepthwiseConv2D(
        step.size,
        strides=step.strides,
        padding=step.padding,
        dilation_rate=step.dilation,
        activation=step.activation,
        depthwise_initializer=_PLACEHOLDER,
        name=name,
    )(x)


def _separable(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.SeparableConv2D(
        step.filters,
        step.size,
        strides=step.strides,
        padding=step.padding,
        dilation_rate=step.dilation,
        activation=step.activation,
        depthwise_initializer=_PLACEHOLDER,
        pointwise_initializer=_PLACEHOLDER,
        name=name,
    )(x)


def _max_pool(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.MaxPooling2D(step.size, step.strides, padding=step.padding, name=name)(x)


def _average_pool(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.AveragePooling2D(step.size, step.strides, padding=step.padding, name=name)(x)


def _batch_norm(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.BatchNormalization(name=name)(x)


def _activation(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    own = {"relu": layers.ReLU, "leaky_relu": layers.LeakyReLU, "elu": layers.ELU}
    if step.activation in own:
        return own[step.activation](name=name)(x)
    return layers.Activation(step.activation, name=name)(x)


def _residual(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    return layers.Add(name=name)([x, _conv(x, step, f"{name}_conv")])


def _concatenate(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    parts = [_conv(x, step, f"{name}_{part}") for part in ("left", "right")]
    return layers.Concatenate(name=name)(parts)


_MAKERS: dict[Kind, Callable[[Any, Step, str], Any]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "separable": _separable,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "residual": _residual,
    "concatenate": _concatenate,
}


def _draw_weight(
    name: str, shape: tuple[int, ...], draw: np.random.Generator
) -> NDArray[np.float64]:
    """Return random values of a weight: kernels that preserve scale, statistics as if trained."""
    if name in ("gamma", "moving_variance"):
        return draw.uniform(0.5, 1.5, shape)
    if name in ("bias", "beta", "moving_mean"):
        return 0.1 * draw.standard_normal(shape)
    fan_in = int(np.prod(shape[:2])) if name == "depthwise_kernel" else int(np.prod(shape[:-1]))
    return draw.standard_normal(shape) * np.sqrt(2 / max(fan_in, 1))


def _strategy(value: Any) -> st.SearchStrategy[Any]:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)


def _arrays(
    shapes: st.SearchStrategy[Any], low: float, high: float
) -> st.SearchStrategy[NDArray[np.float32]]:
    return hnp.arrays(np.float32, shapes, elements=st.floats(low, high, width=32))

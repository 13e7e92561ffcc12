"""Networks and settings of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens import Network
from convlens.engine.runtime import backend
from convlens.fixtures.mnist_cnn import load_mnist_cnn

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")


class UnavailableError(RuntimeError):
    """A contest that cannot run on this machine or network; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Settings of a benchmark.

    Attributes:
        model: 'mnist_cnn', a network of keras.applications, or the name of the model from `load`.
        full: True for the sizes of the published figures; False for sizes that take seconds.
        dtype: dtype policy of the model.
        xla: True to compile with XLA.
        device: device such as 'cpu:0' or 'gpu:0'; None for the backend's default.
        batch: number of images; None for the core's default.
        load: function that returns a user's model; None for a named model.
    """

    model: str = "mnist_cnn"
    full: bool = False
    dtype: str = "float32"
    xla: bool = False
    device: str | None = None
    batch: int | None = None
    load: Callable[[], Any] | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Short description, such as 'mnist_cnn float32'."""
        words = [self.model, self.dtype, "XLA" if self.xla else "", self.device or ""]
        return " ".join(word for word in words if word)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the device and the compiler of the setting in this context."""
        with ExitStack() as stack:
            if self.device is not None:
                stack.enter_context(keras.device(self.device))
            if self.xla:
                stack.enter_context(backend.with_xla())
            yield


@dataclass(frozen=True)
class Subject:
    """A network for a benchmark.

    Attributes:
        setting: settings of the benchmark.
        model: Keras model.
        network: the same model as a `Network`.
        layer: convolution for the ascent and the deconvnet.
        shape: shape (h, w, c) of an image.
    """

    setting: Setting
    model: Any
    network: Network
    layer: str
    shape: tuple[int, int, int]

    def images(self, count: int) -> NDArray[np.float32]:
        """Return random images (count, h, w, c) in the range 0 to 1."""
        return np.random.default_rng(0).random((count, *self.shape), dtype=np.float32)


def subject(setting: Setting, *, whole: bool = False) -> Subject:
    """Return the network of a setting.

    The networks of keras.applications have random weights; the cost is the same. Unless `whole` is
    True, they have no classifier and a reduced image size.
    """
    keras.utils.set_random_seed(0)
    side = 128 if setting.full else 64
    if setting.load is not None:
        model = setting.load()
    elif setting.model == "mnist_cnn":
        model = load_mnist_cnn()
    else:
        build = getattr(keras.applications, setting.model)
        part: dict[str, Any] = {"input_shape": (side, side, 3), "include_top": False}
        model = build(weights=None, **({} if whole else part))
    if setting.dtype != "float32":
        model = with_policy(model, setting.dtype)
    network = Network(model)
    h, w, c = network.input_shape
    layers = network.conv_layers
    named = {"mnist_cnn": "conv2d_3", "VGG19": "block3_conv1"}
    layer = named.get(setting.model) or _middle(model, layers)
    return Subject(setting, model, network, layer, (h or side, w or side, c or 3))


def _middle(model: Any, layers: tuple[str, ...]) -> str:
    """Return the middle one of a model's own convolutions.

    Raises:
        UnavailableError: all convolutions are inside nested models, which the bare passes cannot
            access.
    """
    own = [name for name in layers if name in {layer.name for layer in model.layers}]
    if not own:
        raise UnavailableError(
            f"{model.name} has no convolution outside nested models to benchmark"
        )
    return own[len(own) // 2]


def with_policy(model: Any, dtype: str) -> Any:
    """Return a copy of a model with the same weights and another dtype policy."""

    def copy(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": dtype})

    made = keras.models.clone_model(model, clone_function=copy)
    made.set_weights(model.get_weights())
    return made

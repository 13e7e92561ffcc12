"""A flat view of a Keras model: every layer's output by name, nested models included.

A model is copied once into a list of calls (see `flatten`). Nested models are inlined, their layers
are named ``outer.inner``, and a fused activation becomes a separate call, so that the value before
it can be read too. The user's model is never called symbolically, so it never changes. Its weights
are copied before each use, so that the copy is never stale.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.flatten import CONVOLUTIONS, Call, flatten, is_graph, is_symbolic
from convlens.engine.model.rectify import Method, is_relu, rectified
from convlens.engine.runtime import backend

Units = int | Iterable[int] | None
INPUT, PREDICTIONS = "input", "predictions"


class Network:
    """A model opened up: its layers, their outputs, and functions computed from them.

    Attributes:
        name: the model's name.
        model: the user's own model.
        layers: the user's own layers by flat name, in the order of the graph.
        outputs: each layer's symbolic output (None, h, w, c) or (None, units), by flat name.
        preactivations: each layer's value before its activation; only layers that have one.
        conv_layers: names of the convolutions, in the order of the graph.
        distribution: distribution of batches over several devices; None for one device.
    """

    def __init__(self, model: keras.Model, *, held: Mapping[str, ArrayLike] | None = None) -> None:
        """Open up a model.

        Args:
            model: a Sequential or functional model.
            held: constant values for a model with several inputs: one for each input except the
                images, by name, without the batch axis. Every image is computed with them.

        Raises:
            TypeError: not a Keras model.
            ValueError: a subclassed or unbuilt model, a second input without a held value, a held
                value of a wrong shape, a channels-first model.
        """
        _check_graph(model)
        image = _image_input(model, held or {})
        self.name: str = model.name
        self.model = model
        self.distribution = backend.distribution_of(model)
        with backend.within(self.distribution):
            self._flat = flatten(model, image)
        self.layers: dict[str, Any] = self._flat.layers
        self.outputs: dict[str, Any] = self._flat.outputs
        self.preactivations: dict[str, Any] = self._flat.preactivations
        self.conv_layers = tuple(n for n, x in self.layers.items() if isinstance(x, CONVOLUTIONS))
        for name in self.conv_layers:
            if self.layers[name].data_format == "channels_first":
                raise ValueError(
                    f"{self.name} layer {name!r} is channels-first, but convlens reads "
                    "channels-last models (n, h, w, c): rebuild it with "
                    "data_format='channels_last'"
                )
        self._held = {
            name: np.asarray(value, np.dtype(self._flat.inputs[name].dtype))
            for name, value in (held or {}).items()
        }
        self._variables = [v for _, copy in self._flat.pairs for v in copy.weights]
        self._copy_weights = backend.copier(
            [
                pair
                for original, copy in self._flat.pairs
                for pair in zip(original.weights, copy.weights, strict=True)
            ],
            self.distribution,
        )
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._adapted: dict[int, list[NDArray[Any]]] = {}
        self.refresh()

    @classmethod
    def of(cls, model: keras.Model | Network) -> Network:
        """Return the network of a model with the model's current weights; a `Network` is reused."""
        if isinstance(model, Network):
            model.refresh()
            return model
        return cls(model)

    def copy(self) -> Network:
        """Return a network of a clone of the model, whose weights can be changed freely."""
        clone = keras.models.clone_model(self.model)
        clone.set_weights(self.model.get_weights())
        clone.name = self.name
        return Network(clone, held=self._held)

    def refresh(self) -> None:
        """Copy the current weights of the user's model."""
        self._copy_weights()
        for _, copy in self._flat.pairs:
            if hasattr(copy, "finalize_state"):
                self._update_adapted(copy)

    def _update_adapted(self, layer: Any) -> None:
        """Update the constants that an adapted layer, such as Normalization, derives from weights.

        Compiled functions hold these constants too, so they are dropped when the weights changed.
        """
        values = [np.asarray(keras.ops.convert_to_numpy(v.value)) for v in layer.weights]
        known = self._adapted.get(id(layer))
        if known is None or any((a != b).any() for a, b in zip(known, values, strict=True)):
            self._adapted[id(layer)] = values
            self._compiled.clear()
            layer.finalize_state()

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one image: (h, w, c), with None where any size is accepted."""
        return tuple(self._flat.image.shape[1:])

    @property
    def output_layer(self) -> str | None:
        """The layer whose output is the model's first output; None if no layer returns it."""
        return next((n for n, t in self.outputs.items() if t is self._flat.result), None)

    @property
    def output_tensors(self) -> dict[str, Any]:
        """The symbolic tensor of each of the model's outputs, by the name of its layer.

        An output that no layer returns is called 'predictions', or 'predictions 2' and so on.
        """
        named = {id(t): name for name, t in reversed(self.outputs.items())}
        named[id(self.image)] = INPUT
        found: dict[str, Any] = {}
        for tensor in {id(t): t for t in self._flat.results}.values():
            name, number = named.get(id(tensor), PREDICTIONS), 1
            while name in found or (id(tensor) not in named and name in self.outputs):
                number += 1
                name = f"{PREDICTIONS} {number}"
            found[name] = tensor
        return found

    def find(self, layer: str) -> str:
        """Return `layer` after checking that the network has it.

        Raises:
            ValueError: no layer of that name; the message suggests the nearest names.
        """
        if layer in self.outputs:
            return layer
        near = difflib.get_close_matches(str(layer), self.outputs, n=3, cutoff=0.4)
        known = ", ".join(map(repr, near)) or ", ".join(self.outputs)
        offer = f"did you mean {known}?" if near else f"it has {known}"
        raise ValueError(f"{self.name} has no layer {layer!r}: {offer}")

    def units(self, layer: str) -> int:
        """Return a layer's number of units: channels of a map, or entries of a vector."""
        return int(self.outputs[self.find(layer)].shape[-1])

    def activation_name(self, layer: str) -> str:
        """Return the name of a layer's activation, fused or separate, such as 'relu'."""
        original = self.layers[self.find(layer)]
        activation = getattr(original, "activation", original)
        name = getattr(activation, "__name__", type(activation).__name__)
        return str(name).lower()

    def check_units(self, layer: str, units: Units) -> NDArray[np.int64]:
        """Return the chosen unit numbers (n,); None chooses all units of the layer.

        Raises:
            ValueError: an empty choice, a number that is not an integer, or a number out of range.
        """
        count = self.units(layer)
        chosen = np.arange(count) if units is None else np.atleast_1d(np.asarray(units))
        if chosen.size == 0:
            raise ValueError(f"no unit of {self.name} layer {layer!r} was chosen")
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"units must be integers, not {units!r}")
        wrong = chosen[(chosen < 0) | (chosen >= count)]
        if wrong.size:
            raise ValueError(
                f"{self.name} layer {layer!r} has units 0 to {count - 1}; "
                f"there is no unit {wrong[0]}"
            )
        return chosen.astype(np.int64)

    def check_position(self, layer: str, position: tuple[int, int]) -> None:
        """Check that a position (row, column) lies in a layer's feature map.

        Raises:
            ValueError: not a pair of numbers, a layer of no fixed size, or a position out of range.
        """
        if not (isinstance(position, tuple) and len(position) == 2):
            raise ValueError(f"position must be (row, column), not {position!r}")
        shape = self.outputs[layer].shape
        h, w = (shape[1], shape[2]) if len(shape) == 4 else (1, 1)
        if h is None or w is None:
            raise ValueError(f"layer {layer!r} has no fixed size: position cannot be given")
        row, column = position
        if not (0 <= row < h and 0 <= column < w):
            raise ValueError(f"position {position} is outside layer {layer!r}, which is {h}×{w}")

    def check_images(self, images: Any) -> NDArray[np.float32]:
        """Return `images` as float32 (n, h, w, c).

        Raises:
            ValueError: a shape that the model does not take, no image, values that are not finite.
        """
        array = np.asarray(images)
        want = self.input_shape
        if array.ndim != len(want) + 1 or any(
            w is not None and w != s for w, s in zip(want, array.shape[1:], strict=True)
        ):
            shape = ", ".join("any" if s is None else str(s) for s in want)
            hint = ""
            if array.ndim == len(want):
                channel_missing = want[-1] == 1 and array.shape[-1] != 1
                axis = "..., None" if channel_missing else "None"
                hint = f": add the missing axis with images[{axis}]"
            raise ValueError(
                f"{self.name} takes images of shape (n, {shape}), not {array.shape}{hint}"
            )
        if array.shape[0] == 0:
            raise ValueError(f"no image was given for {self.name}")
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            raise ValueError(f"image {bad} has values that are not finite (NaN or infinity)")
        return array.astype(np.float32)

    def run(
        self,
        images: Any,
        wanted: Sequence[Any],
        *,
        method: Method = "gradient",
        taps: Mapping[str, Any] | None = None,
        feed: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Compute the values of symbolic tensors in inference mode, and only the calls they need.

        Args:
            images: a tensor (n, h, w, c); None if `feed` gives all values that are needed.
            wanted: members of `outputs` or `preactivations`.
            method: backward pass of each ReLU; see `rectify.rectified`.
            taps: values to add to layers' outputs, by layer. The derivative with respect to a tap
                of zeros is the derivative with respect to that output.
            feed: values to use in place of layers' outputs, by layer.

        Returns:
            The value of each of `wanted`.
        """
        values = {id(self.outputs[name]): value for name, value in (feed or {}).items()}
        values[id(self._flat.image)] = images
        for name, value in self._held.items():
            batch = ops.shape(images if images is not None else next(iter(values.values())))[0]
            values[id(self._flat.inputs[name])] = ops.broadcast_to(value, (batch, *value.shape))
        added = {id(self.outputs[name]): tap for name, tap in (taps or {}).items()}
        for call in self._needed_calls(wanted, known=values):
            args, kwargs = keras.tree.map_structure(
                lambda t: values[id(t)] if is_symbolic(t) else t, (call.args, call.kwargs)
            )
            if is_relu(call.op):
                results = [rectified(call.op, args[0], method)]
            else:
                results = keras.tree.flatten(call.op(*args, **kwargs))
            for symbol, value in zip(call.outputs, results, strict=True):
                tap = added.get(id(symbol))
                values[id(symbol)] = value if tap is None else value + tap
        return [values[id(t)] for t in wanted]

    def sources(self, layer: str) -> list[str]:
        """Return the names of the layers that a layer reads; 'input' means the images.

        Operations outside layers count as part of the layer that reads them.
        """
        named = {id(t): name for name, t in self.outputs.items()} | {id(self._flat.image): INPUT}
        own = self.outputs[self.find(layer)]
        known = named.keys() - {id(own)}
        read = [id(t) for call in self._needed_calls([own], known=known) for t in call.inputs]
        return list(dict.fromkeys(named[key] for key in read if key in known))

    def below(self, layer: str) -> list[str]:
        """Return the names of all layers that `layer` depends on, and `layer` itself, last."""
        needed = {
            id(t) for c in self._needed_calls([self.outputs[self.find(layer)]]) for t in c.outputs
        }
        return [name for name, t in self.outputs.items() if id(t) in needed]

    def compiled(
        self, key: Any, build: Callable[[], Callable[..., Any]], batched: int = 0
    ) -> Callable[..., Any]:
        """Return the compiled function stored under `key`; the first call compiles `build()`.

        Args:
            key: unique key of this function in the network.
            build: returns the function of tensors to compile.
            batched: number of leading arguments whose first axis is the batch. If it is not 0, all
                results must have the batch as their first axis too, and the batch is spread over
                the devices of the distribution.
        """
        if key not in self._compiled:
            self._compiled[key] = backend.compile(
                build(),
                self._variables,
                batched=batched,
                distribution=self.distribution if batched else None,
            )
        return self._compiled[key]

    def calls(self, layer: str) -> list[Call]:
        """Return the calls that compute `layer`'s output from the images, in their order."""
        return self._needed_calls([self.outputs[self.find(layer)]])

    @property
    def image(self) -> Any:
        """The symbolic tensor of the images (None, h, w, c)."""
        return self._flat.image

    @property
    def result(self) -> Any:
        """The symbolic tensor of the model's first output (None, …)."""
        return self._flat.result

    def _needed_calls(self, wanted: Sequence[Any], known: Collection[int] = ()) -> list[Call]:
        need = {id(t) for t in wanted if id(t) not in known}
        calls = []
        for call in reversed(self._flat.calls):
            if any(id(t) in need for t in call.outputs):
                need.update(id(t) for t in call.inputs if id(t) not in known)
                calls.append(call)
        return calls[::-1]


def _check_graph(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a keras.Model, got {type(model).__name__}")
    if not is_graph(model):
        built = "was never built" if isinstance(model, keras.Sequential) else "is subclassed"
        raise ValueError(
            f"{model.name} {built}: give a built Sequential model or a functional one, whose "
            "layers' outputs can be named"
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"{model.name} was never built, so its layers have no shapes: "
            "start it with keras.Input(shape), or call it on a batch of images first"
        )


def _image_input(model: keras.Model, held: Mapping[str, ArrayLike]) -> str:
    """Return the name of the input that takes the images, the only one without a held value."""
    inputs = {t.name: t for t in model.inputs}
    for name, value in held.items():
        if name not in inputs:
            raise ValueError(
                f"{model.name} has no input {name!r}; its inputs are {_describe_inputs(inputs)}"
            )
        want = tuple(inputs[name].shape[1:])
        shape = np.shape(value)
        if len(shape) != len(want) or any(
            w not in (None, s) for w, s in zip(want, shape, strict=True)
        ):
            raise ValueError(
                f"{model.name}'s input {name!r} takes values of shape {want}, not {shape}"
            )
    free = [name for name in inputs if name not in held]
    if len(free) != 1:
        given = "" if not held else f", {len(free)} of them without a held value"
        raise ValueError(
            f"{model.name} has {len(inputs)} inputs ({_describe_inputs(inputs)}){given}; exactly "
            "one, the images, must be free: hold the others with "
            "convlens.Network(model, held={name: value})"
        )
    if len(inputs[free[0]].shape) != 4:
        shape = tuple(inputs[free[0]].shape)
        raise ValueError(
            f"{model.name} takes inputs of shape {shape}; convlens needs images (n, h, w, c)"
        )
    return free[0]


def _describe_inputs(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name!r} {tuple(t.shape)}" for name, t in inputs.items())

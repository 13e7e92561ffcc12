"""A flat view of a Keras model: every layer's output by name, nested models included.

A model is read once into a list of calls (see `flatten`). Nested models are inlined, their layers
are named ``outer.inner``, and a fused activation becomes a separate call, so that the value before
it can be read too. The calls are of the user's own layers, in inference mode, so that what is
computed is what `model.predict` computes, with the current weights. The first time that anything
is compiled, the list is compared with the model on a few images (see `guard`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.flatten import (
    Call,
    Flat,
    bound_of,
    falls_silent,
    flatten,
    has_graph,
    is_convolution,
    is_symbolic,
)
from convlens.engine.model.guard import check_reading
from convlens.engine.model.layout import to_first
from convlens.engine.model.rectify import Method, rectified
from convlens.engine.model.rounding import Coarse, roundings, sums_products
from convlens.engine.model.settings import settings_of, unchanged
from convlens.engine.model.shapes import Shape, tensor_shapes
from convlens.engine.model.switches import needs_switches, pooled_by_switches
from convlens.engine.model.trace import input_symbols
from convlens.engine.runtime import backend
from convlens.engine.runtime.lru_cache import LRUCache
from convlens.engine.runtime.tolerance import Rounding

T = TypeVar("T")

Units = int | Iterable[int] | None
INPUT, PREDICTIONS = "input", "predictions"
# A run of all checks uses some twenty functions a layer, one layer after another.
_MAX_COMPILED = 64


class Network:
    """A model opened up: its layers, their outputs, and functions computed from them.

    Attributes:
        name: the model's name for people, which messages have.
        model: the user's own model.
        layers: the user's own layers by flat name, in the order of the graph.
        outputs: each layer's symbolic output (None, *positions, c) or (None, units), by flat name.
        preactivations: each layer's value before its activation; only layers that have one.
        conv_layers: names of the convolutions, in the order of the graph.
        distribution: distribution of batches over several devices; None for one device.
        variables: the variables that the layers read.
        numbers: each layer's place in the order of the graph, by flat name.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        held: Mapping[str, ArrayLike] | None = None,
        name: str | None = None,
    ) -> None:
        """Open up a model.

        Args:
            model: a Sequential or functional model.
            held: constant values for a model with several inputs: one for each input except the
                images, by name, without the batch axis. Every image is computed with them.
            name: name for messages, such as that of the model's file; by default Keras's.

        Raises:
            TypeError: not a Keras model.
            ValueError: a subclassed or unbuilt model, a second input without a held value, a held
                value of a wrong shape, a channels-first model.
        """
        self.name = name or str(getattr(model, "name", ""))
        _check_graph(model, self.name)
        image = _image_input(model, held or {}, self.name)
        self.model = model
        self.distribution = backend.distribution_of(model)
        self._given = dict(held or {})
        self._memo: dict[Hashable, Any] | None = None
        self._sample: NDArray[np.float32] | None = None
        self._open(image)

    def _open(self, image: str) -> None:
        """Read the model as it is now."""
        self._flat: Flat = flatten(self.model, image)
        self._image_name = image
        self.layers: dict[str, Any] = self._flat.layers
        self.outputs: dict[str, Any] = self._flat.outputs
        self.preactivations: dict[str, Any] = self._flat.preactivations
        self.conv_layers = tuple(n for n, x in self.layers.items() if is_convolution(x))
        if not 2 <= len(self.input_shape) <= 4:
            raise ValueError(
                f"{self.name} takes inputs of shape {tuple(self._flat.image.shape)}; convlens "
                "needs series (n, t, c), images (n, h, w, c) or volumes (n, d, h, w, c)"
            )
        self._held = {
            name: np.asarray(value, np.dtype(self._flat.inputs[name].dtype))
            for name, value in self._given.items()
        }
        variables = {id(v): v for call in self._flat.calls for v in call.variables}
        self.variables = backend.Variables(list(variables.values()), self.distribution)
        self._compiled: LRUCache[Any, Callable[..., Any]] = LRUCache(_MAX_COMPILED, lambda _: 1)
        self._makers = {id(t): i for i, call in enumerate(self._flat.calls) for t in call.outputs}
        self._names = {id(self._flat.image): INPUT}
        self._names.update((id(t), name) for name, t in self.outputs.items())
        self.numbers = {name: i for i, name in enumerate(self.outputs)}
        self._below: dict[str, list[str]] = {}
        self._reached: set[int] | None = None
        self._bounds: dict[int, float | None] = {}
        self._silent: dict[int, bool] = {}
        self._roundings: dict[int, Rounding] | None = None
        self._shapes: dict[tuple[int, ...], dict[int, Shape]] = {}
        self._compared = False
        self._settings = settings_of(self.model)

    @classmethod
    def of(cls, model: keras.Model | Network) -> Network:
        """Return the network of a model with the model's current weights; a `Network` is reused."""
        if isinstance(model, Network):
            model.refresh()
            return model
        return cls(model)

    def refresh(self) -> None:
        """Follow the user's model: read it again if its layers or their settings changed."""
        if unchanged(self._settings, settings_of(self.model)):
            self.variables.refresh()
        else:
            self._open(self._image_name)

    @contextmanager
    def variables_restored(self) -> Iterator[None]:
        """Put the values of all variables back at the end; meanwhile nothing is remembered."""
        values = [(v, ops.copy(v)) for v in self.variables.own]
        try:
            with self.remembering(None):
                yield
        finally:
            for variable, value in values:
                variable.assign(value)
            self.variables.refresh()

    @contextmanager
    def remembering(self, memo: dict[Hashable, Any] | None) -> Iterator[None]:
        """Keep the results of `remembered` in a dictionary, meanwhile.

        Args:
            memo: what the caller keeps as long as no weight changes; None to keep nothing.
        """
        before, self._memo = self._memo, memo
        try:
            yield
        finally:
            self._memo = before

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return `make()`; while results are kept, see `remembering`, that of the first call."""
        if self._memo is None:
            return make()
        if key not in self._memo:
            self._memo[key] = make()
        found: T = self._memo[key]
        return found

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one image: (*positions, c), with None where any size is accepted."""
        return tuple(self._flat.image.shape[1:])

    @property
    def output_layer(self) -> str | None:
        """The layer whose output is the model's first output; None if no layer returns it."""
        return self.output_layers[0]

    @property
    def output_layers(self) -> tuple[str | None, ...]:
        """The layer of each of the model's outputs, in their order; None where none returns it."""
        names = {id(t): name for name, t in self.outputs.items()}
        return tuple(names.get(id(t)) for t in self._flat.results)

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

    def shapes(self, shape: tuple[int, ...]) -> dict[int, Shape]:
        """Return the shape of each tensor for images of a shape; see `tensor_shapes`."""
        if shape not in self._shapes:
            self._shapes[shape] = tensor_shapes(self._flat, shape)
        return self._shapes[shape]

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
        """Return the name of a layer's activation, fused or separate, such as 'relu'.

        A ReLU is known by the values that it computes: one without a bound is called 'relu', one
        with a bound 'relu6', and no other activation has these names.
        """
        bound = self.relu_bound(layer)
        if bound is not None:
            return "relu" if bound == math.inf else "relu6"
        original = self.layers[layer]
        activation = getattr(original, "activation", original)
        name = str(getattr(activation, "__name__", type(activation).__name__)).lower()
        return "leaky_relu" if name in ("relu", "relu6") else name

    def relu_bound(self, layer: str) -> float | None:
        """Return the bound of the ReLU with which a layer ends, infinity for one without a bound.

        Returns:
            None for a layer that ends with no ReLU, known by the values that it computes.
        """
        return self._bound_of(self.call_of(layer))

    def falls_silent(self, layer: str) -> bool:
        """Return whether a layer ends with an activation that falls silent below 0.

        Such are ReLU, swish and GELU, known by the values that they compute.
        """
        call = self.call_of(layer)
        if id(call) not in self._silent:
            self._silent[id(call)] = falls_silent(call)
        return self._silent[id(call)]

    def _bound_of(self, call: Call) -> float | None:
        if id(call) not in self._bounds:
            self._bounds[id(call)] = bound_of(call)
        return self._bounds[id(call)]

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

    def positions(self, layer: str) -> tuple[int | None, ...]:
        """Return the size of a layer's feature map along each side; 1 along each for a vector."""
        sides = tuple(self.outputs[layer].shape[1:-1])
        return sides or (1,) * (len(self.input_shape) - 1)

    def check_position(self, layer: str, position: tuple[int, ...]) -> None:
        """Check that a position lies in a layer's feature map.

        Args:
            layer: the layer's name.
            position: a number for each side of the map, (row, column) in one of two dimensions.

        Raises:
            ValueError: not as many numbers as the map has sides, a layer of no fixed size, or a
                position out of range.
        """
        sides = self.positions(layer)
        if not (isinstance(position, tuple) and len(position) == len(sides)):
            forms = {1: "(step,)", 2: "(row, column)", 3: "(slice, row, column)"}
            form = forms.get(len(sides), f"a tuple of {len(sides)} numbers")
            raise ValueError(f"position must be {form}, not {position!r}")
        if any(side is None for side in sides):
            raise ValueError(f"layer {layer!r} has no fixed size: position cannot be given")
        if not all(0 <= at < (side or 0) for at, side in zip(position, sides, strict=True)):
            size = "×".join(map(str, sides))
            raise ValueError(f"position {position} is outside layer {layer!r}, which is {size}")

    def check_images(self, images: Any) -> NDArray[np.float32]:
        """Return `images` as float32 (n, *positions, c).

        Raises:
            ValueError: a shape that the model does not take, no image, values that are not finite.
        """
        array = self._in_layout(np.asarray(images))
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
        found = array.astype(np.float32)
        if not self._compared:
            self._sample = found[:2].copy()
        return found

    def _in_layout(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return images that are laid out as the model takes them as convlens has them.

        Others are returned as they are. Images that may be either, such as 3×3 pixels of 3
        channels, count as channels last.
        """
        front, want = self._flat.front, self.input_shape
        if _fits(array.shape[1:], want) or not _fits(array.shape[1:], self._own_shape):
            return array
        if front.first:
            return np.moveaxis(array, 1, -1)
        return array if front.shape is None else array.reshape(len(array), *front.shape)

    @property
    def _own_shape(self) -> tuple[int | None, ...]:
        """The shape of one image as the model takes it."""
        if self._flat.front.first:
            return (self.input_shape[-1], *self.input_shape[:-1])
        return tuple(self._flat.inputs[self._flat.image_name].shape[1:])

    def check_batch(self, images: Any) -> NDArray[np.float32]:
        """Return one image, or several, as float32 (n, *positions, c).

        Raises:
            ValueError: as `check_images`.
        """
        array = np.asarray(images)
        one = any(_fits(array.shape, shape) for shape in (self.input_shape, self._own_shape))
        return self.check_images(array[None] if one else array)

    @property
    def untraced(self) -> dict[str, str]:
        """The reason for each layer whose convolutions cannot be reached, by the layer's name."""
        return dict(self._flat.untraced)

    @property
    def is_channels_first(self) -> bool:
        """True if a layer of the model is channels first; it is read as channels last."""
        return self._flat.front.anywhere

    def check_pictures(self, images: Any) -> NDArray[np.float32]:
        """Return one image, or several, as float32 (n, h, w, c), for what needs pictures.

        Raises:
            ValueError: as `check_images`; a model of series or volumes.
        """
        self.check_takes_pictures()
        return self.check_batch(images)

    def check_takes_pictures(self) -> None:
        """Check that the model takes images of two dimensions.

        Raises:
            ValueError: a model of series or volumes.
        """
        if len(self.input_shape) != 3:
            shape = ", ".join("any" if s is None else str(s) for s in self.input_shape)
            raise ValueError(
                f"{self.name} takes inputs of shape (n, {shape}), but pictures (n, h, w, c) are "
                "needed here"
            )

    def run(
        self,
        images: Any,
        wanted: Sequence[Any],
        *,
        method: Method = "gradient",
        taps: Mapping[str, Any] | None = None,
        feed: Mapping[str, Any] | None = None,
        fixed_modes: bool = False,
        coarse: Coarse | None = None,
        functions: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> list[Any]:
        """Compute the values of symbolic tensors in inference mode, and only the calls they need.

        Args:
            images: a tensor (n, *positions, c); None if `feed` gives all values that are needed.
            wanted: members of `outputs` or `preactivations`.
            method: backward pass of each ReLU; see `rectify.rectified`.
            taps: values to add to layers' outputs, by layer. The derivative with respect to a tap
                of zeros is the derivative with respect to that output.
            feed: values to use in place of layers' outputs, by layer.
            fixed_modes: run each layer in the mode that the graph fixes, such as
                ``layer(x, training=True)``, as `model(x)` does and `model.predict` does not.
            coarse: rounding of the factors of all products; None for the machine's own.
            functions: functions of one tensor that compute calls in place of their operations, by
                the call's id; see `quick_calls`.

        Returns:
            The value of each of `wanted`.
        """
        with nullcontext() if coarse is None else coarse.kernels(self.variables.own):
            return self._run(
                images, wanted, method, taps, feed, fixed_modes, coarse, functions or {}
            )

    def _run(
        self,
        images: Any,
        wanted: Sequence[Any],
        method: Method,
        taps: Mapping[str, Any] | None,
        feed: Mapping[str, Any] | None,
        fixed_modes: bool,
        coarse: Coarse | None,
        functions: Mapping[int, Callable[[Any], Any]],
    ) -> list[Any]:
        values = {id(self.outputs[name]): value for name, value in (feed or {}).items()}
        if images is not None and "float" in self._flat.image.dtype:
            images = ops.cast(images, self._flat.image.dtype)
        values[id(self._flat.image)] = images
        batch = images if images is not None else next(iter(values.values()))
        values.update(self._held_for(batch))
        added = {id(self.outputs[name]): tap for name, tap in (taps or {}).items()}
        for call in self._needed_calls(wanted, known=values):
            args, kwargs = keras.tree.map_structure(
                lambda t: values[id(t)] if is_symbolic(t) else t, (call.args, call.kwargs)
            )
            if coarse is not None and sums_products(call.own_op):
                args, kwargs = coarse.inputs((args, kwargs))
            if id(call) in functions:
                results = [functions[id(call)](values[id(call.inputs[0])])]
            elif method != "gradient" and needs_switches(call.op):
                results = [pooled_by_switches(call.op, values[id(call.inputs[0])])]
            elif method != "gradient" and self._bound_of(call) is not None:
                one = values[id(call.inputs[0])]
                results = [rectified(call.compute_one, one, method)]
            else:
                results = call.compute(args, kwargs, fixed_modes and bool(call.training))
            for symbol, value in zip(call.outputs, results, strict=True):
                tap = added.get(id(symbol))
                values[id(symbol)] = value if tap is None else value + tap
        return [values[id(t)] for t in wanted]

    @property
    def held(self) -> dict[str, NDArray[Any]]:
        """The values of the inputs that do not take the images, by name, without a batch's axis."""
        return dict(self._held)

    def inputs_for(self, images: Any) -> list[Any]:
        """Return the model's inputs, in its order, for images (n, *positions, c)."""
        held = self._held_for(images)
        own = images
        if self._flat.front.first:
            own = to_first(images)
        elif self._flat.front.shape is not None:
            (own,) = self.run(images, [self._flat.inputs[self._flat.image_name]])
        return [held.get(id(symbol), own) for symbol in self._flat.inputs.values()]

    def _held_for(self, batch: Any) -> dict[int, Any]:
        """Return the held values for each member of a batch, by the id of their input."""
        n = ops.shape(batch)[0] if self._held else 0
        return {
            id(self._flat.inputs[name]): ops.broadcast_to(value, (n, *value.shape))
            for name, value in self._held.items()
        }

    def rounding(self, layer: str) -> Rounding:
        """Return the rounding behind a layer's output, on this machine."""
        symbol = self._flat.image if layer == INPUT else self.outputs[self.find(layer)]
        if self._roundings is None:
            self._roundings = roundings(self._flat.calls)
        return self._roundings.get(id(symbol), Rounding())

    def sources(self, layer: str) -> list[str]:
        """Return the names of the layers that a layer reads; 'input' means the images.

        Operations outside layers count as part of the layer that reads them.
        """
        own = self.outputs[self.find(layer)]
        known = self._names.keys() - {id(own)}
        read = [id(t) for call in self._needed_calls([own], known=known) for t in call.inputs]
        return list(dict.fromkeys(self._names[key] for key in read if key in known))

    def below(self, layer: str) -> list[str]:
        """Return the names of all layers that `layer` depends on, and `layer` itself, last."""
        layer = self.find(layer)
        if layer not in self._below:
            needed = {id(t) for call in self.calls(layer) for t in call.outputs}
            self._below[layer] = [name for name, t in self.outputs.items() if id(t) in needed]
        return list(self._below[layer])

    def reaches(self, layer: str) -> bool:
        """Return whether a layer depends on the images, and not on held inputs alone."""
        if self._reached is None:
            self._reached = {id(self.image)}
            for call in self._flat.calls:
                if any(id(t) in self._reached for t in call.inputs):
                    self._reached.update(id(t) for t in call.outputs)
        return id(self.outputs[self.find(layer)]) in self._reached

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
        self._check_reading()
        return self._compiled.get(
            key,
            lambda: backend.compile(
                build(),
                self.variables,
                batched=batched,
                distribution=self.distribution if batched else None,
            ),
        )

    def once(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`, which runs the network, without keeping a compiled function.

        A single run takes less time than compiling.
        """
        self._check_reading()
        return backend.once(function, self.variables, *args)

    def seldom(self, key: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`, which runs the network, for a function that runs a few times.

        It is compiled where the backend compiles each operation by itself; elsewhere a few runs
        take less time than compiling.

        Args:
            key: unique key of this function in the network.
            function: function of tensors.
            args: its arguments.
        """
        if backend.compiles_operations():
            return self.compiled(key, lambda: function)(*args)
        return self.once(function, *args)

    def _check_reading(self) -> None:
        if not self._compared:
            self._compared = check_reading(self, self._flat, self._sample)
            self._sample = None if self._compared else self._sample

    def calls(self, layer: str) -> list[Call]:
        """Return the calls that compute `layer`'s output from the images, in their order."""
        return self._needed_calls([self.outputs[self.find(layer)]])

    def call_of(self, layer: str) -> Call:
        """Return the call whose result is `layer`'s output."""
        return self._flat.calls[self._makers[id(self.outputs[self.find(layer)])]]

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """All calls of the network, each after those that it depends on."""
        return tuple(self._flat.calls)

    def first_values(self, images: Any) -> dict[int, Any]:
        """Return the values of the images and of the held inputs, by the id of their symbol."""
        return {**self._held_for(images), id(self._flat.image): images}

    @property
    def image(self) -> Any:
        """The symbolic tensor of the images (None, *positions, c)."""
        return self._flat.image

    @property
    def result(self) -> Any:
        """The symbolic tensor of the model's first output (None, …)."""
        return self._flat.results[0]

    @property
    def results(self) -> list[Any]:
        """The symbolic tensors of all of the model's outputs, in its own order."""
        return list(self._flat.results)

    @property
    def graph(self) -> list[Call]:
        """All calls of the model, each after the calls that it depends on."""
        return self._flat.calls

    def _needed_calls(self, wanted: Sequence[Any], known: Collection[int] = ()) -> list[Call]:
        found: set[int] = set()
        keys = [id(t) for t in wanted]
        while keys:
            key = keys.pop()
            number = None if key in known else self._makers.get(key)
            if number is not None and number not in found:
                found.add(number)
                keys += [id(t) for t in self._flat.calls[number].inputs]
        return [self._flat.calls[number] for number in sorted(found)]


def _fits(shape: Sequence[int], axes: Sequence[int | None]) -> bool:
    return len(shape) == len(axes) and all(
        axis in (None, side) for axis, side in zip(axes, shape, strict=True)
    )


def _check_graph(model: Any, called: str) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not has_graph(model):
        raise ValueError(
            f"{called} was never built: give a built Sequential model or a functional one, "
            "whose layers' outputs can be named"
        )


def _image_input(model: keras.Model, held: Mapping[str, ArrayLike], called: str) -> str:
    """Return the name of the input that takes the images, the only one without a held value."""
    inputs = input_symbols(model)
    for name, value in held.items():
        if name not in inputs:
            raise ValueError(
                f"{called} has no input {name!r}; its inputs are {_describe_inputs(inputs)}"
            )
        want = tuple(inputs[name].shape[1:])
        shape = np.shape(value)
        if len(shape) != len(want) or any(
            w not in (None, s) for w, s in zip(want, shape, strict=True)
        ):
            raise ValueError(f"{called}'s input {name!r} takes values of shape {want}, not {shape}")
    free = [name for name in inputs if name not in held]
    if len(free) != 1:
        given = "" if not held else f", {len(free)} of them without a held value"
        raise ValueError(
            f"{called} has {len(inputs)} inputs ({_describe_inputs(inputs)}){given}; exactly "
            "one, the images, must be free: hold the others with "
            "convlens.Network(model, held={name: value})"
        )
    return free[0]


def _describe_inputs(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name!r} {tuple(t.shape)}" for name, t in inputs.items())

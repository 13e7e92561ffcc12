"""Copy a Keras model into a flat list of calls: nested models inlined, activations split off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

from convlens.engine.model.rectify import is_nonlinearity

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
_FUSED = (*CONVOLUTIONS, keras.layers.Dense)


@dataclass(frozen=True)
class Call:
    """One node of the graph: `outputs = op(*args, **kwargs)`, in symbolic tensors."""

    op: Any
    args: Any
    kwargs: Any
    outputs: list[Any]

    @property
    def inputs(self) -> list[Any]:
        """The symbolic tensors among the arguments."""
        return [t for t in keras.tree.flatten((self.args, self.kwargs)) if is_symbolic(t)]


@dataclass
class Flat:
    """A model as a list of calls in the order of computation.

    Attributes:
        image: the symbolic input of the images (None, h, w, c).
        inputs: all symbolic inputs by name, including the image.
        result: the model's first output.
        results: all outputs of the model.
        calls: all calls, each after the calls that it depends on.
        layers: the user's own layers by flat name.
        outputs: each layer's output by flat name.
        preactivations: each layer's value before its activation, by flat name; only layers that
            have an activation.
        pairs: (the user's layer, its copy), to copy the weights.
    """

    image: Any = None
    inputs: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    results: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    layers: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    preactivations: dict[str, Any] = field(default_factory=dict)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)


def is_symbolic(value: Any) -> bool:
    """Return whether `value` is a symbolic tensor."""
    return isinstance(value, keras.KerasTensor)


def flatten(model: keras.Model, image: str | None = None) -> Flat:
    """Copy `model` into a `Flat`; the model itself is neither called nor changed.

    Args:
        model: a Sequential or functional model.
        image: name of the input that takes the images; None for the first.
    """
    flattener = _Flattener()
    clone = flattener.clone(model, "")
    flat = flattener.flat
    names = [t.name for t in model.inputs]
    flat.inputs = dict(zip(names, clone.inputs, strict=True))
    flat.image = flat.inputs[image] if image is not None else clone.inputs[0]
    flat.results = [_inner(tensor, flat.calls) for tensor in clone.outputs]
    flat.result = flat.results[0]
    return flat


def _inner(tensor: Any, calls: list[Call]) -> Any:
    """Return the output of the layer inside a nested model that is the nested model's output."""
    for call in reversed(calls):
        if call.op is _identity:
            for own, inner in zip(call.outputs, call.args, strict=True):
                if own is tensor:
                    tensor = inner
                    break
    return tensor


class _Flattener:
    def __init__(self) -> None:
        self.flat = Flat()
        self.copies: dict[int, Any] = {}  # by the id of the user's layer: keeps sharing
        self.activations: dict[int, Any] = {}  # by the id of the copy
        self.originals: dict[int, tuple[str, Any]] = {}  # by the id of the copy

    def clone(self, model: Any, prefix: str) -> Any:
        """Copy `model` onto new inputs, recording each call."""
        return keras.models.clone_model(
            keras.Model(model.inputs, model.outputs),
            clone_function=lambda op: self.copy(op, prefix),
            call_function=lambda op, *args, **kwargs: self.call(op, prefix, args, kwargs),
        )

    def inline(self, model: Any, prefix: str, args: Any) -> Any:
        """Record a nested model's calls in place, between its inputs and its outputs."""
        start = len(self.flat.calls)
        clone = self.clone(model, prefix)
        y = clone(*args)
        inputs = Call(_identity, keras.tree.flatten(args), {}, clone.inputs)
        self.flat.calls.insert(start, inputs)
        self.flat.calls.append(Call(_identity, clone.outputs, {}, keras.tree.flatten(y)))
        return y

    def copy(self, op: Any, prefix: str) -> Any:
        if is_graph(op) or not isinstance(op, keras.layers.Layer):
            return op
        if id(op) not in self.copies:
            config = op.get_config()
            config["name"] = prefix + op.name
            if isinstance(op, _FUSED) and op.activation is not keras.activations.linear:
                config["activation"] = "linear"
            copy = type(op).from_config(config)
            self.copies[id(op)] = copy
            self.originals[id(copy)] = (prefix + op.name, op)
            self.flat.pairs.append((op, copy))
        return self.copies[id(op)]

    def call(self, op: Any, prefix: str, args: Any, kwargs: Any) -> Any:
        if is_graph(op):
            return self.inline(op, f"{prefix}{op.name}.", args)
        y = self.record(op, args, kwargs)
        if id(op) not in self.originals:
            return y
        name, original = self.originals[id(op)]
        name = self.free_name(name)
        self.flat.layers[name] = original
        if is_nonlinearity(op):
            self.flat.preactivations[name] = keras.tree.flatten(args)[0]
        elif isinstance(op, _FUSED) and original.activation is not keras.activations.linear:
            self.flat.preactivations[name] = y
            y = self.record(self.activation_of(op, original), (y,), {})
        self.flat.outputs[name] = keras.tree.flatten(y)[0]
        return y

    def record(self, op: Any, args: Any, kwargs: Any) -> Any:
        y = op(*args, **kwargs)
        self.flat.calls.append(Call(op, args, kwargs, keras.tree.flatten(y)))
        return y

    def activation_of(self, copy: Any, original: Any) -> Any:
        if id(copy) not in self.activations:
            activation = original.activation
            # Keras's default name could equal that of a layer of the model or of another copy.
            name = f"{copy.name}.fused-activation"
            if isinstance(activation, keras.layers.Layer):
                layer = type(activation).from_config({**activation.get_config(), "name": name})
                self.flat.pairs.append((activation, layer))
            else:
                layer = keras.layers.Activation(activation, dtype=original.dtype_policy, name=name)
            self.activations[id(copy)] = layer
        return self.activations[id(copy)]

    def free_name(self, name: str) -> str:
        """Return `name`, or `name:2` and so on where a shared layer is called again."""
        calls, free = 1, name
        while free in self.flat.outputs:
            calls += 1
            free = f"{name}:{calls}"
        return free


def _identity(*values: Any) -> list[Any]:
    return list(values)


def is_inlining(call: Call) -> bool:
    """Return whether a call marks the border of a nested model: its outputs are its inputs."""
    return call.op is _identity


def is_graph(op: Any) -> bool:
    """Return whether `op` is a Sequential or functional model, not a subclassed one."""
    return isinstance(op, keras.Sequential) or (
        isinstance(op, keras.Model) and bool(getattr(op, "inputs", None))
    )

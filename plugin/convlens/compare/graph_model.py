"""Run TensorFlow SavedModels, and read every tensor that their graphs compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.compare.feeds import Feeds
from convlens.compare.runtime import Arithmetic, Step, Values
from convlens.engine.model.saved_model import order_of, signature_of

_HALVES: Mapping[str, Arithmetic] = {"float16": "float16", "bfloat16": "bfloat16"}


class GraphModel:
    """The graph of a SavedModel, whose variables are made constants; see `Runtime`.

    A graph can read and write files: its source must be trusted.
    """

    channels_first = False
    steps: Mapping[str, Step] = {}

    def __init__(self, folder: Path) -> None:
        """Load a folder.

        Raises:
            ValueError: it is damaged, or has no signature that takes images.
        """
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        self._folder = folder
        self.title = f"TensorFlow {tf.__version__}"
        try:
            # The signature's variables live as long as what was loaded.
            loaded = tf.saved_model.load(str(folder))
            _, signature = signature_of(loaded.signatures)
            frozen = convert_variables_to_constants_v2(signature)
        except Exception as error:  # of several types
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder} cannot be loaded as a SavedModel: {reason}") from None
        names = sorted(signature.structured_outputs, key=order_of)
        results = dict(zip(sorted(signature.structured_outputs), frozen.outputs, strict=True))
        self.output_names = tuple(results[name].name for name in names)
        inputs = list(frozen.inputs)
        self._feeds = Feeds(
            str(folder),
            {t.name: (tuple(t.shape[1:]), t.dtype.as_numpy_dtype) for t in inputs},
        )
        self.input_shape = self._feeds.image_shape
        self._batch = inputs[0].shape[0]
        fixed = self._batch == 1
        self.notes: tuple[str, ...] = (
            (f"{folder.name} takes 1 image at a time: its batch is fixed",) if fixed else ()
        )
        tensors = _computed(frozen.graph, inputs)
        kinds = {t.dtype.name for t in tensors}
        self.arithmetic: Arithmetic = next(
            (own for name, own in _HALVES.items() if name in kinds), "float32"
        )
        feeds = [t.name for t in inputs]
        self._names = [t.name for t in tensors]
        self.sources: Mapping[str, tuple[str, ...]] = _sources(inputs, tensors)
        # Each graph has the weights as constants: no other one is kept.
        self._deployed = frozen.prune(feeds, list(self.output_names))
        self._all = frozen.prune(feeds, self._names)

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold inputs that do not take the images; see `Feeds.hold`."""
        self._feeds.hold(values)

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return the outputs, without the intermediate tensors."""
        return list(self._run(self._deployed, self.output_names, images).values())

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return all tensors of numbers that have the images as their first axis."""
        return self._run(self._all, self._names, images)

    def _run(self, function: Any, names: Any, images: NDArray[Any]) -> dict[str, Values]:
        import tensorflow as tf

        parts: dict[str, list[Values]] = {}
        for given, count in self._batches(images):
            try:
                found = function(*[tf.constant(value) for value in given])
            except tf.errors.OpError as error:
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"{self._folder} does not run: {reason}") from None
            size = len(given[0])
            for name, value in zip(names, found, strict=True):
                if value.ndim > 1 and len(value) == size:
                    own = np.asarray(tf.cast(value, tf.float32))[:count]
                    parts.setdefault(name, []).append(own)
        return {name: np.concatenate(each) for name, each in parts.items()}

    def _batches(self, images: NDArray[Any]) -> Iterator[tuple[list[NDArray[Any]], int]]:
        return self._feeds.batches(images, self._batch)


def _computed(graph: Any, inputs: list[Any]) -> list[Any]:
    """Return the tensors of floats that depend on the inputs, in the order of computation."""
    known = {t.name for t in inputs}
    found = []
    for op in graph.get_operations():
        if op.outputs and (op.outputs[0].name in known or known & {t.name for t in op.inputs}):
            known.update(t.name for t in op.outputs)
            found += [t for t in op.outputs if t.dtype.is_floating and t.shape.rank != 0]
    return found


def _sources(inputs: list[Any], tensors: list[Any]) -> dict[str, tuple[str, ...]]:
    """Return, for each tensor, the names of those that its operation takes."""
    known = {t.name for t in (*inputs, *tensors)}
    return {t.name: tuple(s.name for s in t.op.inputs if s.name in known) for t in tensors}

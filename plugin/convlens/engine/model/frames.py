"""Layers inside `TimeDistributed`, which compute each frame of a series alone.

Keras calls such a layer once a frame. Here the frames of all images are one batch, so that a
convolution inside has one feature map (n, frames, *positions, c), whose channels are its units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True, eq=False)
class Frames:
    """An operation that computes each frame alone.

    Attributes:
        op: the user's own layer or operation, which takes and returns (n, …).
        apply: computes it: (op, args, kwargs, training) → results.
        framed: for each leaf among the arguments, whether it is a tensor of all frames.
    """

    op: Any
    apply: Callable[[Any, Any, Any, bool], Any]
    framed: tuple[bool, ...]

    @property
    def variables(self) -> list[Any]:
        """The layer's variables."""
        return list(getattr(self.op, "variables", []))

    def compute(self, args: Any, kwargs: Any, training: bool) -> list[Any]:
        """Return the results (n, frames, …) for arguments (n, frames, …)."""
        leaves = keras.tree.flatten((args, kwargs))
        pairs = list(zip(leaves, self.framed, strict=True))
        count = next(ops.shape(x)[1] for x, framed in pairs if framed)
        own = [ops.reshape(x, (-1, *ops.shape(x)[2:])) if framed else x for x, framed in pairs]
        args, kwargs = keras.tree.pack_sequence_as((args, kwargs), own)
        found = keras.tree.flatten(self.apply(self.op, args, kwargs, training))
        return [ops.reshape(y, (-1, count, *ops.shape(y)[1:])) for y in found]

    def own_symbols(self, args: Any, kwargs: Any) -> Any:
        """Return symbolic arguments of one frame."""
        return keras.tree.map_structure(
            lambda t: (
                keras.KerasTensor((t.shape[0], *t.shape[2:]), dtype=t.dtype)
                if isinstance(t, keras.KerasTensor)
                else t
            ),
            (args, kwargs),
        )

    def symbolic(self, results: Sequence[Any], args: Any, kwargs: Any) -> list[Any]:
        """Return new symbolic results for all frames, given those of one."""
        leaves = keras.tree.flatten((args, kwargs))
        count = next(t.shape[1] for t in leaves if isinstance(t, keras.KerasTensor))
        return [
            keras.KerasTensor((y.shape[0], count, *y.shape[1:]), dtype=y.dtype) for y in results
        ]

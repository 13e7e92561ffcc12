"""The shapes of a network's tensors for images of another size than the model's own."""

from __future__ import annotations

from typing import Any

import keras

from convlens.engine.model.flatten import Flat, is_symbolic

Shape = tuple[int | None, ...]


def tensor_shapes(flat: Flat, shape: tuple[int, ...]) -> dict[int, Shape]:
    """Return the shape of each tensor for images of a given shape, by the tensor's id.

    The shapes are those that the model's own layers state; nothing is computed. A tensor is left
    out if an operation below it does not take the size, such as a dense layer behind a flattened
    map, or an embedding of fixed positions.

    Args:
        flat: the network's calls.
        shape: (*positions, c) of the images.

    Returns:
        Shapes with the batch as their first axis, None.
    """
    made = {id(t) for call in flat.calls for t in call.outputs}
    known: dict[int, Any] = {
        id(t): t for call in flat.calls for t in call.inputs if id(t) not in made
    }
    known[id(flat.image)] = keras.KerasTensor((None, *shape), dtype=flat.image.dtype)
    for call in flat.calls:
        if any(id(t) not in known for t in call.inputs):
            continue
        args, kwargs = keras.tree.map_structure(
            lambda t: known[id(t)] if is_symbolic(t) else t, (call.args, call.kwargs)
        )
        try:
            results = call.symbolic(args, kwargs)
        except Exception:  # layers raise errors of many types for a size that they do not take
            continue
        known.update((id(t), found) for t, found in zip(call.outputs, results, strict=True))
    return {key: tuple(t.shape) for key, t in known.items()}

"""Find a model's tensors by their values."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.compare.measure import snr

_BUCKETS = 512
_SEED = 20
# The tensors nearest by sketch that are then compared in full.
_NEAR = 3
# Squared distances of sketches within this factor may be in another order than the tensors'.
_UNSURE = 2.0
# The squared difference of a copy in other steps, as a share of the tensor's square.
_COPY = 1e-2


@dataclass(frozen=True)
class Pair:
    """A tensor that stands for a layer's value.

    Attributes:
        tensor: name of the tensor.
        transposed: whether its channels stand before its positions.
        snr: signal-to-noise ratio with the value on the images of the search, in dB.
    """

    tensor: str
    transposed: bool
    snr: float


class Tensors:
    """The tensors of a model for a few images, each with a count sketch (Charikar et al. 2002).

    Values that are looked for are those of the first images.
    """

    def __init__(
        self, values: Mapping[str, NDArray[Any]], *, channels_first: bool, searched: int
    ) -> None:
        """Sketch tensors.

        Args:
            values: name → tensor (n, …), in the order of computation.
            channels_first: also take each map (n, c, …) for one whose channels are last.
            searched: number of images, the first ones, by which tensors are found.
        """
        self._values = values
        self.searched = searched
        self._signs: dict[int, NDArray[np.float32]] = {}
        # Values of an image → tensors of that size, whether each is taken transposed, and sketches.
        self._of_size: dict[int, list[tuple[str, bool]]] = {}
        self._sketches: dict[tuple[str, bool], NDArray[np.float32]] = {}
        self.order = {name: i for i, name in enumerate(values)}
        for name, value in values.items():
            for transposed in (False, True) if channels_first and value.ndim > 2 else (False,):
                key = name, transposed
                self._of_size.setdefault(value[0].size, []).append(key)
                self._sketches[key] = self._sketch(turned(value[:searched], transposed))
        self._stacks = {
            size: np.stack([self._sketches[key] for key in keys])
            for size, keys in self._of_size.items()
        }

    def value(self, pair: Pair, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the tensor of a pair in the shape (n, …) of the layer."""
        return turned(self._values[pair.tensor], pair.transposed).reshape(shape)

    def of_size(self, size: int) -> list[str]:
        """Return the tensors with a number of values of an image."""
        return list(dict.fromkeys(name for name, _ in self._of_size.get(size, [])))

    def is_copy(self, name: str, source: str) -> bool:
        """Return whether two tensors hold the same values, whatever their shapes and steps."""
        if name not in self._values or source not in self._values:
            return False
        if self._values[name][0].size != self._values[source][0].size:
            return False
        ways = [
            [self._sketches[each, t] for t in (False, True) if (each, t) in self._sketches]
            for each in (name, source)
        ]
        least = min(float(((a - b) ** 2).sum()) for a in ways[0] for b in ways[1])
        return least <= _COPY * float((ways[1][0] ** 2).sum())

    def nearest(
        self, expected: NDArray[Any], count: int = 1, among: Container[str] | None = None
    ) -> list[Pair]:
        """Return the tensors of the right size that are nearest to a value (n, …), best first.

        Args:
            expected: the value.
            count: number of tensors.
            among: tensors that may be returned; None for all.
        """
        return self._compared(expected, count, among)[:count]

    def alike(self, expected: NDArray[Any]) -> list[Pair]:
        """Return the tensors that are nearest or nearly equal to a value (n, …), best first."""
        return self._compared(expected, 1, None, copies=True)

    def _compared(
        self,
        expected: NDArray[Any],
        count: int,
        among: Container[str] | None,
        copies: bool = False,
    ) -> list[Pair]:
        """Return the tensors that sketches tell to compare in full, best first.

        Args:
            expected: the value.
            count: number of tensors that are asked for.
            among: tensors that may be returned; None for all.
            copies: whether those are compared, too, that are nearly equal to the value.
        """
        size = expected[0].size
        keys = self._of_size.get(size, [])
        rows = [i for i, key in enumerate(keys) if among is None or key[0] in among]
        if len(rows) > 1:
            sketch = self._sketch(expected)
            distances = ((self._stacks[size][rows] - sketch) ** 2).sum(axis=1)
            order = np.argsort(distances, kind="stable")
            nearest = distances[order[: max(_NEAR, count)]]
            # A sketch tells which is nearest, but of those with nearly the same distance.
            wanted = max(count, int((~(nearest > _UNSURE * nearest[0])).sum()))
            if copies:
                equal = distances <= _COPY * float((sketch**2).sum())
                wanted = max(wanted, int(equal.sum()))
            rows = [rows[i] for i in order[:wanted]]
        return sorted((self._pair(keys[i], expected) for i in rows), key=lambda pair: -pair.snr)

    def candidates(
        self,
        expected: NDArray[Any],
        count: int,
        layer: str,
        after: int,
        partners: Container[str] = (),
    ) -> list[Pair]:
        """Return tensors of the right size that may be what a value (n, …) should be.

        They are the nearest, those that are named after the layer, the next in the order of
        computation, and those that the graph proposes: a grave fault leaves little in common.

        Args:
            expected: the value.
            count: number of nearest tensors, and of next ones.
            layer: name of the layer.
            after: place in the order behind which the next ones are.
            partners: the tensors that the graph proposes.
        """
        found = {(pair.tensor, pair.transposed): pair for pair in self.nearest(expected, count)}
        keys = self._of_size.get(expected[0].size, [])
        following = [key for key in keys if self.order[key[0]] > after][:count]
        for key in keys:
            near = key in following or key[0] in partners or named_after(key[0], layer)
            if near and key not in found:
                found[key] = self._pair(key, expected)
        return list(found.values())

    def snr(self, pair: Pair, expected: NDArray[Any]) -> float:
        """Return the signal-to-noise ratio of a pair's tensor with another value (n, …), in dB."""
        return self._pair((pair.tensor, pair.transposed), expected).snr

    def _pair(self, key: tuple[str, bool], expected: NDArray[Any]) -> Pair:
        value = turned(self._values[key[0]][: self.searched], key[1]).reshape(expected.shape)
        return Pair(*key, snr(expected, value))

    def _sketch(self, value: NDArray[Any]) -> NDArray[np.float32]:
        flat = np.nan_to_num(np.asarray(value, np.float32).ravel(), posinf=0, neginf=0)
        if flat.size not in self._signs:
            draw = np.random.default_rng([_SEED, flat.size])
            self._signs[flat.size] = draw.choice(np.array([-1, 1], np.float32), flat.size)
        signed = np.zeros(-(-flat.size // _BUCKETS) * _BUCKETS, np.float32)
        signed[: flat.size] = flat * self._signs[flat.size]
        found: NDArray[np.float32] = signed.reshape(-1, _BUCKETS).sum(axis=0)
        return found


def named_after(tensor: str, layer: str) -> bool:
    """Return whether a layer's name is a part of a tensor's, as "conv" of "model/conv/Relu"."""
    return layer in re.split(r"[/;:]", tensor)


def turned(value: NDArray[Any], transposed: bool) -> NDArray[Any]:
    """Return a tensor (n, c, …) as (n, …, c) if it is transposed."""
    return np.moveaxis(value, 1, -1) if transposed else value

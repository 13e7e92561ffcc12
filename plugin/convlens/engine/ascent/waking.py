"""Images made to wake units that known images leave still.

A unit that is silent on textures may answer to a pattern that none of them has. To call it dead
takes an attempt: an image is changed, step by step, so that the unit's value before its activation
moves at a position in the middle, until the activation moves too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.canvas import Costs
from convlens.engine.ascent.plan import Limits
from convlens.engine.ascent.starts import constant_starts
from convlens.engine.model.flatten import Call, bound_of
from convlens.engine.model.network import Network
from convlens.engine.model.quick import quick_calls
from convlens.engine.model.receptive_field import reaches
from convlens.engine.runtime import backend
from convlens.pictures.fit import fitted

# Each unit is moved from so many starts, in so many steps from each; from one start where that
# would leave the budget to a few units.
_STARTS, _STEPS, _FEW = 2, 16, 4
# A budget that pays less pays so many steps all the same.
_FEWEST_STEPS = 6
# At most this share of the budget is spent on looking for starts.
_LOOKS = 0.25
# So many of the known images are looked at for a start.
_KNOWN = 12
# So many images are computed at once.
_BATCH = 8
# The first step changes each pixel by this share of the range; the last by almost nothing.
_STEP = 0.5
# Each step goes along the gradient, and along this share of the last step's direction: maxima of
# pools and ReLUs have edges, along which the gradient alone goes back and forth.
_MOMENTUM = 0.5
# A silent ReLU below passes up to this share of the gradient, which would have no other way down.
_LEAK = 0.1
# A value with its gradient takes as long as so many values.
_PASSES_A_STEP = 3
# A value that changes by this share of its size at most is constant. So is one that would change by
# that if each pixel went through the whole range along its slope.
_CONSTANT = 1e-4
_TINY = 1e-7  # which float16 holds
# An image reaches so many strides beyond what the position reads.
_MARGIN = 4


@dataclass(frozen=True)
class Tap:
    """The place where a layer's units are moved and seen.

    Attributes:
        layer: the layer's name.
        before: symbolic value before the activation, (None, *positions, units).
        after: symbolic value by which the units are judged, likewise.
    """

    layer: str
    before: Any
    after: Any


class Waking:
    """Attempts to wake units of one layer.

    Attributes:
        inert: numbers of the units whose value before the activation is constant too, and has no
            gradient.
        together: number of units to wake at once.
    """

    def __init__(
        self,
        network: Network,
        tap: Tap,
        known: NDArray[np.float32],
        value_range: tuple[float, float],
        enough: float,
        limits: Limits,
    ) -> None:
        """Look at some of the known images, and at plain colors.

        Args:
            network: the network.
            tap: the place where the units are moved and seen.
            known: (n, *positions, c) images that leave the units still.
            value_range: (low, high) of the pixels, which no made image leaves.
            enough: change of a unit's activation at which an attempt ends.
            limits: limits of the effort, of which each convolution has the same share.
        """
        self._network, self._tap, self._range, self._enough = network, tap, value_range, enough
        self._calls = network.calls(tap.layer)
        costs = Costs(network, known.shape[1:])
        self._whole = known.shape[1:-1]
        self._size, self._stride = _size_of(costs, tap)
        share = math.prod(self._size) / math.prod(self._whole)
        self._pass = costs.of(costs.calls(tap.layer)) * share
        self._left = limits.budget(costs.forward) / len(network.conv_layers)
        paid = self._left / self._pass  # number of passes
        self._steps = int(np.clip(paid / _PASSES_A_STEP, _FEWEST_STEPS, _STEPS))
        each = self._steps * _PASSES_A_STEP
        self._rounds = _STARTS if paid >= _FEW * _STARTS * each else 1
        self.together = int(np.clip(paid / (self._rounds * each), 1, _BATCH))
        first = fitted(known[:_KNOWN], self._size)
        plain = constant_starts(first.shape[1:], value_range)
        count = max(_STARTS, int(_LOOKS * paid))
        self._starts = np.concatenate([first[: -(-count // 2)], plain[: max(1, count // 2)]])
        self._quick = quick_calls(self._calls)
        self._before, after = self._values(self._starts)
        self._still = after[0]
        self._leaky = {
            id(call): _leaky(call)
            for call in self._calls
            if bound_of(call) is not None and not any(t is tap.after for t in call.outputs)
        }
        self.inert = self._find_inert()

    @property
    def ended(self) -> bool:
        """True once the budget is spent."""
        return self._left <= 0

    def farthest_first(self, units: Iterable[int]) -> list[int]:
        """Return units in order: those first that are the farthest from an activation above 0.

        The distance is that of the highest value before the activation, in standard deviations.
        """
        values = self._before.reshape(-1, self._before.shape[-1]).astype(np.float64)
        near = values.max(axis=0) / (values.std(axis=0) + np.finfo(np.float32).tiny)
        return sorted(units, key=lambda unit: (near[unit], unit))

    def wake(self, units: Sequence[int]) -> NDArray[np.float32]:
        """Return the images on which units moved most, (n, *positions, c) as large as the known.

        A unit that is not silent is moved down as well as up: it may be at its ceiling.

        Args:
            units: the units' numbers.
        """
        goals = [(u, 1.0) for u in units]
        goals += [(u, -1.0) for u in units if self._still[:, u].max() > 0]
        unit, sign = (np.array(each) for each in zip(*goals, strict=True))
        reached = (sign * self._before[..., unit]).max(axis=1)
        order = np.argsort(-reached.T, axis=1, kind="stable")
        best = self._starts[order[:, 0]]
        open_ = np.arange(len(goals))
        for start in range(self._rounds):
            if not len(open_):
                break
            first = self._starts[order[open_, start]]
            found, awake = self._move(first, unit[open_], sign[open_])
            best[open_] = found
            open_ = open_[~awake]
        return self._placed(best)

    def _find_inert(self) -> frozenset[int]:
        """Return the units whose value is constant, if that of none of them has a gradient.

        If one has, what it reads is silent on these images, and each must be tried.
        """
        change, size = np.ptp(self._before, axis=0), np.abs(self._before).max(axis=0)
        constant = (change <= _CONSTANT * size).all(axis=0)
        units = np.flatnonzero(constant)
        if not len(units):
            return frozenset()
        signs = np.random.default_rng(0).choice([-1.0, 1.0], len(units))
        weights = np.zeros((_STARTS, len(constant)), np.float32)
        weights[:, units] = signs
        _, _, gradient = self._gradients(self._starts[-_STARTS:], weights)
        flat = self._is_flat(gradient, np.full(_STARTS, size[:, units].max(axis=0).min()))
        return frozenset(units.tolist()) if flat.all() else frozenset()

    def _is_flat(self, gradient: NDArray[Any], value: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether values (n,) would change by nothing if all pixels did; see `_CONSTANT`."""
        low, high = self._range
        change = (high - low) * np.abs(gradient).sum(axis=tuple(range(1, gradient.ndim)))
        found: NDArray[np.bool_] = ~(change > _CONSTANT * np.abs(value))
        return found

    def _move(
        self, images: NDArray[np.float32], unit: NDArray[Any], sign: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the best images (n, h, w, c) of all steps, and whether each one's unit is awake.

        Args:
            images: (n, h, w, c) the starts.
            unit: (n,) the unit that is moved on each.
            sign: (n,) 1 to move it up, -1 to move it down.
        """
        low, high = self._range
        inner = tuple(range(1, images.ndim))
        x, best, direction = images.copy(), images.copy(), np.zeros_like(images)
        value = np.full(len(images), -np.inf)
        awake = np.zeros(len(images), bool)
        weights = np.zeros((len(unit), self._before.shape[-1]), np.float32)
        weights[np.arange(len(unit)), unit] = sign
        going = np.arange(len(images))
        for step in range(self._steps):
            new, after, gradient = self._gradients(x[going], weights[going])
            moved = np.abs(after - self._still[:, unit[going]].T).max(axis=1)
            awake[going] = moved > self._enough
            higher = np.isfinite(new) & (new > value[going])
            at = going[higher]
            best[at], value[at] = x[at], new[higher]
            kept = ~awake[going] & ~self._is_flat(gradient, new)
            going, gradient = going[kept], gradient[kept]
            if not len(going):
                break
            size = np.abs(gradient).mean(axis=inner, keepdims=True)
            direction[going] = _MOMENTUM * direction[going] + gradient / size
            rate = _STEP * (high - low) * (1 + np.cos(np.pi * step / self._steps)) / 2
            x[going] = np.clip(x[going] + rate * np.sign(direction[going]), low, high)
        return best, awake

    def _gradients(
        self, images: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return each image's value to raise, its unit's activations, and the gradient.

        Args:
            images: (n, *positions, c).
            weights: (n, units) the weights of the units before their activation.

        Returns:
            (n,) the highest value; (n, p) the activations at the middle positions, and the gradient
            like the images.
        """
        self._left -= len(images) * _PASSES_A_STEP * self._pass
        found = self._in_batches("move", self._values_and_gradient, images, weights)
        return found[0], found[1], found[2]

    def _values(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return all units' values before and after the activation, (n, p, units) each."""
        self._left -= len(images) * self._pass
        return self._in_batches("look", self._look, images)

    def _look(self, images: Any, leaky: bool = False) -> list[Any]:
        functions = self._quick | self._leaky if leaky else self._quick
        wanted = [self._tap.before, self._tap.after]
        return [_middle(maps) for maps in self._network.run(images, wanted, functions=functions)]

    def _values_and_gradient(self, images: Any, weights: Any) -> list[Any]:
        def total(images: Any) -> list[Any]:
            before, after = self._look(images, leaky=True)
            own = weights[:, None]
            value = ops.max(ops.sum(before * own, axis=2), axis=1)
            return [value, ops.sum(after * ops.abs(own), axis=2)]

        seen, pullback = backend.vjp(total, images)
        return [*seen, pullback([ops.ones_like(seen[0]), None])]

    def _in_batches(
        self, name: str, function: Any, *arrays: NDArray[np.float32]
    ) -> list[NDArray[Any]]:
        """Return the results of a function of arrays (n, …), all of whose batches are of one size.

        A backend that compiles would compile each further size.
        """
        parts = []
        for first in range(0, len(arrays[0]), _BATCH):
            given = [array[first : first + _BATCH] for array in arrays]
            count = len(given[0])
            if backend.compiles_operations():
                given = [array[np.minimum(np.arange(_BATCH), count - 1)] for array in given]
            key = ("waking", name, id(self._tap.before), id(self._tap.after))
            found = self._network.seldom(key, function, *map(ops.convert_to_tensor, given))
            parts.append([backend.to_numpy(v)[:count] for v in found])
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _placed(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images as large as the known ones, continued by mirror images.

        They move by whole strides, so that the maps' positions show what they showed before.
        """
        widths = [(0, 0)]
        for side, own, stride in zip(self._whole, self._size, self._stride, strict=True):
            before = (side - own) // stride // 2 * stride
            widths.append((before, side - own - before))
        return np.pad(images, [*widths, (0, 0)], mode="symmetric")


def _size_of(costs: Costs, tap: Tap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the size of images that hold all that the middle position reads, and the stride.

    Sizes differ from that of the whole image by multiples of the stride, so that windows fit as
    they do there.
    """
    whole = costs.shape[:-1]
    canvas = costs.canvas(tap.layer)
    reach = reaches(costs.network, costs.network.shapes(costs.shape)).get(id(tap.before))
    if not canvas.free or reach is None:
        return whole, (1,) * len(whole)
    stride = tuple(max(a, math.ceil(b)) for a, b in zip(canvas.stride, reach.stride, strict=True))
    sides = zip(whole, reach.size, stride, strict=True)
    return tuple(n - max(0, (n - f) // s - _MARGIN) * s for n, f, s in sides), stride


def _leaky(call: Call) -> Callable[[Any], Any]:
    """Return a function that computes a ReLU, and passes a share of the gradient where it is 0.

    The positions that are nearest to firing get most of it: the pattern that would make one of them
    fire differs from the mean of what all of them ask for.
    """

    def run(x: Any) -> Any:
        axes = tuple(range(1, len(x.shape) - 1))
        below = ops.stop_gradient(ops.minimum(x, 0))
        share: Any = _LEAK
        if axes:
            spread = ops.std(below, axis=axes, keepdims=True) + _TINY
            share = _LEAK * ops.exp((below - ops.max(below, axis=axes, keepdims=True)) / spread)
        return call.compute_one(x) + share * (x - ops.stop_gradient(x))

    return run


def _middle(maps: Any) -> Any:
    """Return the values (n, p, units) at the middle positions of maps (n, *positions, units).

    They are two along each side, for the neighbors of strided transposed convolutions differ.
    """
    sides = ops.shape(maps)[1:-1]
    middle = maps[(slice(None), *(slice(max(0, n // 2 - 1), n // 2 + 1) for n in sides))]
    return ops.cast(ops.reshape(middle, (ops.shape(maps)[0], -1, maps.shape[-1])), "float32")

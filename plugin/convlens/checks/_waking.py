"""Try to wake filters that are still on synthetic textures, before they are called dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.checks._filters import lens_statistics
from convlens.checks.check import Effort
from convlens.engine.ascent.plan import LIMITS
from convlens.engine.ascent.waking import Tap, Waking
from convlens.engine.features.accumulate import ChannelAccumulator
from convlens.engine.features.filters import FilterStatistics, hardly_varies
from convlens.engine.model.activation import activation_behind
from convlens.engine.model.bounds import channel_bounds
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.lens import Lens

# An attempt ends with a change of this share of the layer's largest: far above the limit of a dead
# filter.
_ENOUGH = 1e-3
_BATCH = 8


@dataclass(frozen=True)
class Suspects:
    """Filters of a layer that are still on all of a lens's synthetic images.

    Attributes:
        count: number of them.
        dead: numbers of those that no made image woke.
        untried: number of those for which no image was made, for want of effort.
    """

    count: int
    dead: tuple[int, ...]
    untried: int


def judged_statistics(
    lens: Lens, layer: str, effort: Effort
) -> tuple[dict[str, FilterStatistics], dict[str, Suspects]]:
    """Return a layer → its statistics over a lens's images, and → its suspects, where it has some.

    Images that somebody gave say which filters are dead. On synthetic ones a filter that is still
    is only suspected of it; it is dead if it stays still on images that are made to move it.

    Args:
        lens: the model and its images.
        layer: the layer's name.
        effort: the effort, which bounds the number of operations.

    Raises:
        AssertionError: an activation is not finite; the message names the layer.
    """
    __tracebackhide__ = True
    found = lens_statistics(lens, layer)[layer]
    if not (lens.synthetic and found.dead):
        return {layer: found}, {}
    key = ("suspects", layer, effort.level)
    suspects = lens.once(key, lambda: _suspects(lens, layer, found, effort))
    return {layer: replace(found, dead=suspects.dead)}, {layer: suspects}


def _suspects(lens: Lens, layer: str, found: FilterStatistics, effort: Effort) -> Suspects:
    network = lens.network
    tap = _tap_of(network, layer)
    largest = float(found.spread.max())
    enough = _ENOUGH * largest
    still = set(found.dead)
    tried = still & _proven(lens, tap, largest)
    if tried == still:
        return Suspects(len(still), tuple(sorted(still)), 0)
    waking = Waking(network, tap, lens.images, lens.value_range, enough, LIMITS[effort.level])
    tried |= still & waking.inert
    while waiting := waking.farthest_first(still - tried):
        if waking.ended:
            break
        chosen = waiting[: waking.together]
        made = waking.wake(chosen)
        tried |= {*chosen}
        still -= _moved(network, tap, sorted(still), lens.images[:1], made, largest)
    dead = still & tried
    return Suspects(len(found.dead), tuple(sorted(dead)), len(still - tried))


def _proven(lens: Lens, tap: Tap, largest: float) -> set[int]:
    """Return the units that are dead for any image, by the bounds of their activations.

    Args:
        lens: the model and the range of its pixels.
        tap: the place where the units are seen.
        largest: the change of the layer's most varying unit over the known images.
    """
    key = ("bounds", lens.value_range)
    bounds = lens.once(key, lambda: channel_bounds(lens.network, lens.value_range))
    own = bounds.get(id(tap.after))
    if own is None:
        return set()
    seen = ChannelAccumulator()
    seen.add(own.reshape(2, 1, -1))
    still = hardly_varies(seen, own[1] - own[0], largest, str(tap.after.dtype))
    return set(np.flatnonzero(still).tolist())


def _tap_of(network: Network, layer: str) -> Tap:
    activation = activation_behind(network, layer)
    if activation is not None:
        return Tap(layer, activation.before, activation.tensor)
    own = network.outputs[layer]
    return Tap(layer, network.preactivations.get(layer, own), own)


def _moved(
    network: Network,
    tap: Tap,
    units: Sequence[int],
    known: NDArray[np.float32],
    made: NDArray[np.float32],
    largest: float,
) -> set[int]:
    """Return the units that vary between a known image and made ones, by the rule of `dead`.

    Args:
        network: the network.
        tap: the place where the units are seen.
        units: numbers of the units.
        known: (1, *positions, c) an image on which they are what they are on all known ones.
        made: (n, *positions, c).
        largest: the change of the layer's most varying unit over the known images.
    """
    seen = ChannelAccumulator()
    images = np.concatenate([known, made])
    for first in range(0, len(images), _BATCH):
        maps = _maps(network, tap, images[first : first + _BATCH])
        seen.add(maps.astype(np.float64))
    spread = seen.spread
    still = hardly_varies(seen, spread, max(largest, spread.max()), str(tap.after.dtype))
    return {unit for unit in units if not still[unit]}


def _maps(network: Network, tap: Tap, images: NDArray[np.float32]) -> NDArray[np.float32]:
    def run(x: object) -> list[object]:
        return [ops.cast(network.run(x, [tap.after])[0], "float32")]

    key = ("woken", id(tap.after))
    (maps,) = network.seldom(key, run, ops.convert_to_tensor(images))
    found: NDArray[np.float32] = backend.to_numpy(maps)
    return found

"""Feature maps in a baseline: stored in whole levels, and told apart where they were mixed.

A large network's baseline cannot keep a map of each channel. It keeps those of a few channels, and
mixed maps: sums of all channels, each with its own random weights. The new network's maps are all
known. So where only few channels changed, the mixed maps tell what each of them was before: the
mixed map less the same sum of the new maps is the sum of the few changes, with known weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.compact import shown_channels, step_to
from convlens.engine.features.sketch import LayerSketch, mixing

Levels = NDArray[np.uint8] | NDArray[np.uint16]
SHOWN_BITS, MIXED_BITS = 8, 16
# A map is told apart if its own share of the solution is as large, and its change so many times
# its uncertainty.
_DETERMINED, _CLEAR = 0.99, 4.0
# No value is known better, relative to the largest.
_LEAST_DOUBT = 1e-6


@dataclass(frozen=True)
class ChannelMaps:
    """A channel's maps (h, w) of the first image, before and now."""

    channel: int
    expected: NDArray[np.float32]
    actual: NDArray[np.float32]


def to_levels(maps: NDArray[np.float32], bits: int) -> tuple[Levels, NDArray[np.float32]]:
    """Return maps (m, h, w) as levels, and the lowest and highest value (m, 2) of each.

    Args:
        maps: the maps.
        bits: 8 or 16, the bits of a level.
    """
    flat = maps.reshape(len(maps), -1)
    limits = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1).astype(np.float32)
    low, high = (limits[:, i, None, None].astype(np.float64) for i in (0, 1))
    share = (maps - low) / np.where(high > low, high - low, 1.0)
    levels = np.round(share * (2**bits - 1))
    return levels.astype(np.uint8 if bits == SHOWN_BITS else np.uint16), limits


def from_levels(levels: Levels, limits: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return the maps (m, h, w) that `to_levels` converted."""
    low, high = (limits[:, i, None, None].astype(np.float64) for i in (0, 1))
    return (low + (high - low) / (2**bits - 1) * levels).astype(np.float32)


def resolution(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the uncertainty (m,) of each map's pixels, which have whole levels in a baseline."""
    steps = [np.diff(np.unique(one.astype(np.float64))).min(initial=np.inf) for one in maps]
    return np.array([step if np.isfinite(step) else 0.0 for step in steps]) / np.sqrt(12)


def changed_maps(
    old: LayerSketch,
    now: NDArray[np.float32],
    changed: Sequence[int],
    other_changes: NDArray[np.float64],
    *,
    seed: int,
) -> list[ChannelMaps]:
    """Return the maps of changed channels, as far as the baseline tells what they were.

    Args:
        old: the layer's sketch in the baseline.
        now: (c, h, w) all maps of the layer now, as `first_maps` returns them.
        changed: numbers of the channels that changed.
        other_changes: (c,) rms of the change of each channel; those of channels that are not in
            `changed` are an uncertainty.
        seed: seed of the sketches.

    Returns:
        Maps of those of the channels whose change stands out of its uncertainty, in the order of
        `changed`.
    """
    if old.shown is None or now.shape[0] != old.shape[-1]:
        return []
    step = step_to(max(old.shown.shape[1:]), now.shape[1:])
    now = now[:, ::step, ::step]
    if now.shape[1:] != old.shown.shape[1:]:
        return []
    weights, found, doubt = _equations(old, now, changed, other_changes, seed)
    # Each equation counts by its certainty.
    scaled = weights / doubt[:, None]
    solve = np.linalg.pinv(scaled)
    change = solve @ (found / doubt[:, None])
    uncertain = np.sqrt((solve**2).sum(axis=1))
    determined = np.einsum("ij,ji->i", solve, scaled) > _DETERMINED
    size = np.sqrt((change**2).mean(axis=1))
    clear = determined & (size > _CLEAR * uncertain)
    return [
        ChannelMaps(c, (now[c] + change[i].reshape(now[c].shape)).astype(np.float32), now[c])
        for i, c in enumerate(changed)
        if clear[i]
    ]


def _equations(
    old: LayerSketch,
    now: NDArray[np.float32],
    changed: Sequence[int],
    other_changes: NDArray[np.float64],
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return linear equations of the changed maps: weights (r, k), values (r, p), doubts (r,)."""
    assert old.shown is not None
    flat = now.reshape(len(now), -1).astype(np.float64)
    numbers = shown_channels(old)
    kept = [i for i, channel in enumerate(numbers) if channel in changed]
    rows = [np.equal(changed, numbers[i]).astype(np.float64)[None] for i in kept]
    values = [(old.shown[i].reshape(-1) - flat[numbers[i]])[None] for i in kept]
    doubts = [resolution(old.shown[kept])] if kept else []
    if old.mixed is not None and len(old.mixed):
        mix = mixing(len(flat), seed)[: len(old.mixed)].astype(np.float64)
        others = np.delete(np.arange(len(flat)), changed)
        rows.append(mix[:, changed])
        values.append(old.mixed.reshape(len(mix), -1) - mix @ flat)
        rest = np.sqrt((mix[:, others] ** 2) @ other_changes[others] ** 2)
        doubts.append(np.hypot(resolution(old.mixed), rest))
    if not rows:
        return np.zeros((0, len(changed))), np.zeros((0, flat.shape[1])), np.zeros(0)
    least = _LEAST_DOUBT * (float(np.abs(flat).max()) or 1.0)
    doubt = np.maximum(np.concatenate(doubts), least)
    return np.concatenate(rows), np.concatenate(values), doubt

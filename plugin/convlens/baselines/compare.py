"""Compare two records of a network layer by layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from convlens.baselines.bars import predictions_pair
from convlens.baselines.comparison import (
    MAX_LINES,
    Comparison,
    LayerDifference,
    PicturePair,
    cosine_similarity,
    join_names,
    mismatch,
    norm,
)
from convlens.baselines.explain import changed_keys, differences, explanation, newly_rounded
from convlens.baselines.pairing import Pairs, pair_layers, renamed
from convlens.baselines.record import Record, show
from convlens.engine.features.sketch import LayerSketch
from convlens.engine.model.network import INPUT

__all__ = ["Comparison", "LayerDifference", "PicturePair", "compare_records", "tolerance_of"]

# In units of a channel's size. Backends, threads, batch sizes and oneDNN differ by up to 2e-6 in
# float32.
_TOLERANCES = {"float64": 5e-5, "float32": 5e-5, "float16": 2e-2, "bfloat16": 1e-1}
_TF32_TOLERANCE = 1e-2
# Minimum size of a channel, relative to its layer: rounding errors scale with the summed products.
_MIN_CHANNEL_SIZE = 0.1
_MAX_MATCHED_CHANNELS = 1024
_TINY = float(np.finfo(np.float32).tiny)


def tolerance_of(dtype: str, expected: Record, actual: Record) -> float:
    """Return the tolerance for a channel's difference, in units of the channel's size."""
    own = _TOLERANCES.get(dtype, _TOLERANCES["float32"])
    records = (expected, actual)
    if any(r.source.get("environment", {}).get("TF32") for r in records):
        return max(own, _TF32_TOLERANCE)
    return own


def compare_records(
    expected: Record,
    actual: Record,
    *,
    key: str,
    tol: float | None = None,
) -> Comparison:
    """Compare a network's record with its baseline and find the first layer that diverges.

    Args:
        expected, actual: record of the baseline and record of the network.
        key: name of the baseline.
        tol: tolerance for the difference of a channel, in units of its size; by default chosen by
            the layer's data type and the device.
    """
    compared: dict[tuple[str, str], LayerDifference] = {}

    def compare(old: str, name: str) -> LayerDifference:
        if (old, name) not in compared:
            sketches = expected.layers[old], actual.layers[name]
            compared[old, name] = _compare(name, *sketches, tol, expected, actual)
        return compared[old, name]

    pairs = pair_layers(expected, actual, lambda old, name: compare(old, name).passed)
    layers = {name: mismatch(name, "the layer is not in the baseline") for name in actual.layers}
    for old, name in pairs:
        layers[name] = compare(old, name)
    structure = _describe_structure_change(expected, actual, pairs)
    for name, difference in _compare_outputs(expected, actual, tol).items():
        if structure:
            difference = replace(difference, passed=False, note=difference.note or structure)
        known = layers.get(name)
        layers[name] = difference if known is None else _merge_output(known, difference)
    found = list(layers.values())
    failed = [layer for layer in found if not layer.passed]
    pictures = [_pictures(expected.layers[old], actual.layers[name], name) for old, name in pairs]
    outputs = zip(expected.outputs.values(), actual.outputs.items(), strict=False)
    pictures += [predictions_pair(name, before, now) for before, (name, now) in outputs]
    if failed:  # the layers of the baseline are called as in the network from here on
        provenance = renamed(expected.provenance, actual.provenance, pairs)
        expected = replace(expected, source=provenance, weights=None)
    return Comparison(
        key=key,
        fingerprint=actual.fingerprint if failed else "",
        verdict=structure or _verdict(expected, actual, found),
        passed=not failed,
        first=failed[0].layer if failed else None,
        layers=tuple(found),
        pictures=tuple(pair for pair in pictures if pair is not None),
        details=tuple(_details(expected, actual, found)) if failed else (),
    )


def _merge_output(layer: LayerDifference, output: LayerDifference) -> LayerDifference:
    """Return a layer's difference combined with that of the output that it returns."""
    note = "; ".join(part for part in (layer.note, output.note) if part)
    return replace(layer, passed=layer.passed and output.passed, note=note)


def _describe_structure_change(expected: Record, actual: Record, pairs: Pairs) -> str:
    """Return a sentence that names removed and added layers; "" if there are none."""
    old, new = ({pair[side] for pair in pairs} for side in (0, 1))
    gone = [name for name in expected.layers if name not in old]
    more = [name for name in actual.layers if name not in new]
    parts = [f"removed {join_names(gone)}"] if gone else []
    parts += [f"added {join_names(more)}"] if more else []
    if parts:
        return f"the network's layers differ from its baseline's: {'; '.join(parts)}."
    counts = len(expected.outputs), len(actual.outputs)
    if counts[0] != counts[1]:
        return f"the network has {counts[1]} outputs, but {counts[0]} in its baseline."
    return ""


def _compare(
    name: str,
    old: LayerSketch,
    new: LayerSketch,
    tol: float | None,
    expected: Record,
    actual: Record,
) -> LayerDifference:
    if old.shape != new.shape or len(old.samples) != len(new.samples):
        note = f"its shape is {new.shape}, but {old.shape} in the baseline"
        if old.shape == new.shape:
            note = "the number of images differs"
        return mismatch(name, note)
    tol = tolerance_of(old.dtype, expected, actual) if tol is None else tol
    scale = _channel_sizes(old)
    errors = _channel_errors(old, new, scale)
    worst = int(errors.argmax())
    size, difference = norm(old.projection), norm(new.projection - old.projection)
    relative = difference / size if size else float(difference > 0)
    cosine = cosine_similarity(old.projection, new.projection)
    wrong = np.flatnonzero(~(errors <= tol))
    layer_size = float(np.sqrt(np.mean(old.rms.astype(np.float64) ** 2))) or _TINY
    by_sample = np.abs(new.samples - old.samples) / np.maximum(np.abs(old.samples), layer_size)
    by_gram = norm(new.gram - old.gram) / (norm(old.gram) or _TINY)
    passed = not wrong.size and by_sample.max() <= 4 * tol and by_gram <= 4 * tol
    notes: list[str] = []
    moved: tuple[tuple[int, int], ...] = ()
    if old.dtype != new.dtype:
        passed = False
        notes.append(f"it computes in {new.dtype}, but in {old.dtype} in the baseline")
    if wrong.size:
        moved = _find_permutation(old, new, scale, wrong, tol)
        notes.append(f"{wrong.size} of {len(errors)} channels diverge (tolerance {tol:g})")
        silent = [int(c) for c in wrong if new.rms[c] == 0 < old.rms[c]]
        if moved:
            swaps = join_names([f"{a}→{b}" for a, b in moved])
            notes.append(f"only the order of channels changed: {swaps}")
        elif silent:
            notes.append(f"channels that are now silent (always 0): {join_names(silent)}")
    elif not passed and old.dtype == new.dtype:
        notes.append(
            f"samples differ by up to {by_sample.max():.3g}, Gram matrices by {by_gram:.3g} "
            f"(tolerance {4 * tol:g})"
        )
    return LayerDifference(
        name,
        cosine,
        relative,
        worst,
        bool(passed),
        float(errors[worst]),
        moved,
        "; ".join(notes),
    )


def _channel_sizes(sketch: LayerSketch) -> NDArray[np.float64]:
    """Return each channel's size (c,): its rms, but at least a tenth of the layer's rms."""
    rms = sketch.rms.astype(np.float64)
    layer = float(np.sqrt(np.mean(rms**2)))
    return np.maximum(rms, max(_MIN_CHANNEL_SIZE * layer, _TINY))


def _channel_errors(
    old: LayerSketch, new: LayerSketch, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest difference (c,) of each channel, in units of the channel's size."""
    projected = np.sqrt(np.mean((new.projection.astype(np.float64) - old.projection) ** 2, axis=0))
    high = np.abs(new.high.astype(np.float64) - old.high)
    errors: NDArray[np.float64] = np.max(
        [
            projected / scale,
            np.abs(new.mean.astype(np.float64) - old.mean) / scale,
            np.abs(new.rms.astype(np.float64) - old.rms) / scale,
            high / np.maximum(scale, np.abs(old.high)),
        ],
        axis=0,
    )
    return errors


def _find_permutation(
    old: LayerSketch,
    new: LayerSketch,
    scale: NDArray[np.float64],
    wrong: NDArray[np.int64],
    tol: float,
) -> tuple[tuple[int, int], ...]:
    """Return the permutation of the diverging channels as pairs (old index, new index).

    The result is empty if a permutation does not explain the differences.
    """
    if not 2 <= wrong.size <= _MAX_MATCHED_CHANNELS:
        return ()
    features = [
        np.vstack([s.projection, s.mean, s.rms, s.high]).T[wrong].astype(np.float64)
        for s in (old, new)
    ]
    cost = np.linalg.norm(features[0][:, None] - features[1][None], axis=2)
    before, now = linear_sum_assignment(cost)
    source = np.arange(len(scale))
    source[wrong[now]] = wrong[before]
    permuted = replace(
        old,
        mean=old.mean[source],
        rms=old.rms[source],
        high=old.high[source],
        projection=old.projection[:, source],
    )
    if not (_channel_errors(permuted, new, scale[source]) <= tol).all():
        return ()
    return tuple((int(a), int(b)) for a, b in zip(wrong[before], wrong[now], strict=True) if a != b)


def _compare_outputs(
    expected: Record, actual: Record, tol: float | None
) -> dict[str, LayerDifference]:
    """Return the difference of each of the network's outputs, by the output's name."""
    found = {}
    for number, (name, new) in enumerate(actual.outputs.items()):
        if number >= len(expected.outputs):
            found[name] = mismatch(name, "the output is not in the baseline")
            continue
        old_name, old = list(expected.outputs.items())[number]
        layers = expected.layers
        dtype = layers.get(old_name, list(layers.values())[-1]).dtype
        allowed = tolerance_of(dtype, expected, actual) if tol is None else tol
        found[name] = _compare_output(name, old, new, allowed)
    return found


def _compare_output(
    name: str, old: NDArray[np.float32], new: NDArray[np.float32], tol: float
) -> LayerDifference:
    if old.shape != new.shape:
        return mismatch(name, f"its shape is {new.shape}, but {old.shape} in the baseline")
    rows_old, rows_new = (p.reshape(-1, p.shape[-1]).astype(np.float64) for p in (old, new))
    scale = np.maximum(np.abs(rows_old).max(), _TINY)
    errors = np.abs(rows_new - rows_old).max(axis=0) / scale
    note = ""
    if old.ndim == 2 and old.shape[1] > 1:
        reclassified = np.flatnonzero(rows_old.argmax(axis=1) != rows_new.argmax(axis=1))
        if reclassified.size:
            images = join_names([int(i) for i in reclassified])
            note = (
                f"the class changed for {reclassified.size} of {len(old)} images (images {images})"
            )
    size = norm(rows_old) or _TINY
    return LayerDifference(
        name,
        cosine_similarity(rows_old, rows_new),
        norm(rows_new - rows_old) / size,
        int(errors.argmax()),
        bool(errors.max() <= 4 * tol),
        float(errors.max()),
        note=note,
    )


def _verdict(expected: Record, actual: Record, layers: list[LayerDifference]) -> str:
    """Return a summary of the comparison in one sentence."""
    failed = [layer for layer in layers if not layer.passed]
    if not failed:
        worst = max(layers, key=lambda layer: layer.worst_error)
        return (
            f"all {len(layers)} layers agree with the baseline; the largest difference is "
            f"{worst.worst_error:.2g} of a channel's size, in {worst.layer!r}."
        )
    first = failed[0]
    agree = [layer.layer for layer in layers[: layers.index(first)]]
    before = (
        f"after {len(agree)} that agree ({join_names(agree[-3:])})" if agree else "at the start"
    )
    outputs_agree = all(layer.passed for layer in layers if layer.layer in actual.outputs)
    if first.layer == INPUT:
        return "the input images differ from those of the baseline."
    if first.moved and all(layer.moved for layer in failed) and outputs_agree:
        return (
            f"channels of layer {first.layer!r} were permuted, {before}, and the layers that read "
            "them were permuted to match: the predictions are equal."
        )
    if first.moved and first.layer in actual.outputs:
        return f"the outputs of {first.layer!r} are in another order, {before}."
    rounded = newly_rounded(expected.provenance, actual.provenance)
    if first.layer in rounded:
        same = [layer for layer, kind in rounded.items() if kind == rounded[first.layer]]
        return (
            f"the first layer that diverges is {first.layer!r}, {before}: its weights were rounded "
            f"to {rounded[first.layer]}, as were those of {len(same) - 1} other layers."
        )
    if first.moved:
        return (
            f"channels of layer {first.layer!r} were permuted, {before}, and the layers that read "
            "them were not permuted to match: the predictions differ."
        )
    return f"the first layer that diverges is {first.layer!r}, {before}: {first}."


def _details(expected: Record, actual: Record, layers: list[LayerDifference]) -> list[str]:
    """Return the lines below the verdict of a failed comparison."""
    outputs = [layer for layer in layers if layer.layer in actual.outputs]
    failed = [layer for layer in layers if not layer.passed]
    lines = [f"{layer.layer}: {layer}" for layer in failed if layer not in outputs]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"… and {len(lines) - MAX_LINES} more layers"]
    agree = [layer.layer for layer in layers if layer.passed]
    lines.append(f"these agree: {join_names(agree)}" if agree else "no layer agrees")
    lines += [f"{layer.layer}: {layer}" for layer in outputs[:MAX_LINES]]
    before, now = expected.provenance, actual.provenance
    lines.append(f"differs in provenance: {'; '.join(differences(before, now)) or 'nothing'}")
    weights = changed_keys(before.get("weights", {}), now.get("weights", {}))
    unseen = [layer for layer in weights if layer in agree]
    if unseen:
        lines.append(f"weights changed, but not the output for these images: {join_names(unseen)}")
    why = explanation(before, now, failed[0].layer, failed[0].worst_error)
    return [*lines, f"likely cause: {why}"]


def _pictures(old: LayerSketch, new: LayerSketch, name: str) -> PicturePair | None:
    if old.shown is None or new.shown is None or old.shown.shape != new.shown.shape:
        return None
    return PicturePair(name, show(old.shown, old.shown), show(new.shown, old.shown))

"""Compare two records of a network layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from convlens.baselines.allowance import (
    Allowance,
    Allowances,
    by_rule,
    follows_values,
    is_finer_than,
    known_precision,
    measured,
    rule_of,
    same_images,
    unchanged_layers,
)
from convlens.baselines.bars import predictions_pair
from convlens.baselines.change_pictures import MAX_SHOWN, StatisticsPair, maps_pair
from convlens.baselines.compact import aligned, compact_output
from convlens.baselines.comparison import (
    MAX_LINES,
    Comparison,
    LayerDifference,
    Pair,
    PicturePair,
    cosine_similarity,
    join_names,
    mismatch,
    norm,
)
from convlens.baselines.distance import (
    TINY,
    channel_errors,
    channel_sizes,
    distance,
    prediction_errors,
)
from convlens.baselines.explain import changed_keys, differences, explanation, newly_rounded
from convlens.baselines.maps import ChannelMaps, changed_maps
from convlens.baselines.pairing import Pairs, pair_layers, renamed
from convlens.baselines.provenance import weights_of
from convlens.baselines.record import SEED, Record, Rerun
from convlens.engine.features.sketch import LayerSketch
from convlens.engine.model.network import INPUT
from convlens.engine.runtime.tolerance import (
    TF32,
    activation_tolerance,
    is_coarse,
    precision_name,
    precision_of,
)

__all__ = ["Comparison", "LayerDifference", "PicturePair", "compare_records"]

_MAX_MATCHED_CHANNELS = 1024
# As many channels are named one by one.
_MAX_LISTED = 8
# A hundred roundings to bfloat16, in units of a channel's size.
_MAX_FIRST_ROUNDING = 0.5
_OTHER_PRECISION = "it computes in"
# Precisions to which a machine may round the factors of products without telling.
_UNTOLD = (TF32, "bfloat16")


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
            the precision of both records. If it is exceeded and one of them is coarser than
            float32, or a layer differs although no weights changed up to it, then the network is
            run again to measure the rounding of a coarser precision; see `allowance`.
    """

    def agree(old: str, name: str) -> bool:
        allowed = rule_of(expected, actual, old, name, tol)
        return _compare_layers(expected, actual, old, name, allowed).passed

    pairs = pair_layers(expected, actual, agree)
    found, allowed = _judge(expected, actual, key, pairs, tol)
    if found.passed:
        return found
    return replace(found, pictures=tuple(_pictures(expected, actual, pairs, found, allowed)))


def _judge(
    expected: Record, actual: Record, key: str, pairs: Pairs, tol: float | None
) -> tuple[Comparison, Allowances]:
    """Return the comparison of two records, and the allowances that it is made with."""

    def compare(allowed: Allowances) -> tuple[Comparison, Allowances]:
        return _compare_all(expected, actual, key, pairs, allowed), allowed

    rule = by_rule(expected, actual, pairs, tol)
    best = compare(rule)
    if best[0].passed or tol is not None or actual.rerun is None or not _may_be_rounding(best[0]):
        return best
    known = known_precision(expected, actual)
    if is_coarse(known):
        best = compare(measured(actual, known, rule))
    found = best[0]
    if found.passed or not same_images(expected, actual):
        return best
    # A layer did not change if its weights and those of all layers before it are the same.
    unchanged = unchanged_layers(expected, actual, "weights")
    if found.first not in unchanged or _is_scaled(expected, actual, pairs, found):
        return best
    as_coarse = [
        compare(measured(actual, precision, rule))
        for precision in _UNTOLD
        if is_finer_than(known, precision)
    ]
    if unchanged.issuperset(actual.provenance["settings"]):
        passed = next((each for each in as_coarse if each[0].passed), None)
        if passed is not None:
            return passed
    # What failed is the model, but rounding showed first.
    unchanged &= unchanged_layers(expected, actual, "settings")
    return next((each for each in as_coarse if each[0].first not in {None, *unchanged}), best)


def _may_be_rounding(found: Comparison) -> bool:
    """Return whether all layers can be compared, and the first difference is not beyond rounding.

    Rounding has its largest effect where it has gone through many layers.
    """
    first = next((layer for layer in found.layers if not layer.passed), None)
    comparable = all(np.isfinite(layer.worst_error) for layer in found.layers)
    return comparable and first is not None and first.worst_error <= _MAX_FIRST_ROUNDING


def _is_scaled(expected: Record, actual: Record, pairs: Pairs, found: Comparison) -> bool:
    """Return whether the first layer that diverges changed by a factor."""
    old = {name: before for before, name in pairs}.get(found.first or "")
    if old is None:
        return False
    return follows_values(*aligned(expected.layers[old], actual.layers[str(found.first)]))


def _compare_all(
    expected: Record, actual: Record, key: str, pairs: Pairs, allowed: Allowances
) -> Comparison:
    """Compare two records, whose layers are paired, with given allowances."""
    layers = {name: mismatch(name, "the layer is not in the baseline") for name in actual.layers}
    for old, name in pairs:
        layers[name] = _compare_layers(expected, actual, old, name, allowed.layers[name])
        layers[name] = _with_precision(expected, old, actual, layers[name])
    structure = _describe_structure_change(expected, actual, pairs)
    for name, difference in _compare_outputs(expected, actual, allowed.predictions).items():
        if structure:
            difference = replace(difference, passed=False, note=difference.note or structure)
        known = layers.get(name)
        layers[name] = difference if known is None else _merge_output(known, difference)
    found = list(layers.values())
    failed = [layer for layer in found if not layer.passed]
    if failed:  # the layers of the baseline are called as in the network from here on
        provenance = renamed(expected.provenance, actual.provenance, pairs)
        expected = replace(expected, source=provenance, weights=None)
    verdict = structure or _verdict(expected, actual, found, allowed.precision)
    return Comparison(
        key=key,
        fingerprint=actual.fingerprint if failed else "",
        verdict=verdict,
        passed=not failed,
        first=failed[0].layer if failed else None,
        layers=tuple(found),
        details=tuple(_details(expected, actual, found, verdict)) if failed else (),
        explanation=_explain(expected, actual, failed[0]) if failed else "",
    )


def _with_precision(
    expected: Record, old: str, actual: Record, difference: LayerDifference
) -> LayerDifference:
    """Return a layer's difference, which fails where one of two records is of 8-bit integers.

    Layers that compute in 8-bit integers return floats, so that only their policy tells it.
    """
    before, now = expected.rounding(old).precision, actual.rounding(difference.layer).precision
    if before == now or "int8" not in (before, now):
        return difference
    note = f"{_OTHER_PRECISION} {now}, but in {before} in the baseline"
    parts = (note, difference.note)
    return replace(difference, passed=False, note="; ".join(part for part in parts if part))


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


def _compare_layers(
    expected: Record, actual: Record, before: str, name: str, allowed: Allowance
) -> LayerDifference:
    """Compare a layer of the baseline, by its name there, with one of the network."""
    old, new = expected.layers[before], actual.layers[name]
    if old.shape != new.shape:
        return mismatch(name, f"its shape is {new.shape}, but {old.shape} in the baseline")
    if expected.source.get("count") != actual.source.get("count"):
        return mismatch(name, "the number of images differs")
    return _compare(name, *aligned(old, new), allowed)


def _compare(name: str, old: LayerSketch, new: LayerSketch, allowed: Allowance) -> LayerDifference:
    found = distance(old, new)
    errors = found.channels
    worst = int((errors / np.maximum(allowed.channels, TINY)).argmax())
    size, difference = norm(old.projection), norm(new.projection - old.projection)
    relative = difference / size if size else float(difference > 0)
    cosine = cosine_similarity(old.projection, new.projection)
    wrong = np.flatnonzero(~(errors <= allowed.channels))
    passed = not wrong.size and found.samples <= allowed.samples and found.gram <= allowed.gram
    notes: list[str] = []
    moved: tuple[tuple[int, int], ...] = ()
    other_precision = any(is_coarse(precision_of(s.dtype)) for s in (old, new)) and (
        old.dtype != new.dtype
    )
    if other_precision:
        passed = False
        notes.append(f"{_OTHER_PRECISION} {new.dtype}, but in {old.dtype} in the baseline")
    if wrong.size:
        moved = _find_permutation(old, new, wrong, allowed.channels)
        which = f": {join_names([*wrong])}" if 1 < wrong.size <= _MAX_LISTED else ""
        notes.append(
            f"{wrong.size} of {len(errors)} channels diverge{which} "
            f"(tolerance {allowed.smallest:.3g})"
        )
        silent = [int(c) for c in wrong if new.rms[c] == 0 < old.rms[c]]
        if moved:
            swaps = join_names([f"{a}→{b}" for a, b in moved])
            notes.append(f"only the order of channels changed: {swaps}")
        elif silent:
            notes.append(f"channels that are now silent (always 0): {join_names(silent)}")
    elif not passed and not other_precision:
        notes.append(
            f"samples differ by up to {found.samples:.3g} (tolerance {allowed.samples:.3g}), Gram "
            f"matrices by {found.gram:.3g} (tolerance {allowed.gram:.3g})"
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


def _find_permutation(
    old: LayerSketch,
    new: LayerSketch,
    wrong: NDArray[np.int64],
    tol: NDArray[np.float64] | float,
) -> tuple[tuple[int, int], ...]:
    """Return the permutation of the diverging channels as pairs (old index, new index).

    The result is empty if a permutation does not explain the differences.
    """
    if not 2 <= wrong.size <= _MAX_MATCHED_CHANNELS:
        return ()
    features = [
        np.vstack([s.projection, s.mean, s.rms, *([s.high] if s.high.size else [])])
        .T[wrong]
        .astype(np.float64)
        for s in (old, new)
    ]
    cost = np.linalg.norm(features[0][:, None] - features[1][None], axis=2)
    before, now = linear_sum_assignment(cost)
    source = np.arange(len(old.rms))
    source[wrong[now]] = wrong[before]
    permuted = replace(
        old,
        mean=old.mean[source],
        rms=old.rms[source],
        high=old.high[source] if old.high.size else old.high,
        projection=old.projection[:, source],
    )
    if not (channel_errors(permuted, new, channel_sizes(old)[source]) <= tol).all():
        return ()
    return tuple((int(a), int(b)) for a, b in zip(wrong[before], wrong[now], strict=True) if a != b)


def _compare_outputs(
    expected: Record, actual: Record, allowed: float
) -> dict[str, LayerDifference]:
    """Return the difference of each of the network's outputs, by the output's name."""
    found = {}
    for number, (name, new) in enumerate(actual.outputs.items()):
        if number >= len(expected.outputs):
            found[name] = mismatch(name, "the output is not in the baseline")
            continue
        before, old = list(expected.outputs.items())[number]
        shape, shape_before = actual.shape_of(name), expected.shape_of(before)
        if shape != shape_before:
            note = f"its shape is {shape}, but {shape_before} in the baseline"
            found[name] = mismatch(name, note)
            continue
        if old.shape != new.shape:
            new = compact_output(new)
        found[name] = _compare_output(name, old, new, allowed)
    return found


def _compare_output(
    name: str, old: NDArray[np.float32], new: NDArray[np.float32], tol: float
) -> LayerDifference:
    if old.shape != new.shape:
        return mismatch(name, f"its shape is {new.shape}, but {old.shape} in the baseline")
    rows_old, rows_new = (p.reshape(-1, p.shape[-1]).astype(np.float64) for p in (old, new))
    errors = prediction_errors(old, new)
    note = ""
    if old.ndim == 2 and old.shape[1] > 1:
        reclassified = np.flatnonzero(rows_old.argmax(axis=1) != rows_new.argmax(axis=1))
        if reclassified.size:
            images = join_names([int(i) for i in reclassified])
            note = (
                f"the class changed for {reclassified.size} of {len(old)} images (images {images})"
            )
    size = norm(rows_old) or TINY
    return LayerDifference(
        name,
        cosine_similarity(rows_old, rows_new),
        norm(rows_new - rows_old) / size,
        int(errors.argmax()),
        bool(errors.max() <= tol),
        float(errors.max()),
        note=note,
    )


def _verdict(
    expected: Record, actual: Record, layers: list[LayerDifference], precision: str
) -> str:
    """Return a summary of the comparison in one sentence.

    Args:
        expected, actual: the records.
        layers: the differences, in the order of the network.
        precision: the precision whose rounding was allowed.
    """
    failed = [layer for layer in layers if not layer.passed]
    if not failed:
        worst = max(layers, key=lambda layer: layer.worst_error)
        verdict = (
            f"all {len(layers)} layers agree with the baseline; the largest difference is "
            f"{worst.worst_error:.2g} of a channel's size, in {worst.layer!r}"
        )
        if is_coarse(precision) and worst.worst_error > activation_tolerance("float32"):
            shown = precision_name(precision)
            verdict += (
                f": it looks like the rounding of {shown} or coarser, and not like a change of the "
                "model"
            )
        return f"{verdict}."
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
    if first.note.startswith(_OTHER_PRECISION):
        return (
            "the network computes in another precision than its baseline; its weights may be the "
            f"same. The first layer that diverges is {first.layer!r}, {before}: {first}."
        )
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


def _details(
    expected: Record, actual: Record, layers: list[LayerDifference], verdict: str
) -> list[str]:
    """Return the lines below the verdict of a failed comparison."""
    first, *behind = (layer for layer in layers if not layer.passed)
    lines = [] if str(first) in verdict else [f"{first.layer}: {first}"]
    if behind:
        lines.append(f"{len(behind)} more diverge behind it: {_span([b.layer for b in behind])}")
    agree = [layer.layer for layer in layers if layer.passed]
    lines.append(f"these agree: {_span(agree)}" if agree else "no layer agrees")
    outputs = [layer for layer in layers if layer.layer in actual.outputs and layer is not first]
    lines += [f"{layer.layer}: {layer}" for layer in outputs[:MAX_LINES]]
    before, now = expected.provenance, actual.provenance
    lines.append(f"differs in provenance: {'; '.join(differences(before, now)) or 'nothing'}")
    weights = changed_keys(before.get("weights", {}), now.get("weights", {}))
    unseen = [layer for layer in weights if layer in agree]
    if unseen:
        lines.append(f"weights changed, but not the output for these images: {join_names(unseen)}")
    return lines


def _explain(expected: Record, actual: Record, first: LayerDifference) -> str:
    """Return what usually explains that a layer is the first to diverge."""
    layers = actual.rerun.network.layers if actual.rerun is not None else {}
    arrays = weights_of(layers[first.layer]) if first.layer in layers else None
    before, now = expected.provenance, actual.provenance
    return explanation(before, now, first.layer, first.worst_error, arrays)


def _span(names: Sequence[str]) -> str:
    """Return up to ten names of layers in order; of more, the first and the last."""
    return join_names(names) if len(names) <= MAX_LINES else f"{names[0]} … {names[-1]}"


def _pictures(
    expected: Record, actual: Record, pairs: Pairs, found: Comparison, allowed: Allowances
) -> Iterator[Pair]:
    """Yield pictures of each layer that diverges; of the first one the maps too."""
    before = {name: old for old, name in pairs}
    failed = {layer.layer for layer in found.layers if not layer.passed}
    for name in (each.layer for each in found.layers if each.layer in failed & before.keys()):
        old, new = expected.layers[before[name]], actual.layers[name]
        if old.shape != new.shape or len(old.mean) != len(new.mean):
            continue
        kept, own = aligned(old, new)
        errors = channel_errors(kept, own, channel_sizes(kept))
        excess = errors / np.maximum(allowed.layers[name].channels, TINY)
        count = int((~(excess <= 1)).sum())
        # Where only samples or Gram matrices differ, the channels that are nearest to it.
        worst = np.argsort(-excess, kind="stable")[: count or MAX_SHOWN].tolist()
        if name == found.first and actual.rerun is not None:
            maps = _changed_maps(old, actual.rerun, name, worst, errors * channel_sizes(kept))
            if maps:
                yield maps_pair(name, maps, count)
        yield StatisticsPair.of(name, kept, own, worst, count)
    outputs = zip(expected.outputs.values(), actual.outputs.items(), strict=False)
    for old_output, (name, output) in outputs:
        pair = predictions_pair(name, old_output, output[: len(old_output)])
        if pair is not None and name in failed:
            yield pair


def _changed_maps(
    old: LayerSketch,
    rerun: Rerun,
    name: str,
    worst: list[int],
    changes: NDArray[np.float64],
) -> list[ChannelMaps]:
    """Return the maps of the worst channels whose maps the baseline tells."""
    if old.shown is None:
        return []
    found = changed_maps(old, rerun.maps(name), worst, changes, seed=SEED)
    return found[:MAX_SHOWN]

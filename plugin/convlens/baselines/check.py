"""Compare models and values with their baselines, and record new baselines on request."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike

from convlens.baselines import provenance, record, store, values
from convlens.baselines.compare import compare_records
from convlens.baselines.comparison import Comparison
from convlens.baselines.describe import changed_lines, describe
from convlens.baselines.draw import draw_arrays, draw_layers
from convlens.baselines.record import Record, record_network
from convlens.baselines.store import BaselineFileError, Device, Store, Stored, Variant
from convlens.baselines.values import Values, compare_values, record_values
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.features.survey import Wanted
from convlens.engine.model.network import Network
from convlens.lens import Lens

Update = Literal["missing", "failed", "all"]
Observed = Record | Values


@dataclass(frozen=True)
class Recording:
    """Options for recording baselines.

    Attributes:
        update: baselines to record: 'missing', 'failed' (which includes missing ones), 'all', or
            None for none.
        variant: variant to record; None for the variant that is in use.
        keep: True to keep the accepted baselines as alternatives to the new one.
        accept: key → fingerprint of each change that was accepted in a review.
    """

    update: Update | None = None
    variant: Variant | None = None
    keep: bool = False
    accept: Mapping[str, str] = field(default_factory=dict)


def assert_matches_baseline(
    value: Any,
    folder: str | Path,
    name: str,
    *,
    images: ArrayLike | None = None,
    tol: float | None = None,
    update: Update | None = None,
) -> Comparison:
    """Assert that a model, a result or another value agrees with its baseline.

    Args:
        value: a Keras model or `Network` (with `images`), a `Lens`, an engine result, or arrays,
            numbers, pictures, and mappings and sequences of these.
        folder: folder of the baselines.
        name: name of the baseline in the folder; any text.
        images: images (n, h, w, c) as input for a model.
        tol: tolerance; see `compare_records` and `compare_values`.
        update: when to record the baseline: if it is 'missing', if the comparison 'failed', or
            always ('all').

    Returns:
        The comparison with the baseline.

    Raises:
        AssertionError: the value differs from its baseline, the baseline is missing, or its file
            cannot be read.
        OSError: the folder cannot be written to.
        TypeError, ValueError: the value cannot be stored in a baseline, or a model has no images.
    """
    __tracebackhide__ = True
    observed = observe(value, images)
    place = Store(Path(folder), current_device())
    comparison = compare_with_baseline(place, name, observed, tol)
    comparison, _ = update_baseline(place, observed, comparison, Recording(update))
    if not comparison.passed:
        raise AssertionError(comparison.message)
    return comparison


def current_device() -> Device:
    """Return the device of this run, for the choice of a baseline's variant."""
    return Device(provenance.device(), provenance.family())


def observe(value: Any, images: ArrayLike | None = None) -> Observed:
    """Return a description of a model or a value, to compare or to record.

    Raises:
        AssertionError: a weight of the model is not finite; its outputs may still be finite.
        FloatingPointError: the output of a layer is not finite.
        TypeError, ValueError: the value cannot be stored in a baseline, or a model has no images.
    """
    __tracebackhide__ = True
    if isinstance(value, Lens) and images is None:
        value.once(assert_finite_weights, lambda: assert_finite_weights(value.network))
        sketches = value.survey(Wanted(seed=record.SEED)).sketches
        return record_network(value.network, value.images, hash_weights=False, sketches=sketches)
    if isinstance(value, Lens):
        return _observe_network(value.network, images)
    if isinstance(value, keras.Model | Network):
        if images is None:
            raise ValueError(
                f"a baseline of the model {value.name} needs images: pass images=, or a Lens such "
                "as the fixture lens"
            )
        return _observe_network(Network.of(value), images)
    return record_values(value)


def _observe_network(network: Network, images: Any) -> Record:
    __tracebackhide__ = True
    assert_finite_weights(network)
    return record_network(network, images, hash_weights=False)


def compare_with_baseline(
    place: Store, key: str, observed: Observed, tol: float | None = None
) -> Comparison:
    """Compare an observed model or value with its baseline.

    If several alternatives are stored, any that agrees counts, and else the nearest one. If the
    baseline is missing or its file cannot be read, the comparison fails and its verdict says what
    to do.
    """
    found: list[Comparison] = []
    unreadable = ""
    for path in place.find(key):
        try:
            expected = _load(path, key)
        except BaselineFileError as error:
            unreadable = unreadable or f"{error}."
            continue
        # Stored values may be as large as floats allow; a difference that overflows does not agree.
        with np.errstate(over="ignore", invalid="ignore"):
            comparison = _compare(expected, observed, key, tol)
        comparison = replace(comparison, baseline=str(path))
        if comparison.passed:
            return comparison
        found.append(comparison)
    if unreadable:
        return Comparison(key, observed.fingerprint, unreadable, passed=False)
    if not found:
        return _missing(place, key, observed)
    return max(found, key=_nearness)


def _missing(place: Store, key: str, observed: Observed) -> Comparison:
    """Return the comparison of what has no baseline, which may have one under another name."""
    former = _find_former(place, key, observed)
    if former:
        verdict = (
            f"there is no baseline of {key!r} in {place.folder}, but that of {former!r} has "
            "exactly these weights, and all layers agree with it: carry it over with "
            "--convlens-update=missing."
        )
        why = f"the model was renamed, moved or copied: before, it was {former!r}"
        return Comparison(
            key,
            observed.fingerprint,
            verdict,
            passed=False,
            explanation=why,
            update="missing",
            former=former,
        )
    verdict = (
        f"there is no baseline of {key!r} in {place.folder}: record it with "
        "--convlens-update=missing, look at its picture, and commit both."
    )
    return Comparison(key, observed.fingerprint, verdict, passed=False, update="missing")


def _find_former(place: Store, key: str, observed: Observed) -> str:
    """Return the name of a baseline of exactly these weights that agrees; "" if there is none."""
    if not isinstance(observed, Record) or not observed.provenance.get("weights"):
        return ""
    for path in store.files(place.folder):
        try:
            header = store.read_header(path)
            known = header.get("provenance", {}).get("weights hash")
            if header.get("kind") != "network" or known != observed.provenance["weights hash"]:
                continue
            former = str(header["key"])
            if _compare(_load(path, former), observed, key, None).passed:
                return former
        except (BaselineFileError, KeyError):  # it is named where it is looked for or listed
            continue
    return ""


def _nearness(comparison: Comparison) -> tuple[int, float]:
    agreeing = sum(layer.passed for layer in comparison.layers)
    return agreeing, -sum(layer.relative_error for layer in comparison.layers if not layer.passed)


def update_baseline(
    place: Store, observed: Observed, comparison: Comparison, recording: Recording
) -> tuple[Comparison, Path | None]:
    """Record the observed model or value as the new baseline, if the options request it.

    Returns:
        The comparison after the update, and the path of the written file, None if none was
        written.

    Raises:
        OSError: the folder cannot be written to.
    """
    key = comparison.key
    accepted = recording.accept.get(key)
    known = accepted is None or accepted == observed.fingerprint_like(accepted)
    if not known and not comparison.passed:
        verdict = (
            f"the change of {key!r} that was accepted in the review is out of date: the value "
            f"changed again (accepted {accepted}, now {comparison.fingerprint}). Review it again."
        )
        details = (comparison.verdict, *comparison.details)
        return replace(comparison, verdict=verdict, details=details), None
    requested = {
        None: False,
        "missing": not place.find(key),
        "failed": not comparison.passed,
        "all": True,
    }[recording.update]
    if not requested and (accepted is None or comparison.passed):
        return comparison, None
    if recording.keep:  # another worker may have added it, or it was accepted before
        again = compare_with_baseline(place, key, observed)
        if again.passed:
            return again, None
    path, changed = save(place, key, observed, recording)
    verdict = f"recorded as the baseline {path}; result before: {comparison.verdict}"
    layers = tuple(replace(layer, passed=True) for layer in comparison.layers)
    recorded = replace(
        comparison,
        verdict=verdict,
        passed=True,
        first=None,
        layers=layers,
        baseline=str(path),
        recorded=changed,
    )
    return recorded, path


def save(
    place: Store, key: str, observed: Observed, recording: Recording
) -> tuple[Path, tuple[str, ...]]:
    """Write a baseline with its picture and its text.

    Returns:
        The path of its file, and the names of the layers or values whose lines in the text changed;
        none where there was no text before.

    Raises:
        OSError: the folder cannot be written to.
    """
    variant = recording.variant or place.active_variant(key)
    path = place.path(key, variant)
    if recording.keep:
        path = place.new_alternative(key, variant, observed.fingerprint)
    kind, module = ("network", record) if isinstance(observed, Record) else ("values", values)
    arrays, header = module.to_arrays(observed)
    before = store.read_text(path)
    text = describe(key, observed, before)
    store.write(path, Stored(key, kind, arrays, header), _draw(key, observed), text)
    if not recording.keep:
        for other in place.alternatives(key, variant):
            if other != path:
                store.remove(other)
    return path, tuple(changed_lines(before, text)) if before else ()


def _load(path: Path, key: str) -> Observed:
    stored = store.read(path, key)
    try:
        if stored.kind == "network":
            return record.from_arrays(stored.arrays, stored.header)
        return values.from_arrays(stored.arrays, stored.header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.unreadable(path, error) from None


def _compare(expected: Observed, actual: Observed, key: str, tol: float | None) -> Comparison:
    if isinstance(expected, Record) and isinstance(actual, Record):
        return compare_records(expected, actual, key=key, tol=tol)
    if isinstance(expected, Values) and isinstance(actual, Values):
        return compare_values(expected, actual, key=key, tol=tol)
    kinds = {Record: "a network", Values: "a value"}
    old, new = kinds[type(expected)], kinds[type(actual)]
    verdict = f"the baseline of {key!r} holds {old}, but {new} was given."
    return Comparison(key, actual.fingerprint, verdict, passed=False)


def _draw(key: str, observed: Observed) -> bytes:
    """Return the picture of a baseline as PNG."""
    if isinstance(observed, Record):
        page = draw_layers(observed.layers, key, observed.subtitle)
    else:
        page = draw_arrays(observed.shown, key, observed.subtitle)
    content = io.BytesIO()
    page.save(content, format="PNG", optimize=True)
    return content.getvalue()

"""Hold two models side by side: outputs first, then the layer where a difference begins."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.compare.conventions import find_convention
from convlens.compare.forward import Forward, as_tensor
from convlens.compare.growth import grown_rounding
from convlens.compare.keras_model import KerasModel
from convlens.compare.limits import DAMAGED, LIMITS, Limits, coarser
from convlens.compare.measure import Difference, Tally, snr
from convlens.compare.noise import Noise, NoiseTally, known_tensors
from convlens.compare.ranking import error_shares
from convlens.compare.runtime import Arithmetic, Runtime
from convlens.compare.sameness import Evidence, LayerSameness, Sameness
from convlens.compare.sources import open_source
from convlens.compare.tensors import Tensors, turned
from convlens.compare.walk import Row, Walk
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.pictures.synthetic import synthetic_images

# Images by which counterparts are found, and the bytes that the tensors of all images that are
# computed at a time may take. The walk has the values of the other model, its own, and those of
# layers that may be fused.
_MAX_MATCHED, _MATCHED_BYTES, _HELD_BY_WALK = 2, 2**28, 3
# Outputs that agree but for a convention have at least this ratio in dB, however coarse.
_CLEARLY = 15.0
# Images on which every layer is measured: the fewer, the more bytes their tensors take.
_MIN_MEASURED, _MAX_MEASURED, _MEASURED_BYTES = 4, 8, 2**29
# Drawn images by which outputs are compared: the fewer, the more pixels they have.
_MIN_DRAWN, _DRAWN_PIXELS = 12, 2**19
_FREE_SIZE = 96
# A row, its value from the other model's inputs, the other model's value, and all its tensors.
RowValues = tuple[Row, NDArray[Any], NDArray[Any], dict[str, Any]]
# Images of the first layer that differs, for pictures.
_MAX_SHOWN = 3
# Kinds of arithmetic whose layers are ranked by the outputs' error that each causes.
_RANKED: tuple[Arithmetic, ...] = ("dynamic range", "int8")


def assert_same_behaviour(
    new: Any,
    reference: Any,
    images: ArrayLike | None = None,
    *,
    allow_legacy: bool = False,
) -> Sameness:
    """Assert that a converted, rebuilt or upgraded model does what its reference does.

    Args:
        new, reference: each a Keras model, a `Network`, a function of images (n, h, w, c) that
            returns outputs (n, …), the path of a .keras, .h5, .tflite or .onnx file or of a
            SavedModel's folder, or ``git:REV:path``.
        images: images (n, h, w, c) as the reference takes them; None for seeded textures in 0–1.
        allow_legacy: also load HDF5 files and SavedModels; see `load_model`.

    Returns:
        The outputs' differences and, where one of the two is a Keras model, those of each layer.

    Raises:
        AssertionError: they differ; the message names the first layer that does.
        ValueError: a model or images that cannot be read.
    """
    __tracebackhide__ = True
    names = source_name(new), source_name(reference)
    opened = [open_source(each, allow_legacy=allow_legacy) for each in (new, reference)]
    found = compare_models(opened[0], opened[1], _images(opened, images), names=names)
    if not found.passed:
        raise AssertionError(found.message)
    return found


def compare_models(
    new: Runtime,
    reference: Runtime,
    images: NDArray[Any],
    *,
    names: tuple[str, str],
) -> Sameness:
    """Hold two opened models side by side.

    Args:
        new, reference: the models.
        images: images (n, h, w, c) as the reference takes them.
        names: the models' names.

    Raises:
        ValueError: the models' outputs have other numbers or sizes, or a model does not run.
    """
    for own, other in ((new, reference), (reference, new)):
        if isinstance(own, KerasModel):
            other.hold(own.network.held)
    arithmetic = coarser(new.arithmetic, reference.arithmetic)
    limits = LIMITS[arithmetic]
    expected, actual = reference.outputs(images), new.outputs(images)
    outputs = _output_differences(expected, actual)
    passed = bool(outputs) and all(each.snr >= limits.output for each in outputs)
    found = _Layers()
    worst = min(outputs, key=lambda each: each.image_snr).worst_image if outputs else 0
    convention = ""
    if not passed:
        convention = find_convention(new, expected, images, max(limits.output, _CLEARLY)) or ""
    if not outputs and not convention:
        shapes = [", ".join(str(v.shape[1:]) for v in each) for each in (actual, expected)]
        raise ValueError(f"the models' outputs have shapes {shapes[0]} and {shapes[1]}")
    guide, other = (new, reference) if not isinstance(reference, KerasModel) else (reference, new)
    if isinstance(guide, KerasModel) and other.output_names and not convention:
        errors = _errors(expected, actual) if arithmetic in _RANKED and outputs else []
        deployed = () if passed else tuple(expected if other is reference else actual)
        found = _compare_layers(
            Forward(guide.network), other, images, worst, arithmetic, errors, deployed
        )
        passed = passed or (found.explained and all(each.snr >= DAMAGED for each in outputs))
    return Sameness(
        *names,
        (new.title, reference.title),
        arithmetic,
        limits,
        tuple(outputs),
        passed,
        found.layers,
        found.unmatched,
        (*new.notes, *reference.notes),
        found.images,
        convention,
        found.evidence,
    )


@dataclass(frozen=True)
class _Layers:
    """The result of comparing layers; see `Sameness`.

    Attributes:
        explained: whether every layer agrees up to the outputs, as the other model returns them;
            False where that was not asked.
        images: number of images on which they were compared.
    """

    layers: tuple[LayerSameness, ...] = ()
    unmatched: tuple[str, ...] = ()
    evidence: Evidence | None = None
    explained: bool = False
    images: int = 0


def _errors(expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    return [a.reshape(e.shape) - e for e, a in zip(expected, actual, strict=True)]


def _output_differences(
    expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]]
) -> list[Difference]:
    """Return the difference of each output; none where numbers or sizes of outputs differ."""
    found = []
    for e, a in zip(expected, actual, strict=False):
        if len(expected) != len(actual) or e[0].size != a[0].size:
            return []
        tally = Tally()
        tally.add(range(len(e)), e, a.reshape(e.shape))
        found.append(tally.difference())
    return found


def _compare_layers(
    forward: Forward,
    other: Runtime,
    images: NDArray[Any],
    worst: int,
    arithmetic: Arithmetic,
    errors: Sequence[NDArray[Any]],
    deployed: Sequence[NDArray[Any]],
) -> _Layers:
    """Find the layers' counterparts, and measure them.

    Args:
        forward: the Keras model.
        other: the other model.
        images: images (n, h, w, c).
        worst: number of the image whose outputs differ most.
        arithmetic: the coarser arithmetic of the two.
        errors: the outputs' errors, (n, …) each, to rank layers by; empty for no ranking.
        deployed: the other model's outputs (n, …) as it is deployed; empty where they agree, and
            need no explanation.
    """
    limits, network = LIMITS[arithmetic], forward.network
    walked, size, measured = _walked(forward, other, images, worst, limits)
    rows, count = walked.rows, len(walked.numbers)
    tallies = {id(row.symbol): Tally() for row in rows}
    noises = _noise_tallies(rows, other)
    ends = {id(t): value for t, value in zip(network.results, deployed, strict=False)}
    reached: dict[int, list[float]] = {}
    chunks = list(_chunks(measured[count:], size))
    for numbers, found in (
        (walked.numbers, walked.row_values()),
        *((each, row_values(forward, rows, other, images[each])) for each in chunks),
    ):
        for row, expected, actual, held in found:
            tallies[id(row.symbol)].add(numbers, expected, actual)
            if id(row.symbol) in noises:
                noises[id(row.symbol)].add(expected, actual, held)
            end = ends.get(id(row.symbol))
            if end is not None:
                own = snr(end[numbers].reshape(actual.shape), actual)
                reached.setdefault(id(row.symbol), []).append(own)
    found_noise = {key: tally.noise() for key, tally in noises.items()}
    layers = [
        _judged(row, tallies[id(row.symbol)].difference(), limits, found_noise.get(id(row.symbol)))
        for row in rows
    ]
    if errors:
        ranked = walked.numbers[:_MAX_MATCHED]
        shares = error_shares(forward, rows, other, images[ranked], [e[ranked] for e in errors])
        if shares is not None:
            layers = [replace(x, share=own) for x, own in zip(layers, shares, strict=True)]
    evidence = next(
        (
            _evidence(forward, rows, other, images, row, tallies[id(row.symbol)])
            for row, layer in zip(rows, layers, strict=True)
            if not layer.passed
        ),
        None,
    )
    layers = _with_identities(layers)
    covered = {name for layer in layers for name in layer.group}
    names = [name for name in network.outputs if network.reaches(name)]
    unmatched = tuple(name for name in names if name not in covered)
    # The outputs' error is that of layers which all agree, added up.
    explained = bool(ends) and reached.keys() == ends.keys() and not unmatched
    explained = explained and all(layer.passed for layer in layers)
    if explained and min(min(each) for each in reached.values()) < limits.layer:
        # As it is deployed, a program fuses layers: other roundings, which the network lets grow.
        explained = all(
            reached[id(t)][i] >= min(limits.layer, grown)
            for i, numbers in enumerate([walked.numbers, *chunks])
            for t, grown in zip(
                network.results, grown_rounding(forward, images[numbers], arithmetic), strict=True
            )
            if id(t) in reached
        )
    return _Layers(tuple(layers), unmatched, evidence, explained, len(measured))


@dataclass(frozen=True)
class _Walked:
    """The layers' counterparts, and the values for the images on which they were found.

    Attributes:
        numbers: numbers of these images.
        rows: the layers with their counterparts.
        walk: the walk that found them.
        held: the other model's tensors.
    """

    numbers: list[int]
    rows: list[Row]
    walk: Walk
    held: dict[str, NDArray[Any]]

    def row_values(self) -> Iterator[RowValues]:
        """Yield what the function `row_values` yields, for these images."""
        for row in self.rows:
            expected = backend.to_numpy(self.walk.expected[id(row.symbol)])
            yield row, expected, _actual(row, self.held, expected), self.held


def _walked(
    forward: Forward,
    other: Runtime,
    images: NDArray[Any],
    worst: int,
    limits: Limits,
) -> tuple[_Walked, int, list[int]]:
    """Find the layers' counterparts on the first of the images that are measured.

    Args:
        forward: the Keras model.
        other: the other model.
        images: images (n, h, w, c).
        worst: number of the image whose outputs differ most.
        limits: the limits of the layers.

    Returns:
        the counterparts, the bytes that the tensors of one image take, and the numbers of the
        images to measure.
    """
    first = other.tensors(images[:1])
    size = max(1, sum(value.nbytes for value in first.values()))
    measured = _measured(len(images), worst, size)
    fitting = max(1, min(_MAX_MATCHED, _MATCHED_BYTES // size))
    numbers = list(measured[: max(fitting, _MATCHED_BYTES // (_HELD_BY_WALK * size))])
    held = first if numbers == [0] else other.tensors(images[numbers])
    tensors = Tensors(held, channels_first=other.channels_first, searched=fitting)
    walk = Walk(forward, images[numbers], tensors, limits.clean, other.output_names, other.sources)
    return _Walked(numbers, walk.rows(), walk, held), size, measured


def _evidence(
    forward: Forward,
    rows: Sequence[Row],
    other: Runtime,
    images: NDArray[Any],
    row: Row,
    tally: Tally,
) -> Evidence:
    """Return the values of a layer for the images with the largest errors."""
    numbers, channel = tally.worst_images(_MAX_SHOWN), tally.difference().worst_channel
    parts = []
    for number in numbers:
        for own, expected, actual, _ in row_values(forward, rows, other, images[[number]]):
            if own is row:
                shown = (
                    (expected, actual)
                    if expected.ndim < 4
                    else (
                        expected[..., channel],
                        actual[..., channel],
                    )
                )
                parts.append(shown)
                break
    expected, actual = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Evidence(row.layer, channel, tuple(numbers), images[numbers], expected, actual)


def _chunks(numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield as many images at a time as leave their tensors within the limit.

    Args:
        numbers: numbers of the images.
        size: bytes that the tensors of one image take.
    """
    count = max(1, _MATCHED_BYTES // size)
    for start in range(0, len(numbers), count):
        yield list(numbers[start : start + count])


def _noise_tallies(rows: Sequence[Row], other: Runtime) -> dict[int, NoiseTally]:
    """Return the sums of the noise of a model with steps, by the id of each row's symbol."""
    from convlens.compare.tflite import TFLiteModel

    if not (isinstance(other, TFLiteModel) and other.arithmetic in _RANKED):
        return {}
    known = known_tensors(rows)
    return {id(row.symbol): NoiseTally(row, other, known) for row in rows}


def row_values(
    forward: Forward, rows: Sequence[Row], other: Runtime, images: NDArray[Any]
) -> Iterator[RowValues]:
    """Yield each row, its value from the other model's inputs, the other's, and its tensors."""
    held = other.tensors(images)
    by_symbol = {id(row.symbol): row for row in rows}
    for key, value, values in forward.follow(images):
        row = by_symbol.get(key)
        if row is not None:
            expected = backend.to_numpy(value)
            actual = _actual(row, held, expected)
            yield row, expected, actual, held
            values[key] = as_tensor(actual, row.symbol)


def _actual(row: Row, held: Mapping[str, NDArray[Any]], expected: NDArray[Any]) -> NDArray[Any]:
    """Return a row's counterpart in the shape of the layer."""
    return turned(held[row.pair.tensor], row.pair.transposed).reshape(expected.shape)


def _judged(row: Row, found: Difference, limits: Limits, noise: Noise | None) -> LayerSameness:
    within = found.snr >= limits.layer and found.channel_snr >= limits.channel
    passed = (noise is not None and noise.passed) or (within and not limits.noise_alone)
    finding = ""
    if not passed:
        finding = f"{found} (limits {limits.layer:g} dB, worst channel {limits.channel:g} dB)"
        finding = finding if noise is None else f"unexplained {noise}; {found}"
    return LayerSameness(row.layer, row.group, row.pair.tensor, found, passed, finding, noise)


def _with_identities(layers: Sequence[LayerSameness]) -> list[LayerSameness]:
    """Name layers behind one that differs, and that changed nothing, with it.

    Their counterpart is the same tensor, so the fault may be theirs as well.
    """
    found: list[LayerSameness] = []
    for layer in layers:
        last = found[-1] if found else None
        if last is not None and not last.passed and last.tensor == layer.tensor and layer.passed:
            group = tuple(dict.fromkeys((*last.group, *layer.group)))
            found[-1] = replace(last, group=group)
        else:
            found.append(layer)
    return found


def enough_drawn(images: NDArray[Any]) -> NDArray[Any]:
    """Return as many of drawn images (n, h, w, c), the first ones, as their outputs need.

    Twelve of 224×224 pixels have as many patches as 48 of half the side.
    """
    pixels = max(1, math.prod(images.shape[1:-1]))
    return images[: max(_MIN_DRAWN, _DRAWN_PIXELS // pixels)]


def _measured(count: int, worst: int, size: int) -> list[int]:
    """Return the numbers of the images whose layers are measured, the worst among them.

    Args:
        count: number of images.
        worst: number of the image whose outputs differ most.
        size: bytes that the tensors of one image take.
    """
    wanted = min(count, max(_MIN_MEASURED, min(_MAX_MEASURED, _MEASURED_BYTES // size)))
    spread = np.unique(np.linspace(0, count - 1, wanted).astype(int))
    return sorted({*map(int, spread), worst})


def _images(opened: Sequence[Runtime], images: ArrayLike | None) -> NDArray[np.float32]:
    if images is not None:
        found = np.asarray(images, np.float32)
        if found.ndim < 3 or not len(found) or not np.isfinite(found).all():
            raise ValueError(
                f"images must be finite and of shape (n, h, w, c) with n ≥ 1, not {found.shape}"
            )
        return found
    shapes = [each.input_shape for each in reversed(opened) if isinstance(each, KerasModel)]
    shape = [*shapes, opened[1].input_shape][0]
    sides = tuple(_FREE_SIZE if side is None else side for side in shape)
    return enough_drawn(synthetic_images(sides, (0.0, 1.0), seed=0))


def source_name(source: Any) -> str:
    """Return the name of what was given as a model, for people."""
    if isinstance(source, keras.Model | Network):
        return str(source.name)
    return Path(os.fspath(source)).name if isinstance(source, str | os.PathLike) else repr(source)

"""Style transfer: the result has the content of one picture and the style of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Effort, Figures, Measures, ModelCheck
from convlens.checks.finite import assert_finite
from convlens.drawings import draw_losses, draw_style
from convlens.engine.features.activations import activations
from convlens.engine.model.network import Network
from convlens.lens import Lens
from convlens.pictures.photographs import read_image, resized
from convlens.style.inputs import fitted_to, read_for
from convlens.style.task import StyleTransfer
from convlens.style.transfer import transfer_style

if TYPE_CHECKING:
    import keras

Maps = Mapping[str, NDArray[np.float64]]


# Steps of a style transfer where no number is asked for.
_STEPS = 300


@dataclass(frozen=True)
class StyleConvergence:
    """The loss of a style transfer, measured again in float64.

    Attributes:
        names: the terms.
        start, final: (terms,) each term, weighted, of the first and the last image.
        apart: what the content terms would be for the style picture, weighted: that of an image
            with nothing of the content.
        correlation: of the last image's features and the content's, each less its channel's mean,
            at each content layer.
    """

    names: tuple[str, ...]
    start: NDArray[np.float64]
    final: NDArray[np.float64]
    apart: float
    correlation: dict[str, float]

    @property
    def fall(self) -> float:
        """The last loss over the first."""
        return float(self.final.sum() / self.start.sum())

    @property
    def content(self) -> float:
        """The last content terms over `apart`."""
        mine = [name.startswith("content:") for name in self.names]
        return float(self.final[mine].sum() / self.apart) if self.apart > 0 else 0.0


def assert_style_transfer_converges(
    model: keras.Model | Network,
    result: StyleTransfer,
    *,
    content: Any = None,
    style: Any = None,
    factor: float = 0.5,
    content_bound: float = 1.0,
    correlation: float = 0.2,
    tol: float = 1e-3,
) -> StyleConvergence:
    """Assert that a style transfer's loss fell, that its content is still there, and its range.

    All terms are measured here again, in float64 and from their formulas, on the images
    themselves: the total must fall to `factor` of the start's; the weighted content terms must
    stay under `content_bound` of what they are for the style picture, and the features at each
    content layer must correlate with the content's; every pixel must be from 0 to 1; and the
    result's trace must say the same as the measurement.

    Args:
        model: the model, or its `Network`, that `result` was found with.
        result: what `transfer_style` returned.
        content: the content picture, as for `read_image`; None for what the result says it was.
            Given, it is also noticed when it was another, was swapped with the style, or had its
            colors in another order.
        style: the style picture or pictures, likewise.
        factor: how far the loss must have fallen, of the start's.
        content_bound: how far the content terms may have risen.
        correlation: the least correlation. That of unrelated pictures is about 0.1; of results in
            which objects are plain to see, 0.35 and more (VGG19 block3_conv4).
        tol: how far the trace may be from the measurement, relative to the larger of the term's
            first and last values.

    Returns:
        The measurements; see `StyleConvergence`.

    Raises:
        AssertionError: one of these does not hold; all of them are listed, with their numbers.
        ValueError: a picture that cannot be read, or of another aspect than the result.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    _assert_finite_images(network, result)
    found = _measure(_Terms(network, result, content, style))
    _judge(network.name, result, found, factor, content_bound, correlation, tol)
    return found


def assert_style_closer(
    model: keras.Model | Network,
    result: StyleTransfer,
    *,
    content: Any = None,
    style: Any = None,
    factor: float = 1.0,
) -> dict[str, tuple[float, float]]:
    """Assert that the result is nearer the style than the content was, at every style layer.

    A result lies between its two pictures, so this holds with the two swapped as well:
    `assert_style_transfer_converges` notices that.

    Args:
        model: the model, or its `Network`, that `result` was found with.
        result: what `transfer_style` returned.
        content, style: the pictures, as for `read_image`; None for what the result says.
        factor: what the distance must be below, of the content's.

    Returns:
        layer → the style term of the content and of the result, not weighted.

    Raises:
        AssertionError: a layer where it is not nearer; the numbers are given.
        ValueError: a picture that cannot be read, or of another aspect than the result.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    _assert_finite_images(network, result)
    distances = _distances(_Terms(network, result, content, style))
    _judge_closer(network.name, distances, factor)
    return distances


class Style(ModelCheck):
    """Zero-code check, where a content and a style picture were given."""

    name = "style"
    summary = "style transfer converges, and ends nearer the style"
    assertion = staticmethod(assert_style_transfer_converges)
    line = "style: the loss fell to {style_fall:.3g} of its start in {style_steps} steps"

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return () if effort.content is None else (None,)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        return None if lens.conv_layers else f"{lens.name} has no convolutional layer"

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        h, w, _ = lens.network.input_shape
        content = read_image(effort.content)
        result = transfer_style(
            content if h is None or w is None else resized(content, (h, w)),
            list(effort.styles),
            lens.network,
            value_range=lens.value_range,
            steps=_STEPS if effort.steps is None else effort.steps,
            seed=effort.seed,
            memory_budget=effort.memory,
            progress=effort.progress,
        )
        terms = _Terms(lens.network, result)
        return _Seen(lens.name, result, _measure(terms), _distances(terms))

    def measures(self, seen: _Seen) -> Measures:
        total = seen.result.losses["total"]
        return {"style_steps": seen.result.steps, "style_fall": float(total[-1] / total[0])}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        _judge(seen.model, seen.result, seen.convergence)
        _judge_closer(seen.model, seen.distances)
        return {"style_content": min(seen.convergence.correlation.values())}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {
            "style": lambda: draw_style(seen.result),
            "style-losses": lambda: draw_losses(seen.result),
        }


@dataclass(frozen=True)
class _Seen:
    model: str
    result: StyleTransfer
    convergence: StyleConvergence
    distances: dict[str, tuple[float, float]]


def _assert_finite_images(network: Network, result: StyleTransfer) -> None:
    __tracebackhide__ = True
    images = {"image": result.image, "optimized": result.optimized}
    assert_finite(images, name=f"{network.name}: the style transfer")


def _measure(terms: _Terms) -> StyleConvergence:
    result, counts = terms.result, terms.result.weights.by_term
    start = terms.terms(result.start) * counts
    final = terms.terms(result.optimized) * counts
    return StyleConvergence(result.names, start, final, terms.apart(), terms.correlation())


def _judge(
    model: str,
    result: StyleTransfer,
    found: StyleConvergence,
    factor: float = 0.5,
    content_bound: float = 1.0,
    correlation: float = 0.2,
    tol: float = 1e-3,
) -> None:
    __tracebackhide__ = True
    start, final = found.start, found.final
    offenders = []
    for name, image in (("image", result.image), ("optimized image", result.optimized)):
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            offenders.append(f"the {name} has values from {low:.4g} to {high:.4g}, outside 0 to 1")
    if not final.sum() <= factor * start.sum():
        offenders.append(
            f"the loss fell from {start.sum():.6g} to {final.sum():.6g}, {found.fall:.3g} of it; "
            f"at most {factor:g} is allowed"
        )
    if not found.content <= content_bound:
        offenders.append(
            f"the content was lost: its loss is {found.content:.3g} of what the style picture "
            f"would have (limit {content_bound:g})"
        )
    for name, value in found.correlation.items():
        if not value >= correlation:
            offenders.append(
                f"the content was lost: the features at layer {name!r} correlate by {value:.3g} "
                f"with the content's; at least {correlation:g} is needed"
            )
    counts = result.weights.by_term
    for k, name in enumerate(result.names):
        claimed = (result.trace[[0, -1], k] * counts[k]).astype(np.float64)
        measured = np.array([start[k], final[k]])
        size = np.abs([*claimed, *measured]).max()
        if not np.abs(claimed - measured).max() <= tol * size:
            offenders.append(
                f"term {name!r} is {measured[0]:.6g} → {measured[1]:.6g}, but the trace says "
                f"{claimed[0]:.6g} → {claimed[1]:.6g}: it was measured on other pictures, or by "
                "another formula"
            )
    raise_offenders(f"{model}: the style transfer failed:", offenders)


def _distances(terms: _Terms) -> dict[str, tuple[float, float]]:
    """Return layer → the style term of the content and of the result, not weighted."""
    before = terms.style(terms.maps(terms.content))
    after = terms.style(terms.maps(terms.result.optimized))
    return {name: (before[name], after[name]) for name in before}


def _judge_closer(
    model: str, distances: dict[str, tuple[float, float]], factor: float = 1.0
) -> None:
    __tracebackhide__ = True
    raise_offenders(
        f"{model}: the result is not nearer the style than the content is (factor {factor:g}):",
        [
            f"layer {name!r}: the distance was {was:.6g}, and is {now:.6g}"
            for name, (was, now) in distances.items()
            if not now < factor * was
        ],
    )


class _Terms:
    """The loss terms of a transfer in float64, from the formulas."""

    def __init__(
        self, network: Network, result: StyleTransfer, content: Any = None, style: Any = None
    ) -> None:
        self.network, self.result = network, result
        size = result.optimized.shape[:2]
        self.content = result.content if content is None else self._read(content, size)
        if style is None:
            self.styles = list(result.styles)
        else:
            given = style if isinstance(style, list | tuple) else [style]
            if len(given) != len(result.styles):
                raise ValueError(
                    f"{len(given)} styles were given for a transfer of {len(result.styles)}"
                )
            self.styles = [self._read(s) for s in given]
        self._style_maps = [self.maps(s) for s in self.styles]
        self._content_maps = self.maps(self.content)

    def _read(self, picture: Any, size: tuple[int, ...] | None = None) -> NDArray[np.float32]:
        image = read_for(self.network, picture)
        fits = fitted_to(self.network, image, max(self.result.optimized.shape[:2]))
        if size is not None and fits.shape[:2] != tuple(size):
            raise ValueError(
                f"the content is {image.shape[0]}×{image.shape[1]}, which is not of the aspect "
                f"of the result, {size[0]}×{size[1]}"
            )
        return fits

    def maps(self, image: NDArray[np.float32]) -> Maps:
        """Return an image's feature maps (h, w, c), by layer."""
        weights = self.result.weights
        layers = dict.fromkeys((*weights.content_layers, *weights.style_layers))
        low, high = self.result.value_range
        found = activations(self.network, low + (high - low) * image[None], layers)
        return {name: maps[0].astype(np.float64) for name, maps in found.items()}

    def terms(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the terms (terms,) of an image (h, w, c), not weighted."""
        maps = self.maps(image)
        x = image.astype(np.float64)
        variation = np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x, axis=1)).sum()
        return np.array([*self._contents(maps), *self.style(maps).values(), variation])

    def apart(self) -> float:
        """Return the weighted content terms of the style pictures, stretched to the size."""
        size = self.content.shape[:2]
        weights = self.result.weights
        counts = weights.content * np.array(list(weights.content_layers.values()))
        each = [
            float(counts @ self._contents(self.maps(resized(s, (size[0], size[1])))))
            for s in self.styles
        ]
        return float(np.dot(self.result.shares, each))

    def correlation(self) -> dict[str, float]:
        """Return how the result's features correlate with the content's, by content layer."""
        maps = self.maps(self.result.optimized)
        found = {}
        for name in self.result.weights.content_layers:
            a, b = (m - m.mean(axis=(0, 1)) for m in (maps[name], self._content_maps[name]))
            size = np.sqrt((a**2).sum() * (b**2).sum())
            found[name] = float((a * b).sum() / size) if size > 0 else 0.0
        return found

    def _contents(self, maps: Maps) -> NDArray[np.float64]:
        squares = [
            (maps[name] - self._content_maps[name]) ** 2
            for name in self.result.weights.content_layers
        ]
        half = self.result.weights.convention == "gatys"
        return np.array([s.sum() / 2 if half else s.mean() for s in squares])

    def style(self, maps: Maps) -> dict[str, float]:
        """Return the style term of feature maps, by layer, not weighted."""
        found = {}
        for name in self.result.weights.style_layers:
            n = maps[name].shape[-1]
            by = {"gatys": 4 * n**2, "tensorflow-tutorial": n**2, "johnson": n**4}
            losses = []
            for s, style in enumerate(self._style_maps):
                mask = self.result.masks[s] if self.result.masks else None
                apart = _moment(maps[name], mask) - _moment(style[name], None)
                losses.append((apart**2).sum() / by[self.result.weights.convention])
            found[name] = float(np.dot(self.result.shares, losses))
        return found


def _moment(maps: NDArray[np.float64], mask: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Return FᵀF over the positions, weighted by a mask (h, w, 1) and divided by its sum."""
    flat = maps.reshape(-1, maps.shape[-1])
    if mask is None:
        share = np.ones(len(flat))
    else:
        share = _shrunk(mask[..., 0], maps.shape[:2]).reshape(-1).astype(np.float64)
    moment: NDArray[np.float64] = (flat * share[:, None]).T @ flat / share.sum()
    return moment


def _shrunk(mask: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    from PIL import Image

    small = Image.fromarray(mask, mode="F").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.maximum(np.asarray(small), 0.0)

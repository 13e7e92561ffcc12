"""Cascading parameter randomization: the change of an explanation as weights are randomized.

Layers are re-initialized one after another, from the top down (Adebayo et al. 2018, "Sanity Checks
for Saliency Maps", §3.1, cascading randomization). After each layer, the explanation of the same
score is computed again and compared with the trained network's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from convlens.engine.ascent.scores import class_scores
from convlens.engine.explain.deconvnet import Position, deconvolve
from convlens.engine.features.activations import activations
from convlens.engine.features.similarity import structural_similarity
from convlens.engine.model.network import Network, Units
from convlens.engine.model.rectify import METHODS, Method
from convlens.engine.model.targets import output_of
from convlens.engine.runtime import backend

Explain = Callable[[Network, NDArray[np.float32], NDArray[np.int64]], ArrayLike]


@dataclass(frozen=True)
class RandomizationCurve:
    """Similarity of the explanations to the trained network's as layers are re-initialized.

    Attributes:
        model: the model's name.
        layer: name of the explained layer.
        method: name of the explanation method.
        seed: seed of the random weights.
        units: (n,) the unit explained in each image.
        layers: names of the k re-initialized layers, the top one first. Row i of the arrays below
            is measured after re-initializing layers 0 to i.
        explanation: (n, h, w) the trained network's explanation, absolute values summed over
            channels.
        explanations: (k, n, h, w) the same after re-initialization.
        spearman: (k, n) rank correlation with `explanation`, -1 to 1; NaN if one of the two is
            constant or not finite.
        ssim: (k, n) mean structural similarity with `explanation`, each divided by its largest
            value; NaN if one of the two is constant or not finite.
    """

    model: str
    layer: str
    method: str
    seed: int
    units: NDArray[np.int64]
    layers: tuple[str, ...]
    explanation: NDArray[np.float32]
    explanations: NDArray[np.float32]
    spearman: NDArray[np.float64]
    ssim: NDArray[np.float64]


def randomization_curve(
    model: keras.Model | Network,
    images: ArrayLike,
    units: Units = None,
    *,
    layer: str | None = None,
    method: Method | Explain = "gradient",
    position: Position = "strongest",
    seed: int = 0,
    batch_size: int = 64,
) -> RandomizationCurve:
    """Re-initialize layers from the top down, and compare each explanation with the original.

    The model has its own weights again at the end, also after an error.

    Args:
        model: a Keras model, or a `Network`.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        units: the class, or unit of `layer`, to explain: one for each image, or one for all; None
            for the unit that each image excites most.
        layer: name of the layer to explain, and the first to be re-initialized; None for the class
            scores before the softmax.
        method: as in `deconvolve`; or a function of (network, images, units) that returns
            explanations (n, h, w) or (n, h, w, c).
        position: as in `deconvolve`.
        seed: seed of the random weights; see `reinitialize`.
        batch_size: number of images in a batch.

    Returns:
        The similarities after each layer; see `RandomizationCurve`.

    Raises:
        ValueError: an unknown layer or method, images or units of a wrong shape or out of range,
            explanations of a wrong shape.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> randomization_curve(load_mnist_cnn(), images[:4], labels[:4]).layers[:2]
        ('predictions', 'dense_1')
    """
    if not callable(method) and method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}")
    network = Network.of(model)
    target = output_of(network, layer)
    given = np.asarray(images)
    x = network.check_batch(given)
    chosen = (
        _most_excited_units(network, x, layer)
        if units is None
        else _unit_of_each(network, x, target, units)
    )

    def explain() -> NDArray[np.float32]:
        if callable(method):
            found = np.asarray(method(network, x, chosen), np.float32)
        else:
            found = deconvolve(
                network, x, layer, chosen, method=method, position=position, batch_size=batch_size
            ).images
        if found.shape not in (x.shape, x.shape[:3]):
            raise ValueError(
                f"explanations must have shape {x.shape[:3]} or {x.shape}, not {found.shape}"
            )
        size = np.abs(found)
        return size.sum(axis=-1) if size.ndim == x.ndim else size

    first = explain()
    names, found = _cascade(network, target, explain, np.random.default_rng(seed))
    after = np.stack(found) if found else np.zeros((0, *first.shape), np.float32)
    return RandomizationCurve(
        model=network.name,
        layer=target,
        method=getattr(method, "__name__", type(method).__name__) if callable(method) else method,
        seed=seed,
        units=chosen,
        layers=tuple(names),
        explanation=first,
        explanations=after,
        spearman=_compare_each(rank_correlation, first, after),
        ssim=_compare_each(scaled_similarity, first, after),
    )


def _cascade(
    network: Network,
    target: str,
    explain: Callable[[], NDArray[np.float32]],
    draw: np.random.Generator,
) -> tuple[list[str], list[NDArray[np.float32]]]:
    """Return the layers re-initialized, one after another, and the explanation after each."""
    done: set[int] = set()
    names, found = [], []
    with network.variables_restored():
        for name in reversed(network.below(target)):
            own = network.layers[name]
            if id(own) in done or not reinitialize(own, draw):
                continue
            done.add(id(own))
            network.refresh()
            names.append(name)
            found.append(explain())
    return names, found


def reinitialize(layer: Any, draw: np.random.Generator) -> bool:
    """Give a layer new random weights, in place, and return whether any of them changed.

    Each variable gets new values from its own initializer. If the initializer gives constants
    (biases, and the scales, shifts and statistics of batch normalization) or has no seed, the
    variable's values are permuted instead. Constants would change the scale of the layer's outputs,
    and the check would measure a silent network instead of an untrained one. The statistics of a
    `Normalization` layer describe the data and are kept.
    """
    if isinstance(layer, keras.layers.Normalization):
        return False
    changed = False
    for variable in layer.weights:
        old = backend.host_array(variable).copy()  # assigning may write to the same memory
        number = int(draw.integers(2**31))
        initializer = _initializer_of(layer, variable.name)
        config = {} if initializer is None else initializer.get_config()
        if initializer is not None and "seed" in config:
            fresh = type(initializer).from_config({**config, "seed": number})
            new = np.asarray(keras.ops.convert_to_numpy(fresh(old.shape, dtype=variable.dtype)))
        else:
            new = np.random.default_rng(number).permutation(old.ravel()).reshape(old.shape)
        variable.assign(new)
        changed |= bool((new != old).any())
    return changed


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation of two arrays of the same shape; ties share a rank.

    The result is NaN if either array is constant or has values that are not finite.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    one, other = (rankdata(v.ravel()) for v in (a, b))
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else float("nan")


def scaled_similarity(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the mean structural similarity of two maps (h, w), each divided by its largest value.

    Args:
        a, b: maps without negative values. If either is constant or has values that are not
            finite, the result is NaN.
    """
    for v in (a, b):
        if not np.isfinite(v).all() or v.max() == v.min():
            return float("nan")
    one, other = (np.asarray(v, np.float64)[..., None] / float(v.max()) for v in (a, b))
    return float(structural_similarity(one, other).mean())


def _compare_each(
    measure: Callable[[NDArray[Any], NDArray[Any]], float],
    first: NDArray[np.float32],
    after: NDArray[np.float32],
) -> NDArray[np.float64]:
    rows = [[measure(a, b) for a, b in zip(first, step, strict=True)] for step in after]
    return np.array(rows, np.float64).reshape(after.shape[:2])


def _initializer_of(layer: Any, variable: str) -> Any | None:
    """Return the initializer of a layer's variable, such as `kernel_initializer` for 'kernel'."""
    for stem in (variable, variable.removesuffix("_kernel")):
        found = getattr(layer, f"{stem}_initializer", None)
        if isinstance(found, keras.initializers.Initializer):
            return found
    return None


def _most_excited_units(
    network: Network, x: NDArray[np.float32], layer: str | None
) -> NDArray[np.int64]:
    if layer is None:
        return class_scores(network, x).argmax(axis=1)
    maps = activations(network, x, [layer])[layer]
    return maps.reshape(len(x), -1, maps.shape[-1]).max(axis=1).argmax(axis=1)


def _unit_of_each(
    network: Network, x: NDArray[np.float32], layer: str, units: Units
) -> NDArray[np.int64]:
    chosen = network.check_units(layer, units)
    if len(chosen) not in (1, len(x)):
        raise ValueError(
            f"units must be one unit or {len(x)} units, one for each image, not {len(chosen)}"
        )
    return np.resize(chosen, len(x))

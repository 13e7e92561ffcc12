"""A model bound to its images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.ascent.maximize import Maximization, maximize
from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.options import check_range
from convlens.engine.ascent.plan import LIMITS, AscentPlan, EffortLevel, ascent_plans
from convlens.engine.explain.deconvnet import Reconstruction, deconvolve
from convlens.engine.explain.invariance import Invariance, Transformation, invariance
from convlens.engine.explain.occlusion import Occlusion, occlude
from convlens.engine.explain.patches import TopPatches, top_patches
from convlens.engine.explain.topk import TopImages, top_images
from convlens.engine.features.activations import activations
from convlens.engine.features.gram import Divisor, gram_matrix
from convlens.engine.features.maps import MapStore
from convlens.engine.features.survey import Survey, Wanted, survey_network
from convlens.engine.model.classes import class_layer, class_numbers
from convlens.engine.model.network import Network, Units
from convlens.engine.model.targets import output_of
from convlens.pictures.fit import fitted

T = TypeVar("T")


class Lens:
    """A model with images to examine it on, and the range of their pixels.

    Compiled functions are reused between calls; the model's current weights are read in each call,
    except between `share` and `unshare`.

    Attributes:
        network: the model as a `Network`, which all functions and checks accept as a model.
        images: (n, *positions, c) float32.
        labels: (n,) int64, the classes of the images, or None.
        value_range: (low, high) of the pixels that the model takes.
        source: description of the origin of the images.
        range_given: False if nobody stated the range and (0, 1) was assumed.
        labels_problem: the reason why labels that came with the images are not used; None where
            they are, or where there were none.
        rows: input → (n, …) the values of the model's other inputs for each image; empty where
            they are held.
        synthetic: True if the images are textures that stand in for images that nobody gave.
    """

    def __init__(
        self,
        model: keras.Model | Network,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        source: str = "given images",
        range_given: bool = True,
        labels_problem: str | None = None,
        rows: Mapping[str, NDArray[Any]] | None = None,
        synthetic: bool = False,
    ) -> None:
        """Bind a model to images.

        Args:
            model: a Keras model or a `Network`.
            images: (n, *positions, c).
            labels: the classes of the images in one of the forms of `class_numbers`, or None.
            value_range: (low, high) of the pixels that the model takes.
            source: description of the origin of the images.
            range_given: whether the range was stated, and not assumed.
            labels_problem: the reason why labels that came with the images are left out.
            rows: input → (n, …) the values of the model's other inputs that belong to each image.
                The accuracy is that of the model's predictions with them; everything else is
                computed with the values at which the inputs are held.
            synthetic: whether the images are textures that stand in for images that nobody gave.
                A filter that is silent on them is dead only if images made for it do not wake it.

        Raises:
            TypeError: not a Keras model.
            ValueError: a model that `Network` does not support, images of a wrong shape or outside
                the range, or labels that are not one class for each image.
        """
        self.network = Network.of(model)
        self.images = self.network.check_images(images)
        self.value_range = check_range(value_range)
        self.source = source
        low, high = self.value_range
        smallest, largest = float(self.images.min()), float(self.images.max())
        slack = 1e-3 * (high - low)
        if smallest < low - slack or largest > high + slack:
            raise ValueError(
                f"the images' values range from {smallest:g} to {largest:g}, but "
                f"{self.network.name} takes {low:g} to {high:g}: rescale them, or state the range"
            )
        self.range_given = range_given
        self.labels = None if labels is None else class_numbers(labels, len(self.images))
        self.labels_problem = labels_problem
        self.rows = dict(rows or {})
        self.synthetic = synthetic
        self._shared: dict[Hashable, Any] | None = None
        self._whole = Wanted()
        self._plans: tuple[Any, dict[EffortLevel, dict[str, AscentPlan]]] = (None, {})

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.network.model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.network.name

    @property
    def conv_layers(self) -> tuple[str, ...]:
        """The convolutions' names, in the order of the network."""
        return self.network.conv_layers

    def share(self, seed: int | None = None) -> None:
        """Share what is computed among all checks, until `unshare`; a second call changes nothing.

        The weights must not change meanwhile: the run of all checks of a model begins it, and ends
        it before code of others runs.

        Args:
            seed: seed of the sketches that the survey makes for a baseline; None for none.
        """
        if self._shared is None:
            self._whole = Wanted.all_of(self.network, seed)
            self._shared = {}

    def unshare(self) -> None:
        """Let go of what was shared: from now on each call reads the current weights."""
        self._shared = None

    @property
    def is_shared(self) -> bool:
        """True between `share` and `unshare`."""
        return self._shared is not None

    @property
    def shared_bytes(self) -> int:
        """The memory of the feature maps that are shared."""
        store = (self._shared or {}).get("maps")
        return 0 if store is None else int(store.nbytes)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return `make()`; while the lens is shared, the result of the first call with the key."""
        if self._shared is None:
            return make()
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Let the network's own functions share results too, while the lens is shared."""
        with self.network.remembering(self._shared):
            yield

    def survey(self, wanted: Wanted) -> Survey:
        """Return the survey of the images; while the lens is shared, one of all there is to see."""

        def run(what: Wanted) -> Survey:
            self.network.refresh()
            return survey_network(self.network, self.images, what)

        if self._shared is not None and self._whole.covers(wanted):
            return self.once("survey", lambda: run(self._whole))
        return run(wanted)

    def maps(self, layer: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Return a layer's maps (n, *positions, c) for some of the images; do not change them."""
        if self._shared is not None:
            store = self.once("maps", lambda: MapStore(self.network, self.images))
            if layer in store:
                return store.maps(layer, numbers)
        return self.activations(layer, self.images[list(numbers)])[layer]

    def activations(
        self, layers: str | Iterable[str] | None = None, images: ArrayLike | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return layers' feature maps for the lens's images or given ones; see `activations`."""
        return activations(self.network, self.images if images is None else images, layers)

    def maximize(
        self,
        layer: str | Objective | Sequence[Objective] | None = None,
        units: Units = None,
        **options: Any,
    ) -> Maximization:
        """Return images that excite a layer's units, or the classes; see `maximize`.

        A unit that the start noise leaves silent starts again from the lens's images too, or from
        their middle, where the images to find are smaller; larger ones continue them by mirror
        images.
        """
        options.setdefault("value_range", self.value_range)
        whole = self.images.shape[1:-1]
        if "seed_images" not in options:
            if None in self.network.input_shape[:-1]:
                options.setdefault("size", whole)
            size = options.get("size") or whole
            if len(size) == len(whole):
                options.setdefault("restart_images", fitted(self.images, size))
        with self.sharing():
            return maximize(self.network, layer, units, **options)

    def plan_ascent(self, layer: str | None, level: EffortLevel = "standard") -> AscentPlan:
        """Return the units, steps and image size of a layer's ascents at a level of effort.

        The network has one budget of operations, which is spread over its convolutions and its
        classes, so the plan of a layer does not depend on what else is asked for.

        Args:
            layer: the layer's name; None for the model's classes.
            level: 'quick', 'standard' or 'full'.

        Raises:
            ValueError: an unknown layer or level, or a model without classes.
        """
        if level not in LIMITS:
            raise ValueError(f"level must be {', '.join(map(repr, LIMITS))}, not {level!r}")
        name = output_of(self.network, layer)
        if self._plans[0] is not self.network.image:  # the model was read anew
            self._plans = (self.network.image, {})
        plans = self._plans[1].setdefault(level, {})
        if name not in plans:
            goals = [name for name in self.conv_layers if self.network.reaches(name)]
            with suppress(ValueError):  # a model without classes
                goals.append(class_layer(self.network))
            ordered = [goal for goal in self.network.outputs if goal in {*goals, name}]
            found = ascent_plans(self.network, ordered, self.images.shape[1:], LIMITS[level])
            plans.update(found if name in goals else {name: found[name]})
        return plans[name]

    def deconvolve(
        self,
        layer: str | None,
        units: Units = None,
        images: ArrayLike | None = None,
        **options: Any,
    ) -> Reconstruction:
        """Return deconvnet reconstructions for the first image or given ones; see `deconvolve`."""
        return deconvolve(
            self.network, self.images[0] if images is None else images, layer, units, **options
        )

    def top_images(
        self, data: Any = None, layers: str | Iterable[str] | None = None, **options: Any
    ) -> TopImages:
        """Return the lens's or given images that excite each unit most; see `top_images`."""
        return top_images(self.network, self.images if data is None else data, layers, **options)

    def top_patches(
        self, top: TopImages, layer: str, units: Units = None, **options: Any
    ) -> TopPatches:
        """Return the patches of the strongest images that excite units; see `top_patches`."""
        return top_patches(self.network, top, layer, units, **options)

    def occlude(self, images: ArrayLike | None = None, **options: Any) -> Occlusion:
        """Return the effect of hiding parts of the lens's images or given ones; see `occlude`."""
        if images is None and self.labels is not None:
            options.setdefault("classes", self.labels)
        options.setdefault("value", sum(self.value_range) / 2)
        return occlude(self.network, self.images if images is None else images, **options)

    def invariance(
        self, transformation: Transformation, images: ArrayLike | None = None, **options: Any
    ) -> Invariance:
        """Return invariance curves for the lens's images or given ones; see `invariance`."""
        if images is None and self.labels is not None:
            options.setdefault("classes", self.labels)
        options.setdefault("fill", self.value_range[0])
        given = self.images if images is None else images
        return invariance(self.network, given, transformation, **options)

    def gram(
        self, layer: str, divisor: Divisor = "none", images: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Return the Gram matrices (n, c, c) of a layer's feature maps; see `gram_matrix`."""
        layer = self.network.find(layer)
        gram: NDArray[np.float32] = gram_matrix(self.activations(layer, images)[layer], divisor)
        return gram

    def distinct_images(self, max_images: int) -> Sequence[int]:
        """Return the indices of images that all differ: one of each class, then further ones.

        Args:
            max_images: maximum number of images; there may be fewer.
        """
        first = self.one_of_each(max_images)
        found: list[int] = []
        for i in [*first, *range(len(self.images))]:
            if len(found) == max_images:
                break
            if not any(np.array_equal(self.images[i], self.images[j]) for j in found):
                found.append(int(i))
        return found

    def one_of_each(self, max_images: int = 10) -> Sequence[int]:
        """Return the index of the first image of each class; without labels, of the first images.

        Args:
            max_images: maximum number of images.
        """
        if self.labels is None:
            return list(range(min(max_images, len(self.images))))
        _, first = np.unique(self.labels, return_index=True)
        return [int(i) for i in first[:max_images]]

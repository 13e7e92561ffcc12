"""The checks that a model gets when nobody has written a test: one property a class.

Each property looks (runs the engine), draws what it saw, and judges it. Looking and judging are
apart so that a model that fails still gets its pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.checks.accuracy import SIGNIFICANCE, assert_accuracy, chance, luck
from convlens.checks.ascent import assert_activation_increases
from convlens.checks.batch_norm import assert_batch_norm_trained, batch_norm_layers
from convlens.checks.classes import assert_class_images_recognized
from convlens.checks.deconvnet import assert_deconv_round_trip
from convlens.checks.filters import (
    FilterStatistics,
    assert_no_dead_filters,
    assert_no_duplicate_filters,
    filter_statistics,
)
from convlens.checks.finite import assert_finite, assert_finite_weights
from convlens.checks.gram import assert_gram_invariant, assert_gram_symmetric
from convlens.checks.repeatable import assert_repeatable
from convlens.checks.saturation import assert_not_saturated
from convlens.checks.style import assert_style_closer, assert_style_transfer_converges
from convlens.engine.ascent.maximize import Maximization
from convlens.engine.ascent.options import Preset
from convlens.engine.explain.deconvnet import Reconstruction, deconvolve
from convlens.engine.features.activations import activations
from convlens.engine.runtime.progress import ItemProgress
from convlens.lens import Lens
from convlens.pictures.photographs import read_image, resized
from convlens.style.task import StyleTransfer
from convlens.style.transfer import transfer_style

if TYPE_CHECKING:
    from convlens.pictures import Figure

Measures = dict[str, float | int]
Pictures = Mapping[str, "Callable[[], Figure]"]


@dataclass(frozen=True)
class Settings:
    """How much work the battery does.

    Attributes:
        steps: of each ascent.
        units: the most units of a layer that are maximized, spread evenly over it.
        seed: all random draws come from it.
        preset: of each ascent, as for `maximize`.
        memory: the bytes that an ascent's batch may take; None for what is free.
        accuracy: the least share of labeled images to be right; None for more than by chance.
        progress: called with (steps done, steps in all) of an ascent; None shows a bar on a
            terminal.
    """

    steps: int = 300
    units: int = 64
    seed: int = 0
    preset: Preset | None = None
    memory: int | None = None
    accuracy: float | None = None
    progress: ItemProgress | None = None

    def choose(self, count: int) -> list[int]:
        """Return the unit numbers to maximize in a layer of `count` units."""
        if count <= self.units:
            return list(range(count))
        return sorted({round(i) for i in np.linspace(0, count - 1, self.units)})

    def maximize(self, lens: Lens, layer: str | None, units: list[int]) -> Maximization:
        """Return images that excite a layer's units."""
        return lens.maximize(
            layer,
            units,
            steps=self.steps,
            seed=self.seed,
            preset=self.preset,
            memory_budget=self.memory,
            progress=self.progress,
        )


class Property:
    """One property of a model or of one of its layers.

    Attributes:
        name: the item's name, as in ``mnist_cnn::ascent[conv2d_1]``.
        summary: what holds, in a sentence.
    """

    name: str
    summary: str

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        """Return the layers that have it; None stands for the model as a whole."""
        return lens.conv_layers

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        """Return why it cannot apply, or None."""
        return None

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        """Run the engine."""
        raise NotImplementedError

    def measure(self, seen: Any) -> Measures:
        """Return what is known before the verdict, so that a failure is measured too."""
        return {}

    def draw(self, lens: Lens, layer: Any, seen: Any) -> Pictures:
        """Return figures of what was seen, by name, each made when it is called."""
        return {}

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        """Return what was measured.

        Raises:
            AssertionError: the property does not hold.
        """
        raise NotImplementedError


class Finite(Property):
    name = "finite"
    summary = "weights and activations are finite"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return tuple(name for name, layer in lens.network.layers.items() if layer.weights)

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return lens.network.layers[lens.network.find(layer)]

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        examined = assert_finite(seen, name=f"{lens.name} layer {layer!r}")
        assert_finite(lens.activations(layer), name=f"{lens.name}: the output")
        return {"weights": sum(examined.values())}


class Dead(Property):
    name = "dead"
    summary = "every filter fires on some image"

    def look(self, lens: Lens, layer: Any, settings: Settings) -> FilterStatistics:
        return filter_statistics(lens.activations(layer)[layer], layer)

    def measure(self, seen: FilterStatistics) -> Measures:
        return {"units": len(seen.high), "dead": len(seen.dead)}

    def draw(self, lens: Lens, layer: Any, seen: FilterStatistics) -> Pictures:
        from convlens.drawings import draw_activations

        return {"activations": lambda: draw_activations(lens, layer)}

    def judge(self, lens: Lens, layer: Any, seen: FilterStatistics) -> Measures:
        __tracebackhide__ = True
        assert_no_dead_filters(lens.network, lens.images, layer)
        return {}


class Duplicates(Property):
    name = "duplicates"
    summary = "no two filters give the same feature maps"

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return None

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        found = assert_no_duplicate_filters(lens.network, lens.images, layer)[layer]
        return {"duplicates": len(found.duplicates)}


class Gram(Property):
    name = "gram"
    summary = "Gram matrices are symmetric, positive semi-definite and free of position"
    most_images = 8

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        features = lens.activations(layer, lens.images[: self.most_images])[layer]
        return features, lens.gram(layer, images=lens.images[: self.most_images])

    def draw(self, lens: Lens, layer: Any, seen: Any) -> Pictures:
        from convlens.drawings import draw_gram

        return {"gram": lambda: draw_gram(lens, layer, seen[1][0])}

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        features, gram = seen
        title = f"{lens.name} layer {layer!r}: Gram matrix"
        residuals = assert_gram_symmetric(gram, features, name=title)
        measures: Measures = {"gram_residual": residuals.worst}
        if features.shape[1] * features.shape[2] > 1:
            invariance = assert_gram_invariant(features, name=title)
            measures["gram_residual"] = max(residuals.worst, *vars(invariance).values())
        return measures


class Ascent(Property):
    name = "ascent"
    summary = "gradient ascent raises each filter's activation, and more than by chance"

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Maximization:
        units = settings.choose(lens.network.units(layer))
        return settings.maximize(lens, layer, units)

    def measure(self, seen: Maximization) -> Measures:
        gain = seen.trace[-1] - seen.trace[0]
        return {
            "maximized": len(seen.units),
            "gain_min": float(gain.min()),
            "gain_median": float(np.median(gain)),
        }

    def draw(self, lens: Lens, layer: Any, seen: Maximization) -> Pictures:
        from convlens.drawings import draw_curves, draw_maximized

        return {
            "filters": lambda: draw_maximized(seen),
            "ascent": lambda: draw_curves(seen),
        }

    def judge(self, lens: Lens, layer: Any, seen: Maximization) -> Measures:
        __tracebackhide__ = True
        assert_activation_increases(lens.network, seen)
        return {}


class Deconvnet(Property):
    name = "deconvnet"
    summary = "the deconvnet undoes the network stage by stage"
    most_images = 4

    def look(self, lens: Lens, layer: Any, settings: Settings) -> list[Reconstruction]:
        images = lens.images[lens.one_of_each()]
        maps = activations(lens.network, images, layer)[layer]
        strongest = np.argsort(-maps.max(axis=(1, 2)), axis=1)[:, :4]
        return [deconvolve(lens.network, images, layer, column) for column in strongest.T]

    def draw(self, lens: Lens, layer: Any, seen: list[Reconstruction]) -> Pictures:
        from convlens.drawings import draw_reconstructions

        return {"deconvnet": lambda: draw_reconstructions(lens, layer, seen)}

    def judge(self, lens: Lens, layer: Any, seen: list[Reconstruction]) -> Measures:
        __tracebackhide__ = True
        few = lens.images[lens.one_of_each(self.most_images)]
        trip = assert_deconv_round_trip(lens.network, few, layer)
        return {"stages": trip.shapes, "deconvnet_residual": trip.worst}


class BatchNorm(Property):
    name = "batchnorm"
    summary = "the statistics of each batch normalization come from data"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return batch_norm_layers(lens.network)

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return None

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        assert_batch_norm_trained(lens.network, layer)
        return {}


class Repeatable(Property):
    name = "repeatable"
    summary = "an image's outputs are the same each time, and in any batch"
    most_images = 8

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return (None,)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        return "one image alone is no batch: give two or more" if len(lens.images) < 2 else None

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return lens.images[: self.most_images]

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        found = assert_repeatable(lens.network, seen)
        return {"repeat_residual": max(found.values())}


class OfClasses(Property):
    """A property of the vector of classes that a model ends with."""

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return (None,)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        output = lens.network.output_layer
        if output is None or len(lens.network.outputs[output].shape) != 2:
            return f"{lens.name} has no vector of classes as its output"
        if lens.network.units(output) < 2:
            return f"{lens.name} has a single output, and so no other class to tell it from"
        return None

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return None


class Saturation(OfClasses):
    """Where there is a softmax."""

    name = "saturation"
    summary = "the softmax is not so sure that it rounds to 0 and 1"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        output = lens.network.output_layer
        if output is None or lens.network.activation_name(output) != "softmax":
            return ()
        return super().layers(lens)

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        margins = assert_not_saturated(lens.network, lens.images)
        return {"score_margin_median": float(np.median(margins))}


class Accuracy(OfClasses):
    """Where the images have labels."""

    name = "accuracy"
    summary = "labeled images are classified as they should be"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return () if lens.labels is None else super().layers(lens)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        reason = super().reason_to_skip(lens, layer)
        if reason is not None or lens.labels is None:
            return reason
        share = chance(lens.labels, lens.network.units(lens.network.output_layer or ""))
        if luck(len(lens.labels), len(lens.labels), share) > SIGNIFICANCE:
            return "too few labels, or all the same: they cannot tell knowledge from luck"
        return None

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Any:
        return settings.accuracy

    def judge(self, lens: Lens, layer: Any, seen: Any) -> Measures:
        __tracebackhide__ = True
        labels = np.asarray(lens.labels)
        return {"accuracy": assert_accuracy(lens.network, lens.images, labels, least=seen)}


class Classes(OfClasses):
    name = "classes"
    summary = "each class image is recognized as its class"

    def look(self, lens: Lens, layer: Any, settings: Settings) -> Maximization:
        output = lens.network.output_layer or ""
        units = settings.choose(lens.network.units(output))
        return settings.maximize(lens, None, units)

    def draw(self, lens: Lens, layer: Any, seen: Maximization) -> Pictures:
        from convlens.drawings import draw_maximized

        return {"classes": lambda: draw_maximized(seen)}

    def judge(self, lens: Lens, layer: Any, seen: Maximization) -> Measures:
        __tracebackhide__ = True
        margins = assert_class_images_recognized(lens.network, seen)
        return {"classes": len(margins), "margin_min": float(margins.min())}


class Style(Property):
    """That style transfer converges; an item where a content and styles were given."""

    name = "style"
    summary = "style transfer converges, and ends nearer the style"

    def __init__(self, content: str, styles: Sequence[str]) -> None:
        self.content = content
        self.styles = tuple(styles)

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return (None,)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        return None if lens.conv_layers else f"{lens.name} has no convolutional layer"

    def look(self, lens: Lens, layer: Any, settings: Settings) -> StyleTransfer:
        h, w, _ = lens.network.input_shape
        content = read_image(self.content)
        return transfer_style(
            content if h is None or w is None else resized(content, (h, w)),
            list(self.styles),
            lens.network,
            value_range=lens.value_range,
            steps=settings.steps,
            seed=settings.seed,
            memory_budget=settings.memory,
            progress=settings.progress,
        )

    def measure(self, seen: StyleTransfer) -> Measures:
        total = seen.losses["total"]
        return {"style_steps": seen.steps, "style_fall": float(total[-1] / total[0])}

    def draw(self, lens: Lens, layer: Any, seen: StyleTransfer) -> Pictures:
        from convlens.drawings import draw_losses, draw_style

        return {"style": lambda: draw_style(seen), "style-losses": lambda: draw_losses(seen)}

    def judge(self, lens: Lens, layer: Any, seen: StyleTransfer) -> Measures:
        __tracebackhide__ = True
        found = assert_style_transfer_converges(lens.network, seen)
        assert_style_closer(lens.network, seen)
        return {"style_content": min(found.correlation.values())}


class Convolutions(Property):
    """Stands, skipped, for the checks of filters in a model that has none."""

    name = "convolutions"
    summary = "there are filters to look at"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        return (None,)

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        return (
            f"{lens.name} has no convolutional layer, so there is no filter to look at "
            f"(its layers: {', '.join(lens.network.layers)})"
        )


PROPERTIES: tuple[Property, ...] = (
    Finite(),
    Dead(),
    Duplicates(),
    Gram(),
    Ascent(),
    Deconvnet(),
    BatchNorm(),
    Repeatable(),
    Saturation(),
    Accuracy(),
    Classes(),
)


def look_at(prop: Property, lens: Lens, layer: str | None, settings: Settings) -> Any:
    """Run a property's engine, once it is known that the weights are numbers.

    Raises:
        AssertionError: a weight is not finite, naming the layer.
    """
    __tracebackhide__ = True
    if not isinstance(prop, Finite):
        assert_finite_weights(lens.network)
    return prop.look(lens, layer, settings)

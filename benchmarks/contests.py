"""What is timed against what: each contest is one piece of work done by several contestants."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens import (
    Network,
    activations,
    deconvolve,
    gram_matrix,
    maximize,
    top_images,
    transfer_style,
)
from convlens.benchmarks import peers
from convlens.benchmarks.flops import ascent_flops, forward_flops
from convlens.benchmarks.subjects import Setting, Subject, subject
from convlens.benchmarks.timing import Run
from convlens.engine.backend import backend_name

Check = Callable[[Any], None]


class UnavailableError(RuntimeError):
    """A contest that cannot be held here; the message says why."""


@dataclass(frozen=True)
class Work:
    """What one run does.

    Attributes:
        images: how many it makes or looks at.
        steps: how many steps each takes; None for work without.
        gflop: 10⁹ operations of the network's own products; None where they are not counted.
    """

    images: int
    steps: int | None = None
    gflop: float | None = None


@dataclass(frozen=True)
class Contest:
    """One piece of work, done by several.

    Attributes:
        title: what is done.
        contestants: name → a function that does it once.
        ours: the contestant that the benchmark is about.
        references: the contestants that the others are set in proportion to.
        work: what one run of ours does.
        slow: those that take part in the first two rounds alone.
        checks: contestant → a function of its result that raises where that is no working result:
            who does nothing is not to be beaten.
        setting: how it is run.
    """

    title: str
    contestants: dict[str, Run]
    ours: str
    references: tuple[str, ...]
    work: Work
    slow: tuple[str, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    setting: Setting = field(default_factory=Setting)


def forward(setting: Setting) -> Contest:
    """The feature activations of all convolutions."""
    of = subject(setting)
    images = of.images(setting.batch or (1024 if of.shape[0] < 64 else 16))
    last = of.network.conv_layers[-1]
    return Contest(
        f"activations of {len(of.network.conv_layers)} convolutions, {len(images)} images",
        {
            "bare forward passes": peers.bare_forward(of.model, last, lambda: [images]),
            "convlens": lambda: activations(of.network, images, batch_size=len(images)),
        },
        "convlens",
        ("bare forward passes",),
        Work(len(images), gflop=len(images) * forward_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda maps: _finite(*maps.values())},
        setting=setting,
    )


def ascent(setting: Setting) -> Contest:
    """The filters of one convolution by gradient ascent, beside those who do the same."""
    of = subject(setting)
    count = min(setting.batch or 64, of.network.units(of.layer))
    if of.shape[0] >= 64 and setting.batch is None:
        count = 16
    steps = (300 if count == 64 else 20) if setting.full else (50 if count == 64 else 3)
    units = range(count)
    start = maximize(of.network, of.layer, units, steps=1).start
    one = steps // 10 or 1
    contestants: dict[str, Run] = {
        "bare passes": peers.bare_passes(of.model, of.layer, start, steps),
        "convlens": lambda: maximize(of.network, of.layer, units, steps=steps),
        "convlens, tracing included": lambda: maximize(of.model, of.layer, units, steps=steps),
    }
    if of.setting.model == "mnist_cnn":
        contestants[f"one filter at a time, {one} steps each"] = peers.one_at_a_time(
            of.model, of.layer, start, one
        )
    others = {}
    if setting.dtype == "float32":
        others = _installed(
            {
                "tf-keras-vis": lambda: peers.tf_keras_vis(of.model, of.layer, start, steps),
                "xplique": lambda: peers.xplique_ascent(of.model, of.layer, start, steps),
            }
        )
    rises = _rises(of, start)
    checks: dict[str, Check] = {
        name: rises for name in others if name in ("tf-keras-vis", "xplique")
    }
    checks["convlens"] = checks["convlens, tracing included"] = lambda r: rises(r.images)
    checks[f"one filter at a time, {one} steps each"] = rises
    return Contest(
        f"ascent: {count} filters of {of.layer} at {of.shape[0]}×{of.shape[1]}, {steps} steps",
        contestants | others,
        "convlens",
        ("bare passes", *others),
        Work(count, steps, count * steps * ascent_flops(of.network, of.layer, of.shape) / 1e9),
        tuple(others),
        checks,
        setting,
    )


def classes(setting: Setting) -> Contest:
    """The class images of a classifier by gradient ascent."""
    of = subject(setting)
    count = min(10, of.network.units(of.network.output_layer or of.layer))
    steps = (300 if setting.full else 50) if of.shape[0] < 64 else 3
    start = maximize(of.network, None, range(count), steps=1).start
    last = of.network.output_layer or of.layer
    return Contest(
        f"ascent: {count} class images, {steps} steps",
        {
            "bare passes": peers.bare_passes(of.model, last, start, steps),
            "convlens": lambda: maximize(of.network, None, range(count), steps=steps),
        },
        "convlens",
        ("bare passes",),
        Work(count, steps, count * steps * ascent_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda r: _risen(r.trace[0], r.trace[-1])},
        setting=setting,
    )


def vgg19(setting: Setting) -> Contest:
    """16 filters of VGG19's block3_conv1 at 128×128; random weights."""
    import keras

    steps, layer = 10 if setting.full else 2, "block3_conv1"
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG19(include_top=False, weights=None, input_shape=(128, 128, 3))
    network = Network(model)
    options: dict[str, Any] = {"units": range(16), "steps": steps, "checkpoints": 1}
    start = maximize(network, layer, **options | {"steps": 1}).start
    fourier = options | {"preset": "feature-visualization"}
    return Contest(
        f"ascent: 16 filters of VGG19 {layer} at 128×128, {steps} steps",
        {
            "bare passes": peers.bare_passes(model, layer, start, steps),
            "convlens": lambda: maximize(network, layer, **options),
            "convlens, feature-visualization": lambda: maximize(network, layer, **fourier),
        },
        "convlens",
        ("bare passes",),
        Work(16, steps, 16 * steps * ascent_flops(network, layer, (128, 128, 3)) / 1e9),
        checks={"convlens": lambda r: _risen(r.trace[0], r.trace[-1])},
        setting=replace(setting, model="VGG19"),
    )


def deconvnet(setting: Setting) -> Contest:
    """Pairs of image and unit of one convolution, and of image and class."""
    of = subject(setting)
    count = setting.batch or (64 if of.shape[0] < 64 else 8)
    images = of.images(count)
    units = np.arange(count) % of.network.units(of.layer)
    contestants: dict[str, Run] = {
        "one gradient": peers.bare_gradient(of.model, of.layer, images, units),
        "convlens": lambda: deconvolve(of.network, images, of.layer, units),
    }
    others: dict[str, Run] = {}
    if setting.model == "mnist_cnn":
        labels = np.arange(count) % 10
        contestants["convlens, classes"] = lambda: deconvolve(of.network, images, None, labels)
        if setting.dtype == "float32":
            others = _installed(
                {"xplique, classes": lambda: peers.xplique_deconvnet(of.model, images, labels)}
            )
    some: Check = lambda found: _some(found.images)  # noqa: E731
    return Contest(
        f"deconvnet: {count} pairs, {of.layer} and class scores",
        contestants | others,
        "convlens",
        ("one gradient", *others),
        Work(count, gflop=count * ascent_flops(of.network, of.layer, of.shape) / 1e9),
        checks={"convlens": some, "convlens, classes": some, "xplique, classes": _some},
        setting=setting,
    )


def top(setting: Setting) -> Contest:
    """The nine strongest images for all filters of a network."""
    of = subject(setting)
    small = of.shape[0] < 64
    count = setting.batch or ((60_000 if setting.full else 4096) if small else 64)
    images = np.random.default_rng(0).integers(0, 256, (count, *of.shape), dtype=np.uint8)
    last, filters = (
        of.network.conv_layers[-1],
        sum(of.network.units(n) for n in of.network.conv_layers),
    )

    def prepare(batch: Any) -> Any:
        return batch / np.float32(255)

    def batches() -> Any:
        return (prepare(images[i : i + 256]) for i in range(0, len(images), 256))

    return Contest(
        f"top 9 of {count:,} images for {filters} filters",
        {
            "bare forward passes": peers.bare_forward(of.model, last, batches),
            "convlens": lambda: top_images(of.network, images, prepare=prepare),
        },
        "convlens",
        ("bare forward passes",),
        Work(count, gflop=count * forward_flops(of.network, last, of.shape) / 1e9),
        checks={"convlens": lambda r: _finite(*r.activations.values())},
        setting=setting,
    )


def gram(setting: Setting) -> Contest:
    """Gram matrices of feature maps, beside NumPy's product."""
    n, h, c = (16, 64, 256) if setting.full else (8, 32, 128)
    maps = np.random.default_rng(0).random((n, h, h, c), dtype=np.float32)
    flat = maps.reshape(n, h * h, c)
    wanted = flat.transpose(0, 2, 1) @ flat

    def right(found: Any) -> None:
        np.testing.assert_allclose(found, wanted, rtol=1e-4)

    return Contest(
        f"Gram matrices of {n} maps, {h}×{h}×{c}",
        {
            "NumPy's product": lambda: flat.transpose(0, 2, 1) @ flat,
            "convlens": lambda: gram_matrix(maps),
        },
        "convlens",
        ("NumPy's product",),
        Work(n, gflop=2 * n * h * h * c * c / 1e9),
        checks={"convlens": right},
        setting=setting,
    )


def scaling(setting: Setting) -> Contest:
    """16 to 512 filters of VGG19's block4_conv1 at 48×48, 2 steps; random weights."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.VGG19(include_top=False, weights=None, input_shape=(48, 48, 3))
    network = Network(model)

    def run(count: int) -> Run:
        # As often as makes 512 units, so that equal times are equal costs a unit.
        def climb() -> None:
            for _ in range(512 // count):
                maximize(network, "block4_conv1", range(count), steps=2, checkpoints=1)

        return climb

    counts = (16, 32, 64, 128, 256, 512)
    return Contest(
        "cost of 512 units of VGG19 block4_conv1 at 48×48, by how many a call",
        {f"{count} units": run(count) for count in counts},
        "512 units",
        ("16 units",),
        Work(512, 2, 1024 * ascent_flops(network, "block4_conv1", (48, 48, 3)) / 1e9),
        setting=replace(setting, model="VGG19"),
    )


_TUTORIAL = "the tutorial's loop"
_STYLE = ("block1_conv1", "block2_conv1", "block3_conv1")


def _style_network(side: int) -> tuple[Any, Any, Any]:
    """Return VGG19 to block3_conv4, a content and a style (h, w, 3).

    With trained weights where they are found, else with random ones, which cost the same.
    """
    import keras

    from convlens import read_image
    from convlens.fixtures._weights import WeightsNotFoundError
    from convlens.fixtures.pretrained import load_pretrained
    from convlens.fixtures.style_pictures import content_picture, style_picture

    try:
        vgg = load_pretrained("VGG19", value_range=(0.0, 1.0))
    except WeightsNotFoundError:
        print("VGG19 has random weights here: set CONVLENS_WEIGHTS to a file of trained ones")
        keras.utils.set_random_seed(0)
        image = keras.Input((None, None, 3))
        pixels = keras.layers.Rescaling(255.0)(image)
        vgg = keras.applications.VGG19(include_top=False, weights=None, input_tensor=pixels)
    model = keras.Model(vgg.inputs[0], vgg.get_layer("block3_conv4").output, name="vgg19")
    return model, read_image(content_picture(side)), read_image(style_picture("waves", side))


def _tutorial(
    model: Any, content: NDArray[Any], picture: NDArray[Any], steps: int, **options: Any
) -> dict[str, Run]:
    """Return the loop of TensorFlow's tutorial, where TensorFlow runs."""
    if backend_name() != "tensorflow":
        return {}
    images = content[None], picture[None]
    run = peers.tutorial_style(model, *images, "block3_conv4", _STYLE, steps, **options)
    return {_TUTORIAL: run}


def style(setting: Setting) -> Contest:
    """Steps of style transfer on VGG19 to block3_conv4."""
    side, steps = (256, 60) if setting.full else (96, 10)
    model, content, picture = _style_network(side)
    network = Network(model)
    layers: dict[str, Any] = {"content_layers": "block3_conv4", "style_layers": _STYLE}
    options = layers | {"steps": steps}
    tutorial = _tutorial(model, content, picture, steps)

    def fell(result: Any) -> None:
        if not result.losses["total"][-1] < result.losses["total"][0]:
            raise RuntimeError("the loss did not fall")

    return Contest(
        f"style transfer: VGG19 to block3_conv4 at {side}×{side}, {steps} steps",
        {
            "bare passes": peers.bare_style_passes(model, content[None], steps),
            **tutorial,
            "convlens": lambda: transfer_style(content, picture, network, **options),
            "convlens, the tutorial's preset": lambda: transfer_style(
                content, picture, network, preset="tensorflow-tutorial", size=side, **options
            ),
        },
        "convlens",
        ("bare passes", *tutorial),
        Work(1, steps, steps * ascent_flops(network, "block3_conv4", (side, side, 3)) / 1e9),
        checks={"convlens": fell},
        setting=replace(setting, model="VGG19"),
    )


def style_loss(setting: Setting) -> Contest:
    """The loss that the tutorial's loop has after 200 steps, and the way to it.

    With a style weight of 100: with the tutorial's own 0.01 its Adam is above where it began.
    """
    side, steps = (128, 200) if setting.full else (64, 40)
    model, content, picture = _style_network(side)
    network = Network(model)
    tutorial = _tutorial(model, content, picture, steps, style_weight=100.0)
    if not tutorial:
        raise UnavailableError("the loop of TensorFlow's tutorial runs on TensorFlow alone")
    goal = tutorial[_TUTORIAL]()[1]

    def reach() -> Any:
        return transfer_style(
            content,
            picture,
            network,
            content_layers="block3_conv4",
            style_layers=_STYLE,
            preset="tensorflow-tutorial",
            size=side,
            style_weight=100.0,
            optimizer="lbfgs",
            steps=steps,
            until_loss=goal,
        )

    def reached(result: Any) -> None:
        if not result.losses["total"][-1] <= goal:
            raise RuntimeError(f"the loss of {goal:.6g} was not reached in {result.steps} steps")

    return Contest(
        f"style transfer: the loss of the tutorial's loop after {steps} steps, {side}×{side}",
        {**tutorial, "convlens": reach},
        "convlens",
        tuple(tutorial),
        Work(1),
        checks={"convlens": reached},
        setting=replace(setting, model="VGG19"),
    )


def zero_code(setting: Setting) -> Contest:
    """`pytest --convlens mnist_cnn` as a process of its own, beside the import of Keras alone."""
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run += ["--convlens", "mnist_cnn", "--convlens-steps", "300" if setting.full else "30"]

    def process(command: list[str]) -> Run:
        return lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def passed(out: Any) -> None:
        if "21 passed" not in out:
            raise RuntimeError(f"the run did not pass:\n{out}")

    return Contest(
        "the zero-code run: pytest --convlens mnist_cnn, as a process",
        {
            "import of Keras": process([sys.executable, "-c", "import keras"]),
            "convlens": process(run),
        },
        "convlens",
        ("import of Keras",),
        Work(1),
        checks={"convlens": passed},
        setting=setting,
    )


CONTESTS: dict[str, Callable[[Setting], Contest]] = {
    "activations": forward,
    "ascent": ascent,
    "classes": classes,
    "vgg19": vgg19,
    "deconvnet": deconvnet,
    "top": top,
    "gram": gram,
    "scaling": scaling,
    "style": style,
    "style-loss": style_loss,
    "zero-code": zero_code,
}


def _rises(of: Subject, start: NDArray[Any]) -> Check:
    """Return a check that images (n, h, w, c) excite each its unit more than the start did."""

    def means(images: NDArray[Any]) -> NDArray[Any]:
        maps = activations(of.network, images, of.layer)[of.layer]
        found: NDArray[Any] = maps.mean(axis=(1, 2)).astype(np.float32).diagonal()
        return found

    before = means(start)

    def check(images: Any) -> None:
        _risen(before, means(np.asarray(images, np.float32)))

    return check


def _risen(before: NDArray[Any], after: NDArray[Any]) -> None:
    if not np.median(after - before) > 0:
        raise RuntimeError("the activations did not rise: this contestant does no work")


def _finite(*arrays: Any) -> None:
    for array in arrays:
        if not np.isfinite(np.asarray(array, np.float32)).all():
            raise RuntimeError("the result is not finite")


def _some(array: Any) -> None:
    _finite(array)
    if not np.any(array):
        raise RuntimeError("the result is zero everywhere")


def _installed(makers: dict[str, Callable[[], Run]]) -> dict[str, Run]:
    """Return the peers that are installed; they run on TensorFlow alone."""
    found: dict[str, Run] = {}
    if backend_name() != "tensorflow":
        return found
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError:
            print(f"{name} is not installed: pip install 'pytest-convlens[peers]'")
    return found

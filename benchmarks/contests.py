"""What is timed against what: each contest is one piece of work done by several contestants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens import Network, deconvolve, maximize, top_images, transfer_style
from convlens.benchmarks import peers
from convlens.fixtures.mnist_cnn import load_mnist_cnn

Run = Callable[[], Any]


@dataclass(frozen=True)
class Contest:
    """One piece of work, done by several.

    Attributes:
        title: what is done.
        contestants: name → a function that does it once.
        references: the contestants that the others are set in proportion to.
        slow: those that take part in the first two rounds alone.
    """

    title: str
    contestants: dict[str, Run]
    references: tuple[str, ...]
    slow: tuple[str, ...] = ()


def ascent() -> Contest:
    """All 64 filters of the shipped network's third convolution, 300 steps."""
    model, layer, steps = load_mnist_cnn(), "conv2d_3", 300
    network = Network(model)
    start = maximize(network, layer, steps=1).start
    contestants: dict[str, Run] = {
        "bare passes": peers.bare_passes(model, layer, start, steps),
        "convlens": lambda: maximize(network, layer, steps=steps),
        "convlens, tracing included": lambda: maximize(model, layer, steps=steps),
    }
    others = _installed(
        {
            "tf-keras-vis": lambda: peers.tf_keras_vis(model, layer, start, steps),
            "xplique": lambda: peers.xplique_ascent(model, layer, start, steps),
        }
    )
    return Contest(
        f"ascent: 64 filters of {layer}, {steps} steps, one batch",
        contestants | others,
        ("bare passes", *others),
        tuple(others),
    )


def vgg19() -> Contest:
    """16 filters of VGG19's block3_conv1 at 128×128, 10 steps; random weights."""
    import keras

    steps, layer = 10, "block3_conv1"
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
        ("bare passes",),
    )


def deconvnet() -> Contest:
    """64 pairs of image and unit of the third convolution, and of image and class."""
    model = load_mnist_cnn()
    network = Network(model)
    images = np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
    units, classes = np.arange(64), np.arange(64) % 10
    others = _installed(
        {"xplique, classes": lambda: peers.xplique_deconvnet(model, images, classes)}
    )
    return Contest(
        "deconvnet: 64 pairs, conv2d_3 and class scores",
        {
            "one gradient": peers.bare_gradient(model, "conv2d_3", images, units),
            "convlens": lambda: deconvolve(network, images, "conv2d_3", units),
            "convlens, classes": lambda: deconvolve(network, images, None, classes),
            **others,
        },
        ("one gradient", *others),
    )


def top() -> Contest:
    """The nine strongest of 60,000 images for the 136 filters of the shipped network."""
    model = load_mnist_cnn()
    network = Network(model)
    images = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), dtype=np.uint8)

    def prepare(batch: Any) -> Any:
        return batch[..., None] / np.float32(255)

    def batches() -> Any:
        return (prepare(images[i : i + 256]) for i in range(0, len(images), 256))

    return Contest(
        "top 9 of 60,000 images for 136 filters",
        {
            "bare forward passes": peers.bare_forward(model, "conv2d_3", batches),
            "convlens": lambda: top_images(network, images, prepare=prepare),
        },
        ("bare forward passes",),
    )


def scaling() -> Contest:
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
        ("16 units",),
    )


_STYLE = ("block1_conv1", "block2_conv1", "block3_conv1")


def _style_network() -> tuple[Any, Any, Any]:
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
    return model, read_image(content_picture(256)), read_image(style_picture("waves", 256))


def style() -> Contest:
    """Thirty steps of style transfer at 256×256 on VGG19 to block3_conv4."""
    model, content, picture = _style_network()
    steps = 30
    network = Network(model)
    layers: dict[str, Any] = {"content_layers": "block3_conv4", "style_layers": _STYLE}
    options = layers | {"steps": steps}
    tutorial = peers.tutorial_style(
        model, content[None], picture[None], "block3_conv4", _STYLE, steps
    )
    return Contest(
        f"style transfer: VGG19 to block3_conv4 at 256×256, {steps} steps",
        {
            "bare passes": peers.bare_style_passes(model, content[None], steps),
            "the tutorial's loop": tutorial,
            "convlens, the tutorial's preset": lambda: transfer_style(
                content, picture, network, preset="tensorflow-tutorial", size=256, **options
            ),
            "convlens, L-BFGS": lambda: transfer_style(content, picture, network, **options),
        },
        ("bare passes", "the tutorial's loop"),
    )


def style_loss() -> Contest:
    """The loss that the tutorial's loop has after 200 steps at 128×128, and the way to it.

    With a style weight of 100: with the tutorial's own 0.01 its Adam is above where it began.
    """
    model, content, picture = _style_network()
    content, picture = content[::2, ::2], picture[::2, ::2]
    network = Network(model)
    steps = 200
    tutorial = peers.tutorial_style(
        model, content[None], picture[None], "block3_conv4", _STYLE, steps, style_weight=100.0
    )
    goal = tutorial()[1]

    def reach() -> None:
        result = transfer_style(
            content,
            picture,
            network,
            content_layers="block3_conv4",
            style_layers=_STYLE,
            preset="tensorflow-tutorial",
            size=128,
            style_weight=100.0,
            optimizer="lbfgs",
            steps=steps,
            until_loss=goal,
        )
        if not result.losses["total"][-1] <= goal:
            raise RuntimeError(f"the loss of {goal:.6g} was not reached in {result.steps} steps")

    return Contest(
        f"style transfer: the loss that the tutorial's loop has after {steps} steps, 128×128",
        {"the tutorial's loop": tutorial, "convlens, L-BFGS": reach},
        ("the tutorial's loop",),
    )


CONTESTS: dict[str, Callable[[], Contest]] = {
    "ascent": ascent,
    "vgg19": vgg19,
    "deconvnet": deconvnet,
    "top": top,
    "scaling": scaling,
    "style": style,
    "style-loss": style_loss,
}


def _installed(makers: dict[str, Callable[[], Run]]) -> dict[str, Run]:
    """Return the peers that are installed."""
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError:
            print(f"{name} is not installed: pip install 'pytest-convlens[peers]'")
    return found

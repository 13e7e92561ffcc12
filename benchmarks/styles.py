"""Benchmarks of style transfer against the bare passes and the loop of TensorFlow's tutorial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from convlens import Network, transfer_style
from convlens.benchmarks import peers
from convlens.benchmarks.contest import Contest, Work
from convlens.benchmarks.subjects import Setting, UnavailableError
from convlens.benchmarks.timing import Run
from convlens.engine.model.flops import ascent_flops
from convlens.engine.runtime.backend import backend_name

_TUTORIAL = "the tutorial's loop"


_STYLE = ("block1_conv1", "block2_conv1", "block3_conv1")


def _style_network(side: int) -> tuple[Any, Any, Any]:
    """Return VGG19 up to block3_conv4, a content and a style picture (h, w, 3).

    The weights are random if no trained ones are found; the cost is the same.
    """
    import keras

    from convlens import read_image
    from convlens.fixtures._weights import WeightsNotFoundError
    from convlens.fixtures.pretrained import load_pretrained
    from convlens.fixtures.style_pictures import content_picture, style_picture

    try:
        vgg = load_pretrained("VGG19", value_range=(0.0, 1.0))
    except WeightsNotFoundError:
        print("VGG19 has random weights: set CONVLENS_WEIGHTS to a file with trained weights")
        keras.utils.set_random_seed(0)
        image = keras.Input((None, None, 3))
        pixels = keras.layers.Rescaling(255.0)(image)
        vgg = keras.applications.VGG19(include_top=False, weights=None, input_tensor=pixels)
    model = keras.Model(vgg.inputs[0], vgg.get_layer("block3_conv4").output, name="vgg19")
    return model, read_image(content_picture(side)), read_image(style_picture("waves", side))


def _tutorial(
    model: Any, content: NDArray[Any], picture: NDArray[Any], steps: int, **options: Any
) -> dict[str, Run]:
    """Return the loop of TensorFlow's tutorial as a contestant, if TensorFlow is the backend."""
    if backend_name() != "tensorflow":
        return {}
    images = content[None], picture[None]
    run = peers.tutorial_style(model, *images, "block3_conv4", _STYLE, steps, **options)
    return {_TUTORIAL: run}


def style(setting: Setting) -> Contest:
    """Benchmark the steps of style transfer on VGG19 up to block3_conv4."""
    side, steps = (256, 60) if setting.full else (96, 10)
    model, content, picture = _style_network(side)
    network = Network(model)
    layers: dict[str, Any] = {"content_layers": "block3_conv4", "style_layers": _STYLE}
    options = layers | {"steps": steps}
    tutorial = _tutorial(model, content, picture, steps)

    def check_loss_fell(result: Any) -> None:
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
        checks={"convlens": check_loss_fell},
        setting=replace(setting, model="VGG19"),
    )


def style_loss(setting: Setting) -> Contest:
    """Benchmark the time to reach the loss that the tutorial's loop has after 200 steps.

    The style weight is 100: with the tutorial's weight of 0.01, its loss increases from the start.
    """
    side, steps = (128, 200) if setting.full else (64, 40)
    model, content, picture = _style_network(side)
    network = Network(model)
    tutorial = _tutorial(model, content, picture, steps, style_weight=100.0)
    if not tutorial:
        raise UnavailableError("the loop of TensorFlow's tutorial needs TensorFlow as backend")
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

    def check_loss_reached(result: Any) -> None:
        if not result.losses["total"][-1] <= goal:
            raise RuntimeError(f"the loss of {goal:.6g} was not reached in {result.steps} steps")

    return Contest(
        f"style transfer: the loss of the tutorial's loop after {steps} steps, {side}×{side}",
        {**tutorial, "convlens": reach},
        "convlens",
        tuple(tutorial),
        Work(1),
        checks={"convlens": check_loss_reached},
        setting=replace(setting, model="VGG19"),
    )

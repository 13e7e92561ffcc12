"""Style transfer of sounds: combine one sound's timing with another's texture.

The method of Ulyanov & Lebedev 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.engine.model.network import Network
from convlens.style.sound import Sound, SpectrogramTransform, read_sound
from convlens.style.task import StyleInterrupted, StyleProgress, StyleTransfer
from convlens.style.transfer import transfer_style

LAYER = "wide"


@dataclass(frozen=True)
class SoundTransfer:
    """A sound in another sound's style, with the details of its computation.

    Attributes:
        sound: the result, as long as the content.
        content, style: the content and the style at the result's rate.
        transfer: the style transfer of the log-spectrograms (t, 1, bins), ln(1 + |S|) / `peak`.
        peak: the largest value of ln(1 + |S|) in content and style.
        window, hop: window and hop of the spectrograms, in samples.
    """

    sound: Sound
    content: Sound
    style: Sound
    transfer: StyleTransfer
    peak: float
    window: int
    hop: int


class SoundInterrupted(StyleInterrupted):
    """Ctrl-C ended a sound's style transfer.

    Attributes:
        result: the transfer of the spectrograms with the lowest loss so far.
        sounds: the same as a `SoundTransfer`.
    """

    def __init__(self, result: StyleTransfer, sounds: SoundTransfer) -> None:
        super().__init__(result)
        self.sounds = sounds


def sound_network(bins: int, *, filters: int = 4096, width: int = 11, seed: int = 0) -> keras.Model:
    """Return a network of one wide convolution over time with random weights, and a ReLU.

    In this network of Ulyanov & Lebedev each filter covers all frequencies of `width` time steps.
    Weights are normally distributed with variance 4 / (width·(bins + filters)).

    Args:
        bins: number of frequencies of the spectrogram.
        filters, width: number of filters and width of the convolution; its layer is named 'wide'.
        seed: seed of the weights.

    Returns:
        A model from series (n, t, 1, bins) to (n, t - width + 1, 1, filters).
    """
    series = keras.Input((None, 1, bins), name="spectrogram")
    size = 2.0 / np.sqrt(width * (bins + filters))
    maps = keras.layers.Conv2D(
        filters,
        (width, 1),
        use_bias=False,
        activation="relu",
        kernel_initializer=keras.initializers.RandomNormal(stddev=size, seed=seed),
        name=LAYER,
    )(series)
    return keras.Model(series, maps, name="random_ears")


def transfer_sound(
    content: Any,
    style: Any,
    *,
    steps: int = 200,
    style_weight: float | None = None,
    filters: int = 4096,
    width: int = 11,
    rate: int | None = 22050,
    window: int = 2048,
    hop: int = 512,
    phase_iterations: int = 100,
    seed: int = 0,
    memory_budget: int | None = None,
    progress: StyleProgress | None = None,
) -> SoundTransfer:
    """Give one sound the texture of another, and keep its timing.

    The log-spectrograms ln(1 + |S|) are the input of one wide random convolution over time, with
    the frequencies as channels (see `sound_network`). Its features represent the content, and their
    Gram matrix over time the style. The phase comes from Griffin & Lim's iteration, starting from
    the content's phase.

    Args:
        content: a WAV file's path, a `Sound`, or samples with their rate; see `read_sound`.
        style: a sound of any length, given like the content.
        steps: number of L-BFGS steps.
        style_weight: β; None for the default of `transfer_style`.
        filters, width: number of filters and width of the convolution.
        rate: samples per second to resample both sounds to; None for the content's own rate.
        window, hop: window and hop of the spectrograms, in samples.
        phase_iterations: number of iterations for the phase.
        seed: seed of the network's weights.
        memory_budget, progress: as in `transfer_style`.

    Returns:
        The sound, and the transfer of the spectrograms; see `SoundTransfer`.

    Raises:
        ValueError: a sound that cannot be read, is silent, or is shorter than `width` time steps;
            an option out of its bounds.
        SoundInterrupted: Ctrl-C; its `sounds` holds the best sound so far.
    """
    given = read_sound(content, rate=rate)
    texture = read_sound(style, rate=given.rate)
    transform = SpectrogramTransform(window, hop)
    spectra = {"content": transform(given.samples), "style": transform(texture.samples)}
    logs = {name: np.log1p(np.abs(s)) for name, s in spectra.items()}
    for name, series in logs.items():
        if len(series) < width:
            raise ValueError(
                f"the {name} has {len(series)} time steps of {hop} samples, but at least {width} "
                "are needed: give a longer sound or a smaller hop"
            )
        if not series.max() > 0:
            raise ValueError(f"the {name} is silent: give a sound with samples other than 0")
    peak = float(max(series.max() for series in logs.values()))

    def to_sound(transfer: StyleTransfer, iterations: int = phase_iterations) -> SoundTransfer:
        magnitudes = np.expm1(transfer.image[:, 0].astype(np.float64) * peak)
        samples = transform.with_phase(
            magnitudes, spectra["content"], len(given.samples), iterations
        )
        sound = Sound(samples.astype(np.float32), given.rate)
        return SoundTransfer(sound, given, texture, transfer, peak, window, hop)

    network = Network(sound_network(transform.bins, filters=filters, width=width, seed=seed))
    try:
        transfer = transfer_style(
            _normalized(logs["content"], peak),
            _normalized(logs["style"], peak),
            network,
            content_layers=LAYER,
            style_layers=LAYER,
            style_weight=style_weight,
            steps=steps,
            value_range=(0.0, peak),
            seed=seed,
            memory_budget=memory_budget,
            progress=progress,
        )
    except StyleInterrupted as stop:
        raise SoundInterrupted(stop.result, to_sound(stop.result)) from None
    try:
        return to_sound(transfer)
    except KeyboardInterrupt:
        raise SoundInterrupted(transfer, to_sound(transfer, iterations=0)) from None


def _normalized(series: NDArray[np.float64], peak: float) -> NDArray[np.float32]:
    return np.clip(series / peak, 0.0, 1.0).astype(np.float32)

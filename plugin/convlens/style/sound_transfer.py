"""Style transfer of sounds (Ulyanov & Lebedev 2016): one sound's timing, another's texture."""

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
    """A sound in another's style, and how it was found.

    Attributes:
        sound: the result, as long as the content.
        content, style: as they were compared, at the result's rate.
        transfer: of the log-spectrograms (t, 1, bins), ln(1 + |S|) over `peak`.
        peak: the largest value of ln(1 + |S|) of content and style.
        window, hop: of the spectrograms, in samples.
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
        result: the spectrogram with the least loss so far.
        sounds: the same, as a `SoundTransfer`.
    """

    def __init__(self, result: StyleTransfer, sounds: SoundTransfer) -> None:
        super().__init__(result)
        self.sounds = sounds


def sound_network(bins: int, *, filters: int = 4096, width: int = 11, seed: int = 0) -> keras.Model:
    """Return a network of one wide convolution over time with random weights, and a ReLU.

    Ulyanov & Lebedev's: each filter sees all frequencies of `width` moments. Weights are drawn from
    a normal distribution of variance 4 / (width·(bins + filters)).

    Args:
        bins: frequencies of the spectrogram.
        filters, width: of the convolution, whose layer is called 'wide'.
        seed: of the weights.

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
    """Give one sound the texture of another, at its own timing.

    The log-spectrograms ln(1 + |S|) go through one wide random convolution over time, with the
    frequencies as its channels (see `sound_network`); its features are the content, and their Gram
    matrix, over the moments, the style. The phase is found by Griffin & Lim's iteration, begun with
    the content's.

    Args:
        content: a WAV file's path, a `Sound`, or samples with their rate; see `read_sound`.
        style: the same, of any length.
        steps: of L-BFGS.
        style_weight: β; None for what `transfer_style` finds.
        filters, width: of the convolution.
        rate: samples a second to which both are resampled; None for the content's own.
        window, hop: of the spectrograms, in samples.
        phase_iterations: of the phase.
        seed: of the network's weights.
        memory_budget, progress: as for `transfer_style`.

    Returns:
        The sound, with the transfer of the spectrograms; see `SoundTransfer`.

    Raises:
        ValueError: a sound that cannot be read, is silent, or shorter than `width` moments; an
            option out of its bounds.
        SoundInterrupted: Ctrl-C; the best sound so far is in its `sounds`.
    """
    given = read_sound(content, rate=rate)
    texture = read_sound(style, rate=given.rate)
    transform = SpectrogramTransform(window, hop)
    spectra = {"content": transform(given.samples), "style": transform(texture.samples)}
    logs = {name: np.log1p(np.abs(s)) for name, s in spectra.items()}
    for name, series in logs.items():
        if len(series) < width:
            raise ValueError(
                f"the {name} has {len(series)} moments of {hop} samples: at least {width} are "
                "needed, so give a longer sound or a smaller hop"
            )
        if not series.max() > 0:
            raise ValueError(f"the {name} is silent")
    peak = float(max(series.max() for series in logs.values()))

    def heard(transfer: StyleTransfer, iterations: int = phase_iterations) -> SoundTransfer:
        magnitudes = np.expm1(transfer.image[:, 0].astype(np.float64) * peak)
        samples = transform.with_phase(
            magnitudes, spectra["content"], len(given.samples), iterations
        )
        sound = Sound(samples.astype(np.float32), given.rate)
        return SoundTransfer(sound, given, texture, transfer, peak, window, hop)

    network = Network(sound_network(transform.bins, filters=filters, width=width, seed=seed))
    try:
        transfer = transfer_style(
            _shown(logs["content"], peak),
            _shown(logs["style"], peak),
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
        raise SoundInterrupted(stop.result, heard(stop.result)) from None
    try:
        return heard(transfer)
    except KeyboardInterrupt:
        raise SoundInterrupted(transfer, heard(transfer, iterations=0)) from None


def _shown(series: NDArray[np.float64], peak: float) -> NDArray[np.float32]:
    return np.clip(series / peak, 0.0, 1.0).astype(np.float32)

"""Sounds and spectrograms: WAV files, the short-time Fourier transform, phase reconstruction."""

from __future__ import annotations

import io
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.files.atomic import write_atomic

# Momentum of the fast Griffin-Lim iteration (Perraudin et al. 2013 found 0.99 best).
_MOMENTUM = 0.99


@dataclass(frozen=True)
class Sound:
    """A mono sound.

    Attributes:
        samples: (n,) float32; full scale is -1 to 1.
        rate: samples per second.
    """

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


def read_sound(source: Any, *, rate: int | None = None) -> Sound:
    """Return a mono sound, the mean of all channels of the source.

    Args:
        source: a WAV file's path, a `Sound`, or a pair of samples (n,) or (n, channels) and their
            rate; integers are scaled to full scale.
        rate: samples per second to resample to; None keeps the rate.

    Raises:
        ValueError: not a WAV file, or a damaged or empty one; samples of a wrong shape, or with
            values that are not finite; a rate below 1.
    """
    if isinstance(source, Sound):
        sound = source
    elif isinstance(source, str | os.PathLike):
        sound = _mono(*_read(Path(source)), str(source))
    else:
        samples, own = source
        sound = _mono(np.asarray(samples), int(own), "the sound")
    if rate is None or rate == sound.rate:
        return sound
    if rate < 1:
        raise ValueError(f"rate must be at least 1 sample per second, not {rate}")
    from scipy.signal import resample_poly

    common = math.gcd(rate, sound.rate)
    samples = resample_poly(sound.samples, rate // common, sound.rate // common)
    return Sound(samples.astype(np.float32), rate)


def save_sound(sound: Sound, path: str | os.PathLike[str]) -> None:
    """Write a WAV file of 16 bits per sample, atomically.

    A sound beyond full scale is scaled down as a whole.

    Args:
        sound: the sound.
        path: path of the file.

    Raises:
        OSError: the folder cannot be created or written to; the message names it.
    """
    from scipy.io import wavfile

    peak = max(1.0, float(np.abs(sound.samples).max(initial=0.0)))
    content = io.BytesIO()
    wavfile.write(content, sound.rate, np.round(sound.samples / peak * 32767).astype(np.int16))
    write_atomic(path, content.getvalue())


class SpectrogramTransform:
    """The short-time Fourier transform with a Hann window.

    Attributes:
        window, hop: length of the window and distance between windows, in samples.
        bins: number of frequencies, from 0 to half the rate.
    """

    def __init__(self, window: int, hop: int) -> None:
        """Create the transform.

        Raises:
            ValueError: a window below 2 samples, or a hop too large for the inverse transform.
        """
        if window < 2 or not 1 <= hop <= window // 2:
            raise ValueError(
                f"window must be at least 2 samples, and hop between 1 and half of it, "
                f"not {window} and {hop}"
            )
        from scipy.signal import ShortTimeFFT
        from scipy.signal.windows import hann

        self.window, self.hop = window, hop
        self._transform = ShortTimeFFT(hann(window, sym=False), hop, fs=1.0)
        self.bins = window // 2 + 1

    def __call__(self, samples: ArrayLike) -> NDArray[np.complex128]:
        """Return the spectrogram (t, bins) of samples (n,).

        Raises:
            ValueError: fewer samples than half a window.
        """
        x = np.asarray(samples, np.float64)
        if len(x) < self.window // 2:
            raise ValueError(
                f"a sound of {len(x)} samples is too short for windows of {self.window}: at least "
                f"{self.window // 2} are needed"
            )
        found: NDArray[np.complex128] = self._transform.stft(x).T
        return found

    def inverse(self, spectrogram: NDArray[np.complex128], length: int) -> NDArray[np.float64]:
        """Return the samples (length,) with the nearest spectrogram (Griffin & Lim 1984)."""
        samples: NDArray[np.float64] = self._transform.istft(spectrogram.T, k1=length)
        return samples

    def with_phase(
        self,
        magnitudes: NDArray[Any],
        phase: NDArray[np.complex128],
        length: int,
        iterations: int,
    ) -> NDArray[np.float64]:
        """Return samples (length,) whose spectrogram approximates some magnitudes.

        This is the fast Griffin-Lim iteration (Perraudin et al. 2013).

        Args:
            magnitudes: (t, bins) magnitudes of the spectrogram.
            phase: (t, bins) a spectrogram with the initial phase.
            length: number of samples.
            iterations: number of iterations.
        """

        def shaped(spectrogram: NDArray[np.complex128]) -> NDArray[np.complex128]:
            size = np.abs(spectrogram)
            unit = np.divide(spectrogram, size, out=np.ones_like(spectrogram), where=size > 1e-12)
            return magnitudes * unit

        last = at = shaped(phase)
        for _ in range(iterations):
            now = self(self.inverse(shaped(at), length))
            at, last = now + _MOMENTUM * (now - last), now
        return self.inverse(shaped(at), length)


def _read(path: Path) -> tuple[NDArray[Any], int]:
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Ignore extra chunks in the WAV file, such as notes of the recording program.
            warnings.filterwarnings("ignore", "Chunk .*not understood", wavfile.WavFileWarning)
            warnings.simplefilter("error", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except Exception as error:  # scipy raises errors of many types for a damaged file
        raise ValueError(
            f"{path} cannot be read as a WAV file ({error}): convert it, for instance with "
            "ffmpeg -i SOUND sound.wav"
        ) from None
    return samples, rate


def _mono(samples: NDArray[Any], rate: int, what: str) -> Sound:
    if rate < 1:
        raise ValueError(f"{what} must have a rate of at least 1 sample per second, not {rate}")
    if samples.ndim not in (1, 2) or 0 in samples.shape:
        raise ValueError(
            f"{what} must have samples of shape (n,) or (n, channels), not {samples.shape}"
        )
    if samples.dtype == np.uint8:
        values = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.signedinteger):
        values = (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    elif np.issubdtype(samples.dtype, np.floating):
        values = samples.astype(np.float32)
    else:
        raise ValueError(f"{what} must have samples of integers or floats, not {samples.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} has samples that are not finite (NaN or infinity)")
    return Sound(values.reshape(len(values), -1).mean(axis=1), rate)

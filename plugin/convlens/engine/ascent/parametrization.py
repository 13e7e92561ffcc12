"""Parametrizations of an image: pixels, or Fourier coefficients and decorrelated colors.

In a basis in which natural images vary equally along every axis, ascent on the same objective gives
images without the high-frequency patterns that ascent on the pixels gives (Olah, Mordvintsev &
Schubert 2017, "Feature Visualization", on preconditioning).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import Any, Literal

import numpy as np
from keras import ops
from numpy.typing import NDArray

Basis = Literal["pixel", "fourier"]

# A square root of the color covariance of ImageNet's pixels, as published with the article, scaled
# so that the longest axis has length 1.
_COLOR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
_COLOR = _COLOR / np.linalg.norm(_COLOR, axis=0).max()
_FOURIER_START = 0.01
# Encoding clips pixels to at least this distance from the ends of the range: logits must be finite.
_EDGE = 1e-3


@dataclass(frozen=True)
class Parametrization:
    """A map from parameters z (n, *positions, c) to images of the same shape, and back.

    Attributes:
        basis: 'pixel', or 'fourier' for real Fourier coefficients weighted by 1/frequency.
        decorrelate: whether the channels are the decorrelated color axes of natural images.
        clip: whether the pixels stay in the range. Pixels are clipped; the other parametrizations
            pass through a sigmoid.
        value_range: (low, high) of the pixels.
    """

    basis: Basis
    decorrelate: bool
    clip: bool
    value_range: tuple[float, float]

    @property
    def is_plain(self) -> bool:
        """True if the parameters are the pixels."""
        return self.basis == "pixel" and not self.decorrelate

    def decode(self, z: Any) -> Any:
        """Return the images of parameters: low + (high - low)·sigmoid(color(F·z))."""
        if self.is_plain:
            return z
        if self.basis == "fourier":
            sides = z.shape[1:-1]
            z = _along_each_side(ops.einsum, z * spectrum(*sides), forward=True)
        if self.decorrelate:
            z = ops.matmul(z, _COLOR.T)
        low, high = self.value_range
        return low + (high - low) * (ops.sigmoid(z) if self.clip else z + 0.5)

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the parameters of images; pixels at the ends of the range move just inside."""
        if self.is_plain:
            return images
        low, high = self.value_range
        z = (images.astype(np.float64) - low) / (high - low)
        if self.clip:
            inside = np.clip(z, _EDGE, 1 - _EDGE)
            z = np.log(inside) - np.log1p(-inside)
        else:
            z = z - 0.5
        if self.decorrelate:
            z = z @ np.linalg.inv(_COLOR.astype(np.float64)).T
        if self.basis == "fourier":
            z = _along_each_side(partial(np.einsum, optimize=True), z, forward=False)
            z = z / spectrum(*images.shape[1:-1])
        return z.astype(np.float32)

    def constrain(self, z: Any) -> Any:
        """Return the parameters after a step, clipped to the range if they are clipped pixels."""
        return ops.clip(z, *self.value_range) if self.is_plain and self.clip else z

    def start(self, shape: tuple[int, ...], draw: np.random.Generator) -> NDArray[np.float32]:
        """Return the parameters (*positions, c) of random noise around the middle of the range."""
        noise = draw.random(shape)
        # A single value does not deviate from its mean.
        noise = (noise - noise.mean()) / max(noise.std(), 1e-12)
        if self.basis == "fourier":
            return (_FOURIER_START * noise).astype(np.float32)
        low, high = self.value_range
        pixels = (low + high) / 2 + 0.05 * (high - low) * noise
        return self.encode(pixels[None].astype(np.float32))[0]

    @cached_property
    def default_step(self) -> float:
        """The default step size of these parameters."""
        low, high = self.value_range
        return 0.3 * (high - low) if self.is_plain else 0.05


def fourier_basis(n: int) -> NDArray[np.float32]:
    """Return the orthonormal real Fourier basis of n samples; each column is a cosine or a sine."""
    t = np.arange(n)[:, None]
    frequency = _frequencies(n)[None]
    is_sine = np.arange(n)[None] % 2 == 0
    angle = 2 * np.pi * frequency * t
    basis = np.where(is_sine, np.sin(angle), np.cos(angle))
    basis[:, 0] = 1.0
    return (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)


def _along_each_side(einsum: Callable[..., Any], z: Any, *, forward: bool) -> Any:
    """Return z (n, *positions, c) multiplied by the Fourier basis, or its inverse, on each side."""
    sides = z.shape[1:-1]
    read, made = "uvw"[: len(sides)], "yxz"[: len(sides)]
    if not forward:
        read, made = made, read
    bases = [fourier_basis(side) for side in sides]
    terms = [m + r if forward else r + m for r, m in zip(read, made, strict=True)]
    subscripts = ",".join([terms[0], f"n{read}c", *terms[1:]])
    return einsum(f"{subscripts}->n{made}c", bases[0], z, *bases[1:])


def spectrum(*sides: int) -> NDArray[np.float32]:
    """Return the weights (*sides, 1) of Fourier coefficients: 1/f, with f in cycles per pixel.

    This is the amplitude spectrum of natural images. The mean, of frequency 0, gets the weight of
    the lowest frequency of the longest side.
    """
    f = reduce(np.hypot, np.ix_(*map(_frequencies, sides)))
    return (0.25 / np.maximum(f, 1 / max(sides)))[..., None].astype(np.float32)


def _frequencies(n: int) -> NDArray[np.float64]:
    """Return the frequency of each column of `fourier_basis`, in cycles per sample."""
    return ((np.arange(n) + 1) // 2) / n

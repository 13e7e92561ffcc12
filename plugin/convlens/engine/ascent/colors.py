"""Preserve a picture's colors in style transfer (Gatys et al. 2016, 'Preserving color')."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Luma coefficients of ITU-R BT.601, the television standard behind YIQ.
_LUMA = np.array([0.299, 0.587, 0.114])


def luminance(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the luminance (h, w, 1) of an RGB image (h, w, 3), in the image's own range."""
    return (image @ _LUMA)[..., None].astype(np.float32)


def with_luminance(image: NDArray[np.float32], light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an RGB image (h, w, 3) with values in [0, 1] with its luminance replaced.

    The chroma is kept as far as possible: a color that would leave the range becomes grayer, with
    the new luminance unchanged.

    Args:
        image: (h, w, 3) with values in [0, 1].
        light: (h, w, 1) the new luminance.
    """
    light = np.clip(light, 0.0, 1.0)
    chroma = image - luminance(image)
    room = np.where(chroma > 0, 1 - light, light)
    size = np.abs(chroma)
    max_scale = np.divide(room, size, out=np.ones_like(chroma), where=size > 1e-6)
    scale = np.minimum(max_scale.min(axis=-1, keepdims=True), 1.0)
    return (light + chroma * scale).astype(np.float32)


def gray_like(style: NDArray[np.float32], content: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a style as a gray RGB image with the content's mean and deviation of luminance."""
    mine, wanted = luminance(style), luminance(content)
    scale = wanted.std() / max(float(mine.std()), 1e-6)
    matched = np.clip((mine - mine.mean()) * scale + wanted.mean(), 0.0, 1.0)
    return np.repeat(matched, 3, axis=-1).astype(np.float32)


def match_colors(style: NDArray[np.float32], content: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a style (h, w, 3) recolored to the content's mean color and color covariance.

    Applies the linear map A = Σ_c^½ Σ_s^-½ of §3.1 (Image Analogies), then clips to [0, 1].
    """
    pixels = style.reshape(-1, 3).astype(np.float64)
    wanted = content.reshape(-1, 3).astype(np.float64)
    transform = _matrix_root(_covariance(wanted)) @ np.linalg.inv(_matrix_root(_covariance(pixels)))
    moved = (pixels - pixels.mean(axis=0)) @ transform.T + wanted.mean(axis=0)
    return np.clip(moved, 0.0, 1.0).reshape(style.shape).astype(np.float32)


def _covariance(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    # The covariance of a picture of a single color is singular without this term.
    return np.cov(pixels, rowvar=False) + 1e-5 * np.eye(3)


def _matrix_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values)) @ vectors.T
    return root

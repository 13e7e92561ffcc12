"""Convert the inputs of style transfer to arrays (h, w, c) with values in [0, 1] for its network.

A network for pictures takes 1 or 3 channels. A network for series takes (t, 1, f): f values at each
of t time steps, such as a sound's spectrogram (see `convlens.style.sound`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.ascent.colors import gray_like, luminance, match_colors
from convlens.engine.model.footprint import bytes_an_image
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.memory import default_budget
from convlens.pictures.photographs import fitted, read_image, resized

Image = NDArray[np.float32]
KeepColors = Literal["luminance", "histogram"]


def takes_series(network: Network) -> bool:
    """Return whether a network takes series (t, 1, f)."""
    _, width, channels = network.input_shape
    return width == 1 and channels not in (1, 3)


def read_for(network: Network, source: Any) -> Image:
    """Return a picture, or a series (t, f), in the form that a network takes (h, w, c).

    The size does not change.

    Raises:
        ValueError: an unreadable picture, or a series that the network does not take.
    """
    if takes_series(network):
        return _series(network, source)
    return in_channels_of(network, read_image(source))


def fitted_to(network: Network, image: Image, longest: int) -> Image:
    """Return a picture resized to a longest side; return a series unchanged."""
    if takes_series(network):
        return image
    return resized(image, fitted(image.shape[:2], longest))


def in_channels_of(network: Network, image: Image) -> Image:
    """Return an RGB picture (h, w, 3) with the number of channels that a network takes.

    Raises:
        ValueError: the network takes neither 1 nor 3 channels.
    """
    channels = network.input_shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"{network.name} takes {channels} channels, but pictures have 1 or 3")
    return image if channels == 3 else luminance(image)


def colored(
    content: Image, styles: list[Image], keep: KeepColors | None
) -> tuple[Image, list[Image]]:
    """Return content and styles in the colors that the loss compares.

    Raises:
        ValueError: an unknown value of `keep`.
    """
    if keep is None:
        return content, styles
    if keep == "histogram":
        return content, [match_colors(s, content) for s in styles]
    if keep == "luminance":
        gray = np.repeat(luminance(content), 3, axis=-1)
        return gray, [gray_like(s, content) for s in styles]
    raise ValueError(f"keep_colors must be 'luminance', 'histogram' or None, not {keep!r}")


def check_shares(given: Sequence[float] | None, styles: int) -> NDArray[np.float32]:
    """Return the share of each style (styles,), normalized to a sum of 1.

    Raises:
        ValueError: a number of shares that is not the number of styles, or a negative share.
    """
    shares = np.ones(styles) if given is None else np.asarray(given, np.float64)
    if shares.shape != (styles,):
        raise ValueError(
            f"style_shares must have shape ({styles},), one for each style, not {shares.shape}"
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"style_shares must be 0 or more, and not all 0, not {list(shares)}")
    return (shares / shares.sum()).astype(np.float32)


def check_masks(
    given: Sequence[ArrayLike] | None, styles: int, size: tuple[int, ...]
) -> list[Image]:
    """Return the masks (h, w, 1) at the content's size; an empty list for None.

    Raises:
        ValueError: a number of masks that is not the number of styles, a wrong shape, or values
            outside [0, 1].
    """
    if given is None:
        return []
    if len(given) != styles:
        raise ValueError(f"masks must hold {styles}, one for each style, not {len(given)}")
    masks = []
    for number, array in enumerate(given):
        mask = np.asarray(array, np.float32)
        if mask.ndim != 2:
            raise ValueError(f"mask {number} must have shape (h, w), not {mask.shape}")
        if not (np.isfinite(mask).all() and mask.min() >= 0 and 0 < mask.max() <= 1):
            raise ValueError(
                f"mask {number} must have values from 0 to 1, not all 0; its values range from "
                f"{mask.min():g} to {mask.max():g}"
            )
        masks.append(resized(mask[..., None], (size[0], size[1])))
    return masks


def check_size(
    network: Network, layers: tuple[str, ...], size: tuple[int, int], budget: int | None
) -> None:
    """Check that the network takes a size (h, w), and that it fits in memory.

    Raises:
        ValueError: a size that the network does not take, that leaves a layer without positions, or
            that needs more memory than the budget; the message gives a valid size.
    """
    h, w, c = network.input_shape
    if any(own not in (None, side) for own, side in zip((h, w), size, strict=True)):
        raise ValueError(
            f"{network.name} takes only images of {h or 'any'}×{w or 'any'}, "
            f"not {size[0]}×{size[1]}"
        )
    channels = int(c or 3)
    if not _fits(network, layers, (*size, channels)):
        sides = ((s, w or s) for s in range(min(size) if w is None else size[0], 1025))
        min_size = next((s for s in sides if _fits(network, layers, (*s, channels))), None)
        need = "another size" if min_size is None else f"at least {min_size[0]}×{min_size[1]}"
        raise ValueError(
            f"an image of {size[0]}×{size[1]} is too small for {network.name} up to layer "
            f"{layers[-1]!r}: {need} is needed"
        )
    need_bytes = bytes_an_image(network, layers, (*size, channels))
    budget = default_budget() if budget is None else budget
    if need_bytes > budget:
        share = budget / need_bytes
        would = (
            f"{int(size[0] * share)} time steps would fit"
            if takes_series(network)
            else f"size={int(max(size) * math.sqrt(share))} would fit"
        )
        raise ValueError(
            f"a step at {size[0]}×{size[1]} takes about {need_bytes / 2**30:.1f} GiB, and "
            f"{budget / 2**30:.1f} GiB are free: {would}"
        )


def _fits(network: Network, layers: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Return whether every layer has at least one position for an image of `shape` (h, w, c)."""
    symbols = [network.outputs[name] for name in layers]
    try:
        found = backend.shapes(lambda x: network.run(x, symbols), (1, *shape))
    except ValueError:
        return False
    return all(side > 0 for s in found for side in s)


def _series(network: Network, source: Any) -> Image:
    series = np.asarray(source)
    f = network.input_shape[-1]
    if series.ndim == 3 and series.shape[1] == 1:
        series = series[:, 0]
    if series.ndim != 2 or series.shape[1] != f or not len(series):
        raise ValueError(f"{network.name} takes series of shape (t, {f}), not {series.shape}")
    if not np.issubdtype(series.dtype, np.floating):
        raise ValueError(f"a series must have floats from 0 to 1, not {series.dtype}")
    if not np.isfinite(series).all():
        raise ValueError("the series has values that are not finite (NaN or infinity)")
    if series.min() < 0 or series.max() > 1:
        raise ValueError(
            f"the series' values range from {series.min():g} to {series.max():g}: scale them to "
            "[0, 1], and give the network's own range as value_range"
        )
    return series[:, None, :].astype(np.float32)

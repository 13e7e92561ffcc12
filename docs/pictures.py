"""Make the docs' pictures of optimized images anew: ``python docs/pictures.py``."""

from __future__ import annotations

from pathlib import Path

from convlens import maximize
from convlens.drawings import draw_maximized
from convlens.fixtures.mnist_cnn import load_mnist_cnn

FOLDER = Path(__file__).parent
# As many steps as a zero-code run takes.
STEPS = 64


def main() -> None:
    """Write the picture of the shipped network's second convolution."""
    found = maximize(load_mnist_cnn(), "conv2d_2", steps=STEPS)
    page = draw_maximized(found, len(found.units)).image()
    page.quantize(64).save(FOLDER / "conv2d_2-filters.png", optimize=True)


if __name__ == "__main__":
    main()

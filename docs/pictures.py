"""Make the docs' pictures of optimized images anew: ``python docs/pictures.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from convlens import Lens
from convlens.drawings import draw_maximized
from convlens.fixtures.mnist_cnn import load_mnist_cnn

FOLDER = Path(__file__).parent


def main() -> None:
    """Write the picture of the shipped network's second convolution, as a zero-code run has it."""
    lens = Lens(load_mnist_cnn(), np.zeros((1, 28, 28, 1), np.float32))
    plan = lens.plan_ascent("conv2d_2")
    found = lens.maximize(plan.layer, steps=plan.steps, size=plan.size)
    page = draw_maximized(found, plan.count, plan.shown).image()
    page.quantize(64).save(FOLDER / "conv2d_2-filters.png", optimize=True)


if __name__ == "__main__":
    main()

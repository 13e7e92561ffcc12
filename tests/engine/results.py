"""Write the engine's results to a file, to compare them with another backend's.

``python tests/engine/results.py FILE`` writes the file. Then run the tests on the other backend:
``CONVLENS_OTHER_BACKEND=FILE KERAS_BACKEND=jax pytest tests/engine``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from convlens import (
    Network,
    Objective,
    activations,
    deconvolve,
    deletion_curve,
    gram_matrix,
    insertion_curve,
    maximize,
    top_images,
    transfer_style,
)
from convlens.engine.ascent.scores import class_scores
from convlens.fixtures.digits import load_digits
from convlens.fixtures.mnist_cnn import load_mnist_cnn
from convlens.fixtures.style_pictures import content_picture, style_picture


def results() -> dict[str, Any]:
    """Return the results of every algorithm of the engine, arrays by name."""
    network = Network(load_mnist_cnn())
    images, _ = load_digits()
    few = images[::20]
    maps = activations(network, few)
    found = {f"activations {name}": value for name, value in maps.items()}
    found["gram"] = gram_matrix(maps["conv2d_2"])
    found["scores"] = class_scores(network, few)
    for method in ("deconvnet", "guided", "gradient"):
        found[method] = deconvolve(network, few, "conv2d_3", 5, method=method).images
    for curve in (deletion_curve, insertion_curve):
        found[curve.__name__] = curve(network, few, found["gradient"]).probabilities
    found["top"] = top_images(network, images, "conv2d_2", k=3).activations["conv2d_2"]
    goal = Objective.unit("conv2d_2", 3) - 0.5 * Objective.unit("conv2d_1", 1, "center")
    runs: dict[str, dict[str, Any]] = {
        "pixels": {"layer": "conv2d_2", "units": range(6)},
        "classes": {"units": range(4)},
        "keras-vis": {"layer": "conv2d_2", "units": range(4), "preset": "keras-vis"},
        "fourier": {"layer": "conv2d_3", "units": range(16), "preset": "feature-visualization"},
        "diverse": {"layer": "conv2d_2", "units": [7], "images_per_unit": 3, "optimizer": "sgd"},
        "objective": {"layer": goal, "tv_weight": 1.0, "norm_weight": 1.0, "keep_best": True},
    }
    for name, options in runs.items():
        result = maximize(network, **options, steps=12, checkpoints=3)
        found[f"ascent {name}: trace"] = result.trace
        found[f"ascent {name}: images"] = result.images
    for optimizer in ("lbfgs", "adam"):
        transfer = transfer_style(
            content_picture(32),
            style_picture("waves", 32),
            network,
            size=28,
            steps=6,
            optimizer=optimizer,
        )
        found[f"style {optimizer}: trace"] = transfer.trace
        found[f"style {optimizer}: images"] = transfer.image
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())

"""Time a comparison of two models beside the export: ``python -m convlens.benchmarks.converted``.

Each network, with random weights, is converted to TFLite float32 and int8, and each file is held
beside the network. The result is a table in Markdown of processor seconds: the comparison's part
of the export is what a CI job pays more for the test.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convlens.compare.same import compare_models, enough_drawn
from convlens.compare.sameness import Sameness
from convlens.compare.sources import open_source
from convlens.pictures.synthetic import synthetic_images

NETWORKS = ("MobileNetV2", "EfficientNetB0", "ResNet50", "DenseNet121")
_CALIBRATION = 8


@dataclass(frozen=True)
class ComparisonRun:
    """A network that was converted and compared.

    Attributes:
        name: name of the network.
        kind: "float32" or "int8".
        groups: number of groups of layers that were compared.
        export: processor seconds of the conversion.
        comparison: processor seconds of the comparison, with opening both models.
    """

    name: str
    kind: str
    groups: int
    export: float
    comparison: float

    @property
    def ratio(self) -> float:
        """The comparison's part of the export."""
        return self.comparison / self.export


def run_comparison(name: str, model: Any, side: int, kind: str) -> ComparisonRun:
    """Convert a model, compare it, and return what both took, whether the two differ or not.

    Args:
        name: name for the table.
        model: a Keras model of images in 0–1.
        side: side of an image in pixels.
        kind: "float32" or "int8".
    """
    images = synthetic_images((side, side, 3), (0.0, 1.0), seed=0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "model.tflite")
        content, export = _timed(lambda: _converted(model, images[:_CALIBRATION], kind))
        path.write_bytes(content)
        found, comparison = _timed(lambda: _compared(path, model, images))
    return ComparisonRun(name, kind, len(found.layers), export, comparison)


def table(runs: Sequence[ComparisonRun]) -> str:
    """Return a table in Markdown, a run in each row."""
    lines = [
        "| network | as | groups | export s | comparison s | part |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.name} | {run.kind} | {run.groups} | {run.export:.1f} | {run.comparison:.1f} | "
        f"{run.ratio:.0%} |"
        for run in runs
    ]
    return "\n".join(lines)


def _converted(model: Any, images: Any, kind: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    return bytes(converter.convert())


def _compared(path: Path, model: Any, images: Any) -> Sameness:
    opened = [open_source(each) for each in (path, model)]
    return compare_models(
        opened[0], opened[1], enough_drawn(images), names=(path.name, str(model.name))
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def application(name: str, side: int) -> Any:
    """Return a network of keras.applications whose statistics are those of synthetic images."""
    import keras

    keras.utils.set_random_seed(0)
    # Without its softmax: int8's step is larger than the probabilities of an untrained network.
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classifier_activation=None
    )
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(np.asarray(synthetic_images((side, side, 3), (0.0, 1.0), seed=0))[::3], training=True)
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m convlens.benchmarks.converted")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--side", type=int, default=224, help="side of the images in pixels")
    given = parser.parse_args(arguments)
    runs = []
    for name in given.networks:
        model = application(name, given.side)
        runs += [run_comparison(name, model, given.side, kind) for kind in ("float32", "int8")]
    print(table(runs))


if __name__ == "__main__":
    main()

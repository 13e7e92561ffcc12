"""Healthy conversions raise no alarm: networks of keras.applications, each format that people use.

The table in docs/converted-models.md is written by
``pytest --run-slow tests/compare/test_healthy.py --write-docs``; the rows of networks that did not
run are kept.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest

from convlens.compare.same import compare_models
from convlens.compare.sameness import Sameness
from convlens.compare.sources import open_source

pytestmark = pytest.mark.weekly
PAGE = Path(__file__).resolve().parents[2] / "docs" / "converted-models.md"
BEGIN, END = "<!-- healthy:begin -->\n", "<!-- healthy:end -->"
HEAD = (
    "| network | as | groups | without one | alarms | worst layer | worst channel | outputs "
    "| most noise |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)
# Network → side of its images in pixels, and options.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "MobileNet": (64, {"alpha": 0.25}),
    "MobileNetV2": (64, {"alpha": 0.35}),
    "MobileNetV3Small": (64, {}),
    "VGG16": (32, {}),
    "EfficientNetB0": (32, {}),
    "ResNet50V2": (32, {}),
    "ResNet50": (64, {}),
    "MobileNetV3Large": (64, {}),
    "EfficientNetV2B0": (64, {}),
    "Xception": (71, {}),
    "NASNetMobile": (32, {}),
    "DenseNet121": (32, {}),
    "InceptionV3": (75, {}),
    "VGG19": (48, {}),
    "EfficientNetB1": (32, {}),
    "ConvNeXtTiny": (32, {}),
    "ResNet101V2": (32, {}),
    "DenseNet169": (32, {}),
    "EfficientNetV2B1": (32, {}),
    "InceptionResNetV2": (75, {}),
}
DAMAGE = "(damage)"
KINDS = ("TFLite float32", "TFLite float16", "TFLite dynamic range", "TFLite int8", "ONNX")
FOLDER, FILE, ON_JAX = "SavedModel", ".keras", "SavedModel, Keras on JAX"
# Run on another backend than the one that exported the model.
BESIDE = """
import pickle, sys
import numpy as np
from convlens.compare.same import compare_models
from convlens.compare.sources import open_source
*paths, images, result = sys.argv[1:]
opened = [open_source(path, allow_legacy=True) for path in paths]
with open(result, "wb") as file:
    pickle.dump(compare_models(*opened, np.load(images), names=("saved", "model")), file)
"""


@dataclass(frozen=True)
class Subject:
    """A network with random weights, and statistics of the images."""

    model: Any
    images: Any
    folder: Path


@pytest.fixture(scope="module", params=NETWORKS)
def subject(request: Any, tmp_path_factory: Any) -> Iterator[Subject]:
    keras.utils.set_random_seed(1)
    side, options = NETWORKS[request.param]
    images = np.random.default_rng(2).random((8, side, side, 3), dtype=np.float32)
    images = (255 * smooth(images)).astype(np.float32)
    model = getattr(keras.applications, request.param)(
        weights=None, input_shape=(side, side, 3), classes=10, **options
    )
    draw = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            for weight in layer.trainable_variables:
                weight.assign(weight + draw.uniform(-0.3, 0.3, weight.shape))
    model(images, training=True)  # with statistics of data, values neither vanish nor explode
    yield Subject(model, images, tmp_path_factory.mktemp(request.param))
    keras.backend.clear_session()


def smooth(images: Any) -> Any:
    """Return images whose neighboring pixels are alike, in 0–1."""
    for axis in (1, 2):
        images = (images + np.roll(images, 1, axis) + np.roll(images, 2, axis)) / 3
    return (images - images.min()) / (images.max() - images.min())


def tflite(subject: Subject, kind: str) -> Path:
    import tensorflow as tf

    # Once for all kinds: the converter itself saves a Keras model so, each time.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved(subject, kind)))
    if kind != "TFLite float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "TFLite float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "TFLite int8":
        converter.representative_dataset = lambda: ([image[None]] for image in subject.images)
    path = subject.folder / f"{kind.replace(' ', '_')}.tflite"
    path.write_bytes(converter.convert())
    return path


def onnx(subject: Subject, kind: str) -> Path:
    pytest.importorskip("tf2onnx", reason="Keras exports to ONNX with tf2onnx")
    path = subject.folder / "model.onnx"
    if any(isinstance(x, keras.layers.Normalization) for x in subject.model._flatten_layers()):
        # Keras 3.15 exports a Normalization's constants as inputs, which no runtime takes.
        folder = saved(subject, kind)
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", folder]
        subprocess.run([*command, "--output", path], check=True, capture_output=True)
    else:
        subject.model.export(path, format="onnx", verbose=False)
        gc.collect()  # tf2onnx leaves many times the weights in cycles: 12 GiB of VGG19
    return path


def saved(subject: Subject, kind: str) -> Path:
    folder = subject.folder / "saved"
    if not folder.exists():
        subject.model.export(folder, verbose=False)
    return folder


def file(subject: Subject, kind: str) -> Path:
    subject.model.save(subject.folder / "model.keras")
    return subject.folder / "model.keras"


EXPORTERS: dict[str, Callable[[Subject, str], Path]] = {
    **dict.fromkeys(KINDS[:-1], tflite),
    "ONNX": onnx,
    FOLDER: saved,
    FILE: file,
    ON_JAX: saved,
}


@pytest.mark.parametrize("kind", EXPORTERS)
def test_a_healthy_conversion_raises_no_alarm(request, subject, kind, table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes, started = [resident()], time.process_time()
        path = EXPORTERS[kind](subject, kind)
        exported = time.process_time() - started
        sizes.append(resident())
        started = time.process_time()
        found = (beside_jax if kind == ON_JAX else beside)(subject, path)
        compared = time.process_time() - started
    name = request.node.callspec.params["subject"]
    layers = [layer for layer in found.layers if layer.layer != "input"]
    noises = [layer.noise.ratio for layer in layers if layer.noise is not None]
    table[name, kind] = (
        f"| {name} | {kind} | {len(layers)} | {len(found.unmatched)} | {alarms(found)} "
        f"| {min(x.difference.snr for x in layers):.0f} dB "
        f"| {min(x.difference.channel_snr for x in layers):.0f} dB "
        f"| {min(x.snr for x in found.outputs):.1f} dB "
        f"| {f'{max(noises):.2f}' if noises else ''} |\n"
    )
    sizes.append(resident())
    print(
        f"{table[name, kind].strip()} export {exported:.1f} s, compare {compared:.1f} s; resident "
        f"before, after the export and after the comparison: {', '.join(sizes)}"
    )
    # Random weights let rounding grow, so damage is possible, and what a test should tell.
    assert found.passed or is_damaged(found), found.message
    assert not found.unmatched


def resident() -> str:
    return f"{psutil.Process().memory_info().rss / 2**30:.2f} GiB"


def beside(subject: Subject, path: Path) -> Sameness:
    opened = [open_source(each, allow_legacy=True) for each in (path, subject.model)]
    return compare_models(*opened, subject.images, names=(path.name, subject.model.name))


def beside_jax(subject: Subject, path: Path) -> Sameness:
    """Hold a SavedModel that TensorFlow runs beside the Keras model that JAX runs."""
    if find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    images, result = subject.folder / "images.npy", subject.folder / "result"
    np.save(images, subject.images)
    paths = path, file(subject, FILE), images, result
    command = [sys.executable, "-c", BESIDE, *map(str, paths)]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    found: Sameness = pickle.loads(result.read_bytes())
    return found


def alarms(found: Sameness) -> str:
    """Return how many items would fail: the layers that differ, and the outputs."""
    count = len(found.failing) + (not found.outputs_passed)
    return f"{count} {DAMAGE}" if is_damaged(found) else str(count)


def is_damaged(found: Sameness) -> bool:
    """Return whether coarse arithmetic took the outputs, and each layer's noise is explained."""
    return not found.outputs_passed and not found.failing and bool(found.damage)


@pytest.fixture(scope="session")
def table(pytestconfig: Any) -> Iterator[dict[tuple[str, str], str]]:
    """Collect the rows of the table, by network and kind, and write them at the end."""
    rows: dict[tuple[str, str], str] = {}
    yield rows
    if pytestconfig.getoption("--write-docs"):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        written, _, after = rest.partition(END)
        rows = {**rows_of(written), **rows}
        order = [(name, kind) for name in NETWORKS for kind in EXPORTERS]
        body = "".join(rows[key] for key in order if key in rows)
        text = f"{before}{BEGIN}\n{summary(rows)}\n{HEAD}{body}\n{END}{after}"
        PAGE.write_text(text, encoding="utf-8")


def rows_of(text: str) -> dict[tuple[str, str], str]:
    """Return the rows of a table, by network and kind."""
    rows = {}
    for line in text.splitlines(keepends=True):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[2] in EXPORTERS:
            rows[cells[1], cells[2]] = line
    return rows


def summary(rows: dict[tuple[str, str], str]) -> str:
    """Return the numbers of pairs, and of those with an alarm or an unmatched layer."""
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.values()]
    alarmed = [f"{x[1]} as {x[2]}" for x in cells if x[5] != "0" and DAMAGE not in x[5]]
    damaged = [f"{x[1]} as {x[2]}" for x in cells if DAMAGE in x[5]]
    open_ended = [f"{x[1]} as {x[2]}" for x in cells if x[4] != "0"]
    return (
        f"{len(rows)} pairs of {len({name for name, _ in rows})} networks, with "
        f"{sum(int(x[3]) for x in cells):,} groups of layers. With a difference that is not "
        f"explained: {listed(alarmed)}. With outputs that their arithmetic damages, each layer "
        f"explained: {listed(damaged)}. With a layer that has no counterpart: "
        f"{listed(open_ended)}.\n"
    )


def listed(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"

"""A folder as a user has one, with a model, images and tests, in which a page's blocks run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SILENT = (8, 20)
_CHANGE = re.compile(r'data-key="([^"]*)"[^>]*data-fingerprint="([0-9a-f]{16})"')

Run = Callable[[str], Any]


def prepare(folder: Path, model_file: Path, images: Any, labels: Any) -> None:
    """Place what the pages take for granted."""
    for name in ("photos", "models", "mypackage", "tests", "weights"):
        (folder / name).mkdir()
    shutil.copy(model_file, folder / "model.keras")
    shutil.copy(model_file, folder / "models" / "digits.keras")
    for number, image in enumerate(images[:100]):
        pixels = np.uint8(255 * image[..., 0])
        Image.fromarray(pixels).save(folder / "photos" / f"{number:03}.png")
    np.save(folder / "images.npy", images)
    (folder / "mypackage" / "__init__.py").touch()
    (folder / "mypackage" / "data.py").write_text(
        "from convlens.fixtures.digits import load_digits as held_out\n", encoding="utf-8"
    )
    (folder / "tests" / "test_own.py").write_text(
        "def test_it(lens): assert lens.conv_layers\n", encoding="utf-8"
    )
    draw = np.random.default_rng(0)
    np.savez(
        folder / "weights" / "VGG19.npz",
        **{
            "block1_conv1.kernel": draw.normal(0, 0.1, (3, 3, 3, 64)).astype(np.float32),
            "block1_conv1.bias": np.zeros(64, np.float32),
        },
    )


@dataclass(frozen=True)
class State:
    """A state that a folder is put into before a block runs.

    Attributes:
        reach: brings it there, given the folder and what runs a command.
        command: what gives the output that a text block without a command above it shows.
        fails: whether the block's commands fail then; of a block of Python, whether it raises an
        exception, whose message is what the text block below it shows.
    """

    reach: Callable[[Path, Run], None]
    command: str = ""
    fails: bool = True


def _edit(file: Path, out: Path, layer: str, change: Callable[[Any, Any], None]) -> None:
    from convlens import load_model

    model = load_model(file)
    kernel, bias = model.get_layer(layer).get_weights()
    change(kernel, bias)
    model.get_layer(layer).set_weights([kernel, bias])
    model.save(out)


def _silence(folder: Path, run: Run) -> None:
    def change(kernel: Any, bias: Any) -> None:
        kernel[..., SILENT], bias[list(SILENT)] = 0, 0

    _edit(folder / "model.keras", folder / "broken.keras", "conv2d_3", change)


def _mistake(folder: Path, run: Run) -> None:
    """Place files that nobody can use."""
    import keras

    (folder / "damaged.keras").write_bytes(b"PK\x03\x04")
    image = keras.Input((28, 28, 1))
    doubled = keras.layers.Lambda(lambda x: 2 * x, output_shape=(28, 28, 1), name="double")
    keras.Model(image, keras.layers.Conv2D(2, 3)(doubled(image))).save(folder / "old.h5")
    (folder / "empty").mkdir(exist_ok=True)
    np.savez(folder / "pixels.npz", pixels=np.zeros((2, 28, 28, 1), np.float32))
    np.savez(folder / "colors.npz", images=np.zeros((2, 28, 28, 3), np.float32))


def _change(folder: Path, run: Run) -> None:
    """Record the model's baseline, and change one weight by a little."""

    def change(kernel: Any, bias: Any) -> None:
        kernel[1, 1, 5, 3] += 0.05

    file = folder / "model.keras"
    run(f"pytest {file.name} --convlens-baselines convlens-baselines --convlens-update all -k base")
    _edit(file, file, "conv2d_2", change)


def _retrain(folder: Path, run: Run) -> None:
    """Place two trainings, the second of which lost a class, and held-out digits in folders."""
    from convlens.fixtures.digits import load_digits

    def change(kernel: Any, bias: Any) -> None:
        bias[7] -= 1000

    shutil.copy(folder / "model.keras", folder / "old.keras")
    _edit(folder / "model.keras", folder / "new.keras", "predictions", change)
    for number, (image, label) in enumerate(zip(*load_digits(), strict=True)):
        own = folder / "held-out" / str(label)
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * image[..., 0])).save(own / f"{number:03}.png")


def _accept(folder: Path, run: Run) -> None:
    """Change the model, and accept in the report what that did."""
    _change(folder, run)
    run("pytest model.keras -k baseline --convlens-report changed.html")
    page = (folder / "changed.html").read_text(encoding="utf-8")
    accepted = [{"key": k, "fingerprint": f} for k, f in dict(_CHANGE.findall(page)).items()]
    assert accepted
    content = {"format": "convlens-accept", "version": 1, "accept": accepted}
    (folder / "convlens-accept.json").write_text(json.dumps(content), encoding="utf-8")


def _nothing(folder: Path, run: Run) -> None:
    """Leave the folder as it is."""


STATES = {
    "raises": State(_nothing),
    "mistaken": State(_mistake),
    "silenced": State(
        _silence, "pytest broken.keras --convlens-images photos/ -k 'dead and conv2d_3'"
    ),
    "changed": State(_change, "pytest model.keras -k baseline"),
    "retrained": State(_retrain),
    "accepted": State(_accept, fails=False),
}

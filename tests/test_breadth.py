"""Every kind of network that people use: every core of the engine runs, or says why not.

The table in docs/breadth.md is written by this test:
``pytest --run-slow tests/test_breadth.py --write-docs``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tests.breadth import hub, pictures, series, transformers, volumes

from convlens import Network, activations, deconvolve, maximize, transfer_style

pytestmark = pytest.mark.weekly
TABLE = Path(__file__).resolve().parents[1] / "docs" / "breadth.md"
HEAD = """# What runs on which network

Written by `pytest --run-slow tests/test_breadth.py --write-docs`. Each network is built with random
weights. Its activations must agree with the model's own predictions; the ascent must raise the two
most active units of the first, the middle and the last convolution; the deconvnet from each of
these must reach the pixels; four steps of style transfer must lower the loss. A refusal is quoted:
it is one of the [limits](concepts/reading-a-model.md#limits). The backbones of keras_hub are small
ones; `pip install 'pytest-convlens[hub]'` installs them.

| network | images | convolutions | activations | ascent | deconvnet | style |
|---|---|---|---|---|---|---|
"""
APPLICATIONS = {
    "VGG16": 32,
    "VGG19": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
}


def application(name: str, side: int) -> Callable[[], Any]:
    return lambda: getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=10
    )


# The limits that the docs state: docs/concepts/reading-a-model.md, README.md.
LIMITS = (
    "takes inputs of shape .*, but pictures .* are needed here",
    "needs series .*, images .* or volumes",
    "exactly one, the images, must be free: hold the others",
)
NETWORKS: dict[str, Callable[[], Any]] = {
    **{name: application(name, side) for name, side in APPLICATIONS.items()},
    **pictures.GRAPHS,
    **pictures.LAYERS,
    **transformers.NETWORKS,
    **series.NETWORKS,
    **volumes.NETWORKS,
    **hub.NETWORKS,
}


def images_for(network: Network) -> Any:
    shape = tuple(side or 19 for side in network.input_shape)
    return np.random.default_rng(0).random((2, *shape), dtype=np.float32)


def reason(work: Callable[[], None]) -> str:
    """Return 'yes' where work runs, and where it is refused the reason."""
    try:
        work()
    except (ValueError, TypeError) as error:
        return f"refused: {error}"
    return "yes"


def look(build: Callable[[], Any]) -> list[str]:
    """Return a network's row of the table."""
    keras.utils.set_random_seed(0)
    model = build()
    try:
        network = model if isinstance(model, Network) else Network(model)
    except ValueError as error:
        return ["", "", f"refused: {error}", "", "", ""]
    shape = "×".join("any" if side is None else str(side) for side in network.input_shape)
    images = images_for(network)
    convolutions = [name for name in network.conv_layers if network.reaches(name)]
    if not convolutions:
        return [shape, "0", reason(lambda: activations(network, images_for(network))), "", "", ""]
    chosen = list(dict.fromkeys(convolutions[i] for i in (0, len(convolutions) // 2, -1)))

    seen: dict[str, Any] = {}

    def forward() -> None:
        ends = [name for name in network.output_layers if name is not None]
        seen.update(activations(network, images, [*chosen, *ends]))
        # TensorFlow's predict has no kernels for channels-first convolutions on CPUs.
        if not network.is_channels_first:
            given = [np.asarray(x) for x in network.inputs_for(images)]
            found = network.model.predict(given[0] if len(given) == 1 else given, verbose=0)
            for name, own in zip(network.output_layers, keras.tree.flatten(found), strict=True):
                if name is not None:
                    np.testing.assert_allclose(seen[name], own, rtol=1e-4, atol=1e-6)
        assert all(np.isfinite(value).all() for value in seen.values())

    def ascent() -> None:
        size = images.shape[1:-1] if None in network.input_shape else None
        for layer in chosen:
            # The units that fire most: of random units some are dead. Without jitter what is
            # climbed is what is measured, so that six steps must show.
            units = np.argsort(-seen[layer].mean(axis=tuple(range(seen[layer].ndim - 1))))[:2]
            found = maximize(network, layer, units, steps=6, jitter=0, checkpoints=1, size=size)
            assert (found.trace[-1] > found.trace[0]).all(), (layer, found.trace)

    def down() -> None:
        for layer in chosen:
            found = deconvolve(network, images, layer, 0, stages=layer == chosen[0])
            assert found.images.shape == images.shape
            assert np.isfinite(found.images).all()
            np.testing.assert_allclose(
                found.activations,
                seen[layer][..., 0].reshape(len(images), -1).max(axis=1),
                rtol=1e-4,
                atol=1e-7,
            )

    def style() -> None:
        total = transfer_style(images[0], images[1], network, steps=4).losses["total"]
        assert (np.diff(total) < 0).all(), total

    works = (forward, ascent, down, style)
    return [shape, str(len(convolutions)), *(reason(work) for work in works)]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    return {}


def line(name: str, cells: list[str]) -> str:
    """Return a row of the table."""
    return "| " + " | ".join([name, *cells]) + " |"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")  # keras_hub's Swin
def test_a_network_runs_or_is_refused_with_the_reason(name, rows):
    if name in hub.NETWORKS:
        pytest.importorskip("keras_hub", reason="needs keras_hub: pip install '.[hub]'")
    row = look(NETWORKS[name])
    rows[name] = row
    for cell in row[2:]:
        refusal = cell.removeprefix("refused: ")
        known = any(re.search(limit, refusal) for limit in LIMITS)
        assert cell in ("yes", "") or (cell != refusal and known), cell
    assert "yes" in row[2] or any(cell.startswith("refused") for cell in row[2:])
    if name in APPLICATIONS:
        assert row[2:] == ["yes"] * 4


def test_the_table_in_the_docs_is_this_runs(rows, pytestconfig):
    whole = rows.keys() == NETWORKS.keys()
    if not whole and rows.keys() != NETWORKS.keys() - hub.NETWORKS.keys():
        pytest.skip("needs all networks of the table: run the whole file")
    lines = [line(name, cells) for name, cells in rows.items()]
    if pytestconfig.getoption("--write-docs"):
        assert whole, "the docs are written with keras_hub installed: pip install '.[hub]'"
        TABLE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    text = TABLE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    written = text.removeprefix(HEAD).splitlines()
    ours = [row for row in written if whole or not row.startswith("| keras_hub")]
    assert ours == lines

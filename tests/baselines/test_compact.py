"""A large network's baseline stays a small file, and still shows a change of one channel."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from convlens.baselines import check, store
from convlens.baselines.check import Recording, save
from convlens.baselines.compact import (
    aligned,
    choose_detail,
    compact_output,
    compacted,
    pack,
    unpack,
)
from convlens.baselines.compare import compare_records
from convlens.baselines.record import Record
from convlens.baselines.store import Device, Store
from convlens.engine.features.sketch import LayerSketch

# Channels of MobileNetV1's layers, and of a network of 302 layers such as ResNet101's.
MOBILENET = [3, *[32] * 6, *[64] * 6, *[128] * 12, *[256] * 12, *[512] * 36, 1024, 1024, 1024]
DEEP = [3, *(c for c in (64, 128, 256, 256, 512, 512) for _ in range(50)), 1000]


def sketch(c, draw, side=48):
    """A sketch as a network's layer has: its numbers can hardly be compressed."""

    def numbers(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    return LayerSketch(
        kind="Conv2D",
        shape=(side, side, c),
        dtype="float32",
        mean=numbers(c),
        rms=1 + np.abs(numbers(c)),
        high=3 + np.abs(numbers(c)),
        projection=numbers(8, c),
        samples=numbers(4096),
        gram=numbers(c, 4),
        shown=textures(numbers(min(c, 32), side)),
        channels=tuple(np.linspace(0, c - 1, min(c, 32)).astype(int).tolist()),
        mixed=textures(numbers(8, side)) + 0.1 * numbers(8, side, side),
    )


def textures(drawn):
    """Maps (m, side, side) from as many rows of numbers."""
    return np.sin(np.add.outer(drawn.cumsum(1), np.arange(drawn.shape[1]) / 9)).astype(np.float32)


def network(channels, seed=0, classes=1000):
    draw = np.random.default_rng(seed)
    names = ["input", *(f"layer_{number}" for number in range(1, len(channels)))]
    layers = {name: sketch(c, draw) for name, c in zip(names, channels, strict=True)}
    outputs = {names[-1]: draw.random((48, classes), dtype=np.float32)}
    hashes = {name: f"{number:016x}" for number, name in enumerate(names)}
    source = {
        "count": 48,
        "seed": 0,
        "dtypes": ["float32"],
        "images": "0" * 16,
        "weights": hashes,
        "weights hash": "0" * 16,
        "settings": hashes,
        "precision": dict.fromkeys(names, "float32"),
        "rounding": {name: ["float32", 1] for name in names},
        "environment": {},
    }
    return Record(layers, outputs, source)


def stored(record, folder):
    path, _changed = save(Store(folder, Device("cpu", "cpu")), "k", record, Recording("all"))
    return path, check._load(path, "k")


@pytest.mark.parametrize(
    ("channels", "limit"),
    [(MOBILENET, 500_000), pytest.param(DEEP, 1_500_000, marks=pytest.mark.slow)],
)
def test_the_files_of_a_large_network_are_small(tmp_path, channels, limit):
    record = network(channels)
    _path, again = stored(record, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < limit
    same = compare_records(again, record, key="k")
    assert same.passed, same.message
    assert max(layer.worst_error for layer in same.layers) < 1e-5


@pytest.mark.quick(1)
@pytest.mark.parametrize("field", ["mean", "rms", "projection"])
def test_a_channel_that_changed_by_little_is_named(tmp_path, field):
    record = network(MOBILENET)
    _path, again = stored(record, tmp_path)
    layer = record.layers["layer_40"]
    changed = getattr(layer, field).copy()
    changed[..., 77] += 2e-4 * layer.rms[77]
    layers = {**record.layers, "layer_40": replace(layer, **{field: changed})}
    found = compare_records(again, replace(record, layers=layers), key="k")
    assert found.first == "layer_40"
    own = next(each for each in found.layers if each.layer == "layer_40")
    assert own.worst_channel == 77


def test_a_small_network_is_kept_whole(tmp_path):
    record = network([1, 8, 8, 10], classes=10)
    _path, again = stored(record, tmp_path)
    for name, layer in record.layers.items():
        for field in ("mean", "rms", "high", "projection", "gram"):
            assert getattr(again.layers[name], field) == pytest.approx(
                getattr(layer, field), rel=2e-6
            )
    assert again.outputs["layer_3"] == pytest.approx(record.outputs["layer_3"], rel=2e-6)
    assert compare_records(again, record, key="k").passed


def test_what_is_kept_depends_on_shapes_alone():
    first, second = (network(MOBILENET, seed).layers.values() for seed in (0, 1))
    assert choose_detail(first) == choose_detail(second)


def test_two_sketches_are_compared_with_the_detail_that_both_have():
    whole = sketch(16, np.random.default_rng(0), side=45)
    detail = choose_detail([sketch(4096, np.random.default_rng(0))])
    old, new = aligned(compacted(whole, detail), whole)
    for field in ("projection", "high", "gram", "samples", "shown"):
        assert np.array_equal(getattr(old, field), getattr(new, field)), field


def test_large_outputs_are_kept_in_part(tmp_path):
    assert compact_output(np.zeros((48, 1000), np.float32)).shape == (16, 1000)
    assert compact_output(np.zeros((48, 10), np.float32)).shape == (48, 10)
    assert compact_output(np.zeros((2, 7, 7, 1024), np.float32)).shape == (1, 16, 1024)
    record = network([3, 8, 8], classes=1000)
    record = replace(record, outputs={"layer_2": np.ones((4, 30, 30, 64), np.float32)})
    _path, again = stored(record, tmp_path)
    assert compare_records(again, record, key="k").passed
    other = replace(record, outputs={"layer_2": 1.01 * record.outputs["layer_2"]})
    assert not compare_records(again, other, key="k").passed
    smaller = replace(record, outputs={"layer_2": record.outputs["layer_2"][:, :29]})
    found = compare_records(again, smaller, key="k")
    assert "its shape is (4, 29, 30, 64), but (4, 30, 30, 64) in the baseline" in found.message


def test_numbers_are_rounded_to_19_bits():
    draw = np.random.default_rng(0)
    values = (draw.standard_normal(1000) * 10 ** draw.uniform(-30, 30, 1000)).astype(np.float32)
    limits = np.array([0, -0.0, np.finfo(np.float32).max, np.finfo(np.float32).tiny], np.float32)
    again = unpack(pack([values, limits]))
    assert np.abs(again[:1000] / values - 1).max() <= 2**-19
    assert np.isfinite(again).all()
    assert again[1000:1002].tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"stored as bytes \(4, n\), not as float32"):
        unpack(np.zeros(3, np.float32))


def rewrite(path, change):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(entries["provenance.json"])
    change(header)
    entries["provenance.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h["layers"][1]["arrays"].update(mean=[9]), "the shapes of the arrays of layer"),
        (lambda h: h["layers"].pop(), "longer than the header states"),
        (lambda h: h["layers"].append(h["layers"][1]), "shorter than the header states"),
        (lambda h: h["layers"][1]["arrays"].update(samples=[-1]), "has a part of shape"),
        (lambda h: h["layers"][1].pop("arrays"), "it lacks 'arrays'"),
        (lambda h: h["layers"][1].update(shown=[0, 1, 8, 9]), "feature maps of layer"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, change, reason):
    path, _again = stored(network([3, 8, 8], classes=10), tmp_path)
    rewrite(path, change)
    with pytest.raises(store.BaselineFileError, match=reason):
        check._load(path, "k")


def test_a_file_of_format_version_2_is_read(tmp_path):
    record = network([3, 8, 8], classes=10)
    arrays = {("outputs", i): output for i, output in enumerate(record.outputs.values())}
    described = []
    for i, (name, layer) in enumerate(record.layers.items()):
        for field in ("mean", "rms", "high", "projection", "samples", "gram"):
            arrays["layers", i, field] = getattr(layer, field)
        arrays["layers", i, "shown"] = np.round((layer.shown + 1) / 2 * 255).astype(np.uint8)
        described.append(
            {"layer": name, "kind": layer.kind, "shape": layer.shape, "dtype": layer.dtype}
            | {"shown": [-1.0, 1.0]}
        )
    header = {"layers": described, "outputs": list(record.outputs)}
    path = tmp_path / "k~.npz"
    header["provenance"] = record.provenance
    store.write(path, store.Stored("k", "network", arrays, header), b"", "")
    rewrite(path, lambda header: header.update(version=2))
    again = check._load(path, "k")
    found = compare_records(again, record, key="k")
    assert found.passed
    assert max(layer.worst_error for layer in found.layers) == 0
    for name, layer in record.layers.items():
        assert again.layers[name].shown == pytest.approx(layer.shown, abs=0.01)
    layer = record.layers["layer_1"]
    layers = {**record.layers, "layer_1": replace(layer, mean=layer.mean + 1)}
    (pair,) = compare_records(again, replace(record, layers=layers), key="k").pictures
    assert pair.layer == "layer_1"

"""Data sets that tf.data saved are read without pickle, up to a number of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.pytest_plugin import saved_dataset
from convlens.pytest_plugin.images import read_images
from convlens.pytest_plugin.saved_dataset import read_saved_dataset

tf = pytest.importorskip("tensorflow")
IMAGES = np.random.default_rng(0).random((9, 6, 6, 1), np.float32)
LABELS = np.arange(9) % 4
SHAPE = (6, 6, 1)


def saved(folder: Path, elements: Any, batch: int = 0, **options: Any) -> Path:
    data = tf.data.Dataset.from_tensor_slices(elements)
    (data.batch(batch) if batch else data).save(str(folder), **options)
    return folder


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("elements", "batch", "options"),
    [
        ((IMAGES, LABELS), 0, {}),
        ((IMAGES, LABELS), 4, {"compression": "GZIP"}),
        ({"image": IMAGES, "label": LABELS, "id": np.arange(9)}, 4, {}),
        ((IMAGES, LABELS, np.ones(9)), 0, {}),
        ((IMAGES, np.eye(4)[LABELS]), 2, {"shard_func": lambda *_: tf.constant(0, tf.int64)}),
    ],
)
def test_images_and_labels_are_read_in_their_order(tmp_path, elements, batch, options):
    images, labels, more = read_saved_dataset(
        saved(tmp_path / "d", elements, batch, **options), SHAPE, 100
    )
    assert np.array_equal(images, IMAGES)
    found = labels if labels.ndim == 1 else labels.argmax(axis=1)
    assert np.array_equal(found, LABELS)
    assert not more


@pytest.mark.parametrize("batch", [0, 4])
def test_images_without_labels(tmp_path, batch):
    images, labels, _ = read_saved_dataset(saved(tmp_path / "d", IMAGES, batch), SHAPE, 100)
    assert np.array_equal(images, IMAGES)
    assert labels is None


def test_no_more_than_a_number_of_images_are_read(tmp_path, monkeypatch):
    folder = saved(tmp_path / "d", (IMAGES, LABELS), 4)
    images, labels, more = read_saved_dataset(folder, SHAPE, 5)
    assert (len(images), len(labels), more) == (5, 5, True)
    monkeypatch.setattr("convlens.pytest_plugin.images.MAX_PICTURES", 3)
    found = read_images(str(folder), SHAPE)
    assert found.source == f"the first 3 from {folder}"
    assert found.value_range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ((np.array(["a", "b"]), np.arange(2)), "of numbers"),
        ((IMAGES[:, 0], LABELS), r"the data set has images of shape \(6, 1\)"),
        ({"picture": IMAGES}, "save it with elements"),
        ((IMAGES[:0], LABELS[:0]), "holds no image"),
    ],
)
def test_data_sets_of_something_else_are_refused(tmp_path, elements, message):
    with pytest.raises(ValueError, match=message):
        read_saved_dataset(saved(tmp_path / "d", elements), SHAPE, 100)


def test_damaged_and_hostile_folders_are_refused_in_one_line(tmp_path, monkeypatch):
    folder = saved(tmp_path / "d", (IMAGES, LABELS))
    for file in [*folder.rglob("*.snapshot"), folder / "dataset_spec.pb"]:
        file.write_bytes(b"\x80\x04cos\nsystem\n" + file.read_bytes()[20:])
        with pytest.raises(ValueError, match=r"^--convlens-images: .*/d") as failed:
            read_images(str(folder), SHAPE)
        assert str(failed.value).isprintable()
    monkeypatch.setattr(saved_dataset, "_MAX_SPEC_BYTES", 1)
    with pytest.raises(ValueError, match="is larger than 1 bytes"):
        read_saved_dataset(folder, SHAPE, 100)

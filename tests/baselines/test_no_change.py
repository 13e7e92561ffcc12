"""Unchanged networks pass with the default tolerances on any machine setting."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from convlens import Network, assert_matches_baseline
from convlens.baselines.compare import compare_records
from convlens.baselines.record import record_network
from convlens.baselines.store import Device, Store, read
from convlens.engine.runtime import backend, batches

from .networks import subjects

RECORD = Path(__file__).with_name("record_all.py")


@pytest.fixture(scope="module")
def known():
    """Return a function that gives a subject's model, images and record."""
    made = subjects()

    @cache
    def get(name):
        model, images = made[name]
        return model, images, record_network(Network(model), images)

    return get


# The deep networks take longer.
@pytest.fixture(
    params=[
        "mnist_cnn",
        pytest.param("residual", marks=pytest.mark.slow),
        pytest.param("inception", marks=pytest.mark.slow),
    ]
)
def subject(request, known):
    return known(request.param)


def compare(subject, model):
    """Return the comparison of a model with the subject's record."""
    _, images, before = subject
    return compare_records(before, record_network(Network(model), images), key="subject")


def rebuilt(model):
    """Return the same architecture with new weights."""
    return keras.models.clone_model(model)


@pytest.mark.slow
def test_a_saved_and_loaded_model_passes(subject, tmp_path):
    subject[0].save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = compare(subject, loaded)
    assert found.passed, found.message
    assert record_network(Network(loaded), subject[1]).fingerprint == subject[2].fingerprint


@pytest.mark.slow
def test_saved_and_loaded_weights_pass(subject, tmp_path):
    subject[0].save_weights(tmp_path / "model.weights.h5")
    loaded = rebuilt(subject[0])
    assert not compare(subject, loaded).passed  # its weights are new
    loaded.load_weights(tmp_path / "model.weights.h5")
    found = compare(subject, loaded)
    assert found.passed, found.message


@pytest.mark.slow
def test_weights_from_an_exported_saved_model_pass(subject, tmp_path):
    import tensorflow as tf

    model, images, before = subject
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    served = saved.serve(tf.constant(images[: len(before.predictions)])).numpy()
    assert np.abs(served - before.predictions).max() < 1e-5
    loaded = rebuilt(model)
    values = {variable.name.split(":")[0]: variable.numpy() for variable in saved.variables}
    # The path without the model's name, because Keras renumbers the name of a cloned model.
    by_path = {path.split("/", path.count("/") - 1)[-1]: value for path, value in values.items()}
    for variable in loaded.weights:
        variable.assign(by_path["/".join(variable.path.split("/")[-2:])])
    found = compare(subject, loaded)
    assert found.passed, found.message


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7])
def test_another_batch_size_passes(subject, size, monkeypatch):
    model, images, before = subject
    monkeypatch.setattr(batches, "_MAX_BATCH", size)
    now = record_network(Network(model), images)
    found = compare_records(before, now, key="subject")
    assert found.passed, found.message


@pytest.mark.slow
def test_batches_of_1_and_64_images_agree(subject, monkeypatch):
    model, images, _ = subject
    images = np.resize(images, (64, *images.shape[1:]))
    records = []
    for size in (64, 1):
        monkeypatch.setattr(batches, "_MAX_BATCH", size)
        records.append(record_network(Network(model), images))
    found = compare_records(*records, key="subject")
    assert found.passed, found.message
    assert max(layer.worst_error for layer in found.layers) > 0, (
        "both batch sizes gave the same bits"
    )


@pytest.mark.slow
def test_compilation_with_xla_passes(subject):
    model, images, before = subject
    with backend.with_xla():
        now = record_network(Network(model), images)
    assert now.provenance["environment"]["XLA"]
    found = compare_records(before, now, key="subject")
    assert found.passed, found.message
    assert max(layer.worst_error for layer in found.layers) > 0, "XLA was not used"


@pytest.mark.parametrize(
    ("environment", "arguments", "changed"),
    [
        pytest.param(
            {"TF_ENABLE_ONEDNN_OPTS": "0"}, [], {"oneDNN": False}, marks=pytest.mark.weekly
        ),
        pytest.param({}, ["1"], {"threads": 1}, marks=pytest.mark.slow),
        pytest.param({}, ["2"], {"threads": 2}, marks=pytest.mark.weekly),
    ],
    ids=["without oneDNN", "one thread", "two threads"],
)
def test_another_machine_setting_passes(known, tmp_path, environment, arguments, changed):
    subprocess.run(
        [sys.executable, str(RECORD), str(tmp_path), *arguments],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    for name in subjects():
        model, images, _ = known(name)
        path = Store(tmp_path, Device("any", "any")).path(name)
        recorded = read(path, name).header["provenance"]["environment"]
        assert {key: recorded[key] for key in changed} == changed
        found = assert_matches_baseline(model, tmp_path, name, images=images)
        assert found.passed


@pytest.mark.slow
def test_a_different_model_fails(known, tmp_path):
    """The tests above could fail: a different model does not agree with the baseline."""
    model, images, _ = known("residual")
    assert_matches_baseline(model, tmp_path, "net", images=images, update="missing")
    other, _, _ = known("inception")
    with pytest.raises(AssertionError, match="the network's layers differ from its baseline's"):
        assert_matches_baseline(other, tmp_path, "net", images=images)

"""Loading model files: formats under other names, files of Keras 2, and weights without a model."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from convlens import ModelFileError, load_model


@pytest.fixture(scope="module")
def model() -> Any:
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="conv")])


@pytest.fixture
def legacy(model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    model.save(path)
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ModelFileError) as failed:
        load_model(path, **options)
    message = str(failed.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


def agrees(loaded: Any, model: Any) -> bool:
    pairs = zip(loaded.get_weights(), model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_hdf5_under_the_name_of_a_keras_file_loads(legacy, model, tmp_path):
    path = tmp_path / "model.keras"
    shutil.copy(legacy, path)
    for allowed in (False, True):
        assert agrees(load_model(path, allow_legacy=allowed), model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.h5", "model.keras"]


def test_advice_of_keras_on_the_layers_of_a_file_is_no_error(tmp_path):
    """Models of Keras 2 pass `input_shape` to their first layer, of which Keras 3 warns."""
    keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3)]).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["input_shape"] = [6, 6, 1]
        file.attrs["model_config"] = json.dumps(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(tmp_path / "model.h5").count_params() == 20


def test_a_keras_file_under_the_name_of_an_hdf5_file_loads_in_safe_mode(model, tmp_path):
    unsafe = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x)])
    for number, own in enumerate((model, unsafe)):
        own.save(tmp_path / f"{number}.keras")
        (tmp_path / f"{number}.keras").rename(tmp_path / f"{number}.h5")
    assert agrees(load_model(tmp_path / "0.h5"), model)
    assert "which safe mode refuses to run" in refused(tmp_path / "1.h5")


def test_weights_without_a_model_are_named(model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    shutil.copy(tmp_path / "model.weights.h5", tmp_path / "weights.keras")
    for name in ("model.weights.h5", "weights.keras"):
        for allowed in (False, True):
            message = refused(tmp_path / name, allow_legacy=allowed)
            assert "holds weights without a model: build the model in code, load them" in message


def test_a_legacy_file_that_links_to_another_is_refused(legacy, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = np.zeros((3, 3, 1, 2), np.float32)
    with h5py.File(legacy, "r+") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")
    for allowed in (False, True):
        assert "a link to another place" in refused(legacy, allow_legacy=allowed)


def test_a_group_that_contains_itself_is_read_once(legacy, model):
    with h5py.File(legacy, "r+") as file:
        file["model_weights/again"] = file["model_weights"]
    assert agrees(load_model(legacy), model)


def saved_by(version: str, path: Path, module: str) -> Path:
    """Rewrite a `.keras` file as another version of Keras would have saved it."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config["module"] = module
    entries["config.json"] = json.dumps(config).encode()
    entries["metadata.json"] = json.dumps({"keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_file_of_keras_2_is_called_that_and_has_a_remedy(model, tmp_path):
    model.save(tmp_path / "model.keras")
    path = saved_by("2.14.0", tmp_path / "model.keras", "keras.src.engine.sequential")
    message = refused(path)
    assert "Keras 2.14.0 saved it" in message
    assert "its parent module keras.src.engine.sequential cannot be imported" in message
    assert "load it with Keras 2.14.0, save it there as .h5 and give that file" in message
    assert "Full object config" not in message
    now = refused(saved_by("3.0.0", path, "keras.src.engine.sequential"))
    assert "Keras 2" not in now


def test_a_file_of_keras_2_that_keras_3_can_read_loads(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert agrees(load_model(saved_by("2.14.0", tmp_path / "model.keras", "keras")), model)


def test_the_reason_at_the_end_of_a_long_message_of_keras_is_kept(model, tmp_path):
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config["config"]["layers"][1]["config"]["nonsense"] = "x" * 1000
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in entries.items():
            new = json.dumps(config).encode() if name == "config.json" else content
            archive.writestr(name, new)
    assert "Unrecognized keyword arguments passed to Conv2D" in refused(tmp_path / "model.keras")
    assert len(refused(tmp_path / "model.keras")) < 600


def test_a_custom_object_of_a_legacy_file_is_named(tmp_path):
    class Doubled(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    keras.Sequential([keras.Input((4,)), Doubled(name="d")]).save(tmp_path / "model.h5")
    for allowed in (False, True):
        message = refused(tmp_path / "model.h5", allow_legacy=allowed)
        assert "needs the custom object 'Doubled': register it" in message

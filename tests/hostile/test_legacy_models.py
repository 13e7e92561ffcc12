"""HDF5 models: those of Keras's own layers load, and no code of any other runs unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from convlens import ModelFileError, load_model
from convlens.engine.model import legacy

Change = Callable[[Any], None]
RAN = "ran"


def code_of(function: Any) -> dict[str, Any]:
    """Return a function as Keras keeps one in a file."""
    layer = layers.Lambda(function).get_config()["function"]
    assert layer["class_name"] == "__lambda__"
    return dict(layer)


# It writes a file where it is run.
HOSTILE = code_of(lambda x: open("ran", "w").close() or x)
LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "evil", "function": HOSTILE, "output_shape": None, "arguments": {}},
}


@pytest.fixture(autouse=True)
def _run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An HDF5 model with a nested one: (n, 6, 6, 1) → conv → inner (conv2) → flat."""
    inner = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(2, 3, name="conv2")], name="inner"
    )
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu", name="conv"),
            inner,
            layers.Flatten(name="flat"),
        ],
        name="outer",
    )
    path = tmp_path_factory.mktemp("saved") / "model.h5"
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def saved(saved_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.h5"
    path.write_bytes(saved_bytes)
    return path


def changed(path: Path, change: Change) -> Path:
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(change(config) or config)
    return path


def entry(config: Any, name: str) -> Any:
    """Return a layer's entry of a configuration, from the nested models too."""
    found = list(config["config"]["layers"])
    for one in found:
        found += one["config"].get("layers", [])
    return next(one for one in found if one["config"]["name"] == name)


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ModelFileError) as failed:
        load_model(path, **options)
    message = str(failed.value)
    assert not Path(RAN).exists()
    assert message.isprintable()
    assert path.name in message
    assert len(message) < 1000
    return message


def test_a_model_of_keras_layers_loads_with_its_weights(saved):
    model = load_model(saved)
    with h5py.File(saved) as file:
        stored = file["model_weights/conv/outer/conv/kernel"][()]
    assert np.array_equal(model.get_layer("conv").kernel, stored)
    assert model.predict(np.zeros((1, 6, 6, 1)), verbose=0).shape == (1, 8)


def every_layer() -> list[Any]:
    """Layers whose configurations hold further objects."""
    return [
        layers.Conv2D(2, 3, kernel_regularizer="l2", kernel_constraint="max_norm"),
        layers.Conv2D(2, 3, padding="same", bias_initializer=keras.initializers.Constant(0.1)),
        layers.TimeDistributed(layers.Dense(3, activation="gelu")),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        layers.Reshape((2, 2, 2)),
        layers.BatchNormalization(),
        layers.Activation("swish"),
        layers.PReLU(),
        layers.RandomFlip(),
        layers.Rescaling(1 / 255),
        layers.Conv2D(2, 1, dtype="mixed_float16"),
    ]


def test_layers_with_objects_in_their_configurations_load(tmp_path):
    image = keras.Input((6, 6, 1))
    first, second, timed, both, *rest = every_layer()
    x = second(first(image))
    x = both(timed(layers.Reshape((2, 16))(x)))
    for layer in rest:
        x = layer(x)
    skip = layers.Conv2D(2, 5, name="skip")(image)
    model = keras.Model(image, layers.Add()([x, skip]))
    model.save(tmp_path / "model.h5")
    loaded = load_model(tmp_path / "model.h5")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def nested_lambda(config: Any) -> None:
    entry(config, "inner")["config"]["layers"].append(LAMBDA)


def wrapped(config: Any, wrapper: str = "TimeDistributed", **more: Any) -> None:
    config["config"]["layers"].append(
        {"class_name": wrapper, "config": {"name": "wrapped", "layer": LAMBDA}, **more}
    )


def with_module(config: Any) -> None:
    config["config"]["layers"].append({**LAMBDA, "module": "keras.layers", "registered_name": None})


def of_keras_2(config: Any) -> None:
    code = HOSTILE["config"]["code"]
    config["config"]["layers"].append(
        {"class_name": "Lambda", "config": {"name": "evil", "function": [code, None, None]}}
    )


def passive(config: Any) -> None:
    evil = {**LAMBDA, "__passive_serialization__": True}
    entry(config, "conv2")["config"]["kernel_initializer"] = evil


def in_custom_objects(config: Any) -> None:
    config["config"]["custom_objects"] = {"Conv2D": LAMBDA}


def in_an_argument(config: Any) -> None:
    entry(config, "flat")["inbound_nodes"] = [[["conv", 0, 0, {"mask": HOSTILE}]]]


def as_activation(config: Any) -> None:
    entry(config, "conv")["config"]["activation"] = HOSTILE


def as_dtype(config: Any) -> None:
    entry(config, "conv")["config"]["dtype"] = LAMBDA


def in_a_list(config: Any) -> None:
    entry(config, "conv")["config"]["layers"] = [[["a", {"b": [LAMBDA]}]]]


def as_compile_config(config: Any) -> None:
    entry(config, "conv")["compile_config"] = {"loss": HOSTILE}


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (nested_lambda, "inner.evil"),
        (wrapped, "wrapped.evil"),
        (lambda c: wrapped(c, module="keras.layers", registered_name=None), "wrapped.evil"),
        (lambda c: wrapped(c, "Bidirectional"), "wrapped.evil"),
        (with_module, "evil"),
        (of_keras_2, "evil"),
        (passive, "inner.conv2.evil"),
        (in_custom_objects, "evil"),
        (in_an_argument, "flat"),
        (as_activation, "conv"),
        (as_dtype, "conv.evil"),
        (in_a_list, "conv.evil"),
        (as_compile_config, "conv"),
    ],
)
def test_code_is_found_wherever_it_stands(saved, change, layer):
    message = refused(changed(saved, change))
    assert f"can run code: layer '{layer}' " in message
    assert "Python" in message
    assert "pass --convlens-allow-legacy if you trust the file's source" in message
    named = saved.rename(saved.with_suffix(".keras"))
    assert f"layer '{layer}' " in refused(named)


def test_permission_runs_the_code(saved):
    """The planted code is real: where it is allowed, it runs."""

    def add(config: Any) -> None:
        config["config"]["layers"].append(LAMBDA)

    assert "layer 'evil' is a Lambda layer" in refused(changed(saved, add))
    model = load_model(saved, allow_legacy=True)
    assert Path(RAN).exists()
    assert model.predict(np.zeros((1, 6, 6, 1)), verbose=0).shape == (1, 8)


def whole(**entries: Any) -> Change:
    return lambda config: {"config": {}, **entries}


def layer(class_name: Any, module: Any = None, registered: Any = None, **config: Any) -> Change:
    """Return a change that appends a layer of some name."""
    found: dict[str, Any] = {"class_name": class_name, "config": {"name": "evil", **config}}
    if module is not None:
        found.update(module=module, registered_name=registered)

    def append(config: Any) -> None:
        config["config"]["layers"].append({**found, "name": "evil", "inbound_nodes": []})

    return append


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (whole(class_name="system", module="os"), "the model is of 'system' from 'os', not from"),
        (whole(class_name="Sequential", module="evil"), "from 'evil', not from Keras"),
        (layer("system", "os", command="touch ran"), "layer 'evil' is of 'system' from 'os'"),
        (layer("exec", "builtins", x="open('ran', 'w')"), "needs the custom object 'exec'"),
        (layer("Dense", "keras.layers", "os>system"), "registered as 'os>system', which is not"),
        (layer("Dense", "keras.layers..os"), "from 'keras.layers..os', not from Keras"),
        (layer("Dense", "keras_evil.layers"), "from 'keras_evil.layers', not from Keras"),
        (layer("Dense", "keras.layers\n"), "not from Keras"),
        (layer("Dense", ["os"]), "not from Keras"),
        (layer("deserialize"), "needs the custom object 'deserialize'"),
        (layer("Input", shape=[3]), "needs the custom object 'Input'"),
        (layer("__builtins__"), "needs the custom object '__builtins__'"),
        (layer("enable_unsafe_deserialization", "keras.config"), "needs the custom object"),
        (layer("TFSMLayer", filepath="evil"), "loads a SavedModel from elsewhere"),
        (layer("TorchModuleWrapper", module="gAA="), "whose module is a pickle"),
        (layer("TextVectorization", vocabulary="/etc/passwd"), "can read other files"),
        (layer("StringLookup", vocabulary="/etc/passwd"), "can read other files"),
        (layer("TypeSpec", type_spec="x"), "holds a type of TensorFlow"),
        (layer("function", "os", "system"), "is of 'function' from 'os', not from Keras"),
        (layer("TFOpLambda", function="math.add"), "calls a function of TensorFlow (TFOpLambda)"),
        (layer(["Lambda"]), "has no name of a class"),
        (layer("Dense", units=4_000_000_000), "bytes of weights, but the file has"),
        (layer("Reshape", target_shape=[10**6, 10**6]), "could not be loaded"),
        (layer("UpSampling2D", size=[10**6, 10**6]), "could not be loaded"),
        (layer("Dense", units=2, nonsense="x" * 2000), "could not be loaded"),
        (layer("VAE", units=2), "needs the custom object 'VAE'"),
        (lambda config: [config], "does not describe a model"),
        (lambda config: {"class_name": "Sequential"}, "does not describe a model"),
    ],
)
def test_what_is_not_keras_s_own_is_refused_without_being_called(saved, change, message):
    assert message in refused(changed(saved, change))


def function(name: Any, module: Any = "builtins") -> Change:
    """Return a change that names a function as an activation."""

    def name_it(config: Any) -> None:
        entry(config, "conv")["config"]["activation"] = {
            "class_name": "function",
            "module": module,
            "config": name,
            "registered_name": "function",
        }

    return name_it


def test_functions_other_than_activations_are_refused(saved, saved_bytes):
    for name in ("exec", "deserialize", "get", "load_model", 3):
        saved.write_bytes(saved_bytes)
        assert "needs the custom object" in refused(changed(saved, function(name)))
    saved.write_bytes(saved_bytes)
    assert "from 'os', not from Keras" in refused(changed(saved, function("system", "os")))
    saved.write_bytes(saved_bytes)
    assert load_model(changed(saved, function("tanh"))).get_layer("conv").activation is not None


def test_what_the_user_registered_needs_permission(saved, monkeypatch):
    """A file may not choose which of the user's functions and classes are called."""
    called: list[Any] = []

    def own(x: Any) -> Any:
        called.append(x)
        return x

    registered = keras.saving.get_custom_objects()
    for name in ("mine>own", "own", "Flatten"):
        monkeypatch.setitem(registered, name, own)

    def by_text(config: Any) -> None:
        entry(config, "conv")["config"]["activation"] = "mine>own"

    assert "layer 'flat' is of 'Flatten', which is registered outside Keras" in refused(saved)
    monkeypatch.delitem(registered, "Flatten")
    assert load_model(saved).count_params() > 0
    changed(saved, by_text)
    assert "layer 'conv' names 'mine>own', which is registered outside Keras" in refused(saved)
    assert not called
    assert load_model(saved, allow_legacy=True).get_layer("conv").activation is own


def nest(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def test_deep_and_large_configurations_are_refused(saved, saved_bytes, monkeypatch):
    def deep(config: Any) -> None:
        entry(config, "conv")["config"]["deep"] = nest(450, 1)

    assert "is nested more than 400 levels deep" in refused(changed(saved, deep))
    for text in ("[" * 60_000, '{"a":' * 12_000):
        saved.write_bytes(saved_bytes)
        with h5py.File(saved, "r+") as file:
            file.attrs["model_config"] = text
        refused(saved)
    saved.write_bytes(saved_bytes)
    monkeypatch.setattr(legacy, "MAX_CONFIG_BYTES", 10)
    assert "the configuration is larger than 10 bytes" in refused(saved)


def test_weights_larger_than_the_memory_are_refused(saved):
    with h5py.File(saved, "r+") as file:
        file.create_dataset("model_weights/bomb", (2**40,), np.float32, chunks=(2**20,))
    assert "the weights take 4398046" in refused(saved)


def test_a_truncated_file_is_refused(saved, saved_bytes):
    for size in (8, 100, 2000, len(saved_bytes) // 2):
        saved.write_bytes(saved_bytes[:size])
        refused(saved)
        refused(saved, allow_legacy=True)

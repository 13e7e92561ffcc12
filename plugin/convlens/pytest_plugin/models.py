"""Load the models and images that were asked for, once each."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from convlens.pytest_plugin.options import value_range
from convlens.pytest_plugin.targets import Target, parse_target

if TYPE_CHECKING:
    from convlens.engine.network import Network
    from convlens.lens import Lens
    from convlens.pytest_plugin.images import ImageSet

_MODELS = pytest.StashKey[dict[str, Any]]()
_NETWORKS = pytest.StashKey["WeakKeyDictionary[Any, Network]"]()


def load_target(config: pytest.Config, target: Target) -> Any:
    """Return a target's Keras model.

    Raises:
        ValueError: the model cannot be loaded; the message is one line.
    """
    models = config.stash.setdefault(_MODELS, {})
    if target.spec not in models:
        # TensorFlow tells its build options on every import; warnings and errors still show.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        models[target.spec] = _load(config, target)
    return models[target.spec]


def load_application(config: pytest.Config, name: str, weights: Any = None, **options: Any) -> Any:
    """Return a trained network of keras.applications, with the weights that the options name.

    Raises:
        FileNotFoundError: there are no weights on this machine.
        ValueError: they cannot be read, or do not fit.
    """
    from convlens.fixtures.pretrained import load_pretrained

    given = config.getoption("convlens_weights") if weights is None else weights
    options.setdefault("download", config.getoption("convlens_download"))
    return load_pretrained(name, given, **options)


def network_of(config: pytest.Config, model: Any) -> Network:
    """Return a model taken apart, the same one each time, so that compiled functions are kept."""
    from convlens.engine.network import Network

    if isinstance(model, Network):
        return model
    networks = config.stash.setdefault(_NETWORKS, WeakKeyDictionary())
    if model not in networks:
        networks[model] = Network(model)
    return networks[model]


def images_for(config: pytest.Config, model: Any) -> ImageSet:
    """Return the images to look at a model with: those given, its own, or seeded textures.

    Raises:
        ValueError: images that cannot be read, or that do not fit the model.
    """
    from convlens.pytest_plugin.images import read_images, shipped_digits, textures

    network = network_of(config, model)
    source = config.getoption("convlens_images")
    given = value_range(config)
    if source is not None:
        return read_images(source, network.input_shape, given)
    models = config.stash.setdefault(_MODELS, {})
    if models.get("mnist_cnn") is model:
        return shipped_digits()
    return textures(network.input_shape, given or (0.0, 1.0), config.getoption("convlens_seed"))


def lens_for(config: pytest.Config, model: Any, images: ImageSet | None = None) -> Lens:
    """Return a model bound to images, those of `images_for` unless others are given.

    Raises:
        ValueError: images that do not fit the model.
    """
    from convlens.lens import Lens
    from convlens.pytest_plugin.images import rescaled

    network = network_of(config, model)
    chosen = images or images_for(config, model)
    own = getattr(network.model, "convlens_value_range", None)
    if own is not None:
        chosen = rescaled(chosen, own, network.name)
    return Lens(
        network,
        chosen.images,
        chosen.labels,
        value_range=value_range(config) or chosen.value_range,
        source=chosen.source,
    )


def lens_of_target(config: pytest.Config, target: Target) -> Lens:
    """Return a target's model bound to its images."""
    return lens_for(config, load_target(config, target))


def default_target() -> Target:
    """Return the model under test where none was named."""
    return parse_target("mnist_cnn")


def _load(config: pytest.Config, target: Target) -> Any:
    if target.kind == "shipped":
        from convlens.fixtures.mnist_cnn import load_mnist_cnn

        return load_mnist_cnn()
    if target.kind == "file":
        from convlens.engine.loading import load_model

        return load_model(target.spec, allow_legacy=config.getoption("convlens_allow_legacy"))
    if target.kind == "application":
        taken = value_range(config) or (0.0, 255.0)
        try:
            return load_application(config, target.spec, value_range=taken)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
    import keras

    from convlens.engine.network import Network

    model = call_factory(target.spec)
    if not isinstance(model, keras.Model | Network):
        raise ValueError(f"{target.spec} returned {type(model).__name__}, not a Keras model")
    return model


def call_factory(spec: str) -> Any:
    """Return what the function named ``module:function`` returns.

    Raises:
        ValueError: there is no such module or function.
    """
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ValueError(
            f"{spec}: there is no module {module_name!r}; run `python -m pytest` to import from "
            "this folder, or set pythonpath in the pytest configuration"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{spec}: module {module_name!r} has no function {name!r}")
    return function()

"""Load models and their images, and cache those that were used last."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from convlens.engine.runtime.lru_cache import LRUCache
from convlens.pytest_plugin.baselines import SESSION
from convlens.pytest_plugin.factories import call_factory
from convlens.pytest_plugin.options import value_range
from convlens.pytest_plugin.targets import Target, parse_target

if TYPE_CHECKING:
    from convlens.engine.model.network import Network
    from convlens.lens import Lens
    from convlens.pytest_plugin.images import ImageSet
    from convlens.pytest_plugin.inputs import HeldInputs

# What models, and what was compiled for them, may take together before those used longest ago are
# let go: one of VGG19's size, or eight small ones.
_BUDGET = 2**29
_COMPILED = 2**26

# Models that cannot be read again at will, such as a factory's.
_MADE = pytest.StashKey[dict[str, Any]]()
_FILES = pytest.StashKey["LRUCache[str, Any]"]()
_VERSIONS = pytest.StashKey[dict[str, tuple[int, ...]]]()
_HELD = pytest.StashKey["dict[int, HeldInputs]"]()
# Name of the file that a model was read from: what messages call it.
_NAMES = pytest.StashKey["WeakKeyDictionary[Any, str]"]()
_NETWORKS = pytest.StashKey["LRUCache[int, Network]"]()
_LENSES = pytest.StashKey["LRUCache[str, Lens]"]()


def load_target(config: pytest.Config, target: Target) -> Any:
    """Return a target's Keras model. One of a file may be read again, if others came between.

    Raises:
        ValueError: the model cannot be loaded, or its file is another one than before; the message
            is one line.
    """
    # TensorFlow tells its build options on every import; warnings and errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if target.kind == "file":
        files = config.stash.setdefault(_FILES, LRUCache(_BUDGET, _model_bytes))
        model = files.get(target.spec, lambda: _load_file(config, target.spec))
        names = config.stash.setdefault(_NAMES, WeakKeyDictionary())
        names[model] = Path(target.spec).name
        return model
    made = config.stash.setdefault(_MADE, {})
    if target.spec not in made:
        made[target.spec] = _make(config, target)
    return made[target.spec]


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
    """Return a model taken apart, the same one while it is in use: it has what was compiled."""
    from convlens.engine.model.network import Network

    if isinstance(model, Network):
        return model
    networks = config.stash.setdefault(
        _NETWORKS, LRUCache(_BUDGET, lambda n: _model_bytes(n.model))
    )
    # The network holds the model, and so its id.
    return networks.get(id(model), lambda: _open(config, model))


def _open(config: pytest.Config, model: Any) -> Network:
    """Take a model apart whose inputs are held, except for the one that takes the images.

    Raises:
        ValueError: a model that `Network` does not support, or rows that do not fit its inputs.
    """
    from convlens.engine.model.network import Network
    from convlens.pytest_plugin.inputs import hold_inputs

    held = hold_inputs(
        model,
        config.getoption("convlens_images"),
        value_range(config) or (0.0, 1.0),
        config.getoption("convlens_seed"),
    )
    network = Network(model, held=held.values, name=name_of(config, model))
    config.stash.setdefault(_HELD, {})[id(model)] = held
    return network


def _held(config: pytest.Config, network: Network) -> HeldInputs:
    """Return what the inputs of a model are held at; nothing for a network of the user's own."""
    from convlens.pytest_plugin.inputs import HeldInputs

    return config.stash.get(_HELD, {}).get(id(network.model)) or HeldInputs({})


def name_of(config: pytest.Config, model: Any) -> str | None:
    """Return the name of the file that a model was read from; None for another model."""
    names = config.stash.setdefault(_NAMES, WeakKeyDictionary())
    return names.get(model)


def images_for(config: pytest.Config, model: Any) -> ImageSet:
    """Return the images to look at a model with: those given, its own, or seeded textures.

    Raises:
        ValueError: images that cannot be read, or that do not fit the model.
    """
    from convlens.pytest_plugin.images import shipped_digits

    network = network_of(config, model)
    asked = config.getoption("convlens_images") is not None
    if not asked and config.stash.get(_MADE, {}).get("mnist_cnn") is model:
        return shipped_digits()
    held = _held(config, network)
    return _with_held(held, images_for_shape(config, network.input_shape, held.image))


def images_for_shape(
    config: pytest.Config, shape: tuple[int | None, ...], name: str | None = None
) -> ImageSet:
    """Return the images that were given, or seeded textures, for inputs of a shape.

    Args:
        config: of the run.
        shape: shape of one image.
        name: name of the input that takes the images; None where there is one input.

    Raises:
        ValueError: images that cannot be read.
    """
    from convlens.pytest_plugin.images import assumed_range, read_images, textures

    source = config.getoption("convlens_images")
    given = value_range(config)
    if source is not None:
        return read_images(source, shape, given, name)
    drawn = textures(shape, given or assumed_range(shape), config.getoption("convlens_seed"))
    return replace(drawn, range_given=given is not None)


def _with_held(held: HeldInputs, images: ImageSet) -> ImageSet:
    """Return images whose description says which inputs of the model are held."""
    return replace(images, source=f"{images.source}; {held.words}") if held.words else images


def lens_for(config: pytest.Config, model: Any, images: ImageSet | None = None) -> Lens:
    """Return a model bound to images, those of `images_for` unless others are given.

    Raises:
        ValueError: images that do not fit the model.
    """
    from convlens.engine.model.classes import class_numbers
    from convlens.lens import Lens
    from convlens.pytest_plugin.images import rescaled

    network = network_of(config, model)
    chosen = images or images_for(config, model)
    own = getattr(network.model, "convlens_value_range", None)
    if own is not None:
        chosen = replace(rescaled(chosen, own, network.name), range_given=True)
    labels, problem, rows = chosen.labels, None, {}
    if labels is not None:
        try:
            labels = class_numbers(labels, len(chosen.images))
            rows = _held(config, network).rows_of(len(chosen.images))
            _check_classes(network, chosen)
        except ValueError as error:  # which concerns the check of accuracy alone
            labels, problem = None, f"the labels cannot be used: {error}"
    return Lens(
        network,
        chosen.images,
        labels,
        value_range=value_range(config) or chosen.value_range,
        source=chosen.source,
        range_given=chosen.range_given,
        labels_problem=problem,
        rows=rows,
        synthetic=chosen.synthetic,
    )


def _check_classes(network: Network, images: ImageSet) -> None:
    """Check that labels are of the model's own classes.

    Raises:
        ValueError: they say nothing of the model; the message is the reason.
    """
    from contextlib import suppress

    from convlens.engine.model.classes import class_layer

    count = len(images.classes)
    if not count:
        return
    units = count
    with suppress(ValueError):  # a model without classes, which the check of accuracy tells
        units = network.units(class_layer(network))
    if count != max(units, 2):
        raise ValueError(
            f"there are folders of {count} classes, but {network.name} has {units}: give a folder "
            "for each class, in the order of their names, also for classes without a picture"
        )


def lens_of_target(config: pytest.Config, target: Target) -> Lens:
    """Return a target's model bound to its images.

    Raises:
        ValueError: the model or the images cannot be loaded.
    """
    lenses = config.stash.setdefault(_LENSES, LRUCache(_BUDGET, _lens_bytes))
    return lenses.get(target.spec, lambda: lens_for(config, load_target(config, target)))


def shared_lens(config: pytest.Config, target: Target) -> Lens:
    """Return a target's model bound to its images; what is computed is shared among its items.

    Raises:
        ValueError: the model or the images cannot be loaded.
    """
    lens = lens_of_target(config, target)
    if not config.stash[SESSION].asked:
        lens.share()
    else:
        from convlens.baselines.record import SEED

        lens.share(SEED)
    return lens


def stop_sharing(config: pytest.Config) -> None:
    """Let go of what items have shared, before or after code that may change weights."""
    if _LENSES in config.stash:
        for lens in config.stash[_LENSES].values():
            lens.unshare()


def default_target() -> Target:
    """Return the model under test where none was named."""
    return parse_target("mnist_cnn")


def _load_file(config: pytest.Config, spec: str) -> Any:
    from convlens.engine.model.loading import load_model

    version = _version(Path(spec))  # before it is read, so that a change meanwhile shows next time
    model = load_model(spec, allow_legacy=config.getoption("convlens_allow_legacy"))
    if config.stash.setdefault(_VERSIONS, {}).setdefault(spec, version) != version:
        raise ValueError(
            f"{spec} was written anew during this run, whose other items saw the model that it was "
            "before: run pytest again when it is finished"
        )
    return model


def _version(file: Path) -> tuple[int, ...]:
    """Return what changes when a file is written anew; nothing of one that is not there."""
    if not file.is_file():
        return ()
    state = file.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _make(config: pytest.Config, target: Target) -> Any:
    if target.kind == "shipped":
        from convlens.fixtures.mnist_cnn import load_mnist_cnn

        return load_mnist_cnn()
    if target.kind == "application":
        taken = value_range(config) or (0.0, 255.0)
        try:
            return load_application(config, target.spec, value_range=taken)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None
    if target.kind == "revision":
        from convlens.compare.sources import revision
        from convlens.engine.model.loading import load_model

        with revision(target.spec) as file:
            return load_model(file, allow_legacy=config.getoption("convlens_allow_legacy"))
    import keras

    from convlens.engine.model.network import Network

    model = call_factory(target.spec)
    if not isinstance(model, keras.Model | Network):
        raise ValueError(f"{target.spec} returned {type(model).__name__}, not a Keras model")
    return model


def _model_bytes(model: Any) -> int:
    """Return about what a model, and what is compiled for it, takes."""
    return _COMPILED + 4 * int(model.count_params())


def _lens_bytes(lens: Lens) -> int:
    return _model_bytes(lens.model) + lens.images.nbytes + lens.shared_bytes

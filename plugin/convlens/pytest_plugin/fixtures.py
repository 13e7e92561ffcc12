"""Fixtures for test files: a model under test, its images, and a lens that binds the two.

Other suites have fixtures and parameters of these names, too: those are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from convlens.pytest_plugin.targets import TARGETS, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.lens import Lens
    from convlens.pytest_plugin.images import ImageSet


class Digits(NamedTuple):
    """Hand-made digits: images (n, 28, 28, 1) float32 in [0, 1], labels (n,) int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class LayerParam(NamedTuple):
    """The parameter of `conv_layer`: a model that is built again may have its layers named anew.

    Attributes:
        number: the layer's number among the convolutions, from 0.
        name: its name while tests are collected.
    """

    number: int
    name: str


@pytest.fixture(scope="session")
def mnist_cnn(pytestconfig: pytest.Config) -> Any:
    """The shipped MNIST network: a trained Keras model for images (n, 28, 28, 1) in [0, 1]."""
    from convlens.pytest_plugin.models import load_target
    from convlens.pytest_plugin.targets import parse_target

    return load_target(pytestconfig, parse_target("mnist_cnn"))


@pytest.fixture(scope="session")
def digits() -> Digits:
    """A labeled set of hand-made digits that the shipped network knows."""
    from convlens.fixtures.digits import load_digits

    return Digits(*load_digits())


@pytest.fixture
def convlens_target(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Target:
    """The target that --convlens names; a test runs once for each of several."""
    from convlens.pytest_plugin.models import default_target

    if hasattr(request, "param"):
        target: Target = request.param
        return target
    targets = pytestconfig.stash[TARGETS]
    return targets[0] if targets else default_target()


@pytest.fixture
def convlens_model(convlens_target: Target, pytestconfig: pytest.Config) -> Any:
    """The Keras model under test: that of --convlens, or the shipped MNIST network.

    Override it in a test file, class or conftest.py to test a model of your own.
    """
    from convlens.pytest_plugin.models import load_target

    try:
        return load_target(pytestconfig, convlens_target)
    except ValueError as error:
        return pytest.fail(str(error), pytrace=False)


@pytest.fixture
def convlens_images(convlens_model: Any, pytestconfig: pytest.Config) -> ImageSet:
    """The images that the model under test is looked at with.

    Those of --convlens-images, the digits for the shipped network, else seeded textures. Override
    it to return an array (n, h, w, c), or a pair of images and labels.
    """
    from convlens.pytest_plugin.models import images_for

    try:
        return images_for(pytestconfig, convlens_model)
    except ValueError as error:
        return pytest.fail(str(error), pytrace=False)


@pytest.fixture
def lens(convlens_model: Any, convlens_images: Any, pytestconfig: pytest.Config) -> Lens:
    """The model under test bound to its images: `lens.activations`, `lens.maximize`, …"""
    from convlens.pytest_plugin.images import as_image_set
    from convlens.pytest_plugin.models import lens_for

    try:
        return lens_for(pytestconfig, convlens_model, as_image_set(convlens_images))
    except ValueError as error:
        return pytest.fail(str(error), pytrace=False)


@pytest.fixture
def conv_layer(request: pytest.FixtureRequest, lens: Lens) -> str:
    """The name of a convolutional layer; the test runs once for each of the model under test.

    A test that is parametrized indirectly names the layers itself.
    """
    given = getattr(request, "param", None)
    if given is None:
        return pytest.fail(
            "conv_layer must be an argument of the test: request.getfixturevalue comes too late "
            "to run the test once for each layer",
            pytrace=False,
        )
    if isinstance(given, LayerParam):
        return lens.conv_layers[given.number]
    if given not in lens.conv_layers:
        return pytest.fail(
            f"conv_layer was given {given!r}, but the convolutional layers of {lens.name} are "
            f"{', '.join(lens.conv_layers) or 'none'}",
            pytrace=False,
        )
    return str(given)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each model of --convlens, and once for each convolutional layer."""
    definitions = metafunc._arg2fixturedefs
    marked = _marked_names(metafunc)
    if _uses_own(definitions, "conv_layer") and "conv_layer" not in marked:
        _each_layer(metafunc)
    elif _uses_own(definitions, "convlens_target") and "convlens_target" not in marked:
        targets = metafunc.config.stash[TARGETS]
        if len(targets) > 1:
            names = [t.spec for t in targets]
            metafunc.parametrize("convlens_target", targets, indirect=True, ids=names)


def own_fixture(item: pytest.Item, name: str) -> bool:
    """Return whether an item uses a fixture of convlens.

    A fixture of the same name that a suite has instead does not count, but `convlens_model` does,
    which is there to be overridden.
    """
    info = getattr(item, "_fixtureinfo", None)
    definitions = getattr(info, "name2fixturedefs", {})
    if name == "convlens_model" and name in getattr(item, "fixturenames", ()):
        return True
    return _uses_own(definitions, name)


def _uses_own(definitions: Mapping[str, Sequence[Any]], name: str) -> bool:
    """Return whether a name stands for convlens's fixture, or for one that overrides and uses it.

    A name that a mark parametrizes directly stands for no fixture, and has no definitions.
    """
    for definition in reversed(definitions.get(name, ())):
        if str(getattr(definition.func, "__module__", "")).startswith(f"{__package__}."):
            return True
        if name not in definition.argnames:
            return False
    return False


def _marked_names(metafunc: pytest.Metafunc) -> set[str]:
    """Return the names that the test's own marks parametrize."""
    found: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        found.update(map(str.strip, names.split(",")) if isinstance(names, str) else names)
    return found


def _each_layer(metafunc: pytest.Metafunc) -> None:
    from convlens.pytest_plugin.models import default_target, load_target, network_of

    config = metafunc.config
    override = _overriding_model(metafunc)
    if override is not None:
        found = network_of(config, override()).conv_layers
        metafunc.parametrize("conv_layer", _parameters(found), indirect=True, ids=found)
        return
    targets = config.stash[TARGETS] or [default_target()]
    values: list[tuple[Target, LayerParam]] = []
    names: list[str] = []
    for target in targets:
        try:
            found = network_of(config, load_target(config, target)).conv_layers
        except ValueError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        values += [(target, parameter) for parameter in _parameters(found)]
        names += found if len(targets) == 1 else [f"{target.spec}-{layer}" for layer in found]
    metafunc.parametrize(("convlens_target", "conv_layer"), values, indirect=True, ids=names)


def _parameters(layers: Sequence[str]) -> list[LayerParam]:
    return [LayerParam(number, layer) for number, layer in enumerate(layers)]


def _overriding_model(metafunc: pytest.Metafunc) -> Callable[[], Any] | None:
    """Return the function of a fixture that overrides `convlens_model`, None where none does.

    The layers must be known while tests are collected, before fixtures have values.

    Raises:
        pytest.Collector.CollectError: that fixture needs other fixtures, is a generator or has
            parameters; or a mark parametrizes it, or `lens` is another suite's fixture.
    """
    import inspect

    definitions: Sequence[Any] = metafunc._arg2fixturedefs.get("convlens_model", ())
    if definitions:
        definition = definitions[-1]
        function: Callable[[], Any] = definition.func
        if function is convlens_model._get_wrapped_function():
            return None
        simple = not (definition.argnames or definition.params)
        if simple and not inspect.isgeneratorfunction(function):
            return function
    raise pytest.Collector.CollectError(
        "conv_layer must know the model while tests are collected: let the fixture "
        "convlens_model take no arguments and return the model, or use --convlens"
    )

"""Fixtures for test files: a model under test, its images, and a lens that binds the two."""

from __future__ import annotations

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
    """Which model --convlens names; a test runs once for each of several."""
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
    """The name of a convolutional layer; the test runs once for each of the model under test."""
    # By number: a model that is built again may have its layers named anew.
    return lens.conv_layers[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each model of --convlens, and once for each convolutional layer."""
    if "conv_layer" in metafunc.fixturenames:
        _each_layer(metafunc)
    elif "convlens_target" in metafunc.fixturenames:
        targets = metafunc.config.stash[TARGETS]
        if len(targets) > 1:
            names = [t.spec for t in targets]
            metafunc.parametrize("convlens_target", targets, indirect=True, ids=names)


def _each_layer(metafunc: pytest.Metafunc) -> None:
    from convlens.pytest_plugin.models import default_target, load_target, network_of

    config = metafunc.config
    override = _overriding_model(metafunc)
    if override is not None:
        layers = network_of(config, override()).conv_layers
        metafunc.parametrize("conv_layer", range(len(layers)), indirect=True, ids=layers)
        return
    targets = config.stash[TARGETS] or [default_target()]
    values, names = [], []
    for target in targets:
        try:
            layers = network_of(config, load_target(config, target)).conv_layers
        except ValueError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        for number, layer in enumerate(layers):
            values.append((target, number))
            names.append(layer if len(targets) == 1 else f"{target.spec}-{layer}")
    metafunc.parametrize(("convlens_target", "conv_layer"), values, indirect=True, ids=names)


def _overriding_model(metafunc: pytest.Metafunc) -> Any:
    """Return the function of a fixture that overrides `convlens_model`, None where none does.

    The layers must be known while tests are collected, before fixtures have values.

    Raises:
        pytest.Collector.CollectError: that fixture needs other fixtures, or is a generator.
    """
    import inspect

    definition = metafunc._arg2fixturedefs["convlens_model"][-1]
    if definition.func is convlens_model._get_wrapped_function():
        return None
    function = definition.func
    if definition.argnames or inspect.isgeneratorfunction(function):
        raise pytest.Collector.CollectError(
            "conv_layer must know the model while tests are collected: let the fixture "
            "convlens_model take no arguments and return the model, or use --convlens"
        )
    return function

"""Fixtures of networks that others have trained: VGG16, VGG19, and any of keras.applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def pretrained(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """A factory of trained networks: ``pretrained("ResNet50", value_range=(0, 1))``.

    It takes what `convlens.fixtures.pretrained.load_pretrained` takes; the model takes RGB images
    and preprocesses them itself. Weights are looked for where --convlens-weights says and in
    Keras's cache; without any the test is skipped.
    """
    from convlens.pytest_plugin.models import load_application

    made: dict[Any, Any] = {}

    def load(name: str, weights: Any = None, **options: Any) -> Any:
        key = (name, str(weights), *sorted((k, str(v)) for k, v in options.items()))
        if key not in made:
            try:
                made[key] = load_application(pytestconfig, name, weights, **options)
            except FileNotFoundError as error:
                pytest.skip(str(error))
            except ValueError as error:
                pytest.fail(str(error), pytrace=False)
        return made[key]

    return load


@pytest.fixture(scope="session")
def vgg16(pretrained: Callable[..., Any]) -> Any:
    """VGG16 trained on ImageNet, for RGB images (n, h, w, 3) in 0–255; skips without weights."""
    return pretrained("VGG16")


@pytest.fixture(scope="session")
def vgg19(pretrained: Callable[..., Any]) -> Any:
    """VGG19 trained on ImageNet, for RGB images (n, h, w, 3) in 0–255; skips without weights."""
    return pretrained("VGG19")

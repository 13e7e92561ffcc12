"""Shared fixtures: a small network, and real data if it is available."""

from __future__ import annotations

import collections
import gc
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("hypothesis"):  # a run of the shipped network needs no test packages
    from hypothesis import settings

    # A change passes or fails for what it changes: each run draws the same examples. The session
    # `weekly` draws others.
    settings.register_profile("same examples", derandomize=True)
    settings.load_profile("same examples")

pytest_plugins = ["pytester"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data", metavar="DIR", help="folder with mnist.npz and other real data")
    parser.addoption(
        "--write-docs", action="store_true", help="write the generated parts of the docs"
    )
    parser.addoption("--run-slow", action="store_true", help="also run tests that take long")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases: collections.Counter[tuple[Path, str]] = collections.Counter()
    for item in items:
        if few := item.get_closest_marker("quick"):
            test = item.path, getattr(item, "originalname", item.name)
            cases[test] += 1
            if cases[test] > few.args[0]:
                item.add_marker(pytest.mark.slow)
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords or "weekly" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes long: run it with --run-slow"))


@pytest.fixture(scope="session", autouse=True)
def _garbage_is_collected_seldom() -> None:
    """Save a quarter of the time: each traced graph is of many objects, all of which live on."""
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def _inner_runs_are_no_ci_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of pytest within these tests behave as on a desk, wherever these tests run."""
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def mnist(pytestconfig: pytest.Config) -> Any:
    """MNIST: x_train, y_train, x_test, y_test, all uint8."""
    from convlens.fixtures.train_mnist_cnn import read_mnist

    return read_mnist(_find_data(pytestconfig, "mnist.npz", "MNIST"))


@pytest.fixture(scope="session")
def vgg19_weights(pytestconfig: pytest.Config) -> Path:
    """File with ImageNet weights of VGG19's first eight convolutions."""
    return _find_data(pytestconfig, "vgg19_imagenet_block1-3.npz", "VGG19's weights")


def _find_data(config: pytest.Config, name: str, what: str) -> Path:
    for folder in [config.getoption("--data"), os.environ.get("CONVLENS_DATA"), SHARED]:
        if folder and (Path(folder) / name).is_file():
            return Path(folder) / name
    pytest.skip(f"needs {what}: set --data or CONVLENS_DATA to a folder with {name}")


@pytest.fixture(scope="session")
def everything_is_loaded(
    mnist_cnn: Any, digits: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Import all heavy modules before tests that run pytest in this process.

    After an inner run, pytester unloads all modules that the run has imported. TensorFlow and NumPy
    cannot be imported a second time.
    """
    import importlib
    import pkgutil

    import keras
    from PIL import Image

    import convlens

    for module in pkgutil.walk_packages(convlens.__path__, "convlens."):
        if ".benchmarks" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    Image.init()
    mnist_cnn.predict(digits.images[:1], verbose=0)
    path = tmp_path_factory.mktemp("loaded") / "arrays.npz"
    np.savez_compressed(path, a=np.zeros(1))
    keras.saving.load_model(convlens.fixtures.mnist_cnn.mnist_cnn_path())


def build_tiny(seed: int = 3) -> Any:
    """Return a small convolutional network with random weights: (n, 13, 13, 2) → 3 classes."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((13, 13, 2)),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_a"),
            layers.MaxPooling2D(2, name="pool_a"),
            layers.Conv2D(5, 3, activation="relu", name="conv_b"),
            layers.MaxPooling2D(3, 2, padding="same", name="pool_b"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation="softmax", name="classes"),
        ],
        name="tiny",
    )
    give_weights(model, seed)
    return model


def give_weights(model: Any, seed: int) -> None:
    """Set random weights that are the same on every backend (Glorot & Bengio 2010)."""
    draw = np.random.default_rng(seed)
    weights = []
    for value in model.get_weights():
        fan = sum(value.shape[-2:]) * np.prod(value.shape[:-2]) if value.ndim > 1 else np.inf
        limit = np.sqrt(6 / fan)
        weights.append(draw.uniform(-limit, limit, value.shape).astype(np.float32))
    model.set_weights(weights)


@pytest.fixture
def tiny() -> Any:
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_network() -> Any:
    """The small model as a `Network`, so that all tests share its compiled functions."""
    from convlens import Network

    return Network(build_tiny())


@pytest.fixture(scope="session")
def tiny_images() -> Any:
    return np.random.default_rng(5).random((6, 13, 13, 2), dtype=np.float32)


@pytest.fixture(scope="session")
def mnist_network(mnist_cnn: Any) -> Any:
    from convlens import Network

    return Network(mnist_cnn)


@pytest.fixture(scope="session")
def tiny_items(tiny_network: Any, tiny_images: Any) -> int:
    """The number of items of the small model in the zero-code run."""
    return count_items(tiny_network, tiny_images)


@pytest.fixture(scope="session")
def mnist_items(mnist_network: Any, digits: Any) -> int:
    """The number of items of the shipped model in the zero-code run."""
    return count_items(mnist_network, digits.images, digits.labels)


def count_items(network: Any, images: Any, labels: Any = None) -> int:
    """Return the number of items that the battery has for a model."""
    from convlens import Lens
    from convlens.checks.battery import BATTERY
    from convlens.checks.check import Effort

    lens = Lens(network, images, labels)
    return sum(len(check.layers(lens, Effort())) for check in BATTERY)


@pytest.fixture(scope="session")
def new_style_network() -> Any:
    """Return a builder of a network for any image size with the layers 'low' and 'high'."""

    def build() -> Any:
        import keras
        from keras import layers

        from convlens import Network

        keras.utils.set_random_seed(5)
        image = keras.Input((None, None, 3))
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name="low")(image)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Conv2D(12, 3, padding="same", activation="relu", name="high")(x)
        return Network(keras.Model(image, x, name="small"))

    return build


@pytest.fixture
def tiny_file(tiny: Any, pytester: pytest.Pytester) -> Path:
    path = pytester.path / "tiny.keras"
    tiny.save(path)
    return path

"""Load everything heavy before the first test, and read each model once for all tests."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from convlens.engine.model import loading
from convlens.engine.model.network import Network
from convlens.fixtures import mnist_cnn as shipped
from convlens.pytest_plugin import models

# The time at which Keras saved a model.
_SAVED = re.compile(rb'"date_saved": "[^"]*"')


def identity(path: Path) -> bytes:
    """Return what is in a model's file, without the time at which it was saved."""
    if not path.is_file():
        return b""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    return b"".join(name + _SAVED.sub(b"", content) for name, content in parts)


class Pool:
    """Networks of this session's inner runs, which fit each model of the same layers.

    Attributes:
        used: the networks of the test that runs, by the identity of the model's file.
    """

    def __init__(self) -> None:
        self.used: dict[bytes, Network] = {}
        self._made: dict[str, list[Network]] = {}

    def network(self, model: Any) -> Network:
        """Return a network with a model's layers and weights that this test does not use yet.

        Raises:
            ValueError: convlens cannot read the model.
        """
        own = self._made.setdefault(model.to_json() + repr(model.convlens_loss), [])
        free = [network for network in own if network not in self.used.values()]
        if not free:
            own.append(Network(model))
            return own[-1]
        for variable, value in zip(free[0].model.variables, model.variables, strict=True):
            variable.assign(value)
        free[0].refresh()
        return free[0]


# Starts pytest so that Ctrl-C stops it even if the shell has SIGINT ignored, as nohup does.
INTERRUPTIBLE = """
import signal, sys
import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.main())
"""


@pytest.fixture(scope="session", autouse=True)
def _everything_is_loaded(everything_is_loaded: None) -> None:
    """Every test here may run pytest in this process."""


@pytest.fixture(scope="session")
def _pool() -> Pool:
    return Pool()


@pytest.fixture(autouse=True)
def _models_are_shared(
    _pool: Pool, mnist_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give inner runs in this process the networks, and what is compiled for them, of earlier runs.

    Within a test, a network is one model. The next test may give it other weights.
    """
    load, network_of = loading.load_model, models.network_of
    _pool.used.clear()
    known = {id(mnist_network.model): mnist_network}

    def load_once(path: str | os.PathLike[str], **options: Any) -> Any:
        if not Path(path).is_file():
            return load(path, **options)
        what = identity(Path(path))
        if what not in _pool.used:
            model = load(path, **options)
            try:
                _pool.used[what] = _pool.network(model)
            except ValueError:
                return model  # the run itself is to say so
        network = _pool.used[what]
        known[id(network.model)] = network
        return network.model

    monkeypatch.setattr(loading, "load_model", load_once)
    monkeypatch.setattr(shipped, "load_mnist_cnn", lambda: mnist_network.model)

    def known_network(config: pytest.Config, model: Any) -> Network:
        network = known.get(id(model))
        if network is None:
            return network_of(config, model)
        network.name = models.name_of(config, model) or network.model.name
        return network

    monkeypatch.setattr(models, "network_of", known_network)


@pytest.fixture
def interruptible() -> list[str]:
    """The command of a pytest that Ctrl-C stops, wherever these tests were started."""
    return [sys.executable, "-c", INTERRUPTIBLE]

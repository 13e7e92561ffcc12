"""Load everything heavy before the first test, and read each model once for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from convlens.engine.model import loading
from convlens.engine.model.network import Network
from convlens.fixtures import mnist_cnn as shipped
from convlens.pytest_plugin import models

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
def _networks() -> dict[bytes, Network]:
    """The networks of this session's inner runs by the content of the model's file."""
    return {}


@pytest.fixture(autouse=True)
def _models_are_shared(
    _networks: dict[bytes, Network], mnist_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give inner runs in this process the model, and what is compiled for it, of earlier runs.

    A file is known again by its content. Each content is read by convlens the first time.
    """
    load, network_of = loading.load_model, models.network_of
    known = {id(network.model): network for network in _networks.values()}
    known[id(mnist_network.model)] = mnist_network

    def load_once(path: str | os.PathLike[str], **options: Any) -> Any:
        if not Path(path).is_file():
            return load(path, **options)
        content = Path(path).read_bytes()
        if content not in _networks:
            model = load(path, **options)
            try:
                _networks[content] = Network(model)
            except ValueError:
                return model  # the run itself is to say so
            known[id(model)] = _networks[content]
        return _networks[content].model

    monkeypatch.setattr(loading, "load_model", load_once)
    monkeypatch.setattr(shipped, "load_mnist_cnn", lambda: mnist_network.model)
    monkeypatch.setattr(
        models,
        "network_of",
        lambda config, model: known.get(id(model)) or network_of(config, model),
    )


@pytest.fixture
def interruptible() -> list[str]:
    """The command of a pytest that Ctrl-C stops, wherever these tests were started."""
    return [sys.executable, "-c", INTERRUPTIBLE]

"""Properties over random networks: eager where only values count, as each compiles for seconds."""

from __future__ import annotations

from typing import Any

import pytest

from convlens.engine import backend


@pytest.fixture(scope="module")
def eager() -> Any:
    """Run the engine's functions as they are, without compiling them."""

    def as_it_is(fn: Any, variables: Any, *, batched: int = 0, distribution: Any = None) -> Any:
        return fn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compile", as_it_is)
        yield

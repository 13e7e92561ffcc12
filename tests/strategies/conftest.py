"""Fixtures for tests on random networks; eager execution saves seconds of compiling for each."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from convlens.engine.runtime import backend

# Eager TensorFlow computes a convolution's gradient by its kernel too, which nothing here asks for
# and which a compiled function leaves out. For strides beyond the kernel's size, oneDNN's (as of
# 2.20 and 2.21) write past the end of their memory, which ends the process some time later.
BY_KERNEL = ("conv2d_backprop_filter", "depthwise_conv2d_native_backprop_filter")


@pytest.fixture(scope="module")
def eager() -> Any:
    """Run the engine's functions without compiling them."""
    ops = importlib.import_module("tensorflow.python.ops.gen_nn_ops")

    def as_it_is(fn: Any, variables: Any, *, batched: int = 0, distribution: Any = None) -> Any:
        return fn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compile", as_it_is)
        for name in BY_KERNEL:
            patch.setattr(ops, name, lambda *_, **__: None)
        yield

"""Run tests with many random networks eagerly, because compiling each takes seconds."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from convlens.engine.runtime import backend

# Eager TensorFlow also computes the kernel gradient of a convolution. The tests do not need it, and
# compiled functions leave it out. For strides larger than the kernel, oneDNN's implementation
# (TensorFlow 2.20 and 2.21) writes beyond its memory, which later crashes the process.
KERNEL_GRADIENTS = ("conv2d_backprop_filter", "depthwise_conv2d_native_backprop_filter")


@pytest.fixture(scope="module")
def eager() -> Any:
    """Run the functions of the engine without compiling them."""
    ops = importlib.import_module("tensorflow.python.ops.gen_nn_ops")

    def not_compiled(fn: Any, variables: Any, *, batched: int = 0, distribution: Any = None) -> Any:
        return fn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compile", not_compiled)
        for name in KERNEL_GRADIENTS:
            patch.setattr(ops, name, lambda *_, **__: None)
        yield

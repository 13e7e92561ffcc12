"""Find a runtime of TFLite, and the schema of its files.

Neither is needed to import convlens, and this module imports neither until it is asked to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

INSTALL = "pip install 'pytest-convlens[tflite]'"
# The distributions that have one, the maintained one first, with the interpreter and the schema.
_RUNTIMES = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
    "tensorflow": (
        "tensorflow.lite.python.interpreter",
        "tensorflow.lite.python.schema_py_generated",
    ),
}


def find_runtime(wanted: str | None = None) -> tuple[str, Any, Any]:
    """Return a runtime of TFLite: its distribution, its interpreter's module, and the schema's.

    Args:
        wanted: name of a distribution; None for the first that is installed.

    Raises:
        ValueError: none is installed; the message has the command to install one.
    """
    for package, (interpreter, schema) in _installed(wanted):
        return package, importlib.import_module(interpreter), importlib.import_module(schema)
    raise ValueError(f"no runtime of TFLite is installed: {INSTALL}")


def _installed(wanted: str | None) -> Iterator[tuple[str, tuple[str, str]]]:
    for package, modules in _RUNTIMES.items():
        if wanted in (None, package) and find_spec(modules[0].partition(".")[0]) is not None:
            yield package, modules

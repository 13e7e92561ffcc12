"""Factories: functions of the user's own that are named as ``module:function``."""

from __future__ import annotations

import importlib
from typing import Any


def call_factory(spec: str) -> Any:
    """Call the function named ``module:function`` and return its result.

    Raises:
        ValueError: there is no such module or function.
    """
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ValueError(
            f"{spec}: there is no module {module_name!r}; run `python -m pytest` to import from "
            "this folder, or set pythonpath in the pytest configuration"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{spec}: module {module_name!r} has no function {name!r}")
    return function()

"""Count gradients that are traced, and not those that are taken at once."""

from __future__ import annotations

import numpy as np

from convlens.engine.runtime import backend


def traced_gradients(monkeypatch):
    """Return a list that grows by an entry with each gradient that is traced from now on."""
    seen = []
    vjp = backend.vjp

    def counting(function, x, **options):
        if _has_no_values(x):
            seen.append(1)
        return vjp(function, x, **options)

    monkeypatch.setattr(backend, "vjp", counting)
    return seen


def _has_no_values(x):
    try:
        np.asarray(x)
    except (NotImplementedError, TypeError):
        return True
    return False

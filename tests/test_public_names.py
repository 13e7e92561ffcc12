"""The public names: each is there, and loaded when it is used."""

from __future__ import annotations

import pytest

import convlens


def test_every_public_name_is_there_and_only_those():
    for name in convlens.__all__:
        assert getattr(convlens, name) is not None
    assert set(convlens.__all__) <= set(dir(convlens))
    with pytest.raises(AttributeError, match="No convlens attribute nothing"):
        convlens.nothing  # noqa: B018

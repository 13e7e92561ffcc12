"""Models under test, as users name them."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from convlens.files.formats import explain_folder, is_saved_model

SHIPPED = ("mnist_cnn",)
GIT = "git:"
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
# The networks of keras.applications, named here because importing Keras takes seconds.
APPLICATIONS = (
    *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    *(f"DenseNet{depth}" for depth in (121, 169, 201)),
    *(f"EfficientNetB{i}" for i in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large"),
    *("MobileNetV3Small", "NASNetLarge", "NASNetMobile"),
    *(f"ResNet{depth}{version}" for depth in (50, 101, 152) for version in ("", "V2")),
    *("VGG16", "VGG19", "Xception"),
)


@dataclass(frozen=True)
class Target:
    """A model that was named.

    Attributes:
        spec: the words that named it.
        kind: 'shipped', 'file', 'application', 'factory', or 'revision' for a file as a commit
            has it, ``git:REV:path``.
        only: the items to run, None for all; an empty set for a model that only tests look at.
    """

    spec: str
    kind: Literal["shipped", "file", "application", "factory", "revision"]
    only: frozenset[str] | None = None


TARGETS = pytest.StashKey[list[Target]]()
# Model files that also lie inside a folder on the command line, of which pytest would collect only
# one.
WITHIN = pytest.StashKey[list[Path]]()


def parse_target(spec: str) -> Target:
    """Return what a --convlens value names.

    Raises:
        pytest.UsageError: a missing file, or no name that convlens knows.
    """
    if spec in SHIPPED:
        return Target(spec, "shipped")
    if spec.startswith(GIT) and spec.count(":") > 1:
        return Target(spec, "revision")
    path = Path(spec)
    if os.path.isfile(path):  # which takes what no file can be called, too
        return Target(spec, "file")
    module, _, function = spec.partition(":")
    if function.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return Target(spec, "factory")
    if os.path.isdir(path) and is_saved_model(path):
        return Target(spec, "file")
    if os.path.isdir(path) and (path.suffix or "/" in spec or "\\" in spec):
        raise pytest.UsageError(f"--convlens {spec}: {explain_folder(path)}")
    if path.suffix or "/" in spec or "\\" in spec:
        raise pytest.UsageError(f"--convlens {spec}: the file does not exist")
    known = {name.lower(): name for name in APPLICATIONS}
    if spec.lower() in known:
        return Target(known[spec.lower()], "application")
    near = difflib.get_close_matches(spec.lower(), [*SHIPPED, *known], n=1, cutoff=0.3)
    offer = f"did you mean {known.get(near[0], near[0])}? " if near else ""
    raise pytest.UsageError(
        f"--convlens {spec}: there is no such model; {offer}"
        f"Give a .keras file, a shipped model ({', '.join(SHIPPED)}), a network of "
        "keras.applications or module:factory"
    )

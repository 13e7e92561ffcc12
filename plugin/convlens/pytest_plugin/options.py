"""Command-line and ini options of the checks, and their validation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convlens.pytest_plugin.targets import SHIPPED

if TYPE_CHECKING:
    from convlens.checks.check import Effort
    from convlens.engine.runtime.progress import ItemProgress

_MAX_COUNT = 1_000_000  # the engine's limit of steps
EFFORTS = ("quick", "standard", "full")


def add_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Add the options of the checks."""
    group.addoption(
        "--convlens",
        action="append",
        default=[],
        metavar="MODEL",
        help="check a model: a .keras or .h5 file, a shipped model "
        f"({', '.join(SHIPPED)}), a network of keras.applications such as VGG19 with its trained "
        "weights, module:factory, a function that returns a Keras model, or git:REV:path, a file "
        "as a commit has it. "
        "Without paths on the command line only the models are checked; with paths, tests run too, "
        "and against them",
    )
    group.addoption(
        "--convlens-images",
        metavar="SOURCE",
        help="images to look with: a folder of pictures or of a folder a class, a saved "
        "tf.data.Dataset, an .npz (arrays 'images', perhaps 'labels', and further inputs by their "
        "names), or module:factory. By default the shipped model's own digits, else seeded "
        "textures",
    )
    group.addoption(
        "--convlens-range",
        metavar="LOW,HIGH",
        help="the range of the pixels that the model takes (default: that of the images, else 0,1)",
    )
    group.addoption(
        "--convlens-pictures", metavar="DIR", help="write pictures of what was seen to DIR"
    )
    group.addoption(
        "--convlens-effort",
        choices=EFFORTS,
        help="how much work the optimized images may take: 'standard' fits units, steps and image "
        "sizes to a budget, 'quick' to a fourth of it, 'full' has no budget: 64 units of a layer, "
        "300 steps, whole images (default: the ini option convlens_effort, else standard)",
    )
    group.addoption(
        "--convlens-units",
        type=int,
        metavar="N",
        help="maximize at most N units of a layer, spread evenly over it (default: as many as the "
        "effort allows)",
    )
    group.addoption(
        "--convlens-steps",
        type=int,
        metavar="N",
        help="steps of each gradient ascent (default: as many as the effort allows), and of a "
        "style transfer (default: 300)",
    )
    group.addoption(
        "--convlens-accuracy",
        type=float,
        metavar="SHARE",
        help="the least share of labeled images, 0 to 1, that is classified right (default: more "
        "than by chance)",
    )
    group.addoption(
        "--convlens-preset",
        choices=("feature-visualization",),
        help="how images are optimized: 'feature-visualization' for the most natural pictures "
        "(default: plain pixels and jitter)",
    )
    group.addoption(
        "--convlens-content",
        metavar="PICTURE",
        help="also transfer the style of --convlens-style to this picture, as an item 'style'",
    )
    group.addoption(
        "--convlens-style",
        action="append",
        default=[],
        metavar="PICTURE",
        help="a picture whose style is transferred; may be given again, for a mixture",
    )
    group.addoption(
        "--convlens-memory",
        type=float,
        metavar="GIB",
        help="gibibytes that a batch of optimized images may take (default: a share of what is "
        "free)",
    )
    group.addoption(
        "--convlens-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of all random draws (default: 0)",
    )
    group.addoption(
        "--convlens-allow-legacy",
        action="store_true",
        help="also load models that can run code, .h5 files with Lambda layers and SavedModel "
        "folders: only from those you trust",
    )
    group.addoption(
        "--convlens-weights",
        action="append",
        default=[],
        metavar="PATH",
        help="trained weights of networks of keras.applications: a file, or a folder with files "
        "named after the networks; may be given again. By default those in Keras's cache",
    )
    group.addoption(
        "--convlens-download",
        action="store_true",
        help="fetch weights of networks of keras.applications that are not on this machine",
    )
    parser.addini(
        "convlens_effort",
        "how much work the optimized images may take: quick, standard or full; --convlens-effort "
        "goes first",
        default="standard",
    )
    parser.addini(
        "convlens_models",
        "glob patterns of model files to check when they are found while collecting",
        type="args",
        default=[],
    )


def check_options(config: pytest.Config) -> None:
    """Check the values of the options.

    Raises:
        pytest.UsageError: a value that is not allowed, or a folder that cannot be written.
    """
    for name in ("units", "steps"):
        count = config.getoption(f"convlens_{name}")
        if count is not None and not 1 <= count <= _MAX_COUNT:
            raise pytest.UsageError(
                f"--convlens-{name} must be between 1 and {_MAX_COUNT:,}, not {count}"
            )
    if config.getini("convlens_effort") not in EFFORTS:
        raise pytest.UsageError(
            f"the ini option convlens_effort must be {', '.join(EFFORTS)}, "
            f"not {config.getini('convlens_effort')!r}"
        )
    seed = config.getoption("convlens_seed")
    if seed < 0:
        raise pytest.UsageError(f"--convlens-seed must be 0 or more, not {seed}")
    accuracy = config.getoption("convlens_accuracy")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise pytest.UsageError(f"--convlens-accuracy must be between 0 and 1, not {accuracy:g}")
    memory = config.getoption("convlens_memory")
    if memory is not None and not 0 < memory < float("inf"):
        raise pytest.UsageError(f"--convlens-memory must be more than 0 GiB, not {memory:g}")
    value_range(config)
    _check_pictures(config)
    _check_folder(config)
    for place in config.getoption("convlens_weights"):
        if not os.path.exists(place):
            raise pytest.UsageError(f"--convlens-weights {place}: there is no such file or folder")


def effort(config: pytest.Config, progress: ItemProgress | None = None) -> Effort:
    """Return the options that decide what checks do, and how much of it."""
    from convlens.checks.check import Effort

    option = config.getoption
    memory = option("convlens_memory")
    return Effort(
        level=option("convlens_effort") or config.getini("convlens_effort"),
        steps=option("convlens_steps"),
        units=option("convlens_units"),
        seed=option("convlens_seed"),
        preset=option("convlens_preset"),
        memory=None if memory is None else int(memory * 2**30),
        min_accuracy=option("convlens_accuracy"),
        content=option("convlens_content"),
        styles=tuple(option("convlens_style")),
        progress=progress,
    )


def value_range(config: pytest.Config) -> tuple[float, float] | None:
    """Return --convlens-range as (low, high), None where it was not given.

    Raises:
        pytest.UsageError: not two numbers, the first below the second.
    """
    text = config.getoption("convlens_range")
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise pytest.UsageError(
            f"--convlens-range must be LOW,HIGH with LOW below HIGH, such as 0,255, not {text!r}"
        )
    return low, high


def _check_pictures(config: pytest.Config) -> None:
    content, styles = config.getoption("convlens_content"), config.getoption("convlens_style")
    if (content is None) != (not styles):
        raise pytest.UsageError("--convlens-content and --convlens-style go together: give both")
    for option, file in (("content", content), *(("style", style) for style in styles)):
        if file is not None and not os.path.isfile(file):
            raise pytest.UsageError(f"--convlens-{option} {file}: there is no such file")


def _check_folder(config: pytest.Config) -> None:
    folder = config.getoption("convlens_pictures")
    if folder is None:
        return
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()  # a folder can exist and not be writable
    except OSError as error:
        raise pytest.UsageError(
            f"--convlens-pictures {folder}: cannot write there ({error.strerror})"
        ) from None

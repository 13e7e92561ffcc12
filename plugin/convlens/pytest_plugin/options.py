"""Command-line and ini options, and what they ask for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from convlens.pytest_plugin import baselines, benchmarks, report
from convlens.pytest_plugin.targets import SHIPPED, TARGETS, WITHIN, Target, parse_target

_MOST = 1_000_000  # the engine's limit of steps
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add convlens's options."""
    group = parser.getgroup("convlens", "look inside trained convolutional networks")
    group.addoption(
        "--convlens",
        action="append",
        default=[],
        metavar="MODEL",
        help="check a model: a .keras file, a shipped model "
        f"({', '.join(SHIPPED)}), a network of keras.applications such as VGG19 with its trained "
        "weights, or module:factory, a function that returns a Keras model. "
        "Without paths on the command line only the models are checked; with paths, tests run too, "
        "and against them",
    )
    group.addoption(
        "--convlens-images",
        metavar="SOURCE",
        help="images to look with: a folder, an .npz (arrays 'images' and perhaps 'labels'), or "
        "module:factory. By default the shipped model's own digits, else seeded textures",
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
        "--convlens-units",
        type=int,
        default=64,
        metavar="N",
        help="maximize at most N units of a layer, spread evenly over it (default: 64)",
    )
    group.addoption(
        "--convlens-steps",
        type=int,
        default=300,
        metavar="N",
        help="steps of each gradient ascent (default: 300)",
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
        help="also load .h5 models, which can run code that they hold: only from those you trust",
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
    baselines.add_options(group)
    report.add_options(group)
    benchmarks.add_options(parser)
    parser.addini("convlens_baselines", "the folder of baselines, from pytest's root folder")
    parser.addini(
        "convlens_models",
        "glob patterns of model files to check when they are found while collecting",
        type="args",
        default=[],
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark's, which may ask for the machine
def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and turn models into what pytest collects, or what benchmarks time."""
    config.addinivalue_line("markers", "convlens: a check of a model that convlens collected")
    for name in ("units", "steps"):
        if not 1 <= config.getoption(f"convlens_{name}") <= _MOST:
            raise pytest.UsageError(f"--convlens-{name} is 1 to {_MOST}")
    if config.getoption("convlens_seed") < 0:
        raise pytest.UsageError("--convlens-seed is 0 or more")
    accuracy = config.getoption("convlens_accuracy")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise pytest.UsageError(f"--convlens-accuracy is a share from 0 to 1, not {accuracy:g}")
    memory = config.getoption("convlens_memory")
    if memory is not None and not 0 < memory < float("inf"):
        raise pytest.UsageError(f"--convlens-memory is above 0 GiB, not {memory:g}")
    value_range(config)
    _check_pictures(config)
    _check_folder(config)
    for place in config.getoption("convlens_weights"):
        if not os.path.exists(place):
            raise pytest.UsageError(f"--convlens-weights {place}: there is no such file or folder")
    targets = [parse_target(spec) for spec in config.getoption("convlens")]
    if benchmarks.configure(config, targets):
        config.stash[TARGETS], config.stash[WITHIN] = [], []
        return
    paths, selected = _split_node_ids(config.args)
    given = config.args_source is pytest.Config.ArgsSource.ARGS
    asked = any(str(a).split("=")[0] == "--convlens" for a in config.invocation_params.args)
    if targets and asked and not given:
        paths = []  # `pytest --convlens MODEL` checks the model, and no more than that
    named = [t.spec for t in targets if t.kind == "file" and t.spec not in paths]
    config.args[:], config.stash[WITHIN] = _split_models_within([*paths, *named])
    config.stash[TARGETS] = _merge(targets, selected)
    baselines.configure(config)
    report.configure(config)


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
            f"--convlens-range is LOW,HIGH with LOW below HIGH, such as 0,255, not {text!r}"
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


def _split_node_ids(args: list[str]) -> tuple[list[str], dict[str, set[str]]]:
    """Take node ids of shipped models, such as ``mnist_cnn::gram[conv2d_1]``, out of the paths."""
    paths: list[str] = []
    selected: dict[str, set[str]] = {}
    for arg in args:
        head, _, item = str(arg).partition("::")
        is_ours = head in SHIPPED or (":" in head and not os.path.exists(head))
        if item and is_ours and not os.path.exists(head):
            selected.setdefault(head, set()).add(item)
        else:
            paths.append(arg)
    return paths, selected


def _split_models_within(args: list[str]) -> tuple[list[str], list[Path]]:
    """Take model files that lie within folders of the same list out of it."""
    folders = [os.path.abspath(arg) for arg in args if os.path.isdir(arg)]
    others: list[str] = []
    within: list[Path] = []
    for arg in args:
        path = Path(os.path.abspath(arg))
        is_within = any(path.is_relative_to(folder) for folder in folders)
        if is_within and path.suffix in MODEL_SUFFIXES and os.path.isfile(path):
            within.append(path)
        else:
            others.append(arg)
    return others, list(dict.fromkeys(within))


def _merge(targets: list[Target], selected: dict[str, set[str]]) -> list[Target]:
    known = {t.spec for t in targets}
    merged = [*targets, *(parse_target(spec) for spec in selected if spec not in known)]
    return [
        Target(t.spec, t.kind, frozenset(selected[t.spec]) if t.spec in selected else None)
        for t in dict.fromkeys(merged)
    ]

"""The command line of this run, changed: what to type to accept a change or to run an item."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

# Options that this command replaces, each with a value.
_REPLACED = ("--convlens-update", "--convlens-accept")
# Options that select some items, each with a value.
_SELECTING = ("-k", "-m")
# Models named by this option are named by their node ids instead.
_MODEL = "--convlens"


def command_to_accept(
    config: pytest.Config, nodeids: Iterable[str], update: str, *, is_model: bool
) -> str:
    """Return the command line of this run, limited to some items, that records their baselines.

    Args:
        config: of the run.
        nodeids: what to run, as `node_on_command_line` writes it.
        update: value of --convlens-update.
        is_model: whether these are items of models, and not tests that look at one.
    """
    options = _without_paths(config)
    for name in (*_REPLACED, *([_MODEL] if is_model else [])):
        options = _without_option(options, name)
    return quote([*_program(), *options, f"--convlens-update={update}", *nodeids])


def command_line(config: pytest.Config, *more: str) -> str:
    """Return the command line of this run, with further options."""
    return quote([*_program(), *map(str, config.invocation_params.args), *more])


def command_to_record(config: pytest.Config) -> str:
    """Return the command line of this run, so that it records the baselines that are missing.

    A run of some items, chosen by -k or -m, may leave out those of baselines: they are chosen here.
    """
    from convlens.baselines.unchanged import Unchanged

    given = [str(argument) for argument in config.invocation_params.args]
    options = given
    for name in _SELECTING:
        options = _without_option(options, name)
    chosen = [] if options == given else ["-k", Unchanged.name]
    return quote([*_program(), *options, *chosen, "--convlens-update=missing"])


def node_on_command_line(config: pytest.Config, file: str, item: str) -> str:
    """Return a node id as it is typed in the folder where pytest was started.

    Args:
        config: of the run.
        file: path of the item's file, or the name of a model that is no file.
        item: the rest of the node id.
    """
    path = Path(file)
    if path.is_absolute():
        start = config.invocation_params.dir
        file = os.path.relpath(path, start) if path.is_relative_to(start) else str(path)
        above = config.rootpath
        if not path.is_relative_to(start) and path.is_relative_to(above):
            file = os.path.relpath(path, start)
    return f"{file}::{item}"


def quote(arguments: Sequence[str]) -> str:
    """Return a command as it is typed into a shell of this system."""
    if os.name == "nt":
        return subprocess.list2cmdline(arguments)
    return shlex.join(arguments)


def _program() -> list[str]:
    """Return how pytest was called; as a module it also imports from the current folder."""
    as_module = os.path.basename(sys.argv[0]) == "__main__.py"
    return ["python", "-m", "pytest"] if as_module else ["pytest"]


def _without_paths(config: pytest.Config) -> list[str]:
    """Return the arguments of this run without the paths and node ids among them.

    A path may also be the value of an option, such as of --convlens-images: an argument behind an
    option is kept if the same text is elsewhere.
    """
    arguments = [str(argument) for argument in config.invocation_params.args]
    for given in map(str, getattr(config.option, "file_or_dir", None) or ()):
        places = [at for at, argument in enumerate(arguments) if argument == given]
        plain = [at for at in places if not (at and arguments[at - 1].startswith("-"))]
        if places:  # paths of addopts are not among the arguments
            del arguments[(plain or places)[-1]]
    return arguments


def _without_option(arguments: Sequence[str], name: str) -> list[str]:
    """Return arguments without an option and its value, which may be joined: -kfinite, --a=b."""
    joined = name if len(name) == len("-k") else f"{name}="
    kept: list[str] = []
    is_value = False
    for argument in arguments:
        if is_value:
            is_value = False
        elif argument == name:
            is_value = True
        elif not argument.startswith(joined):
            kept.append(argument)
    return kept

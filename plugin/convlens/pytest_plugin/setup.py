"""Start of a run: options are declared and checked, and models become targets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convlens.pytest_plugin import (
    against,
    baselines,
    before,
    benchmarks,
    causes,
    hookspecs,
    options,
    report,
)
from convlens.pytest_plugin.targets import (
    APPLICATIONS,
    MODEL_SUFFIXES,
    SHIPPED,
    TARGETS,
    WITHIN,
    Target,
    parse_target,
)
from convlens.pytest_plugin.what_changed import WhatChanged


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare convlens's hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add convlens's options."""
    group = parser.getgroup("convlens", "look inside trained convolutional networks")
    options.add_options(parser, group)
    baselines.add_options(parser, group)
    against.add_options(group)
    before.add_options(group)
    report.add_options(group)
    benchmarks.add_options(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark's, which may ask for the machine
def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and turn models into what pytest collects, or what benchmarks time."""
    config.addinivalue_line("markers", "convlens: a check of a model that convlens collected")
    options.check_options(config)
    targets = [parse_target(spec) for spec in config.getoption("convlens")]
    if benchmarks.configure(config, targets):
        config.stash[TARGETS], config.stash[WITHIN] = [], []
        return
    paths, selected = _split_node_ids(config.args)
    given = config.args_source is pytest.Config.ArgsSource.ARGS
    asked = any(str(a).split("=")[0] == "--convlens" for a in config.invocation_params.args)
    if targets and asked and not given:
        paths = []  # `pytest --convlens MODEL` checks the model, and no more than that
    if given and not asked and all("::" in str(argument) for argument in config.args):
        # Node ids say what to run: of the models that addopts names, no other items.
        selected = {**{target.spec: set[str]() for target in targets}, **selected}
    named = [
        t.spec
        for t in targets
        if t.kind == "file" and t.spec not in paths and selected.get(t.spec) != set()
    ]
    config.args[:], config.stash[WITHIN] = _split_models_within([*paths, *named])
    config.stash[TARGETS] = _merge(targets, selected)
    baselines.configure(config)
    against.configure(config)
    before.configure(config)
    causes.configure(config)
    report.configure(config)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(WhatChanged(), "convlens-what-changed")


def _split_node_ids(args: list[str]) -> tuple[list[str], dict[str, set[str]]]:
    """Take node ids of shipped models, such as ``mnist_cnn::gram[conv2d_1]``, out of the paths."""
    paths: list[str] = []
    selected: dict[str, set[str]] = {}
    for arg in args:
        head, _, item = str(arg).partition("::")
        is_ours = head in (*SHIPPED, *APPLICATIONS) or ":" in head
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

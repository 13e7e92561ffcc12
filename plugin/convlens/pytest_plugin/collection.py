"""Collect models as pytest items: one for each check and layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from convlens.pytest_plugin.baseline_items import baseline_items
from convlens.pytest_plugin.battery import checks_of
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.models import lens_of_target
from convlens.pytest_plugin.options import effort
from convlens.pytest_plugin.targets import MODEL_SUFFIXES, TARGETS, WITHIN, Target


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ModelFile | None:
    """Collect a model file that was named, or that matches the ini option convlens_models."""
    if file_path.suffix not in MODEL_SUFFIXES:
        return None
    if file_path in parent.config.stash[WITHIN]:
        return None  # the session has it
    wanted = parent.session.isinitpath(file_path) or any(
        fnmatch.fnmatch(file_path.as_posix(), f"*/{pattern}")
        for pattern in parent.config.getini("convlens_models")
    )
    return ModelFile.from_parent(parent, path=file_path) if wanted else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the models that pytest does not find by their paths to what the session collects.

    Raises:
        pytest.UsageError: checks that cannot be added. In `collect`, it would be an error of each
            model, with a traceback.
    """
    if isinstance(collector, ModelFile | NamedModel):
        checks_of(collector.config)
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        config = collector.config
        named = [t for t in config.stash[TARGETS] if t.kind != "file"]
        report.result = [
            *report.result,
            *(ModelFile.from_parent(collector, path=path) for path in config.stash[WITHIN]),
            *(NamedModel.from_parent(collector, name=t.spec, target=t) for t in named),
        ]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Raise an error where a node id names an item that its model does not have."""
    for target in config.stash[TARGETS]:
        if target.only is None or target.kind == "file":
            continue
        have = {i.name for i in items if isinstance(i, ModelItem) and i.target == target}
        missing = sorted(
            name for name in target.only if not any(_matches(name, item) for item in have)
        )
        if missing and not config.getoption("lf", False):
            raise pytest.UsageError(f"not found: {target.spec}::{missing[0]}")


def model_items(parent: pytest.Collector, target: Target) -> Iterable[ModelItem]:
    """Yield a model's items, one for each check and layer.

    Raises:
        pytest.Collector.CollectError: the model or its images cannot be loaded.
    """
    try:
        lens = lens_of_target(parent.config, target)
    except (ValueError, TypeError) as error:
        raise pytest.Collector.CollectError(str(error)) from None
    given = effort(parent.config)
    for check in checks_of(parent.config):
        for layer in check.layers(lens, given):
            name = check.name if layer is None else f"{check.name}[{layer}]"
            if target.only is None or any(_matches(wanted, name) for wanted in target.only):
                reason = check.reason_to_skip(lens, layer)
                yield ModelItem.from_parent(
                    parent, name=name, target=target, check=check, layer=layer, reason=reason
                )
    for item in baseline_items(parent, target, lens):
        if target.only is None or any(_matches(wanted, item.name) for wanted in target.only):
            yield item


class NamedModel(pytest.Collector):
    """A model that --convlens names and that is not a file."""

    def __init__(self, *, target: Target, parent: pytest.Session, **kwargs: Any) -> None:
        super().__init__(parent=parent, nodeid=target.spec, **kwargs)
        self.target = target

    def collect(self) -> Iterable[ModelItem]:
        return model_items(self, self.target)


class ModelFile(pytest.File):
    """A model file."""

    def collect(self) -> Iterable[ModelItem]:
        return model_items(self, Target(str(self.path), "file"))


def _matches(wanted: str, name: str) -> bool:
    """Return whether a node id's last part names an item, or all items of its check."""
    return name == wanted or name.split("[")[0] == wanted

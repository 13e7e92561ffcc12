"""Collect models as pytest items: one for each check and layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.files.formats import FOREIGN_SUFFIXES, is_saved_model
from convlens.pytest_plugin.against import AGAINST, is_foreign, same_items
from convlens.pytest_plugin.baseline_items import baseline_items
from convlens.pytest_plugin.battery import checks_of
from convlens.pytest_plugin.before import BEFORE, before_items
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.models import lens_of_target
from convlens.pytest_plugin.options import effort
from convlens.pytest_plugin.targets import MODEL_SUFFIXES, TARGETS, WITHIN, Target

if TYPE_CHECKING:
    from convlens.lens import Lens

# Node ids of items that their models do not have.
_MISSING = pytest.StashKey[list[str]]()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ModelFile | None:
    """Collect a model file that was named, or that matches the ini option convlens_models."""
    if file_path.suffix in FOREIGN_SUFFIXES and parent.session.isinitpath(file_path):
        return ModelFile.from_parent(parent, path=file_path)  # to say what the file is
    if file_path.suffix not in MODEL_SUFFIXES:
        return None
    if file_path in parent.config.stash[WITHIN]:
        return None  # the session has it
    wanted = _is_wanted(file_path, parent)
    return ModelFile.from_parent(parent, path=file_path) if wanted else None


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> SavedModelFolder | None:
    """Collect a SavedModel that was named, or that matches the ini option convlens_models."""
    if is_saved_model(path) and _is_wanted(path, parent):
        return SavedModelFolder.from_parent(parent, path=path)
    return None


def _is_wanted(path: Path, parent: pytest.Collector) -> bool:
    return parent.session.isinitpath(path) or any(
        fnmatch.fnmatch(path.as_posix(), f"*/{pattern}")
        for pattern in parent.config.getini("convlens_models")
    )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the models that pytest does not find by their paths to what the session collects.

    Raises:
        pytest.UsageError: checks that cannot be added. In `collect`, it would be an error of each
            model, with a traceback.
    """
    if isinstance(collector, ModelFile | NamedModel | SavedModelFolder):
        checks_of(collector.config)
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        config = collector.config
        named = [t for t in config.stash[TARGETS] if t.kind != "file" and t.only != frozenset()]
        report.result = [
            *report.result,
            *(ModelFile.from_parent(collector, path=path) for path in config.stash[WITHIN]),
            *(NamedModel.from_parent(collector, name=t.spec, target=t) for t in named),
        ]
    return report


# Before -k and --deselect take items away, whose names are right all the same.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Raise an error where a node id names an item that its model does not have."""
    missing = config.stash.get(_MISSING, [])
    if missing:
        raise pytest.UsageError(f"not found: {missing[0]}")


def model_items(parent: pytest.Collector, target: Target) -> list[ModelItem]:
    """Return a model's items, one for each check and layer.

    Raises:
        pytest.Collector.CollectError: the model or its images cannot be loaded; or, in a worker,
            a node id names an item that the model does not have.
    """
    try:
        items = list(_all_items(parent, target))
    except (ValueError, TypeError) as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if target.only is None:
        return items
    missing = [
        f"{target.spec}::{wanted}"
        for wanted in sorted(target.only)
        if not any(_matches(wanted, item.name) for item in items)
    ]
    if missing and hasattr(parent.config, "workerinput"):
        # A worker of xdist tells nobody of an error in its options.
        raise pytest.Collector.CollectError(f"not found: {missing[0]}")
    parent.config.stash.setdefault(_MISSING, []).extend(missing)
    return [item for item in items if any(_matches(wanted, item.name) for wanted in target.only)]


def _all_items(parent: pytest.Collector, target: Target) -> Iterable[ModelItem]:
    stash = parent.config.stash
    beside = stash[AGAINST].spec is not None or stash[BEFORE].spec is not None
    if not (is_foreign(target) and beside):
        lens = lens_of_target(parent.config, target)
        yield from _checked(parent, target, lens)
        yield from baseline_items(parent, target, lens)
    yield from same_items(parent, target)
    yield from before_items(parent, target)


def _checked(parent: pytest.Collector, target: Target, lens: Lens) -> Iterable[ModelItem]:
    given = effort(parent.config)
    for check in checks_of(parent.config):
        for layer in check.layers(lens, given):
            name = check.name if layer is None else f"{check.name}[{layer}]"
            reason = check.reason_to_skip(lens, layer)
            yield ModelItem.from_parent(
                parent, name=name, target=target, check=check, layer=layer, reason=reason
            )


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


class SavedModelFolder(pytest.Directory):
    """The folder of a SavedModel, which is tested as a model of one layer."""

    def collect(self) -> Iterable[ModelItem]:
        return model_items(self, Target(str(self.path), "file"))


def _matches(wanted: str, name: str) -> bool:
    """Return whether a node id's last part names an item, or all items of its check."""
    return name == wanted or name.split("[")[0] == wanted

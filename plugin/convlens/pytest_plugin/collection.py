"""Collect models as pytest items, one a property and layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.options import MODEL_SUFFIXES
from convlens.pytest_plugin.progress import item_progress
from convlens.pytest_plugin.report import show
from convlens.pytest_plugin.targets import TARGETS, WITHIN, Target

if TYPE_CHECKING:
    from convlens.battery import Property
    from convlens.lens import Lens

# File name → the node ids of the models that have it.
_NAMES = pytest.StashKey[dict[str, set[str]]]()


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
    """Add the models that pytest does not find by their paths to what the session collects."""
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
    """Say so when a node id of a model named an item that it does not have."""
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
    """Yield a model's items, one a property and layer.

    Raises:
        pytest.Collector.CollectError: the model or its images cannot be loaded.
    """
    from convlens.pytest_plugin.models import lens_of_target

    try:
        lens = lens_of_target(parent.config, target)
    except (ValueError, TypeError) as error:
        raise pytest.Collector.CollectError(str(error)) from None
    # Only now, for it imports TensorFlow, which loading a model asks to be quiet first.
    from convlens.battery import PROPERTIES, Convolutions, Style

    properties: list[Property] = [*PROPERTIES]
    content = parent.config.getoption("convlens_content")
    if content is not None:
        properties.append(Style(content, parent.config.getoption("convlens_style")))
    if not lens.conv_layers:
        properties.append(Convolutions())
    for prop in properties:
        for layer in prop.layers(lens):
            name = prop.name if layer is None else f"{prop.name}[{layer}]"
            if target.only is None or any(_matches(wanted, name) for wanted in target.only):
                reason = prop.reason_to_skip(lens, layer)
                yield ModelItem.from_parent(
                    parent, name=name, target=target, prop=prop, layer=layer, reason=reason
                )
    from convlens.pytest_plugin.baseline_items import baseline_items

    for item in baseline_items(parent, target, lens):
        if target.only is None or any(_matches(wanted, item.name) for wanted in target.only):
            yield item


class NamedModel(pytest.Collector):
    """A model that --convlens names and that is no file."""

    def __init__(self, *, target: Target, parent: pytest.Session, **kwargs: Any) -> None:
        super().__init__(parent=parent, nodeid=target.spec, **kwargs)
        self.target = target

    def collect(self) -> Iterable[ModelItem]:
        return model_items(self, self.target)


class ModelFile(pytest.File):
    """A model file."""

    def collect(self) -> Iterable[ModelItem]:
        return model_items(self, Target(str(self.path), "file"))


class ModelItem(pytest.Item):
    """One property of a model, or of one of its layers.

    It knows its model's name alone, so that a run over hundreds of models does not hold them all.
    """

    def __init__(
        self,
        *,
        name: str,
        parent: pytest.Collector,
        target: Target,
        prop: Property,
        layer: str | None,
        reason: str | None = None,
    ) -> None:
        # Said in one piece, as pytest's cache of failures will say it: 9.2 takes apart the brackets
        # of an id that it reads, but not those of a name, and would not find it again.
        super().__init__(name=name, parent=parent, nodeid=f"{parent.nodeid}::{name}")
        self.target = target
        self.prop = prop
        self.layer = layer
        self._named = self.config.stash.setdefault(_NAMES, {}).setdefault(self._file_name, set())
        self._named.add(parent.nodeid)
        self.add_marker("convlens")
        if reason is not None:
            self.add_marker(pytest.mark.skip(reason=reason))

    @property
    def model(self) -> str:
        """The model's name for people: its file's, or its node id where several have that name."""
        if len(self._named) == 1:
            return self._file_name
        return self.nodeid.removesuffix(f"::{self.name}")

    @property
    def _file_name(self) -> str:
        return Path(self.target.spec).name

    def runtest(self) -> None:
        __tracebackhide__ = True
        from convlens.pytest_plugin.models import lens_of_target

        self.record("model", self.model)
        self.record("layer", self.layer or "")
        lens = lens_of_target(self.config, self.target)
        self.record("images", lens.source)
        self.check(lens)

    def check(self, lens: Lens) -> None:
        """Look at the model, show what was seen, and judge it.

        Raises:
            AssertionError: the property does not hold.
        """
        __tracebackhide__ = True
        seen = self.look(lens)
        for name, value in self.prop.measure(seen).items():
            self.record(name, value)
        unwritten = self.write_pictures(lens, seen)
        for name, value in self.prop.judge(lens, self.layer, seen).items():
            self.record(name, value)
        if unwritten is not None:
            raise unwritten

    def look(self, lens: Lens) -> Any:
        """Run the property's engine; after Ctrl-C, write pictures of what was finished."""
        __tracebackhide__ = True
        from convlens.battery import Settings, look_at
        from convlens.engine.ascent.maximize import AscentInterrupted
        from convlens.style.task import StyleInterrupted

        option = self.config.getoption
        with item_progress(self.config, f"{self.model}: {self.name}") as progress:
            memory = option("convlens_memory")
            settings = Settings(
                steps=option("convlens_steps"),
                units=option("convlens_units"),
                seed=option("convlens_seed"),
                preset=option("convlens_preset"),
                accuracy=option("convlens_accuracy"),
                memory=None if memory is None else int(memory * 2**30),
                progress=progress,
            )
            try:
                return look_at(self.prop, lens, self.layer, settings)
            except (AscentInterrupted, StyleInterrupted) as stop:
                self.write_pictures(lens, stop.result)
                folder = option("convlens_pictures")
                kept = f", whose pictures are in {folder}" if folder else ""
                raise KeyboardInterrupt(
                    f"{self.name} stopped after {stop.result.steps} steps{kept}"
                ) from None

    def record(self, name: str, value: Any) -> None:
        """Keep a measurement for the summary and for JUnit."""
        self.user_properties.append((f"convlens.{name}", value))

    def write_pictures(self, lens: Lens, seen: Any) -> OSError | None:
        """Show what was seen in the report, and as picture files, where they were asked for.

        Returns:
            Why a file could not be written, for after the verdict, which is worth more.
        """
        __tracebackhide__ = True
        figures = self.prop.draw(lens, self.layer, seen)
        show(self, figures)
        folder = self.config.getoption("convlens_pictures")
        if folder is None:
            return None
        from convlens.pictures import save_png, slug

        for name, make in figures.items():
            stem = name if self.layer is None else f"{slug(self.layer)}-{name}"
            try:
                save_png(make().image(), Path(folder) / slug(self.model) / f"{stem}.png")
            except OSError as error:
                self.add_report_section("call", "pictures", str(error))
                return error
        return None

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show a verdict as its message alone; anything else with its traceback."""
        if isinstance(excinfo.value, AssertionError | ValueError | OSError | FloatingPointError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        # What ends a node id here, pytest takes for a dotted name, and turns its dots into colons.
        return self.path, 0, f"{self.model}: {self.name}"


def _matches(wanted: str, name: str) -> bool:
    """Return whether a node id's last part names an item, or all items of its property."""
    return name == wanted or name.split("[")[0] == wanted

"""Items of a model: one check of the model, or of one of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.failures import message_failure
from convlens.pytest_plugin.models import shared_lens, stop_sharing
from convlens.pytest_plugin.notes import noting
from convlens.pytest_plugin.options import effort
from convlens.pytest_plugin.progress import item_progress
from convlens.pytest_plugin.targets import Target

if TYPE_CHECKING:
    from convlens.checks.check import Check
    from convlens.lens import Lens
    from convlens.pictures import Figure

# File name → the node ids of the models that have it.
_NAMES = pytest.StashKey[dict[str, set[str]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the sharing among a model's items before code of others, which may change weights."""
    _end_sharing(item)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End the sharing among a model's items after code of others."""
    _end_sharing(item)


def _end_sharing(item: pytest.Item) -> None:
    if not (isinstance(item, ModelItem) and type(item.check).__module__.startswith("convlens.")):
        stop_sharing(item.config)


class ModelItem(pytest.Item):
    """One check of a model, or of one of its layers.

    An item holds its model's name alone, so that a run over hundreds of models does not hold them
    all.
    """

    def __init__(
        self,
        *,
        name: str,
        parent: pytest.Collector,
        target: Target,
        check: Check,
        layer: str | None,
        reason: str | None = None,
    ) -> None:
        # The id is given whole, as pytest's cache of failures will give it: pytest 9.2 takes apart
        # the brackets of an id that it reads, but not those of a name, and would not find it again.
        super().__init__(name=name, parent=parent, nodeid=f"{parent.nodeid}::{name}")
        self.target = target
        self.check = check
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
        """Run the check once, judge it, and draw its figures after the verdict."""
        __tracebackhide__ = True
        self.identify()
        lens = shared_lens(self.config, self.target)
        self.record("images", lens.source)
        seen = self.run_check(lens)
        try:
            try:
                self.record_all(self.check.measures(seen))
            finally:  # an error in measuring may not hide a failure
                self.judge(seen)
        finally:
            self.show(lens, seen)

    def identify(self) -> None:
        """Keep what the item is about, for all that show its result."""
        self.record("model", self.model)
        self.record("layer", self.layer or "")
        if self.target.kind == "file":
            self.record("file", str(self.path))

    def judge(self, seen: Any) -> None:
        """Record the verdict's numbers; skip where a failure would be that of the options."""
        __tracebackhide__ = True
        try:
            self.record_all(self.check.verdict(seen))
        except AssertionError as error:
            reason = self.check.too_little(effort(self.config))
            if not reason:
                raise
            first = str(error).strip().partition("\n")[0].rstrip(":")
            pytest.skip(f"{reason} (it would fail: {first})")

    def run_check(self, lens: Lens) -> Any:
        """Run the check; after Ctrl-C, show pictures of what was finished.

        Raises:
            AssertionError: a weight is not finite.
            KeyboardInterrupt: the run was stopped; the message says how far it was.
        """
        __tracebackhide__ = True
        from convlens.checks.check import run_check
        from convlens.engine.ascent.maximize import AscentInterrupted
        from convlens.style.task import StyleInterrupted

        with item_progress(self.config, f"{self.model}: {self.name}") as progress:
            try:
                return run_check(self.check, lens, self.layer, effort(self.config, progress))
            except (AscentInterrupted, StyleInterrupted) as stop:
                self.show(lens, stop)
                folder = self.config.getoption("convlens_pictures")
                kept = f", whose pictures are in {folder}" if folder else ""
                raise KeyboardInterrupt(
                    f"{self.name} stopped after {stop.result.steps} steps{kept}"
                ) from None

    def record(self, name: str, value: Any) -> None:
        """Keep a measurement for the summary and for JUnit."""
        self.user_properties.append((f"convlens.{name}", value))

    def record_all(self, measures: Mapping[str, float | int | str]) -> None:
        """Keep measurements by name."""
        for name, value in measures.items():
            self.record(name, value)

    def show(self, lens: Any, seen: Any) -> None:
        """Draw the figures of a result for the report and as files, if an option asks for them.

        An error in drawing or writing becomes a note in the summary: the verdict stands.
        """
        folder = self.config.getoption("convlens_pictures")
        hook = self.ihook.pytest_convlens_figures
        if folder is None and not hook.get_hookimpls():
            return
        drawn: dict[str, Figure] = {}
        with noting(self, "no picture was made"):
            for name, make in self.check.figures(lens, self.layer, seen).items():
                with noting(self, f"the picture {name!r} was not made"):
                    drawn[name] = make()
        with noting(self, "another plugin did not take the pictures"):
            hook(item=self, figures=drawn)
        if folder is not None:
            for name, figure in drawn.items():
                with noting(self, f"the picture {name!r} was not made", traceback=False):
                    self._write(figure, Path(folder), name)

    def _write(self, figure: Figure, folder: Path, name: str) -> None:
        from convlens.pictures import save_png, slug

        stem = name if self.layer is None else f"{slug(self.layer)}-{name}"
        path = folder / slug(self.model) / f"{stem}.png"
        save_png(figure.image(), path)
        self.record("picture", str(path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show a verdict as its message alone; anything else with its traceback."""
        if isinstance(excinfo.value, AssertionError | ValueError | OSError | FloatingPointError):
            place, style = self.nodeid.partition("::")[0], self.config.getoption("tbstyle", "auto")
            return message_failure(str(excinfo.value), place, style=style)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the place and the name for pytest's messages."""
        # pytest takes the end of a node id for a dotted name, and turns its dots into colons.
        return self.path, 0, f"{self.model}: {self.name}"

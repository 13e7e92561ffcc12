"""Two models side by side in a pytest run: the option, the session, and the items."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.files.formats import FOREIGN_SUFFIXES, is_saved_model
from convlens.pytest_plugin.causes import CAUSE, record_follower
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.last import LastResult
from convlens.pytest_plugin.models import (
    images_for_shape,
    lens_for,
    lens_of_target,
    load_application,
    network_of,
)
from convlens.pytest_plugin.targets import GIT, MODEL_SUFFIXES, Target, parse_target

if TYPE_CHECKING:
    from convlens.compare.check import SeenLayer
    from convlens.compare.runtime import Runtime
    from convlens.compare.sameness import Sameness
    from convlens.lens import Lens

AGAINST = pytest.StashKey["AgainstSession"]()
_OPTION = "--convlens-against"


def add_options(group: pytest.OptionGroup) -> None:
    """Add the option of the reference."""
    group.addoption(
        _OPTION,
        metavar="REFERENCE",
        help="hold each model layer by layer against another that must behave the same, such as "
        "the one that it was converted from: a .keras, .h5, .tflite or .onnx file, the folder of a "
        "SavedModel, a network of keras.applications, module:factory (a model, or any function of "
        "images), or git:REV:path, where REV may be merge-base",
    )


def configure(config: pytest.Config) -> None:
    """Check the option.

    Raises:
        pytest.UsageError: there is no such file, and no name that convlens knows.
    """
    spec = config.getoption("convlens_against")
    config.stash[AGAINST] = AgainstSession(config, spec)
    check_source(_OPTION, spec)


def check_source(option: str, spec: str | None) -> None:
    """Check the name of a model that an option takes beside those that are tested.

    Raises:
        pytest.UsageError: there is no such file, and no name that convlens knows.
    """
    if spec is None or spec.startswith(GIT) or os.path.isfile(spec) or is_saved_model(Path(spec)):
        return
    if Path(spec).suffix in (*MODEL_SUFFIXES, *FOREIGN_SUFFIXES):
        raise pytest.UsageError(f"{option} {spec}: the file does not exist")
    try:
        parse_target(spec)
    except pytest.UsageError as error:
        raise pytest.UsageError(str(error).replace("--convlens ", f"{option} ", 1)) from None


@dataclass(frozen=True)
class _Shown:
    """The images of a comparison, where they came from, and the Keras model that names layers."""

    images: Any
    source: str
    lens: Lens | None


class AgainstSession:
    """Opens the reference once, and compares each model with it once.

    Attributes:
        spec: the reference as it was named; None where none was.
    """

    def __init__(self, config: pytest.Config, spec: str | None) -> None:
        self.spec = spec
        self._config = config
        self._reference: Runtime | None = None
        self._last = LastResult(self._compared)

    @property
    def reference(self) -> Runtime:
        """The reference.

        Raises:
            ValueError: it cannot be opened.
        """
        if self._reference is None:
            self._reference = self.open(str(self.spec))
        return self._reference

    def compare(self, target: Target) -> Sameness:
        """Return a model beside the reference.

        Raises:
            ValueError: the model does not load or run.
        """
        return self._last.of(target)

    def shown(self, target: Target) -> _Shown:
        """Return the images to look with, those of the Keras model of the two.

        Raises:
            ValueError: a model or images that cannot be read.
        """
        from convlens.compare.keras_model import KerasModel
        from convlens.compare.same import enough_drawn

        reference = self.reference
        lens = None
        if isinstance(reference, KerasModel):
            lens = lens_for(self._config, reference.network)
        elif not is_foreign(target) and not is_graph(target):
            lens = lens_of_target(self._config, target)
        found = lens or images_for_shape(self._config, reference.input_shape)
        images = enough_drawn(found.images) if found.synthetic else found.images
        few = len(images) < len(found.images)
        source = f"the first {len(images)} of {found.source}" if few else found.source
        return _Shown(images, source, lens)

    def _compared(self, target: Target) -> Sameness:
        from convlens.compare.keras_model import KerasModel
        from convlens.compare.same import compare_models
        from convlens.engine.model.network import Network

        if is_foreign(target) or is_graph(target):
            new = self.open(target.spec)
        else:
            new = KerasModel(Network.of(lens_of_target(self._config, target).network))
        names = Path(target.spec).name, Path(str(self.spec)).name
        return compare_models(new, self.reference, self.shown(target).images, names=names)

    def open(self, spec: str) -> Runtime:
        """Return a model that an option names.

        Raises:
            ValueError: it cannot be opened.
        """
        from convlens.compare.sources import open_source

        legacy = self._config.getoption("convlens_allow_legacy")
        return open_source(
            spec,
            named=self._named,
            allow_legacy=legacy,
            network=lambda model: network_of(self._config, model),
        )

    def _named(self, spec: str) -> Any:
        from convlens.pytest_plugin.factories import call_factory
        from convlens.pytest_plugin.options import value_range

        target = parse_target(spec)
        if target.kind == "factory":
            return call_factory(spec)
        if target.kind == "shipped":
            from convlens.fixtures.mnist_cnn import load_mnist_cnn

            return load_mnist_cnn()
        taken = value_range(self._config) or (0.0, 255.0)
        try:
            return load_application(self._config, spec, value_range=taken)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from None


def is_foreign(target: Target) -> bool:
    """Return whether a model's file is none of Keras's."""
    written = target.kind in ("file", "revision")
    return written and Path(target.spec).suffix in FOREIGN_SUFFIXES


def is_graph(target: Target) -> bool:
    """Return whether a model is the folder of a SavedModel."""
    return target.kind == "file" and is_saved_model(Path(target.spec))


class SameItem(ModelItem):
    """One layer, or the outputs, beside the reference's.

    One cause is one failure: the item of the first layer that differs fails in full, and those of
    others, the outputs too, in one line.
    """

    def __init__(self, *, outputs: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._outputs = outputs

    def runtest(self) -> None:
        """Compare the models, once for all items, and judge this layer."""
        __tracebackhide__ = True
        self.identify()
        session = self.config.stash[AGAINST]
        try:
            found = session.compare(self.target)
        except ValueError:
            leader = self._entries[0]
            if leader == self.layer:
                raise
            record_follower(self, leader, self._entries.index(str(self.layer)))
            raise ValueError(f"fails as {self.check.name}[{leader}] does") from None
        shown = session.shown(self.target)
        self.record("images", shown.source)
        seen = self._seen(found)
        self.record_all(self.check.measures(seen))
        try:
            self.judge(seen)
        finally:
            if shown.lens is not None:
                self.show(shown.lens, seen)

    def _seen(self, found: Sameness) -> SeenLayer:
        """Return this item's part of the comparison; note the cause, or the layer that tells it."""
        from convlens.compare.check import SeenLayer, fails

        each = [SeenLayer(found, str(item.layer), item._outputs) for item in self._items]
        failing = [seen.layer for seen in each if fails(seen)]
        own = SeenLayer(found, str(self.layer), self._outputs)
        if not fails(own):
            covered = own.outputs or found.of_layer(own.layer) is not None
            if not covered:
                why = "the models are called otherwise" if found.convention else ""
                pytest.skip(why or f"no tensor of {found.new} corresponds to this layer")
            return own
        first = found.first
        named = [name for name in failing if first is not None and name in first.group]
        layers = [seen.layer for seen in each if fails(seen) and not seen.outputs]
        leader = (named or layers or failing)[0]
        if leader == self.layer:
            self.user_properties.append((CAUSE, found.verdict))
            return own
        record_follower(self, leader, self._entries.index(str(self.layer)))
        return SeenLayer(found, own.layer, own.outputs, leader)

    @property
    def _items(self) -> list[SameItem]:
        """The items of this model that are in this run."""
        return [
            item
            for item in self.session.items
            if isinstance(item, SameItem) and item.parent is self.parent
        ]

    @property
    def _entries(self) -> list[str]:
        return [str(item.layer) for item in self._items]


def same_items(parent: pytest.Collector, target: Target) -> Iterable[SameItem]:
    """Yield the items of a model beside the reference, where one was given.

    Raises:
        ValueError: the reference or the images cannot be read.
    """
    session = parent.config.stash[AGAINST]
    if session.spec is None:
        return
    from convlens.compare.check import SameBehaviour, outputs_name, same_entries

    lens = session.shown(target).lens
    entries = (outputs_name(()),) if lens is None else same_entries(lens)
    for layer in entries:
        yield SameItem.from_parent(
            parent,
            name=f"{SameBehaviour.name}[{layer}]",
            target=target,
            check=SameBehaviour(),
            layer=layer,
            outputs=layer == entries[0],
        )

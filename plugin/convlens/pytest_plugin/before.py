"""A retrained model beside the one before in a pytest run: the options, the session, the items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.against import AgainstSession, check_source, is_foreign
from convlens.pytest_plugin.causes import CAUSE, EXPLANATION, LAYER, record_follower
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.last import LastResult
from convlens.pytest_plugin.models import images_for_shape, lens_for, lens_of_target
from convlens.pytest_plugin.notes import note
from convlens.pytest_plugin.targets import Target

if TYPE_CHECKING:
    from convlens.compare.retrained.check import SeenRetraining
    from convlens.lens import Lens

BEFORE = pytest.StashKey["BeforeSession"]()
_OPTION, _AGREEMENT = "--convlens-before", "--convlens-agreement"


def add_options(group: pytest.OptionGroup) -> None:
    """Add the options of the model before."""
    group.addoption(
        _OPTION,
        metavar="OLD",
        help="hold each model beside an earlier training of it, and fail where classes, answers or "
        "layers were lost; OLD is what --convlens-against takes. Give images like those of the "
        "training with --convlens-images, with their classes if you have them",
    )
    group.addoption(
        _AGREEMENT,
        type=float,
        metavar="SHARE",
        help=f"the least share of images, 0 to 1, that a model must answer as {_OPTION} does "
        "(default: 0.95, less the old model's errors where the images have classes)",
    )


def configure(config: pytest.Config) -> None:
    """Check the options.

    Raises:
        pytest.UsageError: there is no such model, or a share that is none.
    """
    spec, share = config.getoption("convlens_before"), config.getoption("convlens_agreement")
    config.stash[BEFORE] = BeforeSession(config, spec)
    check_source(_OPTION, spec)
    if share is not None and not 0 < share <= 1:
        raise pytest.UsageError(f"{_AGREEMENT} must be above 0 and at most 1, not {share:g}")
    if share is not None and spec is None:
        raise pytest.UsageError(f"{_AGREEMENT} goes with {_OPTION}: give both")


@dataclass(frozen=True)
class _Shown:
    """The images of a comparison.

    Attributes:
        images: (n, *positions, c).
        labels: (n,) their classes, or None.
        problem: the reason why labels that came with the images are not used; "" where they are.
        value_range: (low, high) of the pixels.
        source: where they came from, in words.
        classes: names of the classes, where folders name them.
    """

    images: Any
    labels: Any
    problem: str
    value_range: tuple[float, float]
    source: str
    classes: tuple[str, ...]


class BeforeSession:
    """Opens the model before once, and compares each model with it once.

    Attributes:
        spec: the model before as it was named; None where none was.
    """

    def __init__(self, config: pytest.Config, spec: str | None) -> None:
        self.spec = spec
        self._config = config
        self._models = AgainstSession(config, spec)
        self._last = LastResult(self._compared)

    def compare(self, target: Target) -> tuple[SeenRetraining, _Shown]:
        """Return a model beside the one before, and the images of the comparison.

        Raises:
            ValueError: the models do not load or run, or cannot be compared.
        """
        return self._last.of(target)

    def _compared(self, target: Target) -> tuple[SeenRetraining, _Shown]:
        from convlens.compare.keras_model import KerasModel
        from convlens.compare.retrained.answers import check_shapes
        from convlens.compare.retrained.check import SeenRetraining
        from convlens.compare.retrained.no_regression import compare_trainings, limits_for

        names = self._names(target)
        old = self._models.reference
        lens = None if is_foreign(target) else lens_of_target(self._config, target)
        new = self._models.open(target.spec) if lens is None else KerasModel(lens.network)
        check_shapes(new, old, names)
        if lens is None and isinstance(old, KerasModel):
            lens = lens_for(self._config, old.network)
        shown = self._of_lens(lens) if lens is not None else self._of_shape(old.input_shape)
        if shown.labels is None and self._config.getoption("convlens_images") is None:
            raise ValueError(
                f"{_OPTION} compares answers for images like those of the training: give them with "
                "--convlens-images, with their classes if you have them"
            )
        found = compare_trainings(
            new,
            old,
            shown.images,
            shown.labels,
            names=names,
            limits=limits_for(self._config.getoption("convlens_agreement")),
            class_names=shown.classes,
        )
        network = old.network if isinstance(old, KerasModel) else None
        return SeenRetraining(found, shown.images, shown.value_range, network), shown

    def _names(self, target: Target) -> tuple[str, str]:
        """Return the models' names: their files', with the folders where these are the same."""
        names = Path(target.spec).name, Path(str(self.spec)).name
        return names if names[0] != names[1] else (names[0], str(self.spec))

    def _of_lens(self, lens: Lens) -> _Shown:
        return _Shown(
            lens.images,
            lens.labels,
            lens.labels_problem or "",
            lens.value_range,
            lens.source,
            self._class_names() if lens.labels is not None else (),
        )

    def _of_shape(self, shape: tuple[int | None, ...]) -> _Shown:
        from convlens.engine.model.classes import class_numbers

        given = images_for_shape(self._config, shape)
        labels = given.labels
        truth = None if labels is None else class_numbers(labels, len(given.images))
        return _Shown(
            given.images, truth, "", given.value_range, given.source, tuple(given.classes)
        )

    def _class_names(self) -> tuple[str, ...]:
        """Return the names of the folders of classes, where the images are in such folders."""
        from convlens.pytest_plugin.picture_folder import find_pictures
        from convlens.pytest_plugin.saved_dataset import is_saved_dataset

        source = self._config.getoption("convlens_images")
        if source is None or not Path(source).is_dir() or is_saved_dataset(Path(source)):
            return ()
        return tuple(find_pictures(Path(source)).classes)


class BeforeItem(ModelItem):
    """The answers, or the outputs, of a model beside the one before.

    One cause is one failure: where the answers fail, the item of the outputs follows.
    """

    def runtest(self) -> None:
        """Compare the models, once for both items, and judge."""
        __tracebackhide__ = True
        self.identify()
        leader = self._items[0]
        try:
            seen, shown = self.config.stash[BEFORE].compare(self.target)
        except ValueError:
            if leader is self:
                raise
            self._follow(leader)
            raise ValueError(f"fails as {leader.name} does") from None
        self.record("images", shown.source)
        if self.check.name == "outputs" and seen.reason_to_skip:
            pytest.skip(seen.reason_to_skip)
        if shown.problem and leader is self:
            note(self, f"{self.name}: {shown.problem}; the answers were compared without them")
        try:
            self.record_all(self.check.measures(seen))
            self._judge(seen, leader)
        finally:
            self.show(None, seen)

    def _judge(self, seen: SeenRetraining, leader: BeforeItem) -> None:
        """Judge, and record the cause, or the item that tells it.

        Raises:
            AssertionError: answers, classes, outputs or layers were lost.
        """
        __tracebackhide__ = True
        try:
            self.judge(seen)
        except AssertionError:
            if leader is not self and not seen.found.churn.passed:
                self._follow(leader)
                raise AssertionError(f"fails as {leader.name} does") from None
            self.user_properties += [
                (CAUSE, seen.found.verdict),
                (EXPLANATION, seen.found.explanation),
            ]
            if seen.found.led_by_layer:
                self.user_properties.append((LAYER, seen.found.weights[0].layer))
            raise

    def _follow(self, leader: BeforeItem) -> None:
        record_follower(self, leader.name, self._items.index(self), leader.nodeid)

    @property
    def _items(self) -> list[BeforeItem]:
        """The items of this model that are in this run."""
        return [
            item
            for item in self.session.items
            if isinstance(item, BeforeItem) and item.parent is self.parent
        ]


def before_items(parent: pytest.Collector, target: Target) -> Iterable[BeforeItem]:
    """Yield the items of a model beside the one before, where that was given."""
    if parent.config.stash[BEFORE].spec is None:
        return
    from convlens.compare.retrained.check import CHECKS

    for check in CHECKS:
        yield BeforeItem.from_parent(
            parent, name=check.name, target=target, check=check(), layer=None
        )

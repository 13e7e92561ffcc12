"""Baselines in a pytest run: the options, the session that compares and records, the fixture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.engine.runtime.lru_cache import LRUCache
from convlens.pytest_plugin.accept import read_accepted
from convlens.pytest_plugin.causes import record_cause
from convlens.pytest_plugin.ci import in_ci
from convlens.pytest_plugin.notes import noting
from convlens.pytest_plugin.unused import Usage

if TYPE_CHECKING:
    from convlens.baselines.check import Observed, Recording
    from convlens.baselines.compare import Comparison
    from convlens.baselines.store import Store

SESSION = pytest.StashKey["BaselineSession"]()
FOLDER = "convlens-baselines"
# In place of a folder: models are not compared, and nothing asks for baselines of them.
NONE = "none"
# The memory of the comparisons that are kept: those of a few models.
_BUDGET = 2**23


def add_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Add the options of baselines."""
    parser.addini("convlens_baselines", "the folder of baselines, from pytest's root folder")
    group.addoption(
        "--convlens-baselines",
        metavar="DIR",
        help=f"the folder of baselines (default: {FOLDER}, beside pytest's configuration). With "
        "this, where that folder is, and under CI=true, a model's layers are held against its "
        f"baseline, and a missing one fails. '{NONE}': models are not compared",
    )
    group.addoption(
        "--convlens-update",
        choices=("missing", "failed", "all"),
        help="record the baselines that are missing, that are missing or failed, or all",
    )
    group.addoption(
        "--convlens-accept",
        metavar="FILE",
        help="record the changes that this list, exported from the report, accepts, and no others",
    )
    group.addoption(
        "--convlens-variant",
        choices=("generic", "family", "device"),
        help="record baselines for any device, for this kind of device, or for this very one "
        "(default: as the baseline that counts here)",
    )
    group.addoption(
        "--convlens-keep",
        action="store_true",
        help="keep what a baseline accepted before as well: either will pass",
    )
    group.addoption(
        "--convlens-remove-unused",
        action="store_true",
        help="after a whole run in which every test passed, remove baselines that none used",
    )


def configure(config: pytest.Config) -> None:
    """Check the options, and keep what the run needs.

    Raises:
        pytest.UsageError: a list of accepted changes that cannot be read, or options that say
            nothing without another.
    """
    option = config.getoption
    accepted = option("convlens_accept")
    if accepted is not None and option("convlens_update") is not None:
        raise pytest.UsageError(
            "--convlens-accept records what a review accepted and --convlens-update what there is: "
            "give one of them"
        )
    if accepted is None and option("convlens_update") is None:
        for name in ("variant", "keep"):
            if option(f"convlens_{name}"):
                raise pytest.UsageError(
                    f"--convlens-{name} says how baselines are recorded: give it with "
                    "--convlens-update or --convlens-accept"
                )
    named = option("convlens_baselines") or config.getini("convlens_baselines")
    if named == NONE and (accepted is not None or option("convlens_update") is not None):
        raise pytest.UsageError(
            f"baselines cannot be recorded, as their folder is {NONE!r}: name a folder with "
            "--convlens-baselines"
        )
    accept = {} if accepted is None else read_accepted(config.invocation_params.dir / accepted)
    session = BaselineSession(config, accept)
    config.stash[SESSION] = session
    config.pluginmanager.register(session.usage, "convlens-usage")


class BaselineSession:
    """The baselines of a run.

    Attributes:
        folder: where they are.
        base: folder that names of baselines start from.
        usage: which of them were used, and whether the suite ran whole.
        asked: True if this run compares models with baselines.
        refused: True if it was said that models are not to be compared.
    """

    def __init__(self, config: pytest.Config, accept: dict[str, str]) -> None:
        self.config = config
        self.accept = accept
        given, ini = config.getoption("convlens_baselines"), config.getini("convlens_baselines")
        self.refused = (given or ini) == NONE
        if self.refused:
            given = ini = None
        if given is not None:
            self.folder: Path = config.invocation_params.dir / given
        else:
            self.folder = config.rootpath / (ini or FOLDER)
            if not ini:
                self.folder = _found_above(config) or self.folder
        is_default = given is None and not ini
        self.base: Path = self.folder.parent if is_default else config.rootpath
        option = config.getoption
        named = [given, ini or None, option("convlens_update"), option("convlens_accept")]
        wanted = any(name is not None for name in named) or in_ci() or os.path.isdir(self.folder)
        self.asked = wanted and not self.refused
        self.usage = Usage(config, self.folder, self.base, accept)
        # The comparisons of models, which the items of a model share. They hold pictures, so only
        # the last ones are kept; one that is asked for again is made again.
        self._comparisons: LRUCache[str, Comparison] = LRUCache(_BUDGET, _size)
        # What may yet be recorded. Of the rest nothing is kept, so that models can be let go of.
        self._unsettled: dict[str, Observed] = {}
        self._settled: set[str] = set()
        self._store: Store | None = None

    def name_of(self, node: pytest.Item | pytest.Collector) -> str:
        """Return a node id as names of baselines have it, from whichever folder pytest runs."""
        head, mark, rest = node.nodeid.partition("::")
        if not node.path.is_file() or not node.path.is_relative_to(self.base):
            return node.nodeid
        return f"{node.path.relative_to(self.base).as_posix() or head}{mark}{rest}"

    def compare(
        self,
        key: str,
        observe: Callable[[], Observed],
        *,
        tol: float | None = None,
        layer: str | None = None,
    ) -> Comparison:
        """Compare what is observed with its baseline, and record it if that was asked for.

        Args:
            key: the baseline's name.
            observe: returns the observation; for a `layer` it is called once for all layers.
            tol: the tolerance.
            layer: the layer that the test is about; None for all.

        Raises:
            AssertionError, FloatingPointError: a weight or an output is not finite.
        """
        __tracebackhide__ = True
        from convlens.baselines.check import compare_with_baseline

        self.usage.use(key)

        def make() -> Comparison:
            observed = observe()
            comparison = compare_with_baseline(self.store, key, observed, tol)
            if key in self.accept:
                self._note_accepted(key, observed, comparison)
            if self._may_record(key, comparison):
                self._unsettled[key] = observed
            return comparison

        if layer is None:
            return self._settle(key, make())
        comparison = self._comparisons.get(key, make)
        found = comparison.of_layer(layer)
        if found.passed and self.recording.update != "all":
            return found
        settled = self._settle(key, comparison)
        self._comparisons.put(key, settled)  # the other layers' tests need not record it again
        return settled.of_layer(layer)

    def _note_accepted(self, key: str, observed: Observed, comparison: Comparison) -> None:
        """Note whether an accepted change is the one that is there, or is out of date."""
        accepted = self.accept[key]
        if observed.fingerprint_like(accepted) != accepted:
            self.usage.stale.add(key)
        elif comparison.passed:  # another process has recorded it, or an earlier run
            self.usage.applied.add(key)

    def _may_record(self, key: str, comparison: Comparison) -> bool:
        recording = self.recording
        asked = recording.update is not None or key in recording.accept
        return (
            asked
            and key not in self._settled
            and (recording.update == "all" or not comparison.passed)
        )

    def _settle(self, key: str, comparison: Comparison) -> Comparison:
        """Record what was observed, if that was asked for, and return the comparison after it."""
        from convlens.baselines.check import update_baseline

        if key not in self._unsettled:
            return comparison
        observed = self._unsettled[key]
        settled, path = update_baseline(self.store, observed, comparison, self.recording)
        if path is not None:
            self.usage.wrote(path, settled.recorded)
            if settled.former:
                self.usage.former.add(settled.former)
            self._settled.add(key)
        if settled.passed and key in self.accept:
            self.usage.applied.add(key)
        if path is not None or settled.passed:
            del self._unsettled[key]
        return settled

    @property
    def store(self) -> Store:
        """The folder of baselines, for this run's device."""
        if self._store is None:
            from convlens.baselines.check import current_device
            from convlens.baselines.store import Store

            self._store = Store(self.folder, current_device())
        return self._store

    @property
    def recording(self) -> Recording:
        """The recordings that the options allow."""
        from convlens.baselines.check import Recording

        option = self.config.getoption
        return Recording(
            option("convlens_update"),
            option("convlens_variant"),
            option("convlens_keep"),
            self.accept,
        )


def _found_above(config: pytest.Config) -> Path | None:
    """Return the default folder of a project that has no configuration, from any of its folders.

    pytest takes the current folder for the root of such a project.
    """
    if config.inipath is not None:
        return None
    for folder in (config.rootpath, *config.rootpath.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
        if (folder / ".git").exists():  # what is above is another project
            return None
    return None


def _size(comparison: Comparison) -> int:
    """Return about how many bytes a comparison takes."""
    pictures = sum(pair.nbytes for pair in comparison.pictures)
    return pictures + 1000 * len(comparison.layers)


class Baseline:
    """The value of the fixture `baseline`: compares the values of one test."""

    def __init__(self, item: pytest.Item, session: BaselineSession) -> None:
        self._item = item
        self._session = session
        self._keys: set[str] = set()

    def check(self, value: Any, name: str | None = None, tol: float | None = None) -> Comparison:
        """Assert that a value is what its baseline says.

        Args:
            value: a `Lens`, an engine result, or arrays, numbers, pictures, and mappings and
                sequences of these.
            name: tells several baselines of one test apart; they are numbered without. A test of
                Hypothesis needs a name for each example.
            tol: the largest difference; see `assert_matches_baseline`.

        Returns:
            How it compares.

        Raises:
            AssertionError: it differs, or there is no usable baseline.
            TypeError, ValueError: a value that cannot be kept, or a name that was used before.
        """
        __tracebackhide__ = True
        from convlens.baselines.check import observe

        key = self._key(name)
        found = self._session.compare(key, lambda: observe(value), tol=tol)
        tell_compared(self._item, found)
        if not found.passed:
            record_cause(self._item, found)
            raise AssertionError(found.message)
        return found

    def _key(self, name: str | None) -> str:
        """Return the baseline's name: the test's id, and after it a quoted name or a number."""
        if name is not None and not (isinstance(name, str) and name):
            raise ValueError(f"a baseline's name is a text, not {name!r}")
        own = self._session.name_of(self._item)
        if name is not None:
            key = f"{own} :: {json.dumps(name)}"
        elif getattr(getattr(self._item, "obj", None), "is_hypothesis_test", False):
            raise ValueError(
                "a test with @given runs many examples, and each would record a baseline of its "
                "own: give baseline.check a name= that tells the example, or check it outside"
            )
        else:
            numbered = (f"{own} :: {number}" for number in range(2, len(self._keys) + 3))
            key = next(k for k in (own, *numbered) if k not in self._keys)
        if key in self._keys:
            raise ValueError(f"this test has used the baseline {name!r} before: give another name")
        self._keys.add(key)
        return key


def tell_compared(item: pytest.Item, comparison: Comparison) -> None:
    """Hand a comparison to the report and to other plugins, which cannot change the verdict."""
    with noting(item, "another plugin did not take the comparison with the baseline"):
        item.ihook.pytest_convlens_compared(item=item, comparison=comparison)


@pytest.fixture
def baseline(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Baseline:
    """Compares values with recorded ones: `baseline.check(value, name=None, tol=None)`."""
    session = pytestconfig.stash[SESSION]
    session.usage.ask(session.name_of(request.node))
    return Baseline(request.node, session)

"""The causes of a run's failures, gathered from the reports of its items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.failures import first_line
from convlens.pytest_plugin.notes import properties
from convlens.pytest_plugin.rerun import command_to_accept, node_on_command_line
from convlens.pytest_plugin.targets import MODEL_SUFFIXES, TARGETS
from convlens.report.cause import Cause

if TYPE_CHECKING:
    from convlens.baselines.compare import Comparison

CAUSES = pytest.StashKey["Causes"]()
# What items record of a failure, as properties of their reports: these pass through xdist.
PREFIX = "convlens."
CAUSE, EXPLANATION, UPDATE = "convlens.cause", "convlens.explanation", "convlens.update"
KEY, FINGERPRINT = "convlens.key", "convlens.fingerprint"
FOLLOWS, NUMBER, LEADER = "convlens.follows", "convlens.number", "convlens.leader"
MODEL, LAYER, FILE, PICTURE = (f"convlens.{n}" for n in ("model", "layer", "file", "picture"))
# Properties that say where an item is or why it failed, and are not measured.
FACTS = frozenset(
    (
        *(CAUSE, EXPLANATION, UPDATE, KEY, FINGERPRINT, FOLLOWS, NUMBER, LEADER),
        *(MODEL, LAYER, FILE, PICTURE),
    )
)
# pytest's name for items that fail only because an earlier layer does: they fail the run, but have
# neither a block of their own nor a line in its short summary. Its last line counts them.
CATEGORY = "follow"


def configure(config: pytest.Config) -> None:
    """Gather causes in the process that has the terminal."""
    config.stash[CAUSES] = causes = Causes(config)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(causes, "convlens-causes")


def record_cause(item: pytest.Item, comparison: Comparison) -> None:
    """Keep what a failed comparison says for all that show causes."""
    found = {
        CAUSE: comparison.verdict,
        EXPLANATION: comparison.explanation,
        UPDATE: comparison.update,
        KEY: comparison.key,
        FINGERPRINT: comparison.fingerprint,
    }
    if MODEL not in dict(item.user_properties):  # an item of a model has recorded its file
        found[FILE] = str(item.path)
    item.user_properties += [(name, value) for name, value in found.items() if value]


def record_follower(item: pytest.Item, leader: str, number: int, node: str = "") -> None:
    """Note that an item fails only because another layer, or another check, does.

    Args:
        item: the item.
        leader: the layer, or the check, whose item fails in full.
        number: place of the item in the order of the network.
        node: node id of the leader's item, where it is one of another check.
    """
    item.user_properties += [(FOLLOWS, leader), (NUMBER, number)]
    if node:
        item.user_properties.append((LEADER, node))


class Causes:
    """The causes of failures of items that use convlens, in the order of the reports.

    Attributes:
        models: names of the models that items checked, in order.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.models: dict[str, None] = {}
        self._config = config
        self._found: dict[str, Cause] = {}
        # Node id of the item that fails in full → number → layer that follows.
        self._followers: dict[str, dict[int, str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, Any] | None:
        """Give followers a category of their own, so that pytest does not repeat their cause."""
        failed = report.failed and report.when == "call" and not hasattr(report, "wasxfail")
        if failed and FOLLOWS in dict(properties(report)):
            return CATEGORY, "f", ("FOLLOWS", {"red": True})
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = dict(properties(report))
        if MODEL in facts:
            self.models[str(facts[MODEL])] = None
        if not report.failed or report.when != "call" or hasattr(report, "wasxfail"):
            return
        if FOLLOWS in facts:
            head = self._head(report.nodeid, facts)
            leader = str(facts.get(LEADER) or f"{head}[{facts[FOLLOWS]}]")
            own = self._followers.setdefault(leader, {})
            own[int(facts[NUMBER])] = str(facts[LAYER] or head.rpartition("::")[2])
        elif MODEL in facts or KEY in facts:
            self._found[report.nodeid] = self._cause(report, facts)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Add a model that cannot be read."""
        place = report.nodeid.partition("::")[0]
        named = {target.spec for target in self._config.stash[TARGETS]}
        if report.failed and (place.endswith(MODEL_SUFFIXES) or place in named):
            file = str(self._config.rootpath / place) if place not in named else ""
            self._found[report.nodeid] = Cause(
                report.nodeid, Path(place).name, "", "collection", first_line(report), file=file
            )

    @property
    def found(self) -> list[Cause]:
        """All causes, with the layers that follow from each."""
        return [
            replace(cause, followers=[own[number] for number in sorted(own)])
            for cause in self._found.values()
            for own in [self._followers.get(cause.nodeid, {})]
        ]

    @staticmethod
    def _head(nodeid: str, facts: Mapping[str, Any]) -> str:
        """Return a node id without the layer in brackets at its end."""
        layer = facts.get(LAYER)
        return nodeid.removesuffix(f"[{layer}]") if layer else nodeid

    def _cause(self, report: pytest.TestReport, facts: Mapping[str, Any]) -> Cause:
        head = self._head(report.nodeid, facts)
        model, file = facts.get(MODEL), str(facts.get(FILE, ""))
        command = ""
        if KEY in facts and UPDATE in facts:
            place, _, item = (head if model else report.nodeid).partition("::")
            node = node_on_command_line(self._config, file or place, item)
            command = command_to_accept(
                self._config, [node], str(facts[UPDATE]), is_model=model is not None
            )
        return Cause(
            nodeid=report.nodeid,
            model=str(model or report.nodeid),
            layer=str(facts.get(LAYER, "")),
            check=head.rpartition("::")[2] if model else "tests",
            cause=str(facts.get(CAUSE) or first_line(report)),
            explanation=str(facts.get(EXPLANATION, "")),
            command=command,
            numbers={
                name.removeprefix(PREFIX): value
                for name, value in facts.items()
                if name.startswith(PREFIX)
                and name not in FACTS
                and isinstance(value, int | float)
                and not isinstance(value, bool)
            },
            update=str(facts.get(UPDATE, "")),
            key=str(facts.get(KEY, "")),
            fingerprint=str(facts.get(FINGERPRINT, "")),
            file=file,
            pictures=[str(value) for name, value in properties(report) if name == PICTURE],
        )

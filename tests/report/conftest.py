"""A spool with a run of two models and with hostile names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.pictures import Curves, HeatMap, Tiles
from convlens.report.encode import add_comparison, add_figure
from convlens.report.entry import Exhibit
from convlens.report.spool import Spool

EVIL = "<img src=x onerror=alert(1)>"
BIDIRECTIONAL = "unit \u202eerutcip"
EVIL_SCRIPT = "</script><script>document.title='owned'</script>\"'&"


@dataclass
class Layer:
    layer: str
    cosine: float | None = 0.5
    relative_error: float | None = 0.7
    worst_channel: int | None = 3
    passed: bool = False
    note: str = ""


@dataclass
class Pair:
    title: str
    expected: NDArray[np.uint8]
    actual: NDArray[np.uint8]


@dataclass
class Comparison:
    key: str
    fingerprint: str
    verdict: str
    passed: bool
    first: str | None
    layers: tuple[Layer, ...] = ()
    pictures: tuple[Pair, ...] = ()


def event(nodeid: str, outcome: str = "passed", when: str = "call", **more: Any) -> dict[str, Any]:
    plain = {"message": "", "reason": "", "numbers": {}, "follows": "", "notes": []}
    plain |= {"seconds": 0.5, "worker": ""}
    return {"kind": "report", "nodeid": nodeid, "outcome": outcome, "when": when, **plain, **more}


def exhibit(name: str, layer: str = "conv_a", prop: str = "gram", model: str = "m") -> Exhibit:
    return Exhibit(f"{model}::{name}", model, layer, prop, name, f"{name} holds")


def pictures(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    draw = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    other = draw.copy()
    other[3:6, 4:9] = 255
    return draw, other


def add(spool: Spool, shown: Exhibit, *figures: Any, **result: Any) -> None:
    for figure in figures:
        add_figure(spool, shown, figure)
    spool.write_exhibit(shown)
    spool.add_event(event(shown.nodeid, **result))
    spool.add_event(event(shown.nodeid, when="teardown"))


@pytest.fixture
def spool(tmp_path) -> Spool:
    """Return a spool of two models; the first has hostile names and a changed baseline."""
    folder = tmp_path / "spool"
    folder.mkdir()
    made = Spool(folder)
    made.add_event({"kind": "facts", "facts": {"command": f"pytest {EVIL}"}})
    maps = [np.full((6, 6), 40 * i, np.uint8) for i in range(6)]
    add(
        made,
        exhibit("passes"),
        Tiles(maps, [f"unit {i}" for i in range(6)], "feature maps"),
        Curves({"unit 0": [0.0, 1.0, 2.0]}, [0, 5, 10], "ascent", "step", "activation"),
        HeatMap(np.eye(4, dtype=np.float32), "Gram matrix"),
        numbers={"convlens.gram_residual": 1.5e-7, "convlens.model": "m"},
    )
    add(
        made, exhibit("dead", "conv_b", "dead"), outcome="failed", message="dead filters:\n  unit 3"
    )
    add(made, exhibit("skips", "", "classes"), outcome="skipped", reason="it has no softmax")
    add(
        made,
        exhibit(EVIL_SCRIPT, EVIL, EVIL, EVIL),
        Tiles(maps[:2], [EVIL, BIDIRECTIONAL], EVIL),
        outcome="failed",
        message=EVIL_SCRIPT,
        numbers={f"convlens.{EVIL}": EVIL},
    )
    changed = exhibit("baseline", "conv_a", "baseline")
    again = exhibit("baseline too", "conv_b", "baseline")
    for shown, pairs in ((changed, (Pair("conv_a", *pictures(0)),)), (again, ())):
        layers = (Layer("conv_a"), Layer("conv_b", None, float("inf"), None))
        add_comparison(
            made,
            shown,
            Comparison(
                f"m::baseline {EVIL}", "f00d", "conv_a diverges", False, "conv_a", layers, pairs
            ),
        )
        add(made, shown, outcome="failed", message="conv_a diverges")
    made.add_event(event("tests/test_plain.py::test_it"))
    made.add_event(event("tests/test_plain.py::test_it", when="teardown"))
    made.add_event(event("tests/test_plain.py::test_bad", "failed", message=EVIL))
    made.add_event({"kind": "finished"})
    return made

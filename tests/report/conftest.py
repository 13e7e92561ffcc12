"""A spool with a run of two models and with hostile names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.pictures import Curves, HeatMap, Tiles
from convlens.report.cause import Cause
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


def add_changed_model(
    spool: Spool,
    model: str,
    layers: int,
    first: int | None,
    *,
    others: Sequence[str] = (),
    with_pictures: bool = True,
) -> None:
    """Add a model with a baseline item a layer; all from the one numbered `first` on diverge.

    Args:
        spool: spool to add to.
        model: name of the model.
        layers: number of layers.
        first: number of the first layer that diverges; None for none.
        others: further properties, each with an item a layer that passes.
        with_pictures: whether the baseline's items have pictures.
    """
    names = [f"stage_{n // 10}_block_{n % 10}_convolution" for n in range(layers)]
    differ = set(names[first:] if first is not None else [])
    table = tuple(
        Layer(n, 0.5 if n in differ else 1.0, 0.7, 3, n not in differ, "2 of 6 channels diverge")
        for n in names
    )
    leader = names[first] if first is not None else ""
    for prop in (*others, "baseline"):
        for number, name in enumerate(names):
            nodeid = f"{model}::{prop}[{name}]"
            shown = Exhibit(nodeid, model, name, prop, prop, "it holds", number)
            result: dict[str, Any] = {"numbers": {"convlens.cosine": 0.5, "convlens.worst": 3}}
            if prop == "baseline":
                pairs = (Pair(name, *pictures(number)),) if with_pictures else ()
                passed = name not in differ
                found = Comparison(
                    f"{model}::baseline",
                    "f00d" if differ else "",
                    f"{name} {'agrees' if passed else 'diverges'}",
                    passed,
                    leader or None,
                    table,
                    pairs,
                )
                add_comparison(spool, shown, found)
                if not passed:
                    result |= {"outcome": "failed", "message": f"{name} diverges"}
                    result["follows"] = "" if name == leader else leader
            add(spool, shown, **result)
    if first is not None:
        cause = Cause(
            f"{model}::baseline[{leader}]",
            model,
            leader,
            "baseline",
            f"the first layer that diverges is {leader!r}",
            explanation=f"the weights of {leader!r} changed",
            command=f"pytest --convlens-update=failed {model}::baseline",
            followers=names[first + 1 :],
            update="failed",
            key=f"{model}::baseline",
            fingerprint="f00d",
        )
        causes = [c for e in spool.events() if e["kind"] == "causes" for c in e["causes"]]
        spool.add_event({"kind": "causes", "causes": [*causes, cause]})


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

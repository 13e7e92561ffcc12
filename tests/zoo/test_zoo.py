"""Every planted defect against every check; healthy networks raise no alarm.

The table in the README is written by `pytest --run-slow tests/zoo --write-docs`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import zoo_networks as networks
from zoo_runs import BASELINE, DEFECTS, Zoo, baseline_alarm, battery, found, lens_of

from convlens import Lens
from convlens.battery import PROPERTIES, Settings
from convlens.fixtures.pretrained import load_pretrained
from convlens.fixtures.scenes import natural_scenes

pytestmark = pytest.mark.slow
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- defects:begin -->", "<!-- defects:end -->"
HEALTHY = ("mnist_cnn-2", *(f"mnist_cnn-{n}" for n in networks.CNN_SEEDS), *networks.KINDS)
PLANTED = ("mnist_cnn-2", *networks.KINDS)
# Fewer steps and units than in a run: the defects are no subtler for it, and the healthy networks
# pass with these too.
QUICK = Settings(steps=100, units=6, accuracy=0.9)
# Defects of layers that not every network has.
ONLY_IN = {
    "reset-batch-norm": {"batch_norm"},
    "batch-norm-in-training": {"batch_norm"},
    "swapped-colors": {"residual", "batch_norm"},
}

Seen = dict[str, dict[str, bool]]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_raises_no_alarm(name):
    lens = lens_of(*networks.load(name))
    assert battery(lens, Settings()) == []
    assert battery(lens, QUICK) == []


def test_vgg19_with_real_weights_raises_no_alarm(vgg19_weights):
    model = load_pretrained("VGG19", vgg19_weights, size=(64, 64))
    lens = Lens(model, natural_scenes(60, (64, 64)), value_range=(0.0, 255.0))
    assert lens.conv_layers[-1].startswith("block3")
    assert battery(lens, Settings(units=2)) == []


@pytest.fixture(scope="module", params=PLANTED)
def zoo(request, tmp_path_factory) -> Zoo:
    return Zoo(request.param, tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="module")
def table(request) -> Iterator[dict[str, Seen]]:
    """Gather defect → network → what each check saw, and write it down in the end."""
    gathered: dict[str, Seen] = {}
    yield gathered
    if request.config.getoption("--write-docs") and not request.session.testsfailed:
        text = README.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(f"{before}{BEGIN}\n{_markdown(gathered)}{END}{after}", encoding="utf-8")


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_baseline_catches_it_at_every_layer_and_names_the_layer(zoo, defect):
    assert bool(zoo.places(defect)) == (zoo.name in ONLY_IN.get(defect, PLANTED))
    for layer in zoo.places(defect):
        lens = zoo.broken(defect, layer)
        alarm = baseline_alarm(lens, zoo.folder)
        assert alarm is not None, f"{defect} at {layer} was not caught"
        assert found([alarm], defect, layer, [*lens.network.outputs]) == {BASELINE: True}, (
            f"{defect} at {layer}: {alarm.message}"
        )


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_can_be_seen_without_a_baseline_is_seen(zoo, defect, table):
    places = zoo.places(defect)
    if zoo.name not in ONLY_IN.get(defect, PLANTED):
        assert not places
        return
    layer = places[len(places) // 2]
    lens = zoo.broken(defect, layer)
    alarms = battery(lens, QUICK)
    order = [*lens.network.outputs]
    seen = found(alarms, defect, layer, order)
    if DEFECTS[defect].needs == "model":
        assert seen.keys() - {"accuracy"}, f"{defect} at {layer} was not caught"
    elif DEFECTS[defect].needs == "labels":
        assert "accuracy" in seen, f"{defect} at {layer} was not caught"
    alarm = baseline_alarm(lens, zoo.folder)
    assert alarm is not None
    seen |= found([alarm], defect, layer, order)
    table.setdefault(defect, {})[zoo.name] = seen


def _markdown(table: dict[str, Seen]) -> str:
    checks = [prop.name for prop in PROPERTIES] + [BASELINE]
    lines = [["defect", *checks], ["---", *(":-:" for _ in checks)]]
    for defect in DEFECTS:
        networks_seen = table[defect].values()
        row = [f"`{defect}`: {DEFECTS[defect].summary}"]
        for check in checks:
            hits = [seen[check] for seen in networks_seen if check in seen]
            if not hits:
                row.append("")
            elif len(hits) < len(networks_seen):
                row.append(f"{len(hits)} of {len(networks_seen)}")
            else:
                row.append("**●**" if all(hits) else "○")
        lines.append(row)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

"""One baseline holds on every machine, and still shows each change of the model.

Machines are simulated: factors rounded to TF32 or bfloat16, sums in another order, XLA, float64.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from convlens import Network
from convlens.baselines.check import compare_with_baseline
from convlens.baselines.compare import compare_records
from convlens.baselines.record import record_network
from convlens.baselines.store import Device, Store
from convlens.engine.runtime import backend
from convlens.fixtures.defects import DEFECTS, places, plant

from .architectures import LARGE, SMALL, images_for
from .machines import MACHINES

COARSE = ("TF32", "bfloat16")
# Their weights are NaN or infinite, their model is trained first, or they add a layer: other tests
# cover these. `predict`, and so a baseline, overrules the training mode; assert_repeatable sees it.
NOT_RUN = {"nan-weight", "inf-weight", "shuffled-labels", "softmax-twice"}
NOT_RUN |= {"batch-norm-in-training", "dropout-at-inference"}


def record(model, images, machine="this one"):
    with MACHINES[machine]():
        return record_network(Network(model), images)


def compare(expected, actual, machine="this one"):
    """Return the comparison, made on the machine that `actual` was recorded on."""
    with MACHINES[machine]():
        return compare_records(expected, actual, key="net")


def noisy(model, layer, share, filters=slice(None)):
    """Return a copy of a model with kernels multiplied by 1 ± share."""
    found = keras.models.clone_model(model)
    found.set_weights(model.get_weights())
    own = found.get_layer(layer)
    values = [np.array(v) for v in own.get_weights()]
    part = values[0][..., filters]
    values[0][..., filters] = part * (
        1 + share * np.random.default_rng(0).standard_normal(part.shape).astype(np.float32)
    )
    own.set_weights(values)
    return found


class Subject:
    """A network and its records on the machines."""

    def __init__(self, name):
        self.model = {**SMALL, **LARGE}[name]()
        self.images = images_for(self.model)
        self.records = {}

    def on(self, machine):
        if machine not in self.records:
            self.records[machine] = record(self.model, self.images, machine)
        return self.records[machine]


@pytest.fixture(scope="module")
def subjects():
    known = {}

    def subject(name):
        if name not in known:
            known[name] = Subject(name)
        return known[name]

    return subject


def names(*quick):
    """Return all small networks; those that are not named here run once a week."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.weekly) for name in SMALL
    ]


@pytest.fixture
def subject(request, subjects):
    return subjects(request.param)


each_network = pytest.mark.parametrize("subject", names("batch_norm"), indirect=True)


@pytest.mark.slow
@each_network
@pytest.mark.parametrize("machine", ["another order", pytest.param("XLA", marks=pytest.mark.slow)])
def test_another_order_of_sums_passes(subject, machine):
    here, there = subject.on("this one"), subject.on(machine)
    for found in (compare(there, here), compare(here, there, machine)):
        assert found.passed, found.message
        assert "rounding" not in found.verdict
        assert max(layer.worst_error for layer in found.layers) > 0, "both machines are the same"


@each_network
@pytest.mark.slow
@pytest.mark.parametrize("machine", ["TF32", "bfloat16"])
def test_coarser_products_pass_and_are_named(subject, machine):
    here, there = subject.on("this one"), subject.on(machine)
    for found in (compare(there, here), compare(here, there, machine)):
        assert found.passed, found.message
        named = COARSE[: COARSE.index(machine) + 1]  # it may be within that of a finer one
        looks = [f"it looks like the rounding of {name} or coarser" for name in named]
        assert any(text in found.verdict for text in looks), found.verdict


@pytest.mark.weekly
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("machine", ["another order", "XLA", *COARSE])
def test_large_networks_pass_too(subjects, name, machine):
    subject = subjects(name)
    found = compare(subject.on(machine), subject.on("this one"))
    assert found.passed, found.message


@pytest.mark.slow
@each_network
def test_a_network_in_float64_passes(subject):
    def copy(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    model = keras.models.clone_model(subject.model, clone_function=copy)
    model.set_weights(subject.model.get_weights())
    found = compare(subject.on("this one"), record(model, subject.images))
    assert found.passed, found.message


def planted(model):
    """Yield (defect, layer, broken model), at the middle layer of each defect's places."""
    for defect in sorted(set(DEFECTS) - NOT_RUN):
        possible = places(model, defect)
        if possible:
            layer = possible[len(possible) // 2]
            yield defect, layer, plant(model, defect, layer)


@pytest.mark.weekly
@pytest.mark.parametrize("subject", SMALL, indirect=True)
@pytest.mark.parametrize("machine", ["this one", *COARSE])
def test_each_defect_of_the_zoo_is_found_on_another_machine(subject, machine):
    """None of these defects is smaller than the rounding of bfloat16."""
    for defect, layer, broken in planted(subject.model):
        now = record(broken, subject.images)
        if max(d.worst_error for d in compare(subject.on("this one"), now).layers) == 0:
            continue  # nothing changed, such as where a filter was dead before
        found = compare(subject.on(machine), now)
        assert not found.passed, f"{defect} at {layer}: {found.verdict}"
        assert "looks like" not in found.verdict
        assert found.first == layer, f"{defect} at {layer}: {found.verdict}"


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["batch_norm"], indirect=True)
@pytest.mark.parametrize("defect", ["dead-filter", "missing-relu", "flipped-kernels"])
def test_a_defect_is_found_on_another_machine(subject, defect):
    broken = record(plant(subject.model, defect), subject.images)
    for machine in COARSE:
        found = compare(subject.on(machine), broken)
        assert not found.passed, found.verdict
        assert "looks like" not in found.verdict


SMALL_CHANGES = {
    # change → the machines on which the baseline was recorded that do not hide it
    "one filter ±10 %": ("this one", "TF32", "bfloat16"),
    "one filter ±1 %": ("this one", "TF32"),
    "one filter ±0.01 %": ("this one",),
    "all filters ±0.3 %": ("this one", "TF32"),
    "all filters ±1 %": ("this one", "TF32", "bfloat16"),
    "all filters ±0.01 %": ("this one",),
}


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["batch_norm"], indirect=True)
@pytest.mark.parametrize("change", SMALL_CHANGES)
def test_what_is_larger_than_the_rounding_of_a_known_machine_is_found(
    subject, change, known_machine
):
    which, share = change.split(" ±")
    filters = slice(3, 4) if which == "one filter" else slice(None)
    model = noisy(subject.model, "conv_1", float(share.split()[0]) / 100, filters)
    broken = record(model, subject.images)
    seen = []
    for machine in ("this one", *COARSE):
        found = compare(known_machine(subject.on(machine), machine), broken)
        if not found.passed:
            assert found.first == "conv_1"
            seen.append(machine)
    assert tuple(seen) == SMALL_CHANGES[change]


@pytest.fixture
def known_machine():
    """Return a function that marks a record as one of a machine that says how it rounds."""
    precision = {"TF32": "tensorfloat32", "bfloat16": "bfloat16", "this one": "float32"}

    def mark(record, machine):
        roundings = {
            name: [precision[machine], depth]
            for name, (_, depth) in record.source["rounding"].items()
        }
        return type(record)(
            record.layers, record.outputs, {**record.provenance, "rounding": roundings}
        )

    return mark


@pytest.mark.quick(1)
@pytest.mark.parametrize("subject", ["batch_norm"], indirect=True)
@pytest.mark.parametrize("share", [1e-2, 1e-3])
def test_rounding_is_no_excuse_for_other_weights(subject, share):
    """Both machines say that they compute in float32: a change is one of the model."""
    found = compare(
        subject.on("this one"), record(noisy(subject.model, "conv_1", share), subject.images)
    )
    assert not found.passed
    assert "the weights of 'conv_1' changed" in found.message


class Scaled(keras.layers.Layer):
    """A layer whose code changes while its settings do not."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


def test_a_changed_factor_in_a_layer_of_the_users_own_does_not_look_like_rounding(monkeypatch):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, name="conv")(image)
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="last")(Scaled(name="scaled")(x)))
    images = np.random.default_rng(0).random((8, 16, 16, 3), dtype=np.float32)
    before = record(model, images)
    monkeypatch.setattr(Scaled, "factor", 1.002)
    found = compare(before, record(model, images))
    assert not found.passed
    assert found.first == "scaled"


def test_the_record_says_how_its_machine_rounds(tiny_network, tiny_images, monkeypatch):
    settings = {**backend.settings(), "products": "tensorfloat32", "TF32": True}
    monkeypatch.setattr(backend, "settings", lambda: settings)
    found = record_network(Network(tiny_network.model), tiny_images)
    assert found.provenance["environment"]["products"] == "tensorfloat32"
    assert found.rounding("conv_a").precision == "tensorfloat32"
    assert found.rounding("input").precision == "float32"


RECORD_ALL = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.baselines.architectures import SMALL, images_for
from convlens import assert_matches_baseline
for name, build in SMALL.items():
    model = build()
    assert_matches_baseline(model, sys.argv[1], name, images=images_for(model), update="missing")
"""


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"TF_ENABLE_ONEDNN_OPTS": "0"}, {"KERAS_BACKEND": "jax"}])
def test_baselines_of_another_backend_or_library_pass(subjects, tmp_path, setting):
    if "KERAS_BACKEND" in setting:
        pytest.importorskip("jax")
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", RECORD_ALL, str(tmp_path), str(root)],
        env={**os.environ, **setting},
        check=True,
        capture_output=True,
    )
    for name in SMALL:
        subject = subjects(name)
        place = Store(tmp_path, Device("any", "any"))
        found = compare_with_baseline(place, name, subject.on("this one"))
        assert found.passed, found.message
        assert "rounding" not in found.verdict

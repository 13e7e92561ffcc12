"""The cases have unique names, and contests detect contestants that do no work."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from convlens.benchmarks import cores, peers
from convlens.benchmarks.cases import cases
from convlens.benchmarks.subjects import DTYPES, Setting, UnavailableError, subject, with_policy


def small(of_model):
    return Setting(model="small", load=lambda: of_model)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("accelerated", [False, True])
def test_each_case_has_a_unique_name(full, accelerated):
    names = [case.name for case in cases(full, accelerated)]
    assert len(names) == len(set(names))
    wanted = {"activations", "ascent", "classes", "deconvnet", "top", "baseline"}
    assert {f"{core}-mnist_cnn" for core in wanted} <= set(names)
    assert {
        "gram",
        "style",
        "style-loss",
        "zero-code",
        "units",
        "pixels",
        "images",
        "effort",
    } <= set(names)
    assert {"ascent-VGG19", "ascent-ResNet50"} <= set(names)
    assert ("ascent-mnist_cnn-mixed_bfloat16" in names) == full
    assert ("report" in names) == ("baseline-VGG19" in names) == full
    assert ("ascent-VGG19-xla" in names) == (full and accelerated)
    assert ("ascent-mnist_cnn-xla" in names) == (full and accelerated)
    assert ("deconvnet-VGG19-cpu:0" in names) == (full and accelerated)


def test_a_users_models_replace_those_of_the_suite():
    found = cases(False, False, {"mine.keras": lambda: None})
    assert {case.setting.model for case in found} == {"mine.keras"}
    wanted = {"activations", "ascent", "classes", "deconvnet", "top", "baseline"}
    assert {case.core for case in found} == wanted


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "build",
    [
        *(cores.features, cores.deconvnet, cores.baseline),
        pytest.param(cores.ascent, marks=pytest.mark.slow),
        pytest.param(cores.classes, marks=pytest.mark.slow),
    ],
)
def test_every_contestant_works_with_a_users_model(tiny, build):
    contest = build(small(tiny))
    for name, run in contest.contestants.items():
        contest.check(name, run())
    assert contest.work.gflop > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [cores.features, cores.ascent, cores.deconvnet, cores.top, cores.baseline]
)
def test_a_contestant_that_does_no_work_is_detected(tiny, build):
    idle = np.full((6, 6, 6, 6), np.nan)

    zeros = np.zeros((6, 13, 13, 2))
    nothing = SimpleNamespace(images=zeros, activations={"conv_a": idle}, layers=())
    contest = build(small(tiny))
    result = {"conv_a": idle} if build is cores.features else nothing
    with pytest.raises(RuntimeError, match="convlens: "):
        contest.check("convlens", result)


def test_the_ascent_of_one_filter_at_a_time_is_correct(tiny):
    start = np.random.default_rng(0).random((3, 13, 13, 2), dtype=np.float32)
    alone = peers.one_at_a_time(tiny, "conv_a", start, 5)()
    pair = peers.one_at_a_time(tiny, "conv_a", start[:1], 5)()
    np.testing.assert_array_equal(alone[:1], pair)
    check = cores._rises(subject(small(tiny)), start)
    check(alone)
    with pytest.raises(RuntimeError, match="did not rise"):
        check(start)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_another_dtype_policy_does_not_change_the_weights(tiny, dtype):
    copy = with_policy(tiny, dtype)
    assert {layer.dtype_policy.name for layer in copy.layers} == {dtype}
    for a, b in zip(copy.get_weights(), tiny.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    contest = cores.ascent(replace(small(tiny), dtype=dtype))
    contest.check("convlens", contest.contestants["convlens"]())


def test_a_model_with_only_nested_convolutions_is_refused(tiny):
    image = keras.Input((13, 13, 2))
    nested = keras.Model(image, tiny(image))
    with pytest.raises(UnavailableError, match="no convolution outside nested models"):
        subject(small(nested))

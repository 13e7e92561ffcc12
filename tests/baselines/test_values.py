"""Baselines of arrays, pictures, mappings and all results of the engine."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from PIL import Image

from convlens import (
    Lens,
    Network,
    assert_matches_baseline,
    assert_no_dead_filters,
    deconvolve,
    invariance,
    maximize,
    occlude,
    top_images,
    top_patches,
    transfer_sound,
    transfer_style,
)
from convlens.baselines import values
from convlens.baselines.values import compare_values, record_values
from convlens.fixtures.style_pictures import content_picture, style_picture


def compare(old, new, tol=None):
    return compare_values(record_values(old), record_values(new), key="k", tol=tol)


PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
VALUES = {
    "number": 3.5,
    "whole number": 3,
    "truth": True,
    "word": "conv",
    "nothing": None,
    "numpy number": np.float32(2),
    "float32": np.random.default_rng(0).random((4, 5), np.float32),
    "float16": np.ones(3, np.float16),
    "integers": np.arange(6).reshape(2, 3),
    "truths": np.array([True, False]),
    "words": np.array(["a", "b"]),
    "empty": np.zeros((0, 4)),
    "list": [1.0, 2.0],
    "nested": {"a": {"b": [np.eye(2), None]}, 3: (1, "x")},
    "picture": Image.fromarray(PHOTO),
    "pixels": PHOTO,
    "large": np.random.default_rng(1).standard_normal((1100, 600)),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", VALUES)
def test_a_recorded_value_passes_against_itself(tmp_path, name):
    with pytest.raises(AssertionError, match="there is no baseline of 'a value'"):
        assert_matches_baseline(VALUES[name], tmp_path, "a value")
    assert_matches_baseline(VALUES[name], tmp_path, "a value", update="missing")
    found = assert_matches_baseline(VALUES[name], tmp_path, "a value")
    assert found.passed
    assert found.layers
    assert (tmp_path / next(tmp_path.glob("*.png"))).stat().st_size > 200


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (3, 4, "its value is 4, but 3 in the baseline"),
        (1, True, "its value is True, but 1 in the baseline"),
        ("a", "b", "its value is 'b', but 'a' in the baseline"),
        (3.0, 3.01, "it is 3.01, but 3 in the baseline"),
        (np.ones(3), np.ones(4), "its shape is [4], but [3] in the baseline"),
        (np.ones(3), np.ones(3, np.float32), "its type is float32, but float64 in the baseline"),
        (np.arange(4), np.array([0, 1, 3, 3]), "1 of 4 differ, the first at (2,)"),
        (np.ones((3, 3)), np.ones((3, 3)) + 1e-3 * np.eye(3), "at (0, 0) it is 1.001"),
        ({"a": 1.0}, {"a": 1.0, "b": 2}, "'b' differs from the baseline"),
        ({"a": 1.0, "b": 2}, {"a": 1.0}, "it is only in the baseline"),
        ([1.0, 2.0], "x", "its value is 'x', but 'an array' in the baseline"),
    ],
)
def test_a_changed_value_fails_with_the_difference(old, new, message):
    found = compare(old, new)
    assert not found.passed
    assert message in found.message


def test_rounding_errors_pass_and_the_tolerance_can_be_set():
    old = np.random.default_rng(0).random(100)
    assert compare(old, old * (1 + 1e-5)).passed
    assert not compare(old, old * (1 + 1e-3)).passed
    assert compare(old, old * (1 + 1e-3), tol=0.01).passed
    assert not compare(old, old * (1 + 1e-5), tol=1e-7).passed


def test_a_change_of_one_element_of_a_large_array_is_detected(monkeypatch):
    monkeypatch.setattr(values, "MAX_VALUES", 10_000)
    old = np.random.default_rng(0).random((300, 200)) + 1
    (node,) = record_values(old).nodes.values()
    assert node.parts["projections"].shape == (7500, 4)
    assert compare(old, old * (1 + 1e-6)).passed
    new = old.copy()
    new[123, 45] += 0.5
    assert not compare(old, new).passed


def test_a_small_white_patch_that_a_mean_would_miss_is_detected():
    black, patched = np.zeros((224, 224), np.uint8), np.zeros((224, 224), np.uint8)
    patched[100:107, 51:58] = 255
    assert np.abs(patched / 255.0 - black).mean() < 1e-3
    found = compare(black, patched)
    assert not found.passed
    assert "the worst 8×8 tile" in found.message
    assert not compare(black, patched, tol=0.3).passed


def test_noise_of_one_gray_level_in_a_picture_passes():
    draw = np.random.default_rng(0)
    old = draw.integers(20, 230, (2, 30, 30, 3)).astype(np.uint8)
    assert compare(old, old + draw.integers(0, 2, old.shape).astype(np.uint8)).passed


def test_a_changed_faint_structure_is_detected_by_structural_similarity():
    rows = np.indices((40, 40)).sum(axis=0) % 8 < 4
    old = np.where(rows, 120, 128).astype(np.uint8)
    new = np.where(rows, 128, 120).astype(np.uint8)
    found = compare(old, new, tol=0.04)
    assert not found.passed
    assert found.layers[0].worst_error < 0.04
    assert "structural similarity" in found.message


TREES = [
    *({}, [], None, "x", 1, 1.0, True, "1", np.ones(1), np.ones(2)),
    *([1.0, "x"], {0: 1.0, 1: "x"}, {"0": 1.0, "1": "x"}, [[1.0, "x"]], [1.0, "x", []]),
    *({"a.b": 1, "a": {"b": 5}}, {"a.b": 5, "a": {"b": 1}}, {"a": {"b": {"c": 1}}}),
    *({"a": {"b.c": 1}}, {"a.b": {"c": 1}}, {"a.b.c": 1}, {"a": 1}, {"value": 1}),
    *({1: 5}, {"1": 5}, {True: 5}, {"True": 5}, {1.0: 5}, {None: 5}, {"None": 5}, {(1, 2): 5}),
    *({"(1, 2)": 5}, {'"a"': 5}, {"<a>": 5}, {"": 5}, {" ": 5}, {"a": None}, {"b": None}),
    *({"a": {}}, {"a": []}, {"a": [None]}, {"a": {"b": {}}}, {"a": np.zeros((0, 2))}),
    *({"a": np.zeros((2, 0))}, {"a": ""}, {"a": [[], {}]}, {"a": [{}, []]}),
]


def test_different_trees_never_agree():
    recorded = [record_values({"tree": tree}) for tree in TREES]
    marks = {record.fingerprint for record in recorded}
    assert len(marks) == len(TREES)
    for i, old in enumerate(recorded):
        for j, new in enumerate(recorded):
            found = compare_values(old, new, key="k")
            assert found.passed is (i == j), (TREES[i], TREES[j], found.message)


def test_lists_and_tuples_are_both_sequences():
    assert compare([1.0, "x", (2, "y")], (1.0, "x", [2, "y"])).passed
    assert compare({"a": ()}, {"a": []}).passed


def test_paths_are_named_so_that_keys_can_be_told_apart():
    found = compare(
        {"a.b": 1, "a": {"b": 5}, 3: 1, "3": 1}, {"a.b": 2, "a": {"b": 6}, 3: 2, "3": 2}
    )
    assert [each.layer for each in found.layers] == ['"a.b"', "a.b", "3", '"3"']


def test_a_container_that_differs_is_named_once():
    found = compare({"a": {"b": 1, "c": 2}}, {"a": [1, "x"], "d": {"e": [5, "y"]}})
    assert [each.layer for each in found.layers] == ["a", "d"]
    assert "its value is 'a sequence', but 'a mapping' in the baseline" in found.message


def test_keys_without_a_stable_text_are_refused():
    with pytest.raises(TypeError, match=r"a key of type object at a cannot be stored .* as keys"):
        record_values({"a": {object(): 1}})


def test_pictures_keep_their_alpha_and_their_16_bits():
    alpha = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    clear = alpha.copy()
    clear[..., 3] = 0
    assert not compare(Image.fromarray(alpha), Image.fromarray(clear)).passed
    shades = np.linspace(0, 65000, 1600).reshape(40, 40).astype(np.uint16)
    assert compare(Image.fromarray(shades), Image.fromarray(shades + 100)).passed
    assert not compare(Image.fromarray(shades), Image.fromarray(shades // 2)).passed


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "a baseline needs finite values"),
        ({"a": np.array([1, np.inf])}, "there is NaN or infinity at a"),
        ({}, "there is nothing to compare"),
        ([], "there is nothing to compare"),
    ],
)
def test_empty_and_non_finite_values_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        record_values(value)


def test_objects_of_unsupported_types_are_refused():
    with pytest.raises(TypeError, match=r"object at a\.0 cannot be stored in a baseline: give num"):
        record_values({"a": [object()]})


def test_a_model_needs_images(tiny, tmp_path):
    with pytest.raises(ValueError, match="baseline of the model tiny needs images: pass images="):
        assert_matches_baseline(tiny, tmp_path, "k")


def test_a_value_does_not_match_the_baseline_of_a_network(tiny_network, tiny_images, tmp_path):
    assert_matches_baseline(tiny_network, tmp_path, "k", images=tiny_images, update="missing")
    assert_matches_baseline(Lens(tiny_network, tiny_images), tmp_path, "k")
    with pytest.raises(AssertionError, match="holds a network, but a value was given"):
        assert_matches_baseline([1.0], tmp_path, "k")


@pytest.fixture(scope="module")
def results(tiny_network, tiny_images, new_style_network):
    """Return one result of each type."""
    network = new_style_network()
    top = top_images(tiny_network, tiny_images, "conv_b", k=2)
    beats = np.sin(np.arange(2000) / 4) * (np.arange(2000) % 500 < 250)
    hiss = np.random.default_rng(0).standard_normal(2000) / 5
    return {
        "Maximization": maximize(tiny_network, "conv_b", range(3), steps=4),
        "Reconstruction": deconvolve(tiny_network, tiny_images, "conv_b", 1, stages=True),
        "TopImages": top,
        "TopPatches": top_patches(tiny_network, top, "conv_b", [0, 1]),
        "Occlusion": occlude(tiny_network, tiny_images[:2], layer="conv_b"),
        "Invariance": invariance(tiny_network, tiny_images, "rotation", (0.0, 15.0)),
        "StyleTransfer": transfer_style(
            content_picture(32),
            style_picture("waves", 32),
            network,
            content_layers="high",
            style_layers=["low"],
            steps=3,
        ),
        "SoundTransfer": transfer_sound(
            (beats, 8000), (hiss, 8000), rate=8000, filters=16, window=128, hop=32, steps=2
        ),
        "FilterStatistics": assert_no_dead_filters(tiny_network, tiny_images, allowed=6),
    }


NAMES = [
    *("Maximization", "Reconstruction", "TopImages", "TopPatches", "Occlusion", "Invariance"),
    *("StyleTransfer", "SoundTransfer", "FilterStatistics"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_result_can_be_recorded_in_a_file_of_limited_size(results, name, tmp_path):
    assert_matches_baseline(results[name], tmp_path, name, update="missing")
    found = assert_matches_baseline(results[name], tmp_path, name)
    assert len(found.layers) > 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000


def with_one_number_changed(result):
    """Yield (path, result) for each array, with one number of that array changed."""
    for field in fields(result):
        value = getattr(result, field.name)
        if is_dataclass(value):
            changed = ((f".{path}", other) for path, other in with_one_number_changed(value))
        elif isinstance(value, dict):
            changed = ((f".{key}", {**value, key: nudged(v)}) for key, v in value.items())
        elif isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fi":
            changed = iter([("", nudged(value))])
        else:
            continue
        for path, other in changed:
            yield f"{field.name}{path}", replace(result, **{field.name: other})


def nudged(value):
    other = np.array(value)
    inside = np.flatnonzero(np.isfinite(other))
    other.flat[inside[len(inside) // 2]] += 1 + np.nanmax(np.abs(other))
    return other


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "FilterStatistics"])
def test_a_change_of_one_number_in_any_array_of_a_result_is_detected(results, name):
    result = results[name]
    changes = list(with_one_number_changed(result))
    assert len(changes) > 2
    for path, changed in changes:
        found = compare(result, changed)
        assert not found.passed, path
        assert found.first == path


@pytest.mark.slow
def test_a_model_its_network_and_its_lens_share_a_baseline(tiny, tiny_images, tmp_path):
    network = Network(tiny)
    assert_matches_baseline(network, tmp_path, "k", images=tiny_images, update="all")
    assert_matches_baseline(tiny, tmp_path, "k", images=tiny_images)
    assert_matches_baseline(Lens(tiny, tiny_images), tmp_path, "k")

"""The text beside a baseline: its diff names the layers that changed, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens.baselines.describe import changed_lines, describe
from convlens.baselines.values import record_values

from .test_compact import network


def line(text, name):
    (found,) = [each for each in text.splitlines() if each.split()[0] == name]
    return found.split()


def noisy(record, size):
    """A record as another machine makes it: each number differs by a share of its size."""
    draw = np.random.default_rng(9)
    layers = {
        name: replace(
            sketch,
            **{
                field: getattr(sketch, field)
                * (1 + size * draw.uniform(-1, 1, getattr(sketch, field).shape)).astype(np.float32)
                for field in ("mean", "rms", "projection")
            },
        )
        for name, sketch in record.layers.items()
    }
    return replace(record, layers=layers)


def test_each_layer_has_a_line_with_its_shape_hashes_and_statistics():
    record = network([3, 8, 8])
    text = describe("m.keras::baseline", record)
    assert text.startswith("# m.keras::baseline: a line a layer\n")
    assert len(text.splitlines()) == 2 + 3
    name, kind, shape, weights, outputs, mean, rms = line(text, "layer_1")
    assert (name, kind, shape, weights) == ("layer_1", "Conv2D", "48x48x8", "00000000")
    assert len(outputs) == 16
    assert float(mean) == pytest.approx(record.layers["layer_1"].mean.mean(), rel=1e-2)
    assert float(rms) == pytest.approx(
        np.sqrt(np.mean(record.layers["layer_1"].rms ** 2)), rel=1e-2
    )


def test_a_rounding_error_changes_no_line_and_a_change_only_its_own():
    record = network([3, *[64] * 40])
    text = describe("k", record)
    assert describe("k", noisy(record, 1e-6), text) == text
    assert len(changed_lines(text, describe("k", noisy(record, 1e-2), text))) == 41
    layers = dict(record.layers)
    layers["layer_7"] = replace(layers["layer_7"], projection=1.01 * layers["layer_7"].projection)
    layers["layer_7"] = replace(layers["layer_7"], rms=1.01 * layers["layer_7"].rms)
    now = describe("k", replace(record, layers=layers), text)
    assert changed_lines(text, now) == ["layer_7"]
    assert sum(a != b for a, b in zip(text.splitlines(), now.splitlines(), strict=True)) == 1


def test_a_layer_that_is_added_is_named():
    record = network([3, 8, 8, 8])
    fewer = replace(record, layers=dict(list(record.layers.items())[:-1]))
    assert changed_lines(describe("k", fewer), describe("k", record)) == ["layer_3"]
    assert changed_lines(describe("k", record), describe("k", fewer)) == ["layer_3"]


def test_values_have_a_line_each_whatever_their_names():
    value = {"a\nb": np.arange(6.0), "c d": "x y", "e": [1, None], "\u202ef": np.uint8([200, 250])}
    text = describe("k\n#", record_values(value))
    assert len(text.splitlines()) == 2 + 5
    assert "200" not in text
    assert "225" in text  # the mean of the bytes does not overflow
    other = {**value, "c d": "x z"}
    assert changed_lines(text, describe("k\n#", record_values(other), text)) == ["c d"]
    assert describe("k\n#", record_values(value), text) == text


def test_a_text_that_somebody_edited_or_merged_does_no_harm():
    record = network([3, 8])
    text = describe("k", record)
    merged = f"<<<<<<< ours\n{text}=======\n{text.replace('layer_1', 'layer 1 x')}>>>>>>> theirs\n"
    again = describe("k", record, merged)
    assert again == text
    assert describe("k", record, text.replace(line(text, "layer_1")[4], "zz-not-a-hash")) == text

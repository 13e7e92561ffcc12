"""Randomly damaged files are either read or refused with a message of one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from convlens import (
    ModelFileError,
    Sound,
    assert_matches_baseline,
    load_model,
    read_image,
    read_sound,
    save_sound,
)
from convlens.baselines.check import current_device
from convlens.baselines.store import BaselineFileError, Store, read
from convlens.files.npz import read_npz
from convlens.pytest_plugin.accept import read_accepted

MUTATIONS = 40


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """Return bytes with random bits flipped, or parts removed, duplicated or overwritten."""
    data = bytearray(content)
    kind = draw.integers(5)
    at = int(draw.integers(len(data)))
    if kind == 0:
        for place in draw.integers(len(data), size=int(draw.integers(1, 9))):
            data[place] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = data[: int(draw.integers(1, 400))]
    elif kind == 3:
        data[at : at + 8] = draw.bytes(8)
    else:
        del data[at : at + int(draw.integers(1, 400))]
    return bytes(data)


def mutated_entry(content: bytes, draw: np.random.Generator, folder: Path) -> bytes:
    """Return an archive with one mutated entry and a matching checksum."""
    (folder / "whole.zip").write_bytes(content)
    with zipfile.ZipFile(folder / "whole.zip") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = str(draw.choice(sorted(entries)))
    if entries[name]:
        entries[name] = mutated(entries[name], draw)
    with zipfile.ZipFile(folder / "new.zip", "w") as archive:
        for entry, value in entries.items():
            archive.writestr(entry, value)
    return (folder / "new.zip").read_bytes()


def fuzz(
    path: Path,
    reader: Callable[[], Any],
    errors: type[BaseException],
    seed: int,
    scratch: Path,
) -> int:
    """Read mutated files; return the number of refused files."""
    draw = np.random.default_rng(seed)
    content = path.read_bytes()
    whole = zipfile.is_zipfile(path)
    messages: list[str] = []
    for number in range(MUTATIONS):
        inner = whole and number % 2
        data = mutated_entry(content, draw, scratch) if inner else mutated(content, draw)
        path.write_bytes(data)
        try:
            reader()
        except errors as error:
            messages.append(str(error))
    assert all(messages)
    assert not [message for message in messages if "\n" in message]
    assert list(path.parent.parent.iterdir()) == [path.parent]
    assert path.parent.joinpath(path.name) in path.parent.iterdir()
    return len(messages)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is the only entry of its parent folder."""
    inside = tmp_path / "outer" / "inner"
    inside.mkdir(parents=True)
    return inside


def test_damaged_model_files(folder, tmp_path):
    path = folder / "model.keras"
    keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, activation="relu")]).save(
        path
    )
    assert fuzz(path, lambda: load_model(path), ModelFileError, 1, tmp_path) > 10


def test_damaged_baselines(folder, tmp_path):
    value = {"a": np.arange(30.0), "b": "text"}
    assert_matches_baseline(value, folder, "it", update="missing")
    path = Store(folder, current_device()).find("it")[0]
    content = path.read_bytes()
    assert fuzz(path, lambda: read(path, "it"), BaselineFileError, 2, tmp_path) > 10
    draw = np.random.default_rng(3)
    failed = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutated_entry(content, draw, tmp_path))
        try:
            assert_matches_baseline(value, folder, "it")
        except AssertionError:
            failed += 1
    assert failed > 10


def test_damaged_arrays(folder, tmp_path):
    path = folder / "images.npz"
    np.savez_compressed(path, images=np.zeros((4, 5, 5, 1)), labels=np.arange(4))
    assert fuzz(path, lambda: read_npz(path), ValueError, 4, tmp_path) > 10


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_damaged_pictures(folder, tmp_path, suffix):
    path = folder / f"picture.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save(path)
    assert fuzz(path, lambda: read_image(path), ValueError, 5, tmp_path) > 0


def test_damaged_sounds(folder, tmp_path):
    path = folder / "sound.wav"
    save_sound(Sound(np.sin(np.arange(900) / 9).astype(np.float32), 8000), path)
    assert fuzz(path, lambda: read_sound(path), ValueError, 6, tmp_path) > 0


def test_damaged_lists_of_accepted_changes(folder, tmp_path):
    path = folder / "accept.json"
    entry = {"key": "a::baseline", "fingerprint": "0123456789abcdef"}
    path.write_text(json.dumps({"format": "convlens-accept", "version": 1, "accept": [entry]}))
    assert fuzz(path, lambda: read_accepted(path), pytest.UsageError, 7, tmp_path) > 10
    path.write_text("[" * 100_000)
    with pytest.raises(pytest.UsageError, match="cannot be read as a list"):
        read_accepted(path)


@pytest.mark.slow
def test_a_run_reports_damaged_files_and_checks_the_others(pytester):
    good = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, activation="relu", name="conv")],
        name="good",
    )
    good.save(pytester.path / "good.keras")
    content = (pytester.path / "good.keras").read_bytes()
    draw = np.random.default_rng(8)
    names = [f"bad{i}.keras" for i in range(20)]
    for name in names:
        (pytester.path / name).write_bytes(mutated(content[: len(content) // 2], draw))
    result = pytester.runpytest(
        "good.keras", *names, "-k", "finite", "--continue-on-collection-errors", "-q"
    )
    assert result.parseoutcomes()["errors"] == len(names)
    assert result.parseoutcomes()["passed"] == 1
    text = result.stdout.str()
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    for name in names:
        assert name in text

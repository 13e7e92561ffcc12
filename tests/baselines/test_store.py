"""Files of baselines: names, variants, damaged files and atomic writes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from convlens import assert_matches_baseline
from convlens.baselines import store
from convlens.baselines.check import Recording, compare_with_baseline, observe, update_baseline
from convlens.baselines.store import (
    BaselineFileError,
    Device,
    Store,
    Stored,
    file_stem,
    read,
    write,
)
from convlens.files import atomic

THIS_DEVICE = Device("Card 9000", "gpu")


@pytest.fixture
def place(tmp_path):
    return Store(tmp_path / "baselines", THIS_DEVICE)


def record(place, key, value, **options):
    """Record a value in place of any existing baseline."""
    observed = observe(value)
    comparison = compare_with_baseline(place, key, observed)
    return update_baseline(place, observed, comparison, Recording("all", **options))[1]


def passes(place, key, value):
    return compare_with_baseline(place, key, observe(value)).passed


SIMILAR_NAMES = [
    *("a/b", "a.b", "a-b", "a b", "A-b", "a--b", "a/b ", "a\\b"),
    *("test_x.py::TestOne::test_it", "test_x.py::TestTwo::test_it"),
    *("test_x.py::test_it[1]", "test_x.py::test_it[2]", "test_x.py::test_it"),
    *("../../x", "/etc/passwd", "..", ".", "", "x" * 500, "x" * 501, "é", "ë", "\ud800", "con"),
]


def test_different_names_have_different_files():
    names = [file_stem(name).lower() for name in SIMILAR_NAMES]
    assert len(set(names)) == len(SIMILAR_NAMES)


@settings(deadline=None)
@given(st.text())
def test_a_file_name_never_leaves_the_folder_and_is_never_hidden(name):
    made = file_stem(name)
    assert "/" not in made
    assert "\\" not in made
    assert not made.startswith((".", "-"))
    assert made.isascii()
    assert len(made) < 120


def test_similar_names_have_separate_baselines_in_the_folder(place, tmp_path):
    for number, name in enumerate(SIMILAR_NAMES):
        record(place, name, np.arange(3.0) + number)
    for number, name in enumerate(SIMILAR_NAMES):
        assert passes(place, name, np.arange(3.0) + number)
        assert not passes(place, name, np.arange(3.0) - 1)
    assert {path.parent for path in tmp_path.rglob("*.npz")} == {place.folder}
    assert len(list(place.folder.glob("*.npz"))) == len(list(place.folder.glob("*.png")))
    assert {store.read_key(path) for path in store.files(place.folder)} == set(SIMILAR_NAMES)


def test_a_header_keeps_the_order_of_layers(place):
    path = place.folder / "k~.npz"
    weights = {"conv_2": "b", "conv_10": "a", "conv_1": "c"}
    store.write(
        path, store.Stored("k", "values", {}, {"provenance": {"weights": weights}}), b"", ""
    )
    assert list(store.read(path, "k").header["provenance"]["weights"]) == list(weights)


def test_equal_content_gives_equal_files(place):
    first = record(place, "k", np.arange(4.0)).read_bytes()
    time.sleep(2.1)  # an archive stores times in steps of two seconds
    assert record(place, "k", np.arange(4.0)).read_bytes() == first


def test_the_most_specific_variant_is_used(place):
    record(place, "k", [1.0], variant="generic")
    record(place, "k", [2.0], variant="family")
    assert passes(place, "k", [2.0])
    assert not passes(place, "k", [1.0])
    record(place, "k", [3.0], variant="device")
    assert [passes(place, "k", [v]) for v in (1.0, 2.0, 3.0)] == [False, False, True]
    family = Store(place.folder, Device("Card 8000", "gpu"))
    assert [passes(family, "k", [v]) for v in (1.0, 2.0, 3.0)] == [False, True, False]
    elsewhere = Store(place.folder, Device("Chip", "cpu-x86_64"))
    assert [passes(elsewhere, "k", [v]) for v in (1.0, 2.0, 3.0)] == [True, False, False]


def test_an_update_replaces_the_variant_in_use(place):
    record(place, "k", [1.0], variant="generic")
    path = record(place, "k", [2.0], variant="device")
    assert record(place, "k", [3.0]) == path
    assert passes(Store(place.folder, Device("Chip", "cpu")), "k", [1.0])


def test_a_name_can_have_several_accepted_baselines(place):
    for value in (1.0, 2.0, 3.0):
        record(place, "k", [value], keep=True)
    assert [passes(place, "k", [v]) for v in (1.0, 2.0, 3.0, 4.0)] == [True, True, True, False]
    assert len(list(place.folder.glob("*.npz"))) == 3
    record(place, "k", [4.0])  # without keep it replaces all alternatives
    assert [passes(place, "k", [v]) for v in (1.0, 2.0, 3.0, 4.0)] == [False, False, False, True]
    assert len(list(place.folder.glob("*"))) == 3


def rewrite(path, change, headers=None):
    """Change the entries of a baseline's archive with a function."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def edit_header(**values):
    def change(entries):
        header = json.loads(entries["provenance.json"])
        entries["provenance.json"] = json.dumps({**header, **values}).encode()

    return change


def put(name, array, **options):
    def change(entries):
        import io

        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, **options)
        entries[name] = stream.getvalue()

    return change


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "not a zip file"),
    "text": (lambda path: path.write_text("hello"), "not a zip file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not a zip file"),
    "corrupt": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x09")),
        "",
    ),
    "pickled": (
        lambda path: rewrite(path, put("0.npy", np.array([{}], object), allow_pickle=True)),
        "pickled objects, which can run code",
    ),
    "wrong shape": (
        lambda path: rewrite(path, put("0.npy", np.zeros((7, 7)))),
        r"has shape \(7, 7\), but the header states \[3, 3\]",
    ),
    "not a number": (
        lambda path: rewrite(path, put("0.npy", np.full((3, 3), np.nan))),
        "values that are not finite",
    ),
    "array missing": (
        lambda path: rewrite(path, lambda entries: entries.pop("0.npy")),
        "its arrays do not match its header",
    ),
    "no header": (
        lambda path: rewrite(path, lambda entries: entries.pop("provenance.json")),
        "it lacks .*provenance.json",
    ),
    "header without shapes": (
        lambda path: rewrite(path, edit_header(nodes=[{"path": [], "kind": "numbers"}])),
        "it lacks 'shape'",
    ),
    "header without a value": (
        lambda path: rewrite(path, edit_header(nodes=[])),
        "it has no value",
    ),
    "another type": (
        lambda path: rewrite(path, put("0.npy", np.eye(3, dtype=np.float32))),
        "array value is float32, but the header states float64",
    ),
    "another format": (
        lambda path: rewrite(path, edit_header(format="x")),
        "not a convlens baseline",
    ),
    "baseline of another key": (
        lambda path: rewrite(path, edit_header(key="other")),
        "it is the baseline of 'other'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_baseline_fails_with_its_path_and_a_remedy(place, damage):
    path = record(place, "k", np.eye(3))
    harm, reason = DAMAGES[damage]
    harm(path)
    found = compare_with_baseline(place, "k", observe(np.eye(3)))
    assert not found.passed
    assert str(path) in found.verdict
    assert "restore it from version control, or record it again" in found.verdict
    import re

    assert re.search(reason, found.verdict), found.verdict
    assert "\n" not in found.verdict
    assert update_baseline(place, observe(np.eye(3)), found, Recording("failed"))[1] == path
    assert passes(place, "k", np.eye(3))


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(1, "record it again with --convlens-update=failed"), (4, "upgrade convlens")],
)
def test_a_file_of_another_format_is_refused_in_one_sentence(place, version, remedy):
    path = record(place, "k", np.eye(3))
    rewrite(path, edit_header(version=version))
    found = compare_with_baseline(place, "k", observe(np.eye(3)))
    assert not found.passed
    assert found.message == (
        f"the baseline {path} has format version {version}, but this convlens reads version 3: "
        f"{remedy}."
    )
    assert update_baseline(place, observe(np.eye(3)), found, Recording("failed"))[1] == path
    assert passes(place, "k", np.eye(3))


def test_any_accepted_alternative_that_agrees_counts(place):
    """Two differ in one value each; the exact one must not lose to the first."""
    values = [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}, {"a": 5.0, "b": 3.0}]
    for value in values:
        record(place, "k", value, keep=True)
    for value in values:
        assert passes(place, "k", value)
    found = compare_with_baseline(place, "k", observe({"a": 5.0, "b": 3.1}))
    assert found.layers[0].passed  # the nearest one is shown
    assert "it is 3.1, but 3 in the baseline" in found.message
    place.find("k")[0].write_bytes(b"")
    assert passes(place, "k", values[1])


def test_an_alternative_is_added_once(place):
    record(place, "k", [1.0])
    observed = observe([2.0])
    before = compare_with_baseline(place, "k", observed)
    for _ in range(2):  # two workers compared it before either wrote
        found, _path = update_baseline(place, observed, before, Recording("failed", keep=True))
        assert found.passed
    assert len(place.find("k")) == 2
    record(place, "k", [1.0], keep=True)
    assert len(place.find("k")) == 2


def test_a_damaged_byte_never_changes_a_value_unnoticed(place):
    path = record(place, "k", np.arange(40.0))
    whole = path.read_bytes()
    failed = 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        found = compare_with_baseline(place, "k", observe(np.arange(40.0)))
        failed += not found.passed
        assert found.passed or str(path) in found.message
    assert failed > len(whole) / 7 / 2  # the others are metadata such as times, which are not used


def test_an_oversized_file_is_not_read(place):
    path = record(place, "k", [1.0])
    with path.open("r+b") as stream:
        stream.truncate(store.MAX_FILE_BYTES + 1)  # a sparse file, which takes no disk space
    with pytest.raises(BaselineFileError, match="exceeds the limit of"):
        read(path, "k")


def test_a_decompression_bomb_is_not_unpacked(place):
    path = record(place, "k", [1.0])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(5):
            archive.writestr(f"{number + 1}.npy", bytes(60 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(BaselineFileError, match="the archive unpacks to"):
        read(path, "k")


def test_the_error_for_an_unwritable_folder_says_what_to_do(tmp_path):
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*blocked.* make the folder of baselines"):
        assert_matches_baseline([1.0], tmp_path / "blocked", "k", update="missing")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may write to read-only folders, and so may anyone on Windows",
)
def test_the_error_for_a_read_only_folder_says_what_to_do(tmp_path):
    (tmp_path / "b").mkdir(mode=0o500)
    with pytest.raises(OSError, match="make the folder of baselines writable"):
        assert_matches_baseline([1.0], tmp_path / "b", "k", update="missing")


@pytest.mark.parametrize("number", range(3))
def test_a_full_disk_leaves_the_old_baseline_its_picture_and_its_text(place, monkeypatch, number):
    path = record(place, "k", np.eye(3))
    before = {each: each.read_bytes() for each in place.folder.iterdir()}
    writes, write_one = iter(range(9)), atomic._write

    def limited(path, content, durable):
        if next(writes) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_one(path, content, durable)

    monkeypatch.setattr(atomic, "_write", limited)
    with pytest.raises(OSError, match=r"No space left.*: make the folder of baselines writable"):
        record(place, "k", 2 * np.eye(3))
    assert {each: each.read_bytes() for each in place.folder.iterdir()} == before
    assert passes(place, "k", np.eye(3))
    assert record(place, "k", 2 * np.eye(3)) == path
    now = {each: each.read_bytes() for each in place.folder.iterdir()}
    assert now.keys() == before.keys()
    assert [each.suffix for each in now if now[each] == before[each]] == [".png"]  # same shades


def test_a_baseline_whose_files_could_not_all_be_renamed_still_fails(place, monkeypatch):
    path = record(place, "k", np.eye(3))

    def replace(source, target):
        if str(target) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.rename(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    with pytest.raises(OSError, match=r"cannot write .*npz"):
        record(place, "k", 2 * np.eye(3))
    monkeypatch.undo()
    assert passes(place, "k", np.eye(3))  # the file that counts is the old one
    assert not passes(place, "k", 2 * np.eye(3))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from convlens.baselines.store import Stored, write

path, value = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    value += 1
    write(path, Stored("k", "values", {"a": np.full(200_000, value % 250, np.uint8)}), b"", "")
"""


@pytest.mark.slow
def test_a_process_killed_during_a_write_leaves_a_complete_file(tmp_path):
    path = tmp_path / "k.npz"
    write(path, Stored("k", "values", {"a": np.zeros(200_000, np.uint8)}), b"", "")
    draw = np.random.default_rng(0)
    seen, cut_short = set(), 0
    for _ in range(200):
        if len(seen) > 3 and cut_short > 3:
            break
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(float(draw.uniform(0.005, 0.12)))
        process.kill()
        process.wait()
        process.stdout.close()
        values = read(path, "k").arrays["a"]
        assert len(set(values.tolist())) == 1
        seen.add(int(values[0]))
        leftovers = list(tmp_path.glob(".*.tmp"))
        cut_short += bool(leftovers)
        for leftover in leftovers:
            leftover.unlink()
    assert len(seen) > 3, "the processes were killed before they wrote anything"
    assert cut_short > 3, "no process was killed while it wrote"


def test_the_file_has_no_pickle_and_can_be_read_without_convlens(place):
    path = record(place, "k", {"a": np.eye(2), "b": "word"})
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("provenance.json"))
    assert header["key"] == "k"
    assert {"path": ["b"], "kind": "fact", "fact": "word"} in header["nodes"]
    assert header["provenance"]["environment"]["backend"] == "tensorflow"
    with np.load(path, allow_pickle=False) as data:
        assert (data["0"] == np.eye(2)).all()

"""Files that are not Keras models are refused in one sentence that names their format."""

from __future__ import annotations

import re
import shutil
import zipfile

import pytest

from convlens.files.formats import explain_folder, format_of


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as stream:
        for name in names:
            stream.writestr(name, "x")


CONTENTS = {
    "a TFLite model": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40)),
    "an ONNX model": lambda path: path.write_bytes(b"\x08\x08\x12\x04onnx"),
    "an .npz file of arrays": lambda path: archive(path, "a.npy", "b.npy"),
    "a PyTorch file": lambda path: archive(path, "net/data.pkl", "net/data/0"),
    "a ZIP archive of a SavedModel": lambda path: archive(path, "net/saved_model.pb"),
    r"a ZIP archive without config.json (it has 'a\x1b.txt', 'b', 'c' and 1 more)": (
        lambda path: archive(path, "a\x1b.txt", "b", "c", "d")
    ),
    "a ZIP archive with 'net/config.json' in a folder": (
        lambda path: archive(path, "net/config.json")
    ),
    "truncated, or not a Keras file": lambda path: path.write_bytes(b"nothing of the kind"),
}


@pytest.mark.parametrize("found", CONTENTS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_content_decides_what_a_file_is(tmp_path, found, suffix):
    path = tmp_path / f"model{suffix}"
    CONTENTS[found](path)
    kind, sentence = format_of(path)
    assert kind == "other"
    assert re.match(rf"{path} (could not be loaded: it )?is {re.escape(found)}", sentence)
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model.onnx", "an ONNX model"),
        ("model.pt", "a PyTorch file"),
        ("frozen.pb", "a TensorFlow graph"),
        ("saved_model.pb", "the graph of a SavedModel"),
        ("model.txt", "not a .keras file"),
    ],
)
def test_the_suffix_decides_where_the_content_does_not(tmp_path, name, found):
    (tmp_path / name).write_bytes(b"anything")
    assert f"{name} is {found}" in format_of(tmp_path / name)[1]


def test_folders_are_told_apart(tmp_path):
    for folder, file, found in (
        ("exported", "saved_model.pb", "is a SavedModel, a compiled graph"),
        ("unpacked.keras", "config.json", "is an unpacked .keras file"),
        ("models", "notes.txt", "is a folder: give the path of a .keras file in it"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"")
        assert f"{folder} {found}" in explain_folder(tmp_path / folder)
        assert format_of(tmp_path / folder) == ("other", explain_folder(tmp_path / folder))


def test_models_are_recognized_under_any_name(tiny, tmp_path):
    tiny.save(tmp_path / "m.keras")
    shutil.copy(tmp_path / "m.keras", tmp_path / "m.h5")
    (tmp_path / "h.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert [format_of(tmp_path / name) for name in ("m.keras", "m.h5", "h.keras")] == [
        ("keras", ""),
        ("keras", ""),
        ("hdf5", ""),
    ]

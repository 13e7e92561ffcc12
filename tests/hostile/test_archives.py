"""Hostile archives, arrays and models are refused with a message of one line."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convlens import ModelFileError, load_model
from convlens.engine.model import declared, loading
from convlens.files.archive import check_array, open_archive
from convlens.files.npz import read_npz


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="conv"), layers.Flatten(name="flat")]
    )
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Rewrite an archive with changed entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def with_config(change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def rewrite(entries: dict[str, bytes]) -> None:
        config = json.loads(entries["config.json"])
        change(config)
        entries["config.json"] = json.dumps(config).encode()

    return rewrite


def layer_of(config: Any, name: str) -> Any:
    return next(e for e in config["config"]["layers"] if e["config"].get("name") == name)


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as failed:
        load_model(path)
    message = str(failed.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_a_healthy_model_is_loaded(saved):
    assert load_model(saved).get_layer("conv").filters == 2


@pytest.mark.parametrize(
    "name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt", "a\x1b[31m"]
)
def test_entry_names_outside_the_folder_are_refused(saved, name):
    rewritten(saved, lambda entries: entries.update({name: b"x"}))
    assert "points outside its folder" in refused(saved)
    assert not (saved.parent.parent / "out.txt").exists()


def test_links_and_duplicate_entries_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "the entry 'link' is a link" in refused(saved)
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    assert "have the same name" in refused(saved)


def test_a_decompression_bomb_is_not_unpacked(saved):
    rewritten(saved, lambda entries: entries.update({"assets/zeros": bytes(2**24)}))
    assert saved.stat().st_size < 2**17
    with pytest.raises(ValueError, match=r"unpacks to 16.* more than the limit of 1048576"):
        open_archive(saved, max_bytes=2**20)
    # The limit applies to the size in the directory of the archive.
    open_archive(saved, max_bytes=2**25).close()


def test_too_many_entries_are_refused(saved, monkeypatch):
    monkeypatch.setattr("convlens.files.archive.MAX_ENTRIES", 2)
    assert "the archive has 3 entries, more than 2" in refused(saved)


def test_layers_with_more_weights_than_the_file_are_refused(saved):
    resource = pytest.importorskip("resource", reason="needs POSIX's limits of a process")

    def grow(config: Any) -> None:
        layer_of(config, "conv")["config"]["filters"] = 4_000_000_000

    rewritten(saved, with_config(grow))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    assert "declare 160000000000 bytes of weights, but the file has" in refused(saved)
    assert resource.getrlimit(resource.RLIMIT_AS) == limit


def test_a_layer_with_a_huge_output_is_refused(saved):
    def blow(config: Any) -> None:
        config["config"]["layers"].append(
            {
                "module": "keras.layers",
                "class_name": "UpSampling2D",
                "config": {"name": "up", "size": [100_000, 100_000]},
                "registered_name": None,
            }
        )
        flat = config["config"]["layers"].pop(2)
        assert flat["config"]["name"] == "flat"

    rewritten(saved, with_config(blow))
    assert "the output of layer 'up' for one image" in refused(saved)


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "x" * 501])
def test_unprintable_and_long_layer_names_are_refused(saved, name):
    def rename(config: Any) -> None:
        layer_of(config, "conv")["config"]["name"] = name

    rewritten(saved, with_config(rename))
    message = refused(saved)
    assert "printable characters" in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"null", b"{}", b"\xff"]
)
def test_configurations_without_a_model_are_refused(saved, content):
    rewritten(saved, lambda entries: entries.update({"config.json": content}))
    refused(saved)


def test_a_large_configuration_is_refused(saved, monkeypatch):
    monkeypatch.setattr(declared, "_MAX_CONFIG_BYTES", 10)
    assert "config.json is larger than 10 bytes" in refused(saved)


@pytest.mark.parametrize(
    "config",
    [
        {"module": "os", "class_name": "system", "config": {"command": "touch ran"}},
        {"module": "builtins", "class_name": "exec", "config": "open('ran', 'w')"},
        {
            "module": "keras.config",
            "class_name": "enable_unsafe_deserialization",
            "config": {},
        },
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAAAAA="}}},
        },
    ],
)
@pytest.mark.parametrize("where", ["whole", "layer"])
def test_no_code_is_run(saved, config, where, monkeypatch):
    monkeypatch.chdir(saved.parent)
    entry = {"registered_name": None, **config}

    def plant(own: Any) -> None:
        if where == "whole":
            own.clear()
            own.update(entry)
        else:
            own["config"]["layers"].append(entry)

    rewritten(saved, with_config(plant))
    refused(saved)
    assert not Path("ran").exists()
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x)])
    model.save("lambda.keras")
    assert "Lambda" in refused(Path("lambda.keras"))  # safe mode is still on


def weights_of(path: Path, change: Callable[[Any], None]) -> None:
    import h5py

    def rewrite(entries: dict[str, bytes]) -> None:
        content = io.BytesIO(entries["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change(file)
        entries["model.weights.h5"] = content.getvalue()

    rewritten(path, rewrite)


@pytest.mark.parametrize("kind", ["soft", "external", "storage", "virtual"])
def test_weights_outside_the_file_are_refused(saved, kind):
    import h5py

    other = saved.parent / "secret.h5"
    with h5py.File(other, "w") as file:
        file["kernel"] = np.zeros((3, 3, 1, 2), np.float32)
    (saved.parent / "secret.bin").write_bytes(bytes(72))

    def link(file: Any) -> None:
        variables = file["layers/conv2d/vars"]
        del variables["0"]
        if kind == "soft":
            variables["0"] = h5py.SoftLink("/layers/conv2d/vars/1")
        elif kind == "external":
            variables["0"] = h5py.ExternalLink(str(other), "kernel")
        elif kind == "storage":
            where = [(str(saved.parent / "secret.bin"), 0, 72)]
            variables.create_dataset("0", (3, 3, 1, 2), np.float32, external=where)
        else:
            layout = h5py.VirtualLayout((3, 3, 1, 2), np.float32)
            layout[:] = h5py.VirtualSource(str(other), "kernel", (3, 3, 1, 2))
            variables.create_virtual_dataset("0", layout)

    weights_of(saved, link)
    message = refused(saved)
    assert "a link to another place" in message or "stored in another file" in message


def test_an_old_version_of_keras_is_refused(saved, monkeypatch):
    for old in ("3.13.2", "3.14.1", "3.15.0"):
        monkeypatch.setattr(keras, "__version__", old)
        with pytest.raises(ModelFileError, match=r"pip install -U 'keras>=3\.15\.1'"):
            load_model(saved)
    for fine in ("3.15.1", "3.16.0", "4.0.0"):
        loading._check_keras(fine)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_pipes_are_refused_without_waiting(tmp_path):
    for name in ("pipe.keras", "pipe.npz"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ModelFileError, match=r"give the path of a \.keras file"):
        load_model(tmp_path / "pipe.keras")
    with pytest.raises(ValueError, match="not a regular file"):
        read_npz(tmp_path / "pipe.npz")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("(10000000000, 10000)"), "declares 400000000000000 bytes"),
        (header("(3,)") + bytes(4), "declares 12 bytes|cannot be read"),
        (header("(-3,)") + bytes(40), "declares"),
        (header("(1,)", "'|O'") + b"cos\nsystem\n(S'touch ran'\ntR.", "pickled objects"),
        (header("(1,)", "__import__('os')"), "descr|malformed|Cannot parse"),
        (b"\x93NUMPY\x09\x00" + bytes(99), "version"),
        (b"nothing of the kind", "magic"),
        (b"", "EOF|read"),
    ],
)
def test_arrays_with_false_headers_are_refused(tmp_path, content, message):
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(ValueError, match=message) as failed:
        read_npz(path)
    assert "\n" not in str(failed.value)


def test_a_healthy_array_passes(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((9, 99)), labels=np.arange(9))
    found = read_npz(tmp_path / "a.npz")
    assert found["images"].shape == (9, 99)
    np.testing.assert_array_equal(found["labels"], np.arange(9))
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    stream.seek(0)
    check_array(stream, len(stream.getvalue()))


@pytest.mark.slow
def test_a_model_larger_than_memory_is_refused(saved):
    """A process that may have 1 GiB more than it has refuses, and is not killed."""
    pytest.importorskip("resource", reason="needs POSIX's limits of a process")

    def grow(config: Any) -> None:
        layer_of(config, "conv")["config"]["filters"] = 400_000_000

    rewritten(saved, with_config(grow))
    code = (
        "import sys, resource, psutil, convlens, keras\n"
        "from convlens import load_model\n"
        "has = psutil.Process().memory_info().vms\n"
        "resource.setrlimit(resource.RLIMIT_AS, (has + 2**30, has + 2**30))\n"
        "try: load_model(sys.argv[1])\n"
        "except convlens.ModelFileError as error: print('refused:', error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True
    )
    assert "declare 16000000000 bytes of weights" in run.stdout


def test_pretrained_weights_that_link_to_another_file_are_refused(tmp_path):
    import h5py

    from convlens.fixtures._weights import load_weights

    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="conv")])
    model.save_weights(tmp_path / "net.weights.h5")
    load_weights(model, tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "net.weights.h5", "r+") as file:
        file["layers/more"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(ValueError, match=r"net\.weights\.h5 cannot be read .* a link to another"):
        load_weights(model, tmp_path / "net.weights.h5")

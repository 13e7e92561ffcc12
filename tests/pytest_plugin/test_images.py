"""Images of a folder are read as `read_image` reads them; folders of classes give labels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from convlens import Lens, read_image
from convlens.checks.battery import BATTERY
from convlens.checks.check import Effort
from convlens.pytest_plugin import images as module
from convlens.pytest_plugin.images import read_images

RGB = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
DEEP = np.linspace(0, 65535, 24 * 24).reshape(24, 24).astype(np.uint16)


def folder_of(place: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB ^ np.uint8(number)).save(path)
    return place


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PICTURES = {
    "16_bits": (Image.fromarray(DEEP), {}),
    "32_bits": (Image.fromarray(DEEP.astype(np.int32)), {"format": "TIFF"}),
    "rotated": (Image.fromarray(RGB), {"exif": rotated()}),
    "transparent": (Image.fromarray(np.dstack([RGB, RGB[..., 0]])), {}),
    "gray-transparent": (Image.fromarray(RGB).convert("LA"), {}),
    "palette": (Image.fromarray(RGB).convert("P"), {}),
    "palette-transparent": (Image.fromarray(RGB).convert("P"), {"transparency": 3}),
    "cmyk": (Image.fromarray(RGB).convert("CMYK"), {"format": "TIFF"}),
    "gray": (Image.fromarray(RGB[..., 0]), {}),
    "bilevel": (Image.fromarray(RGB).convert("1"), {}),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_a_folder_are_read_as_read_image_reads_them(tmp_path, kind, channels):
    picture, options = PICTURES[kind]
    file = tmp_path / ("p.tif" if options.get("format") == "TIFF" else "p.png")
    picture.save(file, **options)
    found = read_images(str(tmp_path), (24, 24, channels))
    want = read_image(file)
    if channels == 1:
        want = want @ np.array([[0.299], [0.587], [0.114]], np.float32)
    assert found.images.dtype == np.float32
    np.testing.assert_allclose(found.images, want[None], atol=1e-6)


def test_pictures_of_16_bits_keep_their_shades_when_they_are_resized(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "p.png")
    found = read_images(str(tmp_path), (12, 12, 1), (-1.0, 1.0)).images
    assert abs(found.mean()) < 0.01
    assert len(np.unique(np.round(found, 4))) > 100


def test_pictures_that_are_not_resized_keep_their_values(tmp_path):
    folder_of(tmp_path, "0.png")
    found = read_images(str(tmp_path), (24, 24, 3), (0.0, 255.0))
    np.testing.assert_allclose(found.images[0], RGB, atol=1e-4)
    assert found.labels is None
    assert found.source == f"1 from {tmp_path}"


def test_class_folders_are_images_with_labels(tmp_path):
    """The classes are numbered as Keras numbers them; what is hidden or no picture is ignored."""
    folder_of(tmp_path, *(f"{name}/{k}.png" for name in ("dogs", "cats", "eels") for k in range(3)))
    folder_of(tmp_path, ".hidden/0.png", "cats/.thumb.png", "cats/.cache/0.png")
    (tmp_path / "labels.csv").write_text("a,b")
    (tmp_path / "cats" / "notes.txt").write_text("")
    (tmp_path / "birds").mkdir()
    found = read_images(str(tmp_path), (24, 24, 3))
    assert found.images.shape == (9, 24, 24, 3)
    assert found.labels.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.source == f"9 from {tmp_path}; classes: 0 birds, 1 cats, 2 dogs, 3 eels"
    np.testing.assert_allclose(found.images[0], (RGB ^ np.uint8(3)) / 255, atol=1e-6)
    import keras

    same = keras.utils.image_dataset_from_directory(tmp_path, image_size=(24, 24), shuffle=False)
    assert same.class_names == ["birds", "cats", "dogs", "eels"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0.png", "cats/0.png"], "it holds pictures, and so does its folder 'cats'"),
        (["0.png", "cats/small/0.png"], "it holds pictures, and so does its folder 'cats'"),
        (["cats/0.png", "cats/small/0.png"], "pictures lie in cats.small, one folder too deep"),
        (["train/cats/0.png"], "pictures lie in train.cats, one folder too deep"),
        ([".cats/0.png"], "the folder holds no picture"),
    ],
)
def test_folders_that_are_neither_pictures_nor_class_folders(tmp_path, names, message):
    folder_of(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        read_images(str(tmp_path), (24, 24, 3))


def test_a_folder_without_pictures_beside_pictures_is_ignored(tmp_path):
    folder_of(tmp_path, "0.png", "1.png")
    (tmp_path / "notes").mkdir()
    assert len(read_images(str(tmp_path), (24, 24, 3)).images) == 2


def test_of_a_large_folder_evenly_spaced_pictures_are_read(tmp_path, monkeypatch):
    folder_of(tmp_path, *(f"{name}/{k:03}.png" for name in "abcd" for k in range(10)))
    monkeypatch.setattr(module, "MAX_PICTURES", 8)
    found = read_images(str(tmp_path), (24, 24, 3))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.source.startswith(f"8 of 40 from {tmp_path}, evenly spaced; classes: 0 a, ")
    monkeypatch.setattr(module, "MAX_VALUES", 5 * 24 * 24 * 3)
    assert len(read_images(str(tmp_path), (24, 24, 3)).images) == 5


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"--convlens-images: \S+2\.png is not a picture"):
        read_images(str(tmp_path), (24, 24, 3))
    (tmp_path / "2.png").unlink()
    Image.fromarray(np.full((4, 4), 7.0, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match=r"f\.tif: the picture's values range from 7 to 7"):
        read_images(str(tmp_path), (24, 24, 3))


def test_an_npz_with_other_names_is_told_the_right_ones(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=np.zeros((2, 3)), classes=np.zeros(2))
    with pytest.raises(
        ValueError,
        match=r"it has pixels \(2, 3\), classes \(2,\), but no array of images, which must be "
        r"named 'images', 'x' or 'x_test' \(and labels 'labels', 'y' or 'y_test'\)",
    ):
        read_images(str(tmp_path / "a.npz"), (24, 24, 3))


ONE = np.random.default_rng(1).random((1, 13, 13, 2), dtype=np.float32)
TWO = np.random.default_rng(2).random((2, 13, 13, 2), dtype=np.float32)
FEW = {
    "one_image": (ONE, None),
    "one_image-labeled": (ONE, [1]),
    "same": (np.repeat(ONE, 4, axis=0), None),
    "same-labeled": (np.repeat(ONE, 4, axis=0), [0, 1, 2, 0]),
    "two": (TWO, None),
    "two-first-same": (np.concatenate([ONE, ONE, TWO]), None),
    "one-class": (np.concatenate([ONE, TWO]), [2, 2, 2]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        *("one_image", "one_image-labeled", "two"),
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("same", "same-labeled", "two-first-same", "one-class")
        ),
    ],
)
def test_with_one_image_every_check_runs_or_is_skipped_with_its_reason(tiny_network, given):
    images, labels = FEW[given]
    lens = Lens(tiny_network, images, labels)
    skipped, failed = {}, set()
    for check in BATTERY:
        for layer in check.layers(lens, Effort()):
            reason = check.reason_to_skip(lens, layer)
            if reason:
                skipped[check.name] = reason
            elif check.name not in ("ascent", "classes", "style"):  # which look at no image
                seen = check.run(lens, layer, Effort())
                check.measures(seen)
                try:
                    check.verdict(seen)
                except AssertionError:
                    failed.add(check.name)
                for make in check.figures(lens, layer, seen).values():
                    make()
    assert failed <= {"accuracy", "dead"}  # the network is random, and knows no class
    alone = given.startswith(("one_image", "same"))
    assert ("deconvnet" in skipped) == alone
    assert ("repeatable" in skipped) == given.startswith("one_image")
    if alone:
        assert "at least two images that differ are needed" in skipped["deconvnet"]


def test_distinct_images_are_of_each_class_first(tiny_network):
    images = np.concatenate([ONE, ONE, TWO, ONE])
    assert list(Lens(tiny_network, images).distinct_images(4)) == [0, 2, 3]
    assert list(Lens(tiny_network, images, [0, 0, 0, 1, 2]).distinct_images(4)) == [0, 3, 2]
    assert list(Lens(tiny_network, images).distinct_images(1)) == [0]


def test_series_are_assumed_to_lie_about_0(pytester):
    """A filter that answers to negative values alone is not dead."""
    conv = layers.Conv1D(2, 3, activation="relu", use_bias=False, name="conv")
    model = keras.Sequential([keras.Input((20, 1)), conv, layers.Flatten(), layers.Dense(2)])
    conv.set_weights([np.ones((3, 1, 2), np.float32) * [1, -1]])
    model.save(pytester.path / "ecg.keras")
    result = pytester.runpytest("ecg.keras", "-k", "dead")
    assert result.parseoutcomes()["passed"] == 1
    result = pytester.runpytest("ecg.keras", "-k", "dead", "--convlens-range=0,1")
    result.stdout.fnmatch_lines(["*1 of 2 are dead, units 1*"])

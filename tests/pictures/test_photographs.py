"""Pictures of all formats become RGB with values in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convlens import read_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_a_file_is_its_pixels(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "p.png")
    got = read_image(tmp_path / "p.png")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, RGB / np.float32(255))


@pytest.mark.parametrize(
    "array",
    [RGB[..., 0], RGB[..., :1], RGB[..., 0].astype(np.uint16) * 257, RGB[..., 0] / 255.0],
    ids=["uint8", "one-channel", "uint16", "float64"],
)
def test_gray_arrays_become_rgb(array):
    want = np.repeat(RGB[..., :1] / np.float32(255), 3, axis=-1)
    np.testing.assert_allclose(read_image(array), want, atol=1e-6)


def test_sixteen_bit_gray_pictures_keep_their_depth(tmp_path):
    deep = (np.arange(54, dtype=np.uint16).reshape(6, 9) + 30000) * np.uint16(1)
    Image.fromarray(deep).save(tmp_path / "p.png")
    np.testing.assert_allclose(read_image(tmp_path / "p.png")[..., 0], deep / 65535, atol=1e-7)


def test_transparency_lies_on_white(tmp_path):
    alpha = np.full((6, 9, 1), 64, np.uint8)
    rgba = np.concatenate([RGB, alpha], axis=-1)
    Image.fromarray(rgba).save(tmp_path / "p.png")
    share = 64 / 255
    want = RGB / 255 * share + 1 - share
    np.testing.assert_allclose(read_image(tmp_path / "p.png"), want, atol=1.5 / 255)
    np.testing.assert_allclose(read_image(rgba), want, atol=1e-6)


def test_a_palette_with_a_transparent_entry_lies_on_white(tmp_path):
    picture = Image.fromarray(np.zeros((4, 4), np.uint8), mode="P")
    picture.putpalette([10, 20, 30] * 256)
    picture.save(tmp_path / "p.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.ones((4, 4, 3)))


def test_a_photograph_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(RGB).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "p.png"), np.rot90(RGB, -1) / np.float32(255)
    )


def test_size_is_the_longest_side():
    assert read_image(RGB, size=18).shape == (12, 18, 3)
    small = read_image(RGB, size=3)
    assert small.shape == (2, 3, 3)
    assert small.min() >= 0
    assert small.max() <= 1


def test_a_bomb_is_not_opened(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "p.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match="more pixels than Pillow opens safely"):
        read_image(tmp_path / "p.png")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png is not a picture"):
        read_image(tmp_path / "text.png")
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.png cannot be read"):
        read_image(tmp_path / "cut.png")
    with pytest.raises(ValueError, match=r"none\.png cannot be read .*No such file"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 2)), r"not \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3)), r"not \(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3)), r"not \(0, 4, 3\)"),
        (np.full((4, 4, 3), 2.0), "range from 2 to 2: give uint8, or floats from 0 to 1"),
        (np.full((4, 4, 3), np.nan), "not finite"),
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16 or float, not int64"),
    ],
)
def test_invalid_arrays_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        read_image(array)


def test_a_size_below_one_pixel_is_refused():
    with pytest.raises(ValueError, match="size must be at least 1 pixel, not 0"):
        read_image(RGB, size=0)

"""Grids, color maps, sheets and files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from convlens.pictures import (
    curves,
    deprocess,
    feature_map_pixels,
    grid,
    heat_map,
    save_gif,
    save_png,
    sheet,
    signed_pixels,
    slug,
    stretched_pixels,
    viridis,
)
from convlens.pictures.sheet import fit, font
from convlens.pictures.ticks import ticks

FINITE = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-99, 99, width=32),
)


def stretched(image):
    return stretched_pixels(image, (0.0, 1.0))


@pytest.mark.parametrize(("count", "size"), [(8, (61, 127)), (10, (94, 127))])
def test_a_grid_of_28_by_28_images_in_four_columns(count, size):
    assert grid(np.zeros((count, 28, 28), np.uint8), 4).shape == size


@settings(deadline=None)
@given(st.integers(1, 13), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
def test_a_grid_holds_each_image_and_black_margins(n, columns, h, w):
    images = np.random.default_rng(n).integers(1, 255, (n, h, w, 3), dtype=np.uint8)
    page = grid(images, columns)
    left = page.copy()
    for i, image in enumerate(images):
        y, x = i // min(columns, n) * (h + 5), i % min(columns, n) * (w + 5)
        np.testing.assert_array_equal(page[y : y + h, x : x + w], image)
        left[y : y + h, x : x + w] = 0
    assert not left.any()


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a grid needs images"):
        grid(np.zeros((0, 2, 2), np.uint8), 4)
    with pytest.raises(ValueError, match="columns must be at least 1"):
        grid(np.zeros((1, 2, 2), np.uint8), 0)


def test_a_feature_map_is_normalized_by_the_formula():
    values = np.random.default_rng(0).standard_normal((6, 7))
    expected = np.clip((values - values.mean()) / values.std() * 64 + 128, 0, 255)
    assert np.abs(feature_map_pixels(values) - expected).max() <= 0.5


def test_an_optimized_image_is_stretched_from_its_1st_to_its_99th_percentile():
    values = np.random.default_rng(0).standard_normal((40, 50, 3)) * 0.1 + [0.4, 0.5, 0.6]
    low, high = np.percentile(values, [1, 99])  # of all channels together
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    assert np.abs(stretched_pixels(values, (0.0, 1.0)) - expected).max() <= 0.5
    assert (stretched_pixels(values, (0.0, 1.0)) == 255).mean() == pytest.approx(0.01, abs=0.005)


def test_an_optimized_image_that_hardly_varies_looks_flat():
    noise = np.random.default_rng(0).uniform(-1, 1, (40, 50, 1))
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        middle, span = (low + high) / 2, high - low
        flat = stretched_pixels(middle + 0.02 * span * noise, (low, high))
        assert np.abs(flat.astype(int) - 128).max() <= 6
        assert np.ptp(stretched_pixels(middle + 0.06 * span * noise, (low, high))) == 255
    spot = np.zeros((40, 50, 1))
    spot[3, 4] = 1.0  # fewer pixels than a percent
    assert np.ptp(stretched_pixels(spot, (0.0, 1.0))) == 255


def test_an_image_of_keras_vis_is_shown_by_its_formula():
    values = np.random.default_rng(0).standard_normal((6, 7, 3))
    expected = np.clip((values - values.mean()) / values.std() * 0.1 + 0.5, 0, 1) * 255
    assert np.abs(deprocess(values) - expected).max() <= 0.5


@settings(deadline=None)
@given(FINITE)
def test_any_finite_map_can_be_shown(values):
    for show in (feature_map_pixels, deprocess, stretched, signed_pixels):
        pixels = show(values)
        assert pixels.dtype == np.uint8
        assert pixels.shape == values.shape
    if np.ptp(values) == 0:
        assert not feature_map_pixels(values).any()


def test_a_reconstruction_has_zero_in_the_middle():
    assert signed_pixels(np.array([[-2.0, 0.0, 1.0]])).tolist() == [[1, 128, 192]]


@pytest.mark.parametrize("show", [feature_map_pixels, deprocess, stretched, signed_pixels])
def test_what_is_not_finite_cannot_be_shown(show):
    with pytest.raises(ValueError, match="finite values"):
        show(np.array([[1.0, np.nan]]))


def test_viridis_runs_from_purple_to_yellow_and_gets_lighter():
    colors = viridis(np.arange(256)).astype(float)
    assert colors[0].tolist() == [68, 1, 84]
    assert colors[-1].tolist() == [253, 231, 37]
    assert colors[128] == pytest.approx([33, 145, 140], abs=2)
    lightness = colors @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -0.5).all()


def test_a_sheet_of_64_units_fits_a_laptops_screen():
    page = sheet(np.zeros((64, 28, 28), np.uint8), [str(i) for i in range(64)], "title", "more")
    assert page.width <= 1400
    assert page.height <= 950
    assert page.width >= 8 * 64


@pytest.mark.slow
def test_a_sheet_shows_images_scaled_without_smoothing():
    image = np.random.default_rng(0).integers(0, 255, (2, 7, 7, 3), dtype=np.uint8)
    page = np.asarray(sheet(image, ["0", "1"], "t", cell=70))
    block = np.kron(image[1].transpose(2, 0, 1), np.ones((10, 10), np.uint8)).transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(page, (70, 70, 3))[:, :, 0]
    assert (windows == block).all(axis=(2, 3, 4)).any()


def test_labels_are_drawn_outside_the_images():
    white = np.full((1, 20, 20), 255, np.uint8)
    with_label = np.asarray(sheet(white, ["12345"], "t", cell=100))
    without = np.asarray(sheet(white, [""], "t", cell=100))
    rows = np.flatnonzero((with_label != without).any(axis=(1, 2)))
    assert len(rows)
    assert rows.max() < with_label.shape[0] - 100  # above the image's first row


def test_the_slices_of_a_volume_are_large_enough_to_see():
    strip = np.full((1, 12, 5 * 13 - 1), 128, np.uint8)
    page = np.asarray(sheet(strip, ["0"], "t"))
    rows, columns = np.nonzero((page == 128).all(axis=-1))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (48, 4 * (5 * 13 - 1))


def test_long_text_is_shortened_to_fit():
    text = fit("a very long layer name " * 9, 14, 200)
    assert text.endswith("…")
    assert font(14).getlength(text) <= 200
    assert fit("short", 14, 200) == "short"


@pytest.mark.parametrize("shape", [(2, 4, 4, 2), (2, 4), (0, 4, 4)])
def test_a_sheet_of_something_else_is_refused(shape):
    with pytest.raises(ValueError, match="sheet"):
        sheet(np.zeros(shape, np.uint8), [""] * shape[0], "t")


def test_charts_draw_each_series_and_many_with_a_median():
    few = np.asarray(curves({"a": [0, 1, 4]}, [0, 1, 2], "t", x_label="x", y_label="y"))
    assert (few == (31, 119, 180)).all(axis=2).sum() > 300
    many = {str(i): [0, i, 2 * i] for i in range(12)}
    page = np.asarray(curves(many, [0, 1, 2], "t", x_label="x", y_label="y"))
    assert (page == (170, 190, 215)).all(axis=2).sum() > 300
    with pytest.raises(ValueError, match="finite positions"):
        curves({"a": [0, 1]}, [0, np.nan], "t", x_label="x", y_label="y")
    with pytest.raises(ValueError, match="as long as x"):
        curves({"a": [0]}, [0, 1], "t", x_label="x", y_label="y")


@pytest.mark.parametrize("many", [False, True])
def test_values_that_are_not_finite_are_gaps_of_a_chart(many):
    def columns(values):
        """Return the columns of the chart's area that have a pixel of the line."""
        series = {str(i): values for i in range(12 if many else 1)}
        page = curves(series, range(len(values)), "t", x_label="x", y_label="y")
        color = (20, 20, 20) if many else (31, 119, 180)
        drawn = (np.asarray(page)[110:400, 95:735] == color).all(axis=2).any(axis=0)
        return set(np.flatnonzero(drawn).tolist())

    whole = columns([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    gap = columns([0.0, 1.0, np.nan, np.inf, 4.0, 5.0, 6.0])
    assert len(whole) > 500
    assert 200 < len(gap) < 300
    assert gap < whole
    alone = columns([np.nan, -np.inf, 3.0, np.nan, 1e308, -1e308, np.nan])
    assert 0 < len(alone) < 12
    assert columns([np.nan] * 3) == set()


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 0), (-1e300, 1e300), (0, 5e-324), (1e16, 1e16 + 2), (-3e38, 3e38), (7, 7), (-2e-310, 0)],
)
def test_ticks_enclose_any_finite_range(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert found[0] <= low + 1e-6 * abs(low) + 1e-300
    assert high - 1e-6 * abs(high) - 1e-300 <= found[-1]
    assert found == sorted(set(found))


def test_ticks_refuse_what_cannot_be_drawn():
    for bad in (np.nan, np.inf, 1e301):
        with pytest.raises(ValueError, match="an axis needs finite limits"):
            ticks(0.0, bad)


def test_a_heat_map_shows_its_extremes():
    page = np.asarray(heat_map(np.arange(16).reshape(4, 4), "t"))
    for color in ((68, 1, 84), (253, 231, 37)):
        assert (page == color).all(axis=2).sum() > 1000
    with pytest.raises(ValueError, match="matrix of finite values"):
        heat_map(np.zeros(3), "t")


@settings(deadline=None)
@given(st.text(max_size=120))
def test_a_name_cannot_leave_its_folder(name):
    made = slug(name)
    assert made
    assert not set(made) & set('/\\:*?"<>|\0')
    assert made not in (".", "..")
    assert len(made) <= 90
    assert made.isascii()


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_different_names_stay_different(one, two):
    if one != two:
        assert slug(one) != slug(two)


@pytest.mark.parametrize("name", ["conv2d_1", "inner.conv", "block3-conv4"])
def test_safe_names_stay_as_they_are(name):
    assert slug(name) == name


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "con", "é", ".hidden", "x" * 200])
def test_other_names_are_changed_and_marked(name):
    assert "~" in slug(name)


def test_saving_is_all_or_nothing(tmp_path):
    class Broken(Image.Image):
        def save(self, stream, **_):
            stream.write(b"half")
            raise KeyboardInterrupt

    path = tmp_path / "a" / "b.png"
    save_png(Image.new("RGB", (2, 2), (1, 2, 3)), path)
    with pytest.raises(KeyboardInterrupt):
        save_png(Broken(), path)
    assert [p.name for p in path.parent.iterdir()] == ["b.png"]
    with Image.open(path) as picture:
        assert picture.getpixel((0, 0)) == (1, 2, 3)


def test_pictures_and_animations_are_written_to_a_path_given_as_text(tmp_path):
    save_png(Image.new("L", (2, 2)), f"{tmp_path}/a/b.png")
    save_gif([np.full((4, 4, 3), v) for v in (0.0, 0.5, 1.0)], f"{tmp_path}/a/b.gif")
    with Image.open(tmp_path / "a" / "b.png") as picture:
        assert picture.size == (2, 2)
    with Image.open(tmp_path / "a" / "b.gif") as animation:
        assert animation.n_frames == 3


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file"):
        save_png(Image.new("L", (1, 1)), tmp_path / "file" / "x.png")

"""Style transfer of sounds: the style's tones at the content's timing."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import (
    Sound,
    SoundInterrupted,
    assert_style_closer,
    assert_style_transfer_converges,
    read_sound,
    save_sound,
    sound_network,
    transfer_sound,
    transfer_style,
)
from convlens.drawings import draw_sounds
from convlens.style.sound import SpectrogramTransform

RATE, WINDOW, HOP = 8000, 256, 64
OPTIONS = {"rate": None, "window": WINDOW, "hop": HOP, "filters": 512, "steps": 100}
BINS = WINDOW // 2 + 1


@pytest.fixture(scope="module")
def beats():
    """Return a tone of 440 Hz, alternately on and off for a quarter of a second."""
    t = np.arange(2 * RATE) / RATE
    return Sound((0.5 * np.sin(2 * np.pi * 440 * t) * (t * 4 % 2 < 1)).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def texture():
    """Return continuous tones of 1800 and 2600 Hz with a tremolo of 13 Hz."""
    t = np.arange(int(1.5 * RATE)) / RATE
    tones = np.sin(2 * np.pi * 1800 * t) + np.sin(2 * np.pi * 2600 * t)
    return Sound((0.3 * tones * (0.6 + 0.4 * np.sin(2 * np.pi * 13 * t))).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def result(beats, texture):
    return transfer_sound(beats, texture, **OPTIONS)


def power(sound):
    """Return the share of a sound's power at each frequency (bins,)."""
    each = (np.abs(SpectrogramTransform(WINDOW, HOP)(sound.samples)) ** 2).mean(axis=0)
    return each / each.sum()


def loudness(sound):
    return np.abs(SpectrogramTransform(WINDOW, HOP)(sound.samples)).sum(axis=1)


@pytest.mark.slow
def test_the_styles_spectrum_comes_at_the_contents_timing(result, beats, texture):
    """Assert that the result has the content's timing and the style's tones."""
    assert len(result.sound.samples) == len(beats.samples)
    assert result.sound.rate == RATE
    of_result, of_content, of_style = (power(s) for s in (result.sound, beats, texture))
    assert np.abs(of_result - of_style).sum() < 0.2 * np.abs(of_content - of_style).sum()
    in_time = np.corrcoef(loudness(result.sound), loudness(beats))[0, 1]
    assert in_time > 0.6
    in_pauses = loudness(result.sound)[loudness(beats) < 0.1 * loudness(beats).max()].mean()
    assert in_pauses < 0.5 * loudness(result.sound).mean()


@pytest.mark.slow
def test_swapped_sounds_would_be_noticed(beats, texture):
    swapped = transfer_sound(texture, beats, **OPTIONS)
    of_result, of_content, of_style = (power(s) for s in (swapped.sound, beats, texture))
    assert np.abs(of_result - of_style).sum() > 0.2 * np.abs(of_content - of_style).sum()


def test_the_assertions_hold_and_the_swapped_pair_is_noticed(result):
    network = sound_network(BINS, filters=512)
    assert list(assert_style_closer(network, result.transfer)) == ["wide"]
    style, content = (t[:, 0] for t in (result.transfer.styles[0], result.transfer.content))
    pair = {"content": content, "style": style}
    assert_style_closer(network, result.transfer, **pair)
    assert_style_transfer_converges(network, result.transfer, **pair)
    swapped = {"content": np.concatenate([style, style])[: len(content)], "style": content}
    with pytest.raises(AssertionError, match=r"term 'content:wide' is .* but the trace says"):
        assert_style_transfer_converges(network, result.transfer, **swapped)
    with pytest.raises(ValueError, match="not of the aspect of the result"):
        assert_style_closer(network, result.transfer, content=style)


def test_the_spectrogram_that_was_found_is_heard(result):
    found = np.abs(SpectrogramTransform(WINDOW, HOP)(result.sound.samples))
    wanted = np.expm1(result.transfer.image[:, 0].astype(np.float64) * result.peak)
    assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(wanted)


def test_from_files_to_files(beats, texture, tmp_path):
    for name, sound in (("beats", beats), ("texture", texture)):
        save_sound(sound, tmp_path / f"{name}.wav")
    options = OPTIONS | {"steps": 3, "filters": 64, "rate": 4000, "phase_iterations": 2}
    found = transfer_sound(tmp_path / "beats.wav", tmp_path / "texture.wav", **options)
    save_sound(found.sound, tmp_path / "result.wav")
    again = read_sound(tmp_path / "result.wav")
    assert again.rate == 4000
    assert again.seconds == beats.seconds


def test_the_weights_come_from_the_seed():
    one, same, other = (
        sound_network(9, filters=4, width=3, seed=s).get_weights()[0] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    wide = sound_network(129, filters=256).get_weights()[0]
    assert wide.std() == pytest.approx(2 / np.sqrt(11 * (129 + 256)), rel=0.02)


def test_the_picture_shows_the_three_spectrograms(result):
    page = draw_sounds(result).image()
    assert page.width > 3 * 256
    assert len(np.unique(np.asarray(page).reshape(-1, 3), axis=0)) > 50


@pytest.mark.slow
@pytest.mark.parametrize("where", ["descent", pytest.param("phase", marks=pytest.mark.slow)])
def test_ctrl_c_keeps_the_best_sound(beats, texture, monkeypatch, where):
    def stop(done, total, losses):
        if where == "descent" and done == 4:
            raise KeyboardInterrupt

    if where == "phase":
        calls = []
        inverse = SpectrogramTransform.inverse

        def stopped(self, *args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return inverse(self, *args)

        monkeypatch.setattr(SpectrogramTransform, "inverse", stopped)
    with pytest.raises(SoundInterrupted, match="the best image of") as caught:
        transfer_sound(beats, texture, **OPTIONS | {"steps": 6, "filters": 64}, progress=stop)
    sounds = caught.value.sounds
    assert sounds.transfer is caught.value.result
    assert np.isfinite(sounds.sound.samples).all()
    assert np.abs(sounds.sound.samples).max() > 0.01


@pytest.mark.parametrize(
    ("content", "style", "message"),
    [
        (Sound(np.zeros(RATE, np.float32), RATE), None, "the content is silent"),
        (None, Sound(np.zeros(RATE, np.float32), RATE), "the style is silent"),
        (None, Sound(np.ones(400, np.float32), RATE), "the style has 10 time steps of 64 samples"),
        ("none.wav", None, "none.wav cannot be read"),
    ],
)
def test_unusable_sounds_are_refused(beats, texture, content, style, message):
    with pytest.raises(ValueError, match=message):
        transfer_sound(
            beats if content is None else content, texture if style is None else style, **OPTIONS
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((40, 8)), r"takes series of shape \(t, 9\), not \(40, 8\)"),
        (np.ones((40, 9), int), "a series must have floats from 0 to 1"),
        (np.full((40, 9), 2.0), r"values range from 2 to 2: scale them to \[0, 1\]"),
        (np.full((40, 9), np.nan), "not finite"),
    ],
)
def test_an_invalid_series_is_refused(given, message):
    network = sound_network(9, filters=4, width=3)
    with pytest.raises(ValueError, match=message):
        transfer_style(given, np.ones((40, 9)), network, steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 20}, "series: leave out size and keep_colors"),
        ({"keep_colors": "luminance"}, "series: leave out size and keep_colors"),
        ({"scales": 2}, "scales must be 1 for the series that random_ears takes, not 2"),
        ({"memory_budget": 1000}, r"GiB are free: \d+ time steps would fit"),
    ],
)
def test_options_for_pictures_are_refused_with_series(options, message):
    series = np.linspace(0, 1, 360).reshape(40, 9)
    with pytest.raises(ValueError, match=message):
        transfer_style(series, series, sound_network(9, filters=4, width=3), steps=1, **options)


def test_too_short_a_series_is_refused():
    series = np.linspace(0, 1, 45).reshape(5, 9)
    with pytest.raises(ValueError, match=r"5×1 is too small for random_ears .*at least 11×1"):
        transfer_style(series, series, sound_network(9, filters=4), steps=1)

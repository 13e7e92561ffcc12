"""WAV files, spectrograms and phase reconstruction."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from scipy.io import wavfile

from convlens import Sound, read_sound, save_sound
from convlens.style.sound import SpectrogramTransform

RATE = 8000


@pytest.fixture(scope="module")
def tone():
    t = np.arange(RATE // 2) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "tol"), [("uint8", 1e-2), ("int16", 1e-4), ("int32", 1e-6), ("float32", 0.0)]
)
def test_wav_files_of_every_depth_are_read_to_full_scale(tone, tmp_path, dtype, tol):
    if dtype == "uint8":
        stored = np.round(tone * 128 + 128).astype(np.uint8)
    elif dtype == "float32":
        stored = tone
    else:
        stored = np.round(tone.astype(np.float64) * -float(np.iinfo(dtype).min)).astype(dtype)
    wavfile.write(tmp_path / "tone.wav", RATE, stored)
    sound = read_sound(tmp_path / "tone.wav")
    assert sound.rate == RATE
    assert sound.seconds == 0.5
    np.testing.assert_allclose(sound.samples, tone, atol=tol)


def test_what_is_saved_is_read_again(tone, tmp_path):
    save_sound(Sound(tone, RATE), tmp_path / "new" / "tone.wav")
    np.testing.assert_allclose(read_sound(tmp_path / "new" / "tone.wav").samples, tone, atol=1e-4)
    save_sound(Sound(4 * tone, RATE), tmp_path / "loud.wav")  # as a whole quieter, not cut off
    loud = read_sound(tmp_path / "loud.wav").samples
    np.testing.assert_allclose(loud / loud.max(), tone / tone.max(), atol=1e-4)


def test_channels_become_their_mean(tone):
    sound = read_sound((np.stack([tone, 0 * tone], axis=1), RATE))
    np.testing.assert_allclose(sound.samples, tone / 2, atol=1e-7)


def test_resampling_keeps_the_pitch(tone):
    sound = read_sound((tone, RATE), rate=11025)
    assert sound.seconds == pytest.approx(0.5, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    assert np.argmax(spectrum) / sound.seconds == pytest.approx(440, abs=2)


@pytest.mark.slow
def test_the_phase_is_found_again():
    """A chord's spectrogram is recovered from its magnitudes alone, with an initial phase of 0."""
    t = np.arange(RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) for f in (300, 450, 700))
    transform = SpectrogramTransform(256, 64)
    magnitudes = np.abs(transform(chord))

    def apart(iterations):
        found = transform.with_phase(
            magnitudes, np.ones_like(magnitudes, complex), len(chord), iterations
        )
        assert found.shape == chord.shape
        return np.linalg.norm(np.abs(transform(found)) - magnitudes) / np.linalg.norm(magnitudes)

    found = apart(100)
    assert found < 0.1
    assert found < 0.3 * apart(0)


def test_the_transform_is_inverted(tone):
    transform = SpectrogramTransform(512, 128)
    spectrogram = transform(tone)
    assert spectrogram.shape[1] == transform.bins == 257
    np.testing.assert_allclose(transform.inverse(spectrogram, len(tone)), tone, atol=1e-7)


@pytest.mark.parametrize(("window", "hop"), [(1, 1), (256, 0), (256, 129)])
def test_invalid_windows_are_refused(window, hop):
    with pytest.raises(ValueError, match="window must be at least 2 samples, and hop"):
        SpectrogramTransform(window, hop)


def test_too_short_a_sound_is_refused():
    with pytest.raises(ValueError, match="100 samples is too short for windows of 256"):
        SpectrogramTransform(256, 64)(np.ones(100))


def wav_of(tone, tmp_path):
    wavfile.write(tmp_path / "whole.wav", RATE, tone)
    return (tmp_path / "whole.wav").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"ID3 this is no WAV" * 50,
        lambda whole: whole[:30],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:40] + struct.pack("<I", 2**31) + whole[44:],  # a huge declared size
        lambda whole: whole[:22] + b"\0\0" + whole[24:],  # no channels
        lambda whole: whole[:24] + b"\0\0\0\0" + whole[28:],  # no rate
        lambda whole: whole[:34] + b"\x07\0" + whole[36:],  # 7 bits a sample
    ],
)
def test_a_damaged_file_is_one_clear_error(tone, tmp_path, damage):
    path = tmp_path / "broken.wav"
    path.write_bytes(damage(wav_of(tone, tmp_path)))
    with pytest.raises(ValueError, match=r"broken\.wav (cannot be read as a WAV file|must have )"):
        read_sound(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.wav", "missing.wav cannot be read"),
        (
            (np.ones((2, 2, 2)), RATE),
            r"shape \(n,\) or \(n, channels\), not \(2, 2, 2\)",
        ),
        ((np.ones(0), RATE), r"samples of shape .* not \(0,\)"),
        ((np.ones(4, complex), RATE), "samples of integers or floats, not complex128"),
        ((np.array([0.0, np.nan]), RATE), "samples that are not finite"),
        ((np.ones(4), 0), "a rate of at least 1 sample per second, not 0"),
    ],
)
def test_an_invalid_sound_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        read_sound(given)


def test_a_rate_of_0_is_refused(tone):
    with pytest.raises(ValueError, match="rate must be at least 1 sample per second, not 0"):
        read_sound((tone, RATE), rate=0)

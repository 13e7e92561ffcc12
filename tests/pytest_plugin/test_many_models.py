"""A run of many models: one that passed is a line, and messages have the names of files."""

from __future__ import annotations

import pytest

RUN = ("-p", "no:cacheprovider", "-k", "baseline or finite")


@pytest.fixture
def models(pytester, tiny):
    """Five files of one model; the last one is changed after their baselines are recorded."""
    files = [pytester.path / f"model_{number}.keras" for number in range(5)]
    for file in files:
        tiny.save(file)
    pytester.runpytest(*RUN, *map(str, files), "--convlens-update=missing")
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    kernel[..., 2] *= 1.01
    tiny.get_layer("conv_a").set_weights([kernel, bias])
    tiny.save(files[-1])
    return [str(file) for file in files]


@pytest.mark.slow
def test_each_model_that_passed_is_a_line(pytester, models):
    result = pytester.runpytest(*RUN, *models, "--convlens-report=report.html")
    result.stdout.fnmatch_lines(["*= convlens: 4 of 5 models passed =*"])
    for number in range(4):
        lines = [line for line in result.outlines if line.startswith(f"model_{number}.keras: ")]
        assert len(lines) == 1
        assert "items passed; 5 layers agree with model-" in lines[0]
    assert sum(line.startswith("images: ") for line in result.outlines) == 2
    at = next(i for i, line in enumerate(result.outlines) if "convlens: model_4.keras =" in line)
    assert result.outlines[at + 2].split()[0] == "conv_a"
    assert result.outlines[at + 3] == "pool_a … classes: 4 follow"
    text = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert text.count('<details class="items passed">') == 5
    assert text.count('class="card stop') == 1


def test_few_models_keep_their_tables(pytester, models):
    result = pytester.runpytest(*RUN, *models[:3])
    assert not any("models passed" in line for line in result.outlines)
    assert sum("convlens: model_" in line for line in result.outlines) == 3
    assert sum(line.startswith("baseline: 5 layers agree") for line in result.outlines) == 3


def test_a_message_has_the_name_of_the_file(pytester, tiny):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[..., 2], bias[2] = 0, 0
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    tiny.save(pytester.path / "of the team.keras")
    result = pytester.runpytest("-p", "no:cacheprovider", "of the team.keras", "-k", "dead")
    result.stdout.fnmatch_lines(["of the team.keras has filters that never fire on *"])

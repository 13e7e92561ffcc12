"""Other programs read the causes of failures: JUnit, JSON, and GitHub Actions."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from convlens.pytest_plugin.readers import annotation
from convlens.report.cause import Cause

RUN = ("-p", "no:cacheprovider")


@pytest.fixture
def changed(pytester, tiny, tiny_file):
    """A model whose first convolution changed since its baseline was recorded."""
    pytester.runpytest(*RUN, "-k", "baseline", str(tiny_file), "--convlens-update=missing")
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    kernel[..., 2] *= 1.01
    kernel[..., 4], bias[4] = 0, 0
    tiny.get_layer("conv_a").set_weights([kernel, bias])
    tiny.save(tiny_file)
    return str(tiny_file)


def test_the_failures_are_written_as_json(pytester, changed):
    run = (*RUN, "-k", "baseline or (dead and conv_a)", changed)
    result = pytester.runpytest(*run, "--convlens-json=out/failure.json", "--convlens-pictures=p")
    result.stdout.fnmatch_lines(["failures: *failure.json"])
    found = json.loads((pytester.path / "out" / "failure.json").read_text())
    assert (found["format"], found["version"], found["finished"]) == ("convlens-failures", 1, True)
    assert "--convlens-pictures=p" in found["command"]
    dead, baseline = sorted(found["failures"], key=lambda entry: entry["check"] == "baseline")
    assert (dead["check"], dead["layer"], dead["accept_command"]) == ("dead", "conv_a", None)
    assert "filters that never fire" in dead["cause"]
    assert [name for name in dead["pictures"] if (pytester.path / name).is_file()]
    assert baseline["item"] == "tiny.keras::baseline[conv_a]"
    assert baseline["file"] == str(pytester.path / "tiny.keras")
    assert baseline["followers"] == ["pool_a", "conv_b", "pool_b", "classes"]
    assert baseline["explanation"].startswith("the weights of 'conv_a' changed")
    assert baseline["accept_command"].endswith("--convlens-update=failed tiny.keras::baseline")
    assert baseline["numbers"]["worst_channel"] == 4
    assert 0.5 < baseline["numbers"]["cosine"] < 1
    assert baseline["baseline"]["key"] == "tiny.keras::baseline"
    assert len(baseline["baseline"]["fingerprint"]) == 16


def test_a_run_without_failures_writes_an_empty_list(pytester, tiny_file, tiny_items):
    run = (*RUN, "-k", "finite", str(tiny_file), "--convlens-json=failure.json")
    pytester.runpytest(*run).assert_outcomes(passed=3, deselected=tiny_items - 3)
    assert json.loads((pytester.path / "failure.json").read_text())["failures"] == []


def test_a_model_that_cannot_be_read_is_a_failure(pytester):
    (pytester.path / "broken.keras").write_bytes(b"PK")
    pytester.runpytest(*RUN, "broken.keras", "--convlens-json=failure.json")
    (entry,) = json.loads((pytester.path / "failure.json").read_text())["failures"]
    assert entry["check"] == "collection"
    assert "broken.keras is truncated, or not a Keras file" in entry["cause"]
    result = pytester.runpytest(*RUN, "broken.keras", "--convlens-json=.")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --convlens-json *: is a folder; give the name of a file*"])


@pytest.mark.slow
def test_junit_has_the_numbers_of_each_layer(pytester, changed):
    pytester.runpytest(*RUN, "-k", "baseline", changed, "--junitxml=junit.xml")
    properties = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in ET.parse("junit.xml").iter("testcase")
    }
    for layer in ("input", "conv_a", "classes"):
        own = properties[f"baseline[{layer}]"]
        assert 0.5 < float(own["convlens.cosine"]) <= 1
        assert float(own["convlens.relative_error"]) < 1e-5 or layer != "input"
        assert int(own["convlens.worst_channel"]) >= 0
    assert properties["baseline[classes]"]["convlens.follows"] == "conv_a"


@pytest.mark.slow
def test_a_job_of_github_has_an_annotation_for_each_cause(pytester, changed, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    result = pytester.runpytest(*RUN, "-k", "baseline or (dead and conv_a)", changed)
    found = [line for line in result.outlines if line.startswith("::")]
    assert len(found) == 2
    head = "::error file=tiny.keras,title=tiny.keras%3A conv_a::the first layer that diverges is "
    assert found[0].startswith(head)
    assert "%0Apool_a … classes: 4 follow%0Ausually: the weights of 'conv_a' changed" in found[0]
    assert found[0].endswith("tiny.keras::baseline")
    assert "never fire" in found[1]
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert "::error" not in pytester.runpytest(*RUN, "-k", "baseline", changed).stdout.str()


def test_no_text_of_a_model_starts_another_command():
    cause = Cause("n", "m,x:y.keras\n::warning::", "l\r%", "dead", "a\n::error::b 100%")
    assert annotation(cause) == (
        "::error title=m%2Cx%3Ay.keras%0A%3A%3Awarning%3A%3A%3A l%0D%25::a%0A::error::b 100%25"
    )

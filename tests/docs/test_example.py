"""The example project passes as it is, and says so where its network is broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from pages import ROOT, blocks_of
from running import workflow_commands

EXAMPLE = ROOT / "docs" / "examples" / "road_signs"
MODEL = "models/signs.keras"
WORKFLOW = ".github/workflows/model.yml"
QUICK = ("--convlens-units=5", "-p", "no:cacheprovider")


@pytest.fixture
def project(everything_is_loaded: None, pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a pytester whose folder is a copy of the example."""
    ignored = shutil.ignore_patterns("__pycache__", ".*cache")
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True, ignore=ignored)
    return pytester


@contextmanager
def edited(file: Path, layer: str) -> Iterator[tuple]:
    """Give a layer's kernel and bias to be changed in place, and save the model with them."""
    from convlens import load_model

    model = load_model(file)
    kernel, bias = model.get_layer(layer).get_weights()
    yield kernel, bias
    model.get_layer(layer).set_weights([kernel, bias])
    model.save(file)


@pytest.mark.slow
def test_it_passes_and_a_defect_fails_with_its_layer_named(project):
    healthy = project.runpytest_subprocess(*QUICK)
    assert healthy.ret == 0
    healthy.stdout.fnmatch_lines(["tests/test_signs.py ....*", f"{MODEL} .*", "shapes * 16 *"])
    with edited(project.path / MODEL, "shapes") as (kernel, bias):
        kernel[..., 3], bias[3] = 0, 0
    chosen = "dead or baseline or probabilities"
    broken = project.runpytest(*QUICK, "-k", chosen)
    broken.stdout.fnmatch_lines(
        [
            "  layer 'shapes': 1 of 16 are dead, units 3 (always 0)",
            "*the first layer that diverges is 'shapes'*",
            f"FAILED {MODEL}::dead[[]shapes[]]*",
        ]
    )
    accepted = project.runpytest(*QUICK, "-k", "baseline", "--convlens-update=failed")
    assert accepted.ret == 0


@pytest.mark.slow
def test_the_converted_model_passes_and_a_fault_is_named(project):
    from convlens.fixtures.artefacts import plant_in_artefact

    project.runpython(project.path / "convert.py")
    file = project.path / "models" / "signs.tflite"
    command = next(line for line in workflow_commands(text_of_converted()) if "--conv" in line)
    words = command.split()[1:]
    healthy = project.runpytest_subprocess(*words, "-p", "no:cacheprovider")
    assert healthy.ret == 0
    assert "layer by layer" in (project.path / "converted.md").read_text(encoding="utf-8")
    file.write_bytes(plant_in_artefact(file.read_bytes(), "flipped-kernel"))
    broken = project.runpytest_subprocess(*words, "-p", "no:cacheprovider")
    broken.stdout.fnmatch_lines(["*the first layer of signs.tflite that diverges * 'shapes*"])


def text_of_converted():
    return (EXAMPLE / ".github/workflows/converted.yml").read_text(encoding="utf-8")


def test_the_model_is_small_and_not_bound_to_a_version_of_keras():
    from convlens.fixtures._portable import portable

    content = (EXAMPLE / MODEL).read_bytes()
    assert len(content) < 300_000
    assert portable(content) == content


def test_the_recipe_builds_this_model(monkeypatch: pytest.MonkeyPatch):
    import importlib

    from convlens import load_model

    monkeypatch.syspath_prepend(EXAMPLE)
    built = importlib.import_module("train").build()
    shipped = load_model(EXAMPLE / MODEL)
    assert built.name == shipped.name
    assert [layer.name for layer in built.layers] == [layer.name for layer in shipped.layers]
    assert [w.shape for w in built.weights] == [w.shape for w in shipped.weights]


def test_the_workflow_is_the_one_of_the_docs():
    text = (EXAMPLE / WORKFLOW).read_text(encoding="utf-8")
    assert yaml.safe_load(text).keys() == {"name", True, "jobs"}  # 'on' is true in YAML 1.1
    (shown,) = (b.text for b in blocks_of("docs/ci.md") if b.language == "yaml")
    assert shown == text
    commands = workflow_commands(text)
    assert commands[0] == "pip install pytest-convlens"
    assert commands[1].startswith("pytest --convlens-report ")

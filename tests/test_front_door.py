"""The first things that a contributor meets: workflows, forms, hooks, versions of CI."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from convlens.engine.model.loading import MIN_KERAS

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
FORMS = sorted({*ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")} - {*ROOT.glob(".github/*/config.yml")})
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OTHERS = [
    ".ci/run",
    "CONTRIBUTING.md",
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".github/dependabot.yml",
]


def text_of(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def sessions() -> set[str]:
    """The sessions of noxfile.py; nox itself may not be installed here."""
    found = set()
    for node in ast.parse(text_of("noxfile.py")).body:
        if isinstance(node, ast.FunctionDef):
            found |= {node.name for d in node.decorator_list if "nox.session" in ast.unparse(d)}
    return found


def asked(text: str) -> set[str]:
    """The sessions that a text runs."""
    lists = re.findall(r"\bnox (?:--?[\w-]+ )*?(?:\S+ )?(?:--[\w-]+ )*-s ((?:[\w-]+ ?)+)", text)
    return {name for names in lists for name in names.split() if not name.startswith("-")}


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def pins(lock: Path) -> dict[str, set[str]]:
    """Each package's versions in a file of requirements/: one, or one for each Python."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition(" ;")[0].partition("==")
            found.setdefault(canonicalize_name(name), set()).add(version.strip())
    return found


def unmet(requirements: list[str], lock: Path) -> list[str]:
    """The requirements that a file of requirements/ does not pin, or pins to a wrong version."""
    pinned = pins(lock)
    wanted = [Requirement(text) for text in requirements]
    return [
        str(want)
        for want in wanted
        if want.name != PROJECT["name"]
        and not all(map(want.specifier.contains, pinned.get(canonicalize_name(want.name), {""})))
    ]


def test_there_are_files_to_test():
    assert len(WORKFLOWS) == 3
    assert len(FORMS) == 3
    assert len(LOCKS) == 3
    assert {"lint", "types", "tests", "full", "docs"} <= sessions()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_sessions_that_exist_and_may_only_read(workflow: Path):
    read = yaml.safe_load(text_of(workflow))
    assert read.keys() >= {"name", True, "permissions", "jobs"}  # 'on' is true in YAML 1.1
    assert read["permissions"] == {"contents": "read"}
    for job in read["jobs"].values():
        assert job["timeout-minutes"] <= (180 if workflow.stem == "weekly" else 60)
        matrix = job.get("strategy", {}).get("matrix", {})
        assert set(matrix.get("session", [])) <= sessions()
    run = "\n".join(step["run"] for step in steps(read) if "run" in step)
    assert "nox -s " in run
    assert asked(run.replace("${{ matrix.session }}", "")) <= sessions()
    for action in (step["uses"] for step in steps(read) if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action)


def test_every_session_is_run_by_a_workflow_or_is_for_people():
    workflows = "".join(map(text_of, WORKFLOWS))
    run = asked(workflows)
    run |= set(
        yaml.safe_load(text_of(".github/workflows/tests.yml"))["jobs"]["others"]["strategy"][
            "matrix"
        ]["session"]
    )
    # `jax` runs the first; the others are for people.
    assert sessions() - run == {"record", "lock"}


def test_only_the_job_that_publishes_may_ask_for_an_identity():
    jobs = yaml.safe_load(text_of(".github/workflows/release.yml"))["jobs"]
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert jobs["publish"]["needs"] == ["build", "try"]
    assert not any("run" in step for step in jobs["publish"]["steps"])


@pytest.mark.parametrize("path", OTHERS)
def test_what_people_read_names_sessions_that_exist(path: str):
    names = asked(text_of(path))
    assert names
    assert names <= sessions()


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_is_whole(form: Path):
    read = yaml.safe_load(text_of(form))
    assert read.keys() >= {"name", "description", "body"}
    assert all(field["attributes"]["label"] for field in read["body"])
    fields = {field["id"] for field in read["body"]}
    assert len(fields) == len(read["body"])
    if form.stem != "feature":
        assert fields >= {"message", "layers", "versions"}


def test_links_of_the_forms_are_those_of_the_project():
    links = yaml.safe_load(text_of(".github/ISSUE_TEMPLATE/config.yml"))["contact_links"]
    urls = PROJECT["urls"]
    assert urls["Issues"].startswith(urls["Source"])
    assert urls["Changelog"].startswith(urls["Source"])
    for link in links:
        assert link["url"].startswith((urls["Source"], urls["Documentation"]))


def test_hooks_are_pinned_and_have_the_ruff_of_ci():
    repositories = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    revisions = {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in repositories}
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", revision) for revision in revisions.values())
    assert pins(ROOT / "requirements/ci.txt")["ruff"] == {revisions["ruff-pre-commit"][1:]}


def test_dependabot_reads_folders_that_exist():
    for update in yaml.safe_load(text_of(".github/dependabot.yml"))["updates"]:
        assert (ROOT / update["directory"].strip("/")).is_dir()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_versions_are_exact_and_name_no_place(lock: Path):
    for line in lock.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[\w.+]+( ; [\w\s.'<>=!()]+)?", line), line
        assert not re.search(r"://|file:|^-", line), line


def test_ci_pins_all_that_is_installed_there():
    extras = PROJECT["optional-dependencies"]
    wanted = [text for name in extras if name != "peers" for text in extras[name]]
    beside = [line for line in text_of("requirements/ci.in").splitlines() if line[0] != "#"]
    assert unmet([*PROJECT["dependencies"], *wanted, *beside], ROOT / "requirements/ci.txt") == []
    peers = [*PROJECT["dependencies"], *extras["test"], *extras["peers"]]
    assert unmet(peers, ROOT / "requirements/peers.txt") == []


def test_the_oldest_versions_are_those_of_the_metadata():
    limits = runpy.run_path(str(ROOT / ".ci/compatibility.py"))["constraints"]()
    assert unmet(limits, ROOT / "requirements/oldest.txt") == []
    assert len(limits) == len(PROJECT["dependencies"]) + len(
        [r for r in PROJECT["optional-dependencies"]["test"] if r[:4] not in ("ruff", "mypy")]
    )


def test_the_table_of_versions_has_the_oldest_and_none_that_is_older():
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text_of("docs/compatibility.md").splitlines()
        if line.startswith("|")
    ]
    tried = [
        {canonicalize_name(name): text for name, text in zip(head, row, strict=True)}
        for row in rows
    ]
    limits = runpy.run_path(str(ROOT / ".ci/compatibility.py"))["constraints"]()
    oldest = [want for want in map(Requirement, limits) if want.name in tried[0]]
    assert len(oldest) == 4
    allowed = [want for want in map(Requirement, PROJECT["dependencies"]) if want.name in tried[0]]
    for row in tried:
        for want in allowed:
            assert want.specifier.contains(row[want.name]), f"{want} is not met by {row}"
    assert any(all(want.specifier.contains(row[want.name]) for want in oldest) for row in tried)


def test_the_oldest_keras_is_one_everywhere():
    oldest = ".".join(map(str, MIN_KERAS))
    assert f"keras>={oldest}" in PROJECT["dependencies"]
    assert pins(ROOT / "requirements/oldest.txt")["keras"] == {oldest}
    assert f"{oldest} or later is required" in text_of("SECURITY.md")


def test_the_readmes_first_command_needs_no_test_packages():
    """In a clone pytest imports tests/conftest.py, also to run the shipped network alone."""
    needed = {Requirement(each).name for each in PROJECT["dependencies"]}
    found = set()
    for node in ast.parse(text_of("tests/conftest.py")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    assert found <= needed | sys.stdlib_module_names
    assert "numpy" in found

"""Every line that a person wrote is in the result of an update or in a conflict, whatever the template changes.

MATRIX=all make test LAYER=update    # every pair of versions, answers, layouts and configurations
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tabserve.updating import applying, record, renders, undoing
from tabserve.updating.ownership import yours
from tests.update.conftest import LAST, UNKNOWN, VERSIONS, Make, Project, make_hostile
from tests.update.edits import EDITS

Files = dict[str, tuple[bytes, bool]]
ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "gitlab": {"ci": "gitlab", "estimator": "linear", "port": 9000, "autoscale": "none", "license": "MIT"},
    "azure": {"ci": "azure", "data_source": "file", "target_column": "y", "hardware": "nvidia", "package_name": "ours"},
}
LAYOUTS = ("root", "subfolder", "worktree", "submodule")
ALL = os.environ.get("MATRIX") == "all"
FARTHEST = (VERSIONS[0], LAST)
PAIRS = [*itertools.pairwise(VERSIONS), FARTHEST]
CASES = (
    [(*pair, answers, layout) for pair in PAIRS for answers in ANSWERS for layout in LAYOUTS]
    if ALL
    else [
        *((*pair, "defaults", "root") for pair in PAIRS[:-1]),
        *((*FARTHEST, answers, layout) for answers, layout in zip((*ANSWERS, "gitlab"), LAYOUTS, strict=True)),
    ]
)


def lines(content: bytes) -> Counter[bytes]:
    return Counter(line.rstrip(b"\r") for line in content.split(b"\n") if line.strip())


def render(project: Project, version: str, answers: dict[str, Any], folder: Path) -> Files:
    renders.render(project.template, version, answers, folder, str(project.template))
    return Project(folder, folder).files()


def check(before: Files, after: Files, old: Files, new: Files, shown: dict[str, Any], package: str) -> None:
    """What a person wrote is there, what the template changed has arrived, and each file is where the preview says."""
    classes = {file["path"]: file["class"] for file in shown["files"]}
    assert len(classes) == len(shown["files"])
    moved = {file["path"]: file["to"] for file in shown["files"] if "to" in file}
    is_yours = yours(package)
    for path, (content, mode) in before.items():
        was = old.get(path)
        if was == (content, mode) and not is_yours(path):
            continue
        where = moved.get(path, path)
        assert where in after, f"{path} is gone"
        found = after[where]
        if is_yours(path) or was is None:
            assert found == (content, mode), f"{path} was changed"
        elif b"\0" in content:
            assert found[0] == content or classes[where] in ("merged", "conflict"), path
        else:
            lost = lines(content) - lines(was[0]) - lines(found[0])
            assert not lost, f"{path} lost {lost}"
        assert found[1] >= mode, path
    for path, made in new.items():
        if path != renders.ANSWERS and not is_yours(path) and before.get(path) == old.get(path):
            expected = None if path in old and path not in before else made
            if path in moved.values() and expected:
                assert path in after
            else:
                assert after.get(path) == expected, f"{path} is not what the template renders"
    for path in old.keys() - new.keys():
        if before.get(path) == old[path] and path in classes and classes[path] == "removed":
            assert path not in after


def resolved(content: bytes) -> bytes:
    """A file with both sides of its conflicts."""
    text = re.sub(rb"^\|{7}.*?^={7}\r?$", b"=======", content, flags=re.MULTILINE | re.DOTALL)
    return re.sub(rb"^(<{7} yours|={7}|>{7} template)\r?\n", b"", text, flags=re.MULTILINE)


def settle(project: Project) -> None:
    """Resolve all conflicts, and finish the update."""
    state = record.waiting(project.git)
    assert state
    for name in state.conflicts:
        path = Path(project.git.line("rev-parse", "--show-toplevel")) / name
        if path.exists() and b"\0" not in path.read_bytes():
            path.write_bytes(resolved(path.read_bytes()))
        if os.path.lexists(path):
            project.git.run("add", "--force", "--", f":(top,literal){name}")
    applying.resume(project.git)


def updated(project: Project, to: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Update; returns the exit code and the preview, which was the same without `--yes`."""
    capsys.readouterr()
    state = project.files(), project.git.run("status", "--porcelain")
    foreseen = project.update("--dry-run", "--json", *words, to=to)
    preview = capsys.readouterr().out
    assert (project.files(), project.git.run("status", "--porcelain")) == state, "a preview touched something"
    code = project.update("--yes", "--json", *words, to=to)
    out, error = capsys.readouterr()
    assert (code, out) == (foreseen, preview), error
    assert error.splitlines()[-1].split(":")[0] == {0: "updated", 1: "conflicts"}[code]
    return code, json.loads(out)


@pytest.mark.parametrize(("first", "second", "answers", "layout"), CASES)
def test_nothing_is_lost(
    first: str,
    second: str,
    answers: str,
    layout: str,
    make_project: Make,
    configuration: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = make_project(first, ANSWERS[answers], None, layout)
    known = renders.answers_of(project.folder)
    old, new = render(project, first, known, tmp_path / "old"), render(project, second, known, tmp_path / "new")
    head, before = project.git.line("rev-parse", "HEAD"), project.files()
    code, shown = updated(project, second, capsys)
    package = known.get("package_name") or "mine"
    check(before, project.files(), old, new, shown, package)
    if code:
        undoing.abort(project.git)
        assert project.files() == before
        assert project.git.line("status", "--porcelain") == "?? notes.txt" if layout == "root" else True
        assert updated(project, second, capsys)[0] == 1
        settle(project)
        check(before, project.files(), old, new, shown, package)
    assert project.git.line("rev-parse", "HEAD~") == head
    assert project.git.line("diff", "HEAD") == ""
    after = project.files()
    assert project.update("--yes", to=second) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("up-to-date")
    assert project.files() == after
    undoing.abort(project.git)
    assert project.git.line("rev-parse", "HEAD") == head
    assert project.files() == before
    assert {name: before[name][0].decode() for name in UNKNOWN} == UNKNOWN


@pytest.mark.parametrize("seed", range(30))
def test_random_sequences(
    seed: int, make_project: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edits and updates in turn, from a random version to the last one."""
    choose = random.Random(seed)
    if seed % 2:
        make_hostile(tmp_path, monkeypatch)
    stops = sorted(choose.sample(range(len(VERSIONS) - 1), choose.randint(1, 3)))
    edits = choose.sample(list(EDITS), len(EDITS))
    shares = [edits[number :: len(stops)] for number in range(len(stops))]
    project = make_project(VERSIONS[stops[0]], ANSWERS[choose.choice(list(ANSWERS))], [], choose.choice(LAYOUTS))
    package = renders.answers_of(project.folder).get("package_name") or "mine"
    for number, names in enumerate(shares):
        for name in names:
            try_edit(name, project.folder)
        project.commit("More edits")
        first, second = (VERSIONS[stop] for stop in [*stops, len(VERSIONS) - 1][number : number + 2])
        known = renders.answers_of(project.folder)
        old = render(project, first, known, tmp_path / f"old{number}")
        new = render(project, second, known, tmp_path / f"new{number}")
        before = project.files()
        code, shown = updated(project, second, capsys)
        check(before, project.files(), old, new, shown, package)
        if code:
            settle(project)
    assert project.update("--dry-run", to=LAST) == 0


def try_edit(name: str, project: Path) -> None:
    """An edit, unless the template has changed what it edits."""
    try:
        EDITS[name](project)
    except (AssertionError, FileNotFoundError):
        return

"""What docs/update.md says: whose each file is, the words, the exit codes, and what plain `copier update` loses.

WRITE_DOCS=1 .venv/bin/pytest tests/update/test_documented.py    # writes the table of the losses again
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import copier

from tabserve.updating import ownership
from tabserve.updating.__main__ import CODES
from tabserve.updating.preview import MEANINGS
from tests.conftest import ROOT
from tests.update.changes import edit
from tests.update.conftest import LAST, Make, Project

PAGE = ROOT / "docs/update.md"
DOCS = PAGE.read_text(encoding="utf-8")
BEGIN, END = "<!-- begin fates -->\n", "\n<!-- end fates -->"
FATES = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
IGNORED = "k8s/network-policy-egress.yaml"
HEAD = ("| you | the template | `copier update` | `make update` |", "|---|---|---|---|")
# What a person did, what the template did, the file, and the text by which the edit is found.
ROWS = (
    ("edited", "changed other lines", "k8s/deployment.yaml", "mine: history"),
    ("edited", "changed the same line", "k8s/configmap.yaml", "mine: level"),
    ("edited", "renamed the file", "compose.override.yaml", "mine: compose"),
    ("edited", "removed the file", "ruff.toml", "mine: removed"),
    ("edited `src/tabserve/`", "renamed the file", "src/tabserve/page.py", "mine: page"),
    ("edited a binary file", "changed it", "assets/logo.bin", "\0mine"),
    ("edited, with CRLF", "changed other lines", "Dockerfile", "mine: CRLF"),
    ("added a dependency", "changed the dependency beside it", "pyproject.toml", "httpx-mine"),
    ("edited `data/`", "changed the same rows", "data/loans.csv", "C888888"),
    ("let git ignore a file", "added it", IGNORED, "mine: ignored"),
)


def table(heading: str) -> list[list[str]]:
    """The rows of the first table behind a heading, without its head."""
    found = re.search(rf"{re.escape(heading)}.*?^\|[-|]+\|\n(.*?)\n\n", DOCS, re.DOTALL | re.MULTILINE)
    assert found, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_the_table_of_owners_is_that_of_the_code() -> None:
    rows = {row[0]: re.findall(r"`([^`]+)`", row[1]) for row in table("## Whose a file is")}
    listed = {owner: [name.replace("<package>", "{package}") for name in names] for owner, names in rows.items()}
    assert {owner: sorted(names) for owner, names in listed.items()} == {
        "yours": sorted(ownership.YOURS),
        "the template's": sorted(ownership.TEMPLATES),
        "shared": sorted(ownership.SHARED),
    }


def test_the_words_and_the_exit_codes_are_those_of_the_code() -> None:
    assert {row[0].strip("`") for row in table("## The preview")} == set(MEANINGS)
    codes = {row[0].strip("`"): int(row[1]) for row in table("The last line begins")}
    assert codes == CODES


def with_copier(project: Project) -> list[str]:
    """The fates after `copier update`."""
    copier.run_update(project.folder, vcs_ref=LAST, defaults=True, overwrite=True, quiet=True)
    return [fate(project, name, text) for _, _, name, text in ROWS]


def with_ours(project: Project) -> list[str]:
    """The fates after `make update`, which does not start over the ignored file."""
    before = project.files()
    assert project.update("--yes") == 2
    assert project.files() == before
    (project.folder / IGNORED).unlink()
    assert project.update("--yes") == 1
    return ["kept: it does not start" if name == IGNORED else fate(project, name, text) for _, _, name, text in ROWS]


def fate(project: Project, name: str, text: str) -> str:
    """What became of a text that a person wrote into a file."""
    files = {path: content.decode(errors="replace") for path, (content, _) in project.files().items()}
    found = sorted(path for path in files if text in files[path])
    unmerged = project.git.run("ls-files", "--unmerged")
    if f"\t{name}\n" in unmerged:
        return "conflict"
    if not found:
        return "**lost**"
    if name in found and project.git.has("diff", "--quiet", "Mine", "--", name):
        return "kept"
    return "merged" if name in found else f"follows to `{found[0]}`"


def edited(make_project: Make) -> Project:
    """A project with the edits of the table."""
    names = ["log level", "replicas", "dependencies", "renamed by the template", "removed by the template"]
    project = make_project("1.1.0", {}, [*names, "line ends", "binary"])
    (project.folder / "notes.txt").unlink()  # copier does not start where there is a file that git does not know
    edit(project.folder / "data/loans.csv", "C100000,", "C888888,")
    with (project.folder / ".gitignore").open("a") as file:
        file.write(f"{IGNORED}\n")
    project.commit("More edits")
    project.git.run("tag", "Mine")
    (project.folder / IGNORED).write_text("# mine: ignored\n")
    return project


def test_the_fates_are_those_of_the_table(make_project: Make, tmp_path: Path) -> None:
    project = edited(make_project)
    other = Project(Path(shutil.copytree(project.folder, tmp_path / "other", symlinks=True)), project.template)
    fates = zip(with_copier(project), with_ours(other), strict=True)
    rows = [
        f"| {did} | {then} | {copiers} | {ours} |" for (did, then, *_), (copiers, ours) in zip(ROWS, fates, strict=True)
    ]
    table = "\n".join([*HEAD, *rows])
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(FATES.sub(lambda _: f"{BEGIN}{table}{END}", DOCS), encoding="utf-8")
    else:
        assert f"{BEGIN}{table}{END}" in DOCS

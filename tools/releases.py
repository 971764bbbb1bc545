"""Make a release, list the releases, and render the template as it was in any commit.

    make release VERSION=1.2.0
    python -m tools.releases --staged     # renders what is about to be committed; `make hooks` calls it

Versions are those of PEP 440. `releases.txt` names version, commit and tree of each release; the commit behind a
release adds its line. A release is found by its tree, so it is found even if its commit has been rewritten.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import copier
import jinja2
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
LIST = "releases.txt"
PARTS = ("copier.yml", "extensions", "template")
ANSWERS: tuple[dict[str, str], ...] = (  # every feature is on or off in one of them
    {},
    {"ci": "gitlab", "autoscale": "none", "estimator": "linear", "data_source": "file", "target_column": "y"},
    {"ci": "azure", "hardware": "nvidia", "estimator": "xgboost", "service_type": "ClusterIP", "autoscale": "memory"},
    {"ci": "none", "estimator": "lightgbm", "license": "MIT"},
)
UNRELEASED = "## Unreleased\n"
CHECKS = (("lint",), ("test", "LAYER=questions"), ("test", "LAYER=render"))


class ReleaseError(Exception):
    """Why there is no release: one line."""


@dataclass(frozen=True)
class Release:
    """A line of the list."""

    version: str
    commit: str
    tree: str


def main(arguments: list[str]) -> int:
    """Make the release that the arguments name, or render what is staged; returns the exit code."""
    try:
        if arguments == ["--staged"]:
            with tempfile.TemporaryDirectory() as folder:
                render(ROOT, git(ROOT, "write-tree"), Path(folder), ANSWERS)
            return 0
        if len(arguments) != 1:
            raise ReleaseError("name a version: make release VERSION=1.2.0")
        make(ROOT, arguments[0], run_checks)
        print(f"released {arguments[0]}: `git push --follow-tags` publishes it")
    except (ReleaseError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(root: Path, version: str, check: Callable[[], None]) -> None:
    """Commit, tag and list a release; raises `ReleaseError`, and then leaves the repository as it is."""
    changelog, settings = root / "CHANGELOG.md", root / "pyproject.toml"
    texts = {path: path.read_text(encoding="utf-8") for path in (changelog, settings)}
    check_version(version, releases(root))
    if git(root, "status", "--porcelain"):
        raise ReleaseError("commit or stash your changes first")
    if not unreleased(texts[changelog]):
        raise ReleaseError(f"CHANGELOG.md has nothing under {UNRELEASED.strip()!r}: write down what is new")
    if git(root, "tag", "--list", version):
        raise ReleaseError(f"there is a tag {version}, which the list lacks: remove it, or choose another version")
    check()
    before = git(root, "rev-parse", "HEAD")
    changelog.write_text(texts[changelog].replace(UNRELEASED, f"## {version} ({dt.date.today()})\n"), encoding="utf-8")
    settings.write_text(with_version(texts[settings], version), encoding="utf-8")
    try:
        commit(root, version)
    except ReleaseError:
        git(root, "reset", "--quiet", "--hard", before)
        if git(root, "tag", "--list", version):
            git(root, "tag", "--delete", version)
        raise


def commit(root: Path, version: str) -> None:
    """Commit and tag a release, and list it in the commit behind it."""
    git(root, "commit", "--quiet", "--all", "--message", f"Release {version}")
    git(root, "tag", "--annotate", "--message", f"Release {version}", version)
    found = Release(version, git(root, "rev-parse", "HEAD"), git(root, "rev-parse", "HEAD^{tree}"))
    lines = [f"{one.version} {one.commit} {one.tree}\n" for one in [*releases(root), found]]
    (root / LIST).write_text("".join(lines), encoding="utf-8")
    git(root, "add", LIST)
    git(root, "commit", "--quiet", "--message", f"List release {version}")


def run_checks() -> None:
    """What every release passes; raises `ReleaseError`. CI runs the rest of the tests."""
    for target in CHECKS:
        if subprocess.run(["make", "--no-print-directory", *target], cwd=ROOT).returncode:
            raise ReleaseError(f"make {' '.join(target)} failed, so nothing was released")


def check_version(version: str, known: list[Release]) -> None:
    """A new version in PEP 440's normal form; raises `ReleaseError`."""
    try:
        found = Version(version)
    except InvalidVersion:
        raise ReleaseError(f"{version} is not a version of PEP 440: write 1.2.0, or 1.2.0rc1") from None
    if str(found) != version or found.is_devrelease or found.local or found.is_postrelease:
        raise ReleaseError(f"{version}: write it as {found.base_version}, or with a1, b1 or rc1 at its end")
    if known and found <= max(Version(release.version) for release in known):
        raise ReleaseError(f"{version} is not newer than {known[-1].version}")


def unreleased(changelog: str) -> str:
    """What the changelog has under the heading of the next release."""
    _, heading, rest = changelog.partition(UNRELEASED)
    return rest.partition("\n## ")[0].strip() if heading else ""


def with_version(settings: str, version: str) -> str:
    """The text of pyproject.toml with another version."""
    return re.sub(r'^version = ".*"$', f'version = "{version}"', settings, count=1, flags=re.MULTILINE)


def releases(root: Path) -> list[Release]:
    """The releases, oldest first."""
    path = root / LIST
    return [Release(*line.split()) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def has(root: Path, tree: str) -> bool:
    """Whether the repository has a tree; a shallow clone may lack it."""
    return not subprocess.run(["git", "cat-file", "-e", tree], cwd=root, capture_output=True).returncode


def commits(root: Path) -> dict[str, str]:
    """The trees of all commits that HEAD has, newest first, by their commits."""
    return dict(line.split() for line in git(root, "log", "--format=%H %T").splitlines())


def since(root: Path, release: Release | None) -> Iterator[str]:
    """The trees of the commits that are newer than a release; of all commits where there is none."""
    for tree in commits(root).values():
        if release and tree == release.tree:
            return
        yield tree


def render(root: Path, tree: str, folder: Path, sets: Sequence[Mapping[str, str]] = ({},)) -> Path:
    """The project of the first answers, of a tree of this repository; raises `ReleaseError` if one does not render."""
    extract(root, tree, folder / "template")
    for number, answers in enumerate(sets):
        try:
            copier.run_copy(
                str(folder / "template"), folder / str(number), data=dict(answers), defaults=True, quiet=True
            )
        except (copier.errors.CopierError, jinja2.TemplateError) as error:
            raise ReleaseError(f"this does not render: {error}") from None
    return folder / "0"


def extract(root: Path, tree: str, folder: Path) -> None:
    """The template's parts as they are in a tree."""
    command = ["git", "archive", tree, *PARTS]
    archive = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def git(root: Path, *arguments: str) -> str:
    """What git prints; raises `ReleaseError` with what it says where it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

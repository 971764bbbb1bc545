"""Start the updater of the template's new version, with the standard library, git and uv: it is newer than this one."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tabserve.errors import UserError, without_credentials
from tabserve.updating import notes
from tabserve.updating.applying import waiting
from tabserve.updating.git import Git, GitError

COPIER = "copier>=9.19"
ANSWERS = ".copier-answers.yml"
SHORT = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}


def start(options: argparse.Namespace) -> int:
    """Fetch the template, render its new version, and run the updater in it; returns its exit code.

    Raises `UserError` where nothing can be done, in one line.
    """
    project = Path.cwd()
    try:
        _check(Git(project))
        with tempfile.TemporaryDirectory(prefix=".tabserve-update-") as folder:
            return _start(options, project, Path(folder))
    except GitError as error:
        raise UserError(str(error)) from None


def _check(git: Git) -> None:
    if not Path(ANSWERS).exists():
        raise UserError(f"there is no {ANSWERS}: run this in the project's folder")
    try:
        git.line("rev-parse", "--verify", "HEAD")
    except GitError:
        raise UserError("commit your work first, nothing is in git yet") from None
    if waiting(git):
        raise UserError("an update waits for its conflicts: `make update-continue` or `make update-abort`")
    if changed := git.line("status", "--porcelain", "--untracked-files=no"):
        raise UserError(f"commit or stash your changes first ({changed.splitlines()[0]})")


def _start(options: argparse.Namespace, project: Path, folder: Path) -> int:
    source, template, render = options.source or _answer("_src_path"), folder / "template", folder / "new"
    Git(project).run("clone", "--quiet", address(source), str(template))
    version = options.to or _newest(Git(template), _answer("_commit"))
    copier = [os.environ.get("UV", "uv"), "tool", "run", "--quiet", "--from", COPIER, "python", "-P", "-m"]
    answers = ("--data-file", str(project / ANSWERS))
    command = [*copier, "copier", "copy", "--defaults", "--quiet", "--vcs-ref", version, *answers]
    done = subprocess.run([*command, str(template), str(render)], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{version} of the template cannot be rendered: {_last(done.stderr)}")
    if not (render / "src/tabserve/updating").is_dir():
        raise UserError(f"{version} of the template has no updater: choose a newer one with --to")
    words = ["--project", str(project), "--template", str(template), "--source", without_credentials(source)]
    environment = {**os.environ, "PYTHONPATH": str(render / "src")}
    sys.stdout.flush()
    words += ["--to", version, *_handed_on(options)]
    return subprocess.run([*copier, "tabserve.updating", *words], env=environment).returncode


def _answer(name: str) -> str:
    """One of copier's own answers: YAML, but always a plain or quoted text on its line."""
    found = re.search(rf"^{name}: *(['\"]?)(.+)\1$", Path(ANSWERS).read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise UserError(f"{ANSWERS} has no {name}: name the template with --from")
    return found[2]


def address(source: str) -> str:
    """An address for git from one that copier knows."""
    for short, long in SHORT.items():
        if source.startswith(short):
            return f"{long}{source.removeprefix(short).removesuffix('.git')}.git"
    return source.removeprefix("git+")


def _newest(template: Git, current: str) -> str:
    """The newest release, unless the project has a later state of the template; without one, the newest commit."""
    newest = notes.latest(template.run("tag", "--list").split())
    later = newest and (now := notes.order(current)) and (found := notes.order(newest)) and now > found
    return current if later else newest or template.line("rev-parse", "HEAD")


def _handed_on(options: argparse.Namespace) -> list[str]:
    words = [f"--{name.replace('_', '-')}" for name in ("yes", "dry_run", "json") if getattr(options, name)]
    words += [word for pair in options.data for word in ("--data", pair)]
    words += ["--answers", str(options.answers.resolve())] if options.answers else []
    return words + (["--branch", options.branch] if options.branch else [])


def _last(text: str) -> str:
    return (text.strip() or "it said nothing").splitlines()[-1]

"""Start the updater of the template's new version, with the standard library, git and uv: it is newer than this one."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabserve.errors import HIDDEN, UserError, one_line, say, without_credentials
from tabserve.updating import notes, obstacles, record
from tabserve.updating.checks import is_offline
from tabserve.updating.git import Git, GitError, forget_elsewhere

TOOLS = ("--from", "copier>=9.19", "--with", "tomlkit>=0.13")
ANSWERS = ".copier-answers.yml"
SHORT = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
LOGIN = re.compile(r"(?:git\+)?ssh://[^:@/]+@[^@]*$")  # a name without a password
NEWS = 2  # the exit code of `update-check` where there is a newer version


def update(options: argparse.Namespace) -> int:
    """Fetch the template, render its new version, and run the updater in it; returns its exit code.

    Raises `UserError` where nothing can be done, in one line.
    """
    _check(options)
    source = _source(options)
    with _clone(source) as folder:
        version = _wanted(Git(folder / "template"), options.to)
        return _run(folder, source, version, *_handed_on(options))


def differences(options: argparse.Namespace) -> int:
    """Show how the project differs from its version of the template; returns the exit code. Raises `UserError`."""
    _check_waiting(Git(Path.cwd()))
    source = _answer("_src_path")
    with _clone(source) as folder:
        return _run(folder, source, _answer("_commit"), "--diff", *(["--patch"] if options.patch else []))


def check(options: argparse.Namespace) -> int:
    """Say whether the template has a newer version, without fetching it; returns the exit code. Raises `UserError`."""
    _check_waiting(Git(Path.cwd()))
    source, current = _source(options), _answer("_commit")
    if notes.order(current) is None:  # a commit without a version: only a clone says whether a release is newer
        return _check_in_clone(source, current)
    with _fetching(source):
        found = [line.split("\t") for line in Git(Path.cwd()).run("ls-remote", address(source)).split("\n") if line]
    commits = {name.removeprefix("refs/tags/").removesuffix("^{}"): commit for commit, name in found}
    newest = notes.latest(list(commits))
    if newest is None and not commits.get("HEAD", "").startswith(re.sub(r".*-g(?=[0-9a-f]+$)", "", current)):
        newest = commits["HEAD"][:12]
    elif newest and _is_before(newest, current):
        newest = None
    say(f"news: {current} -> {newest}; `make update` shows what it changes" if newest else f"up-to-date: {current}")
    return NEWS if newest else 0


def _check_in_clone(source: str, current: str) -> int:
    with _clone(source) as folder:
        template = Git(folder / "template")
        newest = _newest(template, current)
        commits = [template.line("rev-parse", f"{name}^{{commit}}") for name in (newest, current)]
        is_news = not template.has("merge-base", "--is-ancestor", *commits)
    say(f"news: {current} -> {newest}; `make update` shows what it changes" if is_news else f"up-to-date: {current}")
    return NEWS if is_news else 0


def _source(options: argparse.Namespace) -> str:
    """The template's address; a folder of this machine without what depends on the working directory."""
    source: str = options.source or _answer("_src_path")
    return str(Path(source).resolve()) if options.source and Path(source).exists() else source


def _check_waiting(git: Git) -> None:
    forget_elsewhere()
    if record.waiting(git):
        raise UserError("an update waits for its conflicts: `make update-continue` or `make update-abort`")


def _is_before(version: str, current: str) -> bool:
    """Whether a version is another's predecessor, or the same."""
    first, second = notes.order(version), notes.order(current)
    return bool(first and second and first <= second)


def _check(options: argparse.Namespace) -> None:
    git, branch = Git(Path.cwd()), options.branch
    forget_elsewhere()
    if not Path(ANSWERS).exists():
        raise UserError(f"there is no {ANSWERS}: run this in the project's folder")
    try:
        prefix = git.line("rev-parse", "--show-prefix")
    except GitError as error:
        raise UserError(f"git cannot read this repository: {one_line(error)}") from None
    if not git.has("cat-file", "-e", f"HEAD:{prefix}{ANSWERS}"):
        raise UserError("commit your work first: the project is not in git yet")
    _check_waiting(git)
    obstacles.check_quiet(git)
    changed = git.line("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    if changed and not options.dry_run:
        raise UserError(
            f"commit or stash your changes first ({changed.splitlines()[0]}); a dry run looks at the last commit"
        )
    if branch and not git.has("check-ref-format", "--branch", branch):
        raise UserError(f"--branch {branch}: git does not accept this name")
    if branch and git.has("rev-parse", "--verify", f"refs/heads/{branch}"):
        raise UserError(f"--branch {branch}: there is such a branch; choose another name, or delete it")


@contextmanager
def _clone(source: str) -> Iterator[Path]:
    """A temporary folder with the template in `template`."""
    with tempfile.TemporaryDirectory(prefix=".tabserve-update-") as folder:
        with _fetching(source):
            Git(Path.cwd()).run("clone", "--quiet", "--", address(source), str(Path(folder, "template")))
        yield Path(folder)


@contextmanager
def _fetching(source: str) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        said = str(error).removeprefix("fatal: ").rstrip(".")
        hint = "check the network, or name the template's new address, or a copy of it, with --from"
        raise UserError(f"the template is not at {source} ({said}): {hint}") from None


def _wanted(template: Git, version: str | None) -> str:
    """The version to update to; raises `UserError` if the template lacks it, or it is older than the project's."""
    current = _answer("_commit")
    version = version or _newest(template, current)
    known = notes.ordered(template.run("tag", "--list").split())
    for name, hint in (
        (current, "it is this project's version, so name a complete copy of the template with --from"),
        (version, f"it has {', '.join(known[-5:]) or 'no releases'}"),
    ):
        if not template.has("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
            raise UserError(f"the template has no {name}: {hint}")
    first, second = notes.order(version), notes.order(current)
    commits = [template.line("rev-parse", f"{name}^{{commit}}") for name in (version, current)]
    is_older = template.has("merge-base", "--is-ancestor", *commits) or bool(first and second and first < second)
    if commits[0] != commits[1] and is_older:
        back = "undo an update with `make update-abort` or `git revert`"
        raise UserError(f"{version} is older than {current}, and updates only go forward: {back}")
    return version


def _run(folder: Path, source: str, version: str, *words: str) -> int:
    """Render a version, and run the updater in it."""
    render, project = folder / "render", Path.cwd()
    tool = [os.environ.get("UV", "uv"), "tool", "run", "--quiet", *TOOLS]
    answers = ("--defaults", "--quiet", "--vcs-ref", version, "--data-file", str(project / ANSWERS))
    command = [*tool, "copier", "copy", *answers, str(folder / "template"), str(render)]
    _quiet(command, f"{version} of the template cannot be rendered")
    if not (render / "src/tabserve/updating").is_dir():
        raise UserError(f"{version} of the template has no updater: choose a newer one with --to")
    python = _python(render, version)
    command = [*tool[:4], "--python", python, *tool[4:], "python", "-P", "-B", "-m", "tabserve.updating"]
    command += [
        "--project",
        str(project),
        "--template",
        str(folder / "template"),
        "--source",
        stored(source),
        "--to",
        version,
    ]
    command += ["--render", str(render)]
    sys.stdout.flush()
    with subprocess.Popen([*command, *words], env={**os.environ, "PYTHONPATH": str(render / "src")}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the updater gets it, too, and says what has become of the project
                continue


def stored(source: str) -> str:
    """An address as the answers keep it: without credentials, but with the name that ssh needs."""
    return source if LOGIN.match(source) else without_credentials(source).replace(f"{HIDDEN}@", "")


def _python(render: Path, version: str) -> str:
    """An interpreter for the new version; raises `UserError` where there is none, or where uv is too old for it."""
    uv = os.environ.get("UV", "uv")
    return _quiet([uv, "python", "find", "--project", str(render)], f"{version} of the template does not run here")


def _quiet(command: list[str], what: str) -> str:
    """What a command prints; raises `UserError` with the end of what it says."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed, or not on the PATH") from None
    if done.returncode:
        said = done.stderr.strip() or "it said nothing"
        said = said.splitlines()[-1] if "Traceback" in said else said
        words = " ".join(said.removeprefix("error: ").split())
        if is_offline(words):
            words = "uv cannot download Copier, so check the network"
        raise UserError(f"{what}: {words if len(words) < 300 else f'... {words[-300:].partition(chr(32))[2]}'}")
    return done.stdout.strip()


def _answer(name: str) -> str:
    """One of copier's own answers: YAML, but always a plain or quoted text on its line."""
    path = Path(ANSWERS)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(rf"^{name}: *(['\"]?)(.+)\1$", text, re.MULTILINE)
    if found:
        return found[2]
    if name == "_src_path":
        raise UserError(f"{ANSWERS} does not name the template: name it with --from")
    raise UserError(f"{ANSWERS} has no {name}: the project was rendered from a folder without git, and has no version")


def address(source: str) -> str:
    """An address for git from one that copier knows."""
    for short, long in SHORT.items():
        if source.startswith(short):
            return f"{long}{source.removeprefix(short).removesuffix('.git')}.git"
    return source.removeprefix("git+")


def _newest(template: Git, current: str) -> str:
    """The newest release, unless the project has a later state of the template; without one, the newest commit."""
    newest = notes.latest(template.run("tag", "--list").split())
    if newest and notes.order(newest) != notes.order(current) and _is_before(newest, current):
        return current
    return newest or template.line("describe", "--tags", "--always", "HEAD")


def _handed_on(options: argparse.Namespace) -> list[str]:
    switches = ("yes", "dry_run", "json", "no_checks")
    words = [f"--{name.replace('_', '-')}" for name in switches if getattr(options, name)]
    words += [f"--data={pair}" for pair in options.data]
    words += ["--answers", str(options.answers.resolve())] if options.answers else []
    return words + (["--branch", options.branch] if options.branch else [])

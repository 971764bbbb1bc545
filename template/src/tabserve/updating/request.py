"""A pull request with an update, opened by a scheduled job of the CI service: a draft where a person has to decide.

With conflicts the branch holds an empty commit: whoever takes over runs the update there, and decides.
"""

import html
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tabserve.errors import UserError, printable
from tabserve.updating import record
from tabserve.updating.git import Git, GitError

TITLES = {
    0: "Update from the template",
    1: "Update from the template: conflicts",
    3: "Update from the template: checks",
}
FENCE = "`" * 8  # longer than those of a changelog
LONGEST = {"github": 60_000, "gitlab": 40_000, "azure": 3_800}  # characters of a text that the service takes


def open_request(project: str, provider: str, source: str | None) -> str:
    """Update on a branch of its own, push it, and open a request with the preview as its text; says what it did.

    Args:
        project: the name that `uv run` knows.
        provider: the CI service, one of `LONGEST`.
        source: the template's address, if it is not that of the last update.

    Raises `UserError` where something fails.
    """
    words = ["--from", source] if source else []
    code, said = _task(project, "update-check", *words)
    if code == 0:
        return said.splitlines()[-1]
    if code != 2:
        raise UserError(_last(said))
    repository, branch = Git(Path.cwd()), _branch(said)
    try:
        if repository.line("ls-remote", "origin", f"refs/heads/{branch}"):
            return f"up-to-date: there is a branch {branch} already"
        code, text = _update(project, repository, branch, words)
        text = _description(provider, text)
        repository.run("push", "--quiet", "--no-verify", *_options(provider, branch, code, text))
    except GitError as error:
        raise UserError(str(error)) from None
    if provider in COMMANDS:
        _open(COMMANDS[provider](branch, code), text)
    return f"requested: {branch}{' as a draft' if code else ''}"


def _branch(news: str) -> str:
    """A branch named by the version that `update-check` says there is."""
    return f"template-update/{news.split(' -> ')[1].split(';')[0]}"


def _update(project: str, repository: Git, branch: str, words: list[str]) -> tuple[int, str]:
    """Update on a branch; returns the update's exit code, and the text of the request."""
    code, preview = _task(project, "update", "--dry-run", *words)
    if code == 1:
        head = repository.line("rev-parse", "HEAD")
        commit = repository.commit(f"{head}^{{tree}}", f"{TITLES[code]}: `make update` on this branch", head)
        repository.run("update-ref", f"refs/heads/{branch}", commit)
        given = f" ARGS={shlex.quote(shlex.join(words))}" if words else ""
        takeover = f"git fetch && git switch {branch} && make update{given}"
        return code, f"This update has conflicts. Take it over: {takeover}\n\n{preview}"
    if code == 0:
        code, said = _task(project, "update", "--yes", "--branch", branch, *words)
    if code not in TITLES:
        raise UserError(_last(preview if code == 2 else said))
    preview = "\n".join(preview.splitlines()[:-1])  # what a dry run ends with
    patch = record.path_of(repository, ".patch")
    if patch.exists():
        preview += (
            f"\n\nThe template's changes to your own files:\n\n{patch.read_text(encoding='utf-8', errors='replace')}"
        )
    return code, preview if code == 0 else f"{_last(said)}\n\n{preview}"


def _description(provider: str, text: str) -> str:
    """The text as a service shows it unchanged; GitLab takes one line."""
    text = printable(text, lines=True)
    text = text if len(text) < LONGEST[provider] else f"{text[: LONGEST[provider]]}\n(cut)"
    if provider == "gitlab":
        return f"<pre>{html.escape(text).replace(chr(10), '&#10;')}</pre>"
    return f"{FENCE}text\n{text}\n{FENCE}\n"


def _task(project: str, *words: str) -> tuple[int, str]:
    """Run a task; returns its exit code, and what it prints."""
    command = [os.environ.get("UV", "uv"), "run", "--quiet", project, *words]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    return done.returncode, done.stdout.strip()


def _options(provider: str, branch: str, code: int, text: str) -> list[str]:
    """The options of `git push`; GitLab opens the request itself."""
    words = ["origin", f"refs/heads/{branch}:refs/heads/{branch}"]
    if provider != "gitlab":
        return words
    given = ["create", f"title={TITLES[code]}", f"description={text}"]
    given += [f"target={os.environ['CI_DEFAULT_BRANCH']}"] if "CI_DEFAULT_BRANCH" in os.environ else []
    return [
        option for one in [*given, *(["draft"] if code else [])] for option in ("-o", f"merge_request.{one}")
    ] + words


def _github(branch: str, code: int) -> list[str]:
    draft = ["--draft"] if code else []
    return ["gh", "pr", "create", "--head", branch, "--title", TITLES[code], *draft, "--body-file", "-"]


def _azure(branch: str, code: int) -> list[str]:
    given = ["--source-branch", branch, "--title", TITLES[code], "--draft", str(bool(code)).lower()]
    return ["az", "repos", "pr", "create", "--detect", "true", *given, "--description"]


COMMANDS = {"github": _github, "azure": _azure}


def _open(command: list[str], text: str) -> None:
    """Open the request with the service's own program."""
    if not (program := shutil.which(command[0])):
        raise UserError(f"{command[0]} is not installed, so the branch is pushed and the request not opened")
    words = [text] if command[-1] == "--description" else []
    done = subprocess.run([program, *command[1:], *words], input=text, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"the branch is pushed, and the request not opened: {_last(done.stderr)}")


def _last(text: str) -> str:
    return printable((text.strip() or "it said nothing").splitlines()[-1]).removeprefix("error: ")

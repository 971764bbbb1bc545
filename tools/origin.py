"""Where a new project gets its updates from: the origin of this clone, or the clone itself where it has none.

Nothing here needs the network: what the origin has is read from the remote-tracking branches.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

PARTS = ("copier.yml", "extensions", "template")
ANSWERS = ".copier-answers.yml"
ANOTHER = f"only this machine can update the project, until _src_path in its {ANSWERS} names another source"
# What copier takes for a git repository by its name alone; `git+` says it of everything else.
GIT = re.compile(r"(git@|git://|git\+|gh:|gl:|https://git(hub|lab)\.com/)|.*\.git\Z")


@dataclass(frozen=True)
class Source:
    """What is rendered, and what the project remembers of it.

    Attributes:
        address: the repository that `copier update` will ask.
        reference: what is rendered from this clone.
        commit: what it is called, as copier would; empty where there is no repository.
        note: what a person should know, in one line; empty when there is nothing.
    """

    address: str
    reference: str
    commit: str
    note: str = ""


def source(root: Path, wanted: str | None = None) -> Source:
    """The source for a project rendered from this clone: `wanted`, or the newest commit that the origin has too."""
    if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
        return Source(str(root), wanted or "HEAD", "", "this is not a git clone, so the project cannot be updated")
    origin = git(root, "config", "--get", "remote.origin.url")
    shared = published(root, wanted or "HEAD") if origin else ""
    if not shared:
        reason = "the origin has no commit of this clone" if origin else "this clone has no origin"
        return Source(str(root), wanted or "HEAD", described(root, wanted or "HEAD"), f"{reason}, so {ANOTHER}")
    lacks = lacking(root, wanted or "HEAD", shared)
    reference = wanted or released(root, shared)
    return Source(address(origin, root), reference, described(root, reference), note(lacks, wanted, shared))


def released(root: Path, commit: str) -> str:
    """The release of a commit, if the template has not changed since; else the commit."""
    tag = git(root, "describe", "--tags", "--abbrev=0", commit)
    return commit if not tag or git(root, "diff", "--name-only", tag, commit, "--", *PARTS) else tag


def note(lacks: str, wanted: str | None, shared: str) -> str:
    """What to say of commits and changes that the origin lacks."""
    if not lacks:
        return ""
    if wanted:
        return f"the origin lacks {lacks}: push before the project is updated"
    return f'the origin lacks {lacks}, so this renders {shared[:7]}; ARGS="--vcs-ref HEAD" renders HEAD all the same'


def lacking(root: Path, reference: str, shared: str) -> str:
    """What of a reference the origin does not have; empty when it has all of it."""
    if git(root, "rev-parse", f"{reference}^{{commit}}") != shared:
        return reference
    return "the uncommitted changes" if reference == "HEAD" and git(root, "status", "--porcelain") else ""


def published(root: Path, reference: str) -> str:
    """The newest commit in the history of a reference that is in a remote-tracking branch of the origin."""
    missing = git(root, "rev-list", "--boundary", reference, "--not", "--remotes=origin").splitlines()
    border = [line[1:] for line in missing if line.startswith("-")]
    if missing and not border:
        return ""
    return git(root, "rev-list", "--no-walk", "--max-count=1", *(border or [reference]))


def described(root: Path, reference: str) -> str:
    """A commit as copier calls it."""
    return git(root, "describe", "--tags", "--always", f"{reference}^{{commit}}")


def address(origin: str, root: Path) -> str:
    """The origin as copier understands it anywhere, without password, token, or a user other than that of ssh."""
    if "://" in origin:
        cleaned = without_credentials(origin)
    elif ":" in origin.partition("/")[0]:  # host:path, by ssh
        cleaned = origin
    else:
        path = (root / Path(origin).expanduser()).resolve()
        if (path / ".git").exists():
            return str(path)
        cleaned = f"file://{path}"  # copier takes the path of a bare repository for one with a work tree
    return cleaned if GIT.match(cleaned) else f"git+{cleaned}"


def without_credentials(url: str) -> str:
    """The URL without password and query; ssh needs its user."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    user, _, host = host.rpartition("@")
    ssh = scheme.lower().endswith("ssh")
    kept = f"{user.partition(':')[0]}@" if ssh and user else ""
    return f"{scheme}://{kept}{host}{slash}{path if ssh else re.split('[?#]', path)[0]}"


def remember(project: Path, found: Source) -> None:
    """Write the source into the answers file, in copier's own style."""
    path = project / ANSWERS
    text = path.read_text(encoding="utf-8")
    for name, value in (("_src_path", found.address), ("_commit", found.commit)):
        line = yaml.safe_dump({name: value}, allow_unicode=True, width=float("inf"))
        text = re.sub(rf"^{name}:.*\n(?: .*\n)*", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def git(root: Path, *arguments: str) -> str:
    """What git prints; nothing when it fails."""
    run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    return "" if run.returncode else run.stdout.strip()

"""What a project remembers of its last update: a file in the folder of git, one for each project and work tree."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tabserve.updating.git import Git, GitError

BEFORE, RESULT = "refs/update/before", "refs/update/result"  # for people, and so that git keeps the objects
PICKED = "CHERRY_PICK_HEAD"  # git removes it when a commit or a reset ends the merge


@dataclass(frozen=True)
class Update:
    """An update that was written into the project."""

    before: str  # the commit
    tree: str  # what was written, with conflicts
    picked: str  # a commit of that tree
    message: str
    conflicts: dict[str, str]  # the reason of each file, by its path from the repository's root
    start: str  # the branch that it began on, or the commit
    branch: str = ""  # the new branch
    is_written: bool = False  # whether all of it was
    result: str = ""  # the commit, when it is there


def path_of(repository: Git, name: str) -> Path:
    """A file of the project's own in the folder of git."""
    prefix = repository.line("rev-parse", "--show-prefix")
    suffix = f"-{hashlib.sha256(prefix.encode()).hexdigest()[:8]}" if prefix else ""
    return Path(repository.line("rev-parse", "--path-format=absolute", "--git-path", f"template-update{suffix}{name}"))


def read(repository: Git) -> Update | None:
    """The last update, if there was one."""
    try:
        return Update(**json.loads(path_of(repository, ".json").read_text(encoding="utf-8")))
    except (GitError, FileNotFoundError, ValueError, TypeError):
        return None


def keep(repository: Git, update: Update) -> None:
    """Remember an update."""
    path_of(repository, ".json").write_text(json.dumps(asdict(update)), encoding="utf-8")


def forget(repository: Git) -> None:
    """Forget the last update, and its patch."""
    for name in (".json", ".patch"):
        path_of(repository, name).unlink(missing_ok=True)


def waiting(repository: Git) -> Update | None:
    """The update that waits for its conflicts; none where somebody has ended it with `git commit` or `git reset`."""
    update = read(repository)
    if update is None or update.result:
        return None
    now = [
        repository.run("rev-parse", "--quiet", "--verify", name, codes=(0, 1, 128)).strip() for name in (PICKED, "HEAD")
    ]
    return update if now == [update.picked, update.before] else None

"""Git's plumbing, the same under any configuration: no hook, signature or rerere."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NEUTRAL = {
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.fsmonitor": "false",
    "core.ignoreStat": "false",
    "advice.updateSparsePath": "false",
    "commit.gpgSign": "false",
    "rerere.enabled": "false",
    "merge.conflictStyle": "diff3",
    "merge.directoryRenames": "false",
    "merge.renames": "true",
    "merge.renameLimit": "10000",
    "diff.renames": "true",
    "diff.renameLimit": "10000",
    "protocol.file.allow": "always",
}
# What another git command, or a hook, says about its own repository.
ELSEWHERE = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_ATTR_SOURCE"),
)
AUTHOR = ("copier-mlops", "update@localhost")  # where git knows nobody
Entry = tuple[str, str]  # the mode of a file, and its object
Entries = dict[str, Entry]  # by path


def forget_elsewhere() -> None:
    """Programs that this one starts look for the repository where they run, also below a hook."""
    for name in ELSEWHERE:
        os.environ.pop(name, None)


class GitError(Exception):
    """What git said when it failed."""


@dataclass(frozen=True)
class Git:
    """A repository, or a folder inside one."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def raw(self, *arguments: str, content: bytes = b"", codes: tuple[int, ...] = (0,)) -> bytes:
        """The bytes that git prints; raises `GitError` for another exit code."""
        options = [word for name, value in NEUTRAL.items() for word in ("-c", f"{name}={value}")]
        known = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        variables = {**known, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **self.variables}
        done = subprocess.run(
            ["git", *options, *arguments], cwd=self.folder, env=variables, input=content, capture_output=True
        )
        if done.returncode not in codes:
            said = _text(done.stderr).strip() or _text(done.stdout).strip() or f"git {arguments[0]} failed"
            lines = said.splitlines()
            raise GitError(next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1]))
        return done.stdout

    def run(self, *arguments: str, text: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """What git prints; raises `GitError` for another exit code."""
        return _text(self.raw(*arguments, content=text.encode(errors="surrogateescape"), codes=codes))

    def parts(self, *arguments: str) -> list[str]:
        """What git prints with `-z`: paths may hold any character but NUL."""
        return list(_parts(self.run(*arguments)))

    def line(self, *arguments: str) -> str:
        """The one line that git prints."""
        return self.run(*arguments).strip()

    def has(self, *arguments: str) -> bool:
        """Whether a command succeeds."""
        try:
            self.raw(*arguments)
        except GitError:
            return False
        return True

    def store(self, content: bytes) -> str:
        """Keep the content of a file; returns its object."""
        return _text(self.raw("hash-object", "-w", "--stdin", content=content)).strip()

    def with_(self, **variables: str | Path) -> "Git":
        """The same with more variables in its environment."""
        return Git(self.folder, self.variables | {name: str(value) for name, value in variables.items()})

    def entries(self, tree: str) -> Entries:
        """The files of a tree."""
        return dict(_entry(line) for line in _parts(self.run("ls-tree", "-r", "-z", "--full-tree", tree)))

    def tree(self, entries: Entries, index: Path) -> str:
        """The tree that has these files; `index` is a path for a file that does not exist."""
        lines = "".join(f"{mode} {found}\t{path}\0" for path, (mode, found) in entries.items())
        git = self.with_(GIT_INDEX_FILE=index)
        git.run("update-index", "-z", "--index-info", text=lines)
        tree = git.line("write-tree")
        index.unlink(missing_ok=True)
        return tree

    def tree_of(self, folder: Path, index: Path) -> str:
        """The tree of all files in a folder, ignored ones too."""
        git = Git(folder, self.variables | {"GIT_DIR": self.line("rev-parse", "--absolute-git-dir")})
        git = git.with_(GIT_WORK_TREE=folder, GIT_INDEX_FILE=index)
        git.run("add", "--all", "--force", "--", ".")
        tree = git.line("write-tree")
        index.unlink(missing_ok=True)
        return tree

    def commit(self, tree: str, message: str, *parents: str) -> str:
        """A commit of a tree, which no branch has."""
        chosen = [word for parent in parents for word in ("-p", parent)]
        return self._with_author().line("commit-tree", tree, *chosen, "-m", message)

    def _with_author(self) -> "Git":
        name, address = AUTHOR
        for who in ("AUTHOR", "COMMITTER"):
            if not self.has("var", f"GIT_{who}_IDENT"):
                return self.with_(
                    GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=address, GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=address
                )
        return self


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _entry(line: str) -> tuple[str, Entry]:
    about, path = line.split("\t", 1)
    mode, _, found = about.split()[:3]
    return path, (mode, found)


def _parts(text: str) -> Iterator[str]:
    return (part for part in text.split("\0") if part)

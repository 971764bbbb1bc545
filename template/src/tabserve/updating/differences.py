"""How a project differs from what its own version of the template renders."""

from collections.abc import Iterator
from pathlib import Path

from tabserve.updating import merging, ownership, renders
from tabserve.updating.applying import LOCK
from tabserve.updating.git import Git
from tabserve.updating.session import package_of

HEADINGS: dict[ownership.Owner | None, str] = {
    "template's": "the template's: an update merges its changes with yours",
    "shared": "shared: an update merges its changes with yours",
    "yours": "yours: an update leaves them alone",
    None: "yours, and unknown to the template",
}


def lines(project: Path, template: Path, folder: Path, patch: bool) -> Iterator[str]:
    """The files that differ, by owner, with the numbers of lines added and removed; the differences, if `patch`."""
    repository, answers = Git(project), renders.answers_of(project)
    renders.render(template, answers["_commit"], answers, folder / "old", answers["_src_path"])
    git = merging.scratch(repository, folder / "scratch.git")
    prefix = repository.line("rev-parse", "--show-prefix")
    trees = (git.tree_of(folder / "old", folder / "index"), _today(repository, git, folder / "index", prefix))
    if patch:
        yield git.run("diff", "-M", "--no-ext-diff", *trees, "--", ".", f":(exclude){LOCK}").rstrip("\n")
        return
    package, found = package_of(folder / "old"), git.parts("diff", "--numstat", "-z", "--no-renames", *trees)
    numbers = {path: (added, removed) for added, removed, path in (line.split("\t", 2) for line in found)}
    for owner, heading in HEADINGS.items():
        if some := sorted(path for path in numbers if ownership.owner(path, package) == owner):
            yield heading
            yield from (f"  {path}  +{numbers[path][0]} -{numbers[path][1]}" for path in some)


def _today(repository: Git, scratch: Git, index: Path, prefix: str) -> str:
    """The tree of the project as it is on disk, without what git ignores; nothing is added to the repository."""
    objects = repository.line("rev-parse", "--path-format=absolute", "--git-path", "objects")
    git = repository.with_(
        GIT_INDEX_FILE=index,
        GIT_OBJECT_DIRECTORY=scratch.folder / "objects",
        GIT_ALTERNATE_OBJECT_DIRECTORIES=objects,
    )
    git.run("read-tree", "HEAD")
    git.run("add", "--all", "--", ".")
    tree = git.line("rev-parse", f"{git.line('write-tree')}:{prefix}")
    index.unlink()
    return tree

"""What an update of 1 and of 10 projects costs with `update`, beside `copier update`.

    .venv/bin/python benchmarks/update.py [ROUNDS]

Measures the last commit, in whole processes: each project has an edit in a file that the template changes. `update`
runs without its checks after the merge, which `copier update` does not have; `preview` is `update --dry-run`. Shown are
the medians of the seconds and CPU seconds of all projects together; x is the median over the rounds of how often they
are those of `copier update` in the same round.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from render import COPIER, EDITED, GIT, MINE, NEW, OLD, ROOT, THEIRS, UV, asked_rounds, commit, release, run, versions

COUNTS = (1, 10)
NAME, START = "benchmark", "start"
TASK = (UV, "run", "--quiet", "--no-sync", NAME, "update", "--no-checks")
COMMANDS: dict[str, tuple[str | Path, ...]] = {
    "copier update": (*COPIER, "update", "--defaults"),
    "update": (*TASK, "--yes"),
    "preview": (*TASK, "--dry-run"),
}
Cost = tuple[float, float]  # seconds, CPU seconds


def main() -> None:
    """Measure and print."""
    rounds = asked_rounds(sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(GIT, UV=UV)
        projects = made(Path(name).resolve())
        print(f"{versions()}\n{rounds} rounds\n")
        print(f"{'projects':>8} {'command':<14} {'s':>7} {'CPU s':>7} {'x':>5} {'CPU x':>6}")
        for count in COUNTS:
            report(count, [measured(projects[:count], turn) for turn in range(rounds + 1)][1:])


def made(folder: Path) -> list[Path]:
    """Projects of the old version with an edit each; they share an environment."""
    run("git", "clone", "-q", "--no-tags", ROOT, folder / "template")
    release(folder / "template")
    first, *others = (folder / f"project {number}" for number in range(max(COUNTS)))
    answers = ("--data", f"project_name={NAME}", "--vcs-ref", OLD)
    run(*COPIER, "copy", "-q", "--defaults", *answers, folder / "template", first)
    (first / EDITED).write_text(MINE + (first / EDITED).read_text())
    run(UV, "lock", "--quiet", cwd=first)
    run("git", "init", "-q", first)
    commit(first, "Start")
    run("git", "tag", START, cwd=first)
    with (first / ".git/info/exclude").open("a") as file:
        file.write(".venv\n")  # a link is not the folder that .gitignore names
    for other in others:
        shutil.copytree(first, other, symlinks=True)
        (other / ".venv").symlink_to(first / ".venv")
    run(UV, "sync", "--quiet", "--no-dev", "--python", sys.executable, cwd=first)
    return [first, *others]


def measured(projects: list[Path], turn: int) -> dict[str, Cost]:
    """What each command costs for all projects, every other round in turned order."""
    return {name: cost(name, projects) for name in list(COMMANDS)[:: -1 if turn % 2 else 1]}


def cost(name: str, projects: list[Path]) -> Cost:
    """What one command costs; ends with one line when it has not done its work."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for project in projects:
        run(*COMMANDS[name], cwd=project)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    for project in projects:
        text = (project / EDITED).read_text()
        if not text.startswith(MINE) or (THEIRS in text) == (name == "preview"):
            raise SystemExit(f"error: {name} of {NEW}: {EDITED} is not as it should be")
        run("git", "reset", "-q", "--hard", START, cwd=project)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(count: int, rounds: list[dict[str, Cost]]) -> None:
    """Print a line for each command."""
    for name in COMMANDS:
        seconds, cpu = (median(costs[name][which] for costs in rounds) for which in (0, 1))
        ratios = [median(costs[name][which] / costs["copier update"][which] for costs in rounds) for which in (0, 1)]
        print(f"{count:>8} {name:<14} {seconds:>7.2f} {cpu:>7.2f} {ratios[0]:>5.2f} {ratios[1]:>6.2f}")


if __name__ == "__main__":
    main()

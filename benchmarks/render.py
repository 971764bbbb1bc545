"""What `copier copy` and `copier update` of this template cost, beside plain files and cookiecutter.

    .venv/bin/python benchmarks/render.py [ROUNDS]

Measures the last commit, in whole processes, with the copier of the Python it runs in. Needs git, and uv (or the
`.venv` of this repository) to install cookiecutter into an environment in the temporary folder, which is kept for the
next run.

A round runs each command once, every other round in turned order: so other work on the machine weighs on all alike.
Shown are the median and the least of the seconds and CPU seconds; x is the median over the rounds of how often they are
those of the plain files, in the same round.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROUNDS = 7
MOST = 1.3  # times the plain files
COOKIECUTTER = "cookiecutter==2.7.1"
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))  # also that of these tests
ROOT = Path(__file__).resolve().parents[1]
COPIER = (sys.executable, "-m", "copier")
ANSWERS_FILE = "{{ _copier_conf.answers_file }}.jinja"  # without it there is no update
ANSWERS = "{{ _copier_answers | to_nice_yaml -}}\n"
OLD, NEW = "v1.0.0", "v2.0.0"
OURS, ONE, PLAIN = "this template", "one plain file", "as many plain files"
COPY, UPDATE = "copier copy", "copier update"
EDITED = "Makefile"  # what both sides change
MINE, THEIRS = "# A line of the project.\n", "# A line of the template.\n"
GIT = {f"GIT_{who}_{what}": "benchmark@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
Cost = tuple[float, float]  # seconds, CPU seconds


class Case(NamedTuple):
    """A command, how many files it leaves, and the project that it begins with."""

    what: str
    template: str
    command: tuple[str | Path, ...]
    files: int
    project: Path | None = None


def main() -> None:
    """Measure and print."""
    rounds = asked_rounds(sys.argv[1:])
    if not shutil.which("git") or not importlib.util.find_spec("copier"):
        raise SystemExit("error: git or copier is not there: use .venv/bin/python, which `make test` sets up")
    cookiecutter = environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.environ.update(GIT, HOME=name, XDG_CONFIG_HOME=name, GIT_CONFIG_NOSYSTEM="1")
        made = templates(folder)
        cases = [copied(folder, what, template) for what, template in made.items()]
        cases.append(baked(folder, cookiecutter, made[PLAIN]))
        cases += [updated(folder, what, template) for what, template in made.items()]
        print(f"{versions()}\n{rounds} rounds\n")
        report(cases, measured(cases, rounds, folder / "out"))


def asked_rounds(arguments: list[str]) -> int:
    """How many rounds the command line asks for."""
    if len(arguments) > 1 or not all(re.fullmatch("[1-9][0-9]{0,3}", text) for text in arguments):
        raise SystemExit(f"error: {' '.join(arguments)!r} is not a number of rounds: give 1 to 9999, or nothing")
    return int(arguments[0]) if arguments else ROUNDS


def environment() -> Path:
    """The interpreter of the environment with cookiecutter, made where it is not there."""
    folder = Path(tempfile.gettempdir()) / "copier-mlops-cookiecutter"
    interpreter = folder / "bin/python"
    if not interpreter.exists():
        run(UV, "venv", "-q", "--clear", "--python", sys.executable, folder)
    run(UV, "pip", "install", "-q", "--python", interpreter, COOKIECUTTER)
    return interpreter


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; ends with one line when it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error.filename} is not there: install it") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise SystemExit(f"error: {' '.join(map(str, command))} failed: {said[-1]}")
    return done.stdout


def templates(folder: Path) -> dict[str, Path]:
    """Three templates, each with an old and a new version: this one, one file, and as many files as this one gives."""
    ours, one, plain = folder / "ours", folder / "one", folder / "plain"
    run("git", "clone", "-q", "--no-tags", ROOT, ours)
    release(ours)
    run(*COPIER, "copy", "-q", "--defaults", "--vcs-ref", OLD, ours, folder / "rendered")
    (folder / "rendered/.copier-answers.yml").unlink()
    shutil.copytree(folder / "rendered", plain / "template", symlinks=True)
    (one / "template").mkdir(parents=True)
    shutil.copy(folder / "rendered" / EDITED, one / "template")
    for template in (one, plain):
        (template / "copier.yml").write_text("_subdirectory: template\n")
        (template / "template" / ANSWERS_FILE).write_text(ANSWERS)
        run("git", "init", "-q", template)
        release(template)
    return {OURS: ours, ONE: one, PLAIN: plain}


def release(template: Path) -> None:
    """Tag what is there as the old version and a changed file as the new one; packed, as it comes from a server."""
    commit(template, "Old")
    run("git", "tag", OLD, cwd=template)
    with next(template.glob(f"template/{EDITED}*")).open("a") as file:
        file.write(THEIRS)
    commit(template, "New")
    run("git", "tag", NEW, cwd=template)
    run("git", "gc", "-q", cwd=template)


def commit(repository: Path, message: str) -> None:
    """Commit all files, also those that .gitignore names."""
    run("git", "add", "-A", "-f", cwd=repository)
    run("git", "commit", "-q", "--allow-empty", "-m", message, cwd=repository)


def copied(folder: Path, what: str, template: Path) -> Case:
    """A copy of a template's new version."""
    trial = folder / f"copy of {template.name}"
    run(*COPIER, "copy", "-q", "--defaults", template, trial)
    return Case(COPY, what, (*COPIER, "copy", "--defaults", template, folder / "out"), len(files(trial)))


def updated(folder: Path, what: str, template: Path) -> Case:
    """An update to a template's new version of a project with work of its own."""
    project = folder / f"project of {template.name}"
    run(*COPIER, "copy", "-q", "--defaults", "--vcs-ref", OLD, template, project)
    run("git", "init", "-q", project)
    commit(project, "Start")
    edited = project / EDITED
    edited.write_text(MINE + edited.read_text())
    commit(project, "Work")
    return Case(UPDATE, what, (*COPIER, "update", "--defaults", folder / "out"), len(files(project)), project)


def baked(folder: Path, python: Path, plain: Path) -> Case:
    """The same files through cookiecutter, which renders each; what Jinja would trip over is copied, as people do."""
    template, inner = folder / "cookiecutter", folder / "cookiecutter/{{ cookiecutter.name }}"
    shutil.copytree(plain / "template", inner, symlinks=True)
    (inner / ANSWERS_FILE).rename(inner / ".copier-answers.yml")
    verbatim = [name for name in files(inner) if re.search(rb"{[{%#]", (inner / name).read_bytes())]
    (template / "cookiecutter.json").write_text(json.dumps({"name": "out", "_copy_without_render": verbatim}))
    config = folder / "cookiecutter.yaml"
    config.write_text(json.dumps({"cookiecutters_dir": str(folder), "replay_dir": str(folder / "replay")}))
    command = (python, "-m", "cookiecutter", "--no-input", "--config-file", config, "-o", folder, template)
    return Case("cookiecutter", "as many files", command, len(files(inner)))


def files(folder: Path) -> list[str]:
    """The files below a folder, without git's own."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return [path.as_posix() for path in found if path.parts[0] != ".git"]


def versions() -> str:
    """What is compared, with what."""
    python, git = sys.version.split()[0], run("git", "--version").split()[2]
    return f"copier {version('copier')}, {COOKIECUTTER.replace('==', ' ')}, Python {python}, git {git}"


def measured(cases: list[Case], rounds: int, out: Path) -> list[list[Cost]]:
    """The costs of each case; the first round warms up and does not count."""
    costs: list[list[Cost]] = [[] for _ in cases]
    for turn in range(rounds + 1):
        for index in range(len(cases))[:: -1 if turn % 2 else 1]:
            cost = once(cases[index], out)
            if turn:
                costs[index].append(cost)
    return costs


def once(case: Case, out: Path) -> Cost:
    """What one run costs; ends with one line when it has not done its work."""
    shutil.rmtree(out, ignore_errors=True)
    if case.project:
        shutil.copytree(case.project, out, symlinks=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run(*case.command)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    text = (out / EDITED).read_text()
    if len(files(out)) != case.files or THEIRS not in text or text.startswith(MINE) != bool(case.project):
        raise SystemExit(f"error: {case.what}, {case.template}: the files are not those it should leave")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(cases: list[Case], costs: list[list[Cost]]) -> None:
    """Print the lines, and whether a copy costs at most so many times one of the plain files."""
    kinds = "   ".join(f"{kind:>6} {'least':>6} {'x':>5}" for kind in ("s", "CPU s"))
    print(f"{'command':<14} {'template':<20} {'files':>5}   {kinds}")
    plain = {case.what: cost for case, cost in zip(cases, costs, strict=True) if case.template == PLAIN}
    for case, cost in zip(cases, costs, strict=True):
        cells = [cell(cost, plain.get(case.what, plain[COPY]), which) for which in (0, 1)]
        print(f"{case.what:<14} {case.template:<20} {case.files:>5}   {'   '.join(cells)}")
    times = [ratio(costs[0], plain[COPY], which) for which in (0, 1)]
    said = f"{'yes' if max(times) <= MOST else 'no'} ({times[0]:.2f}x, CPU {times[1]:.2f}x)"
    print(f"\na copy of this template takes at most {MOST}x one of as many plain files: {said}")


def cell(costs: list[Cost], plain: list[Cost], which: int) -> str:
    """Median and least of one kind of seconds, and how often it is that of the plain files."""
    seconds = [cost[which] for cost in costs]
    return f"{median(seconds):>6.2f} {min(seconds):>6.2f} {ratio(costs, plain, which):>5.2f}"


def ratio(costs: list[Cost], plain: list[Cost], which: int) -> float:
    """The median over the rounds of how often one cost is the other."""
    return median(one[which] / other[which] for one, other in zip(costs, plain, strict=True))


if __name__ == "__main__":
    main()

"""Start a project and prove that it works: render, set up, train, serve, predict once, stop.

    make new DEST=../my-model [ANSWERS=answers.yml] [ARGS="--data estimator=linear"]

`ARGS` is split into words and handed to `copier copy`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from copier import load_settings
from copier.errors import CopierError
from jinja2 import Environment, FileSystemLoader

from tools import origin

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 30
NEEDED = (".copier-answers.yml", "config.toml", "Makefile")
OURS = ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")  # what this repository's make hands on is not for the project's
OPTIONS = {
    ("-q", "--quiet"): ("--quiet",),
    ("-l", "--defaults"): ("--defaults",),
}
# The questions whose defaults git knows: its setting, and the validator of the answer.
OF_GIT = {"user_name": ("user.name", "person"), "user_email": ("user.email", "email")}


class NewProjectError(Exception):
    """What went wrong, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the project; returns the exit code."""
    parser = argparse.ArgumentParser(description="Start a project and prove that it works.")
    parser.add_argument("destination", type=Path)
    parser.add_argument("--answers", type=Path, help="a YAML file with answers; every other question gets its default")
    parser.add_argument("--args", default="", help="options of copier copy, as one text")
    known = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        project = create(known.destination, known.answers, words(known.args))
    except NewProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(closing(known.destination, project, time.monotonic() - started))
    return 0


def words(arguments: str) -> list[str]:
    """The text as a shell would split it, but nothing in it is run; raises `NewProjectError`."""
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise NewProjectError(f"ARGS: {str(error).lower()}") from None


def create(destination: Path, answers: Path | None, copier_arguments: Sequence[str]) -> Path:
    """All the steps, each announced; returns the project's folder.

    Raises:
        NewProjectError: a step failed.
    """
    project = checked_destination(destination, answers)
    given = {**(answers_in(answers) if answers else {}), **given_data(copier_arguments)}
    check_names(given)
    say(1, f"render the template into {destination}")
    render(project, answers, copier_arguments, [*own_answers(given)])
    check_data(project)
    say(2, "set the project up: git, dependencies")
    task(project, "setup")
    say(3, "train")
    task(project, "train")
    say(4, "serve, predict once, stop")
    with serving(project) as url:
        show_prediction(url)
    return project


def say(step: int, text: str) -> None:
    """Announce one of the four steps."""
    print(f"\n[{step}/4] {text}", flush=True)


def checked_destination(destination: Path, answers: Path | None) -> Path:
    """The absolute destination, when it is free and can be made, and the answers are there."""
    try:
        taken = destination.exists() and (not destination.is_dir() or any(destination.iterdir()))
        project = destination.resolve()
        check_writable(project)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NewProjectError(f"{destination} cannot be made ({reason}): choose another DEST") from None
    if taken:
        raise NewProjectError(f"{destination} exists and is not empty: choose another DEST")
    if answers is not None and not answers.is_file():
        raise NewProjectError(f"{answers} does not exist: ANSWERS names a YAML file with answers")
    return project


def check_writable(folder: Path) -> None:
    """Something can be made in the folder, or in the nearest one that there is above it.

    Raises:
        OSError: nothing can.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest == folder and not folder.is_dir():
        return  # taken: the caller says so
    with tempfile.TemporaryDirectory(dir=nearest):
        pass


def given_data(copier_arguments: Sequence[str]) -> dict[str, str]:
    """The answers in `--data question=answer`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-d", "--data", action="append", default=[])
    given = parser.parse_known_args(copier_arguments)[0].data
    if wrong := next((item for item in given if "=" not in item), None):
        raise NewProjectError(f"--data {wrong}: write --data question=answer")
    return dict(item.split("=", 1) for item in given)


def check_names(names: Iterable[str]) -> None:
    """Every answer belongs to a question; copier itself would ignore the others without a word."""
    questions = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    asked = [name for name, question in questions.items() if name[0] != "_" and question.get("when") is not False]
    for name in names:
        if name not in asked and not str(name).startswith("_"):
            raise NewProjectError(f"there is no question {name!r}; there are {', '.join(asked)}")


def own_answers(given: Mapping[str, Any]) -> Iterator[str]:
    """Answers for copier that a template cannot find out: who the user is, as git knows it, and what `~` is."""
    if str(given.get("data_path", "")).startswith("~"):
        with suppress(RuntimeError):  # no such user: the question's validator says so
            yield from ("--data", f"data_path={Path(given['data_path']).expanduser()}")
    try:
        settled = {*given, *load_settings().defaults}
    except CopierError as error:
        raise NewProjectError(f"copier's settings: {' '.join(str(error).split())}") from None
    for name, (setting, validator) in OF_GIT.items():
        value = origin.git(ROOT, "config", "--get", setting)
        if name not in settled and value and is_valid(value, validator):
            yield from ("--data", f"{name}={value}")


def is_valid(answer: str, validator: str) -> bool:
    """Whether a macro of extensions/validate.jinja accepts the answer."""
    extensions = ["jinja2_ansible_filters.AnsibleCoreFiltersExtension"]
    environment = Environment(loader=FileSystemLoader(ROOT), extensions=extensions, autoescape=False)
    text = f"{{% from 'extensions/validate.jinja' import {validator} as check %}}{{{{ check(answer) }}}}"
    return not environment.from_string(text).render(answer=answer).strip()


def answers_in(path: Path) -> dict[str, Any]:
    """The answers of a YAML file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NewProjectError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise NewProjectError(f"{path} is not a list of answers: write one `question: answer` a line")
    return document


def check_data(project: Path) -> None:
    """The table that the project learns from is there, or has an address; else the project is taken away again."""
    configured = tomllib.loads((project / "config.toml").read_text(encoding="utf-8"))["contract"]["data"]
    if "://" in configured or is_file(project / configured):
        return
    shutil.rmtree(project)
    raise NewProjectError(
        f"{configured} does not exist: name data_path from the root of the file system, or start with the sample "
        "and say `make contract DATA=...` in the project"
    )


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that is too long is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def render(project: Path, answers: Path | None, copier_arguments: Sequence[str], own: Sequence[str] = ()) -> None:
    """`copier copy` of this clone; the project remembers where `copier update` finds the template."""
    wanted = wanted_reference(copier_arguments)
    found = origin.source(ROOT, wanted)
    command = [sys.executable, "-m", "copier", "copy", *own_options(copier_arguments)]
    given = ["--data-file", str(answers.resolve())] if answers else []
    given += [] if wanted else ["--vcs-ref", found.reference]
    run = subprocess.run(
        [*command, *given, *copier_arguments, *own, str(ROOT), str(project)], capture_output=True, text=True, cwd=ROOT
    )
    if run.returncode:
        raise NewProjectError(last_line(run.stderr or run.stdout))
    if not all((project / name).is_file() for name in NEEDED):
        shutil.rmtree(project, ignore_errors=True)
        raise NewProjectError(f"{', '.join(copier_arguments)} leaves out what a project needs: use copier itself")
    origin.remember(project, found)
    if found.note:
        print(f"note: {found.note}", flush=True)


def wanted_reference(copier_arguments: Sequence[str]) -> str | None:
    """What the user wants to be rendered, if it is said."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-r", "--vcs-ref")
    wanted: str | None = parser.parse_known_args(copier_arguments)[0].vcs_ref
    return wanted


def own_options(given: Sequence[str]) -> Iterator[str]:
    """The options that `make new` gives to copier, but for those that are given already."""
    for names, option in OPTIONS.items():
        if not any(argument.partition("=")[0] in names for argument in given):
            yield from option


def last_line(text: str) -> str:
    """What a command complained about: the last line that says something, without the exception's class."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    usage = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    said = [re.sub(r"^([\w.]*Error: )?(\[Errno \d+\] )?", "", line) for line in lines]
    return (usage or said or ["copier failed without a word"])[-1]


def task(project: Path, name: str) -> None:
    """Run a task of the project; its output is shown as it comes."""
    theirs = {key: value for key, value in os.environ.items() if key not in OURS}
    if subprocess.run(["make", "--no-print-directory", "-C", str(project), name], env=theirs).returncode:
        raise NewProjectError(f"`make {name}` failed in {project}, see above: fix it there and run it again")


@contextmanager
def serving(project: Path) -> Iterator[str]:
    """The server of the project, ready, on a free port; stopped at the end, whatever happens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    package = next(project.glob("src/*/__main__.py")).parent.name
    command = [str(project / ".venv/bin/python"), "-m", package, "serve", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=log, env=environment())
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            if process.wait(30):
                raise NewProjectError(f"the server ended with code {process.returncode}")
        except (NewProjectError, OSError) as error:
            log.seek(0)
            raise NewProjectError(f"{error}; the server's last words: {last_line(log.read())}") from None
        finally:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """The environment without settings that a user may have exported for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SERVE_")}


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask `/readyz` until it answers 200."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise NewProjectError(f"the server was not ready within {READY_SECONDS} s")


def show_prediction(url: str) -> None:
    """Ask for a prediction with the example that the server's own OpenAPI document shows."""
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        content = json.load(answer)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    row = content["examples"]["one row"]["value"]
    request = urllib.request.Request(f"{url}/predict", json.dumps(row).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        prediction = json.load(answer)
    print(f"POST /predict {shown(row)}\n200 OK        {shown(prediction)}")


def shown(document: Any) -> str:
    """The document on one line, as people write it."""
    return json.dumps(document, ensure_ascii=False)


def closing(destination: Path, project: Path, seconds: float) -> str:
    """What there is now, and what to do next."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    name, port = answers["project_name"], answers["port"]
    return f"""
{name} works: generated, trained and queried in {seconds:.0f} s. Nothing is left running. Next:

  cd {shlex.quote(str(destination))}
  git add . && git commit -m "Start from the template"
  make serve      # the API; try it at http://127.0.0.1:{port}/docs
  make contract DATA=your.csv TARGET=column && make train     # your own data
  make help       # everything else
"""


if __name__ == "__main__":
    raise SystemExit(main())

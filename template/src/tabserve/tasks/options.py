"""The tasks and their options."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tabserve.errors import printable, suggestion

Option = tuple[tuple[str, ...], dict[str, Any]]


def _option(*names: str, **given: Any) -> Option:
    return names, given


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("name a file")
    return text


# Each task is a function in its group's module; each task of the group `model` has a module of its own.
GROUPS = {
    "model": {
        "contract": "infer contract.yaml from a table: CSV, Parquet, Excel or JSON Lines",
        "train": "train and evaluate the model, and export it to model/model.onnx",
        "check-data": "compare a table with the contract and the training data",
        "predict": "score a table and write a CSV or Parquet file",
        "serve": "serve the model over HTTP",
    },
    "image": {
        "image": "build the server's image",
        "jobs-image": "build the image for cluster jobs (training and batch scoring)",
        "run": "run the image in a container",
        "size": "load-test the image, and propose requests, limits and the autoscaling target",
        "push": "push the image under two tags: commit and model digest, and the project's version",
        "push-jobs": "push the image for cluster jobs",
        "ps": "show the container",
        "stop": "stop the container after it finishes the requests in flight",
        "rm": "remove the container",
    },
    "cluster": {
        "check-k8s": "check the manifests against each other and the application",
        "cluster": "create a local cluster with kind, a registry and metrics",
        "deploy": "apply k8s/ and wait until the new pods are serving",
        "status": "show what is running",
        "logs": "show the pods' logs",
        "rollback": "return to the previous release; run it again to undo",
        "undeploy": "remove everything, including the namespace with its PersistentVolumeClaims and Secrets",
    },
    "development": {
        "setup": "create a git repository if there is none; `uv run` creates .venv",
        "test": "run the tests; other options are passed to pytest",
        "lint": "check style, types and manifests",
        "format": "apply automatic fixes and format the code",
        "hooks": "run `lint` before each commit and `test` before each push",
        "clean": "remove caches and builds, but keep the model and the environment",
    },
    "template": {
        "update": "show what the template has changed since, and merge it",
        "update-check": "say whether the template has a newer version: exit code 2 if it has",
        "update-diff": "show how the project differs from its version of the template",
        "update-continue": "commit an update whose conflicts are resolved",
        "update-abort": "go back to the commit before the update",
        "update-request": "push an update to a branch, and open a pull request: for scheduled CI jobs",
    },
}
FORCE = _option(
    "--force", action="store_true", help="replace files that this project did not write, or that were changed"
)
FROM = _option("--from", dest="source", metavar="URL", help="the template's address; default: where it was last")
IMAGE = _option("--image", metavar="NAME", help="registry/name:tag; default tag: from commit and model digest")
OPTIONS: dict[str, tuple[Option, ...]] = {
    "contract": (
        _option("data", nargs="?", metavar="DATA", help="file or URL; default: from contract.yaml, else config.toml"),
        _option("--target", help="the column to predict; prompted for if omitted (interactive terminals only)"),
        _option("--task", choices=("classification", "regression"), help="default: inferred from the target"),
        _option(
            "--write", action="store_true", help="replace contract.yaml even if it was edited or is for the same target"
        ),
    ),
    "train": (
        _option("--data", help="file or URL; default: from contract.yaml"),
        _option("--seed", type=int, help="default: [train] seed in config.toml"),
        FORCE,
    ),
    "check-data": (
        _option("data", metavar="DATA", type=_file, help="the file or URL to check"),
        _option("--report", type=Path, help="default: [check] report in config.toml"),
        FORCE,
    ),
    "predict": (
        _option("data", metavar="DATA", type=_file, help="the file or URL to score"),
        _option("out", metavar="OUT", type=lambda text: Path(_file(text)), help="the file to write, .csv or .parquet"),
        _option("--raw-cells", action="store_true", help="do not mark texts that a spreadsheet would run as formulas"),
        FORCE,
    ),
    "serve": (
        _option("--host", help="default: [serve] host in config.toml"),
        _option("--port", type=int, help="default: [serve] port in config.toml"),
    ),
    **dict.fromkeys(("image", "jobs-image", "push", "push-jobs"), (IMAGE,)),
    "run": (IMAGE, _option("--port", type=int, help="port on this machine; default: [serve] port in config.toml")),
    "size": (
        IMAGE,
        _option("--rps", metavar="N", help="requests/s that one pod should serve; default: its maximum"),
        _option("--write", action="store_true", help="write the proposal to k8s/"),
        _option("--seconds", metavar="N", help="duration of each load test"),
        _option("--cpus", metavar="N", help="CPU limit for the load test; default: from k8s/deployment.yaml"),
        _option("--memory", metavar="N", help="memory limit for the load test; default: from k8s/deployment.yaml"),
    ),
    "check-k8s": (_option("piped", nargs="?", choices=("-",), help="read kustomize's output from standard input"),),
    "update": (
        _option("--to", metavar="VERSION", help="default: the newest release"),
        FROM,
        _option("--data", metavar="KEY=VALUE", action="append", default=[], help="another answer to a question"),
        _option("--answers", metavar="FILE", type=Path, help="a YAML file with other answers"),
        _option("--branch", metavar="NAME", default="", help="commit to a new branch"),
        _option("--yes", action="store_true", help="do not ask"),
        _option("--dry-run", action="store_true", help="only show what would happen"),
        _option("--json", action="store_true", help="show it as one JSON object"),
        _option("--no-checks", action="store_true", help=argparse.SUPPRESS),  # for tests
    ),
    "update-continue": (_option("--no-checks", action="store_true", help=argparse.SUPPRESS),),
    "update-check": (FROM,),
    "update-request": (FROM, _option("--provider", choices=("github", "gitlab", "azure"), required=True)),
    "update-diff": (_option("--patch", action="store_true", help="show the differences, not their sizes"),),
    "deploy": (
        IMAGE,
        _option("--render", action="store_true", help="print the manifests without applying them"),
        _option("--unchecked", action="store_true", help="skip the checks before applying"),
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line, and whose help lists the tasks by group."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        if unknown := re.match(r"argument TASK: invalid choice: '(.*?)'", message):
            tasks = [task for tasks in GROUPS.values() for task in tasks]
            message = f"there is no task {unknown[1]!r}{suggestion(unknown[1], tasks)}"
        listed = "tasks and options" if self._subparsers else "options"
        self.exit(2, printable(f"error: {message}; `{self.prog} --help` lists the {listed}") + "\n")

    def format_help(self) -> str:
        """The help; that of all tasks lists them at its end."""
        return super().format_help() + "".join(_listed() if self._subparsers else ())


def _listed() -> Iterator[str]:
    for group, tasks in GROUPS.items():
        yield f"\n{group}:\n"
        yield from (f"  {name:<15} {what}\n" for name, what in tasks.items())


def _words(arguments: list[str]) -> list[str]:
    """The arguments, with the words in place of `--args=...`: make passes `ARGS` so, and no shell splits it."""
    if not arguments[1:] or not arguments[1].startswith("--args="):
        return arguments
    return [arguments[0], *shlex.split(arguments[1].removeprefix("--args=")), *arguments[2:]]


def parse(name: str, arguments: list[str] | None) -> argparse.Namespace:
    """The task that the arguments name, with its options; `test` passes options that it does not know to pytest."""
    top = Parser(prog=name, usage=f"{name} TASK [options]", description="Train, serve and maintain one model.")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsers = top.add_subparsers(prog=name, required=True, metavar="TASK", help=argparse.SUPPRESS)
    for group, tasks in GROUPS.items():
        for task, what in tasks.items():
            parser, function = (
                parsers.add_parser(task, description=f"{what[0].upper()}{what[1:]}."),
                task.replace("-", "_"),
            )
            parser.set_defaults(module=function if group == "model" else group, function=function, parser=parser)
            parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback")
            for names, given in OPTIONS.get(task, ()):
                parser.add_argument(*names, **given)
    try:
        parsed, unknown = top.parse_known_args(_words(sys.argv[1:] if arguments is None else arguments))
    except ValueError as error:
        top.error(f"ARGS: {str(error).lower()}")
    if unknown and parsed.function != "test":
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    parsed.unknown = unknown
    return parsed

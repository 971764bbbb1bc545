"""The tasks and their options."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help lists the tasks by group.

    Attributes:
        groups: for each group the tasks with what they do; none for the parser of a single task.
    """

    def __init__(self, *, debug: object = argparse.SUPPRESS, **given: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **given)  # type: ignore[arg-type]
        self.groups: dict[str, list[tuple[str, str]]] = {}
        self.add_argument("--debug", action="store_true", default=debug, help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` shows what there is\n")

    def format_help(self) -> str:
        """The help, with the tasks at its end."""
        return super().format_help() + "".join(self._listed())

    def _listed(self) -> Iterator[str]:
        for group, tasks in self.groups.items():
            yield f"\n{group}:\n"
            yield from (f"  {name:<12} {what}\n" for name, what in tasks)


class Tasks:
    """Adds tasks to a parser, group by group."""

    def __init__(self, top: Parser) -> None:
        self.top, self.parsers = top, top.add_subparsers(required=True, metavar="TASK", help=argparse.SUPPRESS)

    def add(self, group: str, name: str, what: str) -> Parser:
        """Add a task: a function of the group's module, or of its own in the group of the model."""
        self.top.groups.setdefault(group, []).append((name, what))
        function = name.replace("-", "_")
        task: Parser = self.parsers.add_parser(name, description=f"{what[0].upper()}{what[1:]}.")
        task.set_defaults(module=function if group == "model" else group, function=function)
        return task


def parse(name: str, arguments: list[str] | None) -> argparse.Namespace:
    """The task that the arguments name, with its options; `test` hands what it does not know itself to pytest."""
    top = parser(name)
    parsed, unknown = top.parse_known_args(arguments)
    if unknown and parsed.function != "test":
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    parsed.unknown = unknown
    return parsed


def parser(name: str) -> Parser:
    """The tasks and their options."""
    top = Parser(prog=name, description="Train, serve and keep one model.", debug=False)
    tasks = Tasks(top)
    for add in (_model, _image, _cluster, _development):
        add(tasks)
    return top


def _model(tasks: Tasks) -> None:
    contract = tasks.add("model", "contract", "infer contract.yaml from a table: CSV, Parquet, Excel or JSON Lines")
    contract.add_argument(
        "data", nargs="?", metavar="DATA", help="file or URL; default: from contract.yaml, else from config.toml"
    )
    contract.add_argument("--target", help="the column to predict; if omitted, a terminal prompts for it")
    contract.add_argument("--task", choices=("classification", "regression"), help="default: inferred from the target")
    contract.add_argument(
        "--write", action="store_true", help="replace contract.yaml even if it was edited or has the same target"
    )

    train = tasks.add("model", "train", "train and evaluate the model, export it to model/model.onnx")
    train.add_argument("--data", help="file or URL; default: from contract.yaml")
    train.add_argument("--seed", type=int, help="default: [train] seed in config.toml")

    check = tasks.add("model", "check-data", "compare a table with the contract and the training data")
    check.add_argument("data", metavar="DATA", help="the file or URL to check")
    check.add_argument("--report", type=Path, help="default: [check] report in config.toml")

    predict = tasks.add("model", "predict", "score a table and write a CSV or Parquet file")
    predict.add_argument("data", metavar="DATA", help="the file or URL to score")
    predict.add_argument("out", metavar="OUT", type=Path, help="the file to write, .csv or .parquet")

    serve = tasks.add("model", "serve", "serve the model over HTTP")
    serve.add_argument("--host", help="default: [serve] host in config.toml")
    serve.add_argument("--port", type=int, help="default: [serve] port in config.toml")


def _image(tasks: Tasks) -> None:
    images = {
        "image": "build the server's image",
        "jobs-image": "build the image for cluster jobs: training, batch scoring",
        "run": "run the image in a container",
        "size": "load-test the image, propose requests, limits and the autoscaling target",
        "push": "push the image, tagged with the commit and the version",
        "push-jobs": "push the image for cluster jobs",
    }
    for name, what in images.items():
        task = tasks.add("image", name, what)
        task.add_argument("--image", metavar="NAME", help="registry/name:tag; default: by commit and model")
        if name == "run":
            task.add_argument("--port", type=int, help="port on this machine; default: [serve] port in config.toml")
        if name == "size":
            _size(task)
    for name, what in {
        "ps": "show the container",
        "stop": "stop the container after it finishes the requests in flight",
        "rm": "remove the container",
    }.items():
        tasks.add("image", name, what)


def _size(task: Parser) -> None:
    task.add_argument("--rps", metavar="N", help="requests/s that one pod should serve; default: its maximum")
    task.add_argument("--write", action="store_true", help="write the proposal to k8s/")
    task.add_argument("--seconds", metavar="N", help="duration of each load test")
    task.add_argument("--cpus", metavar="N", help="CPU limit for the load test; default: from k8s/deployment.yaml")
    task.add_argument("--memory", metavar="N", help="memory limit for the load test; default: from k8s/deployment.yaml")


def _cluster(tasks: Tasks) -> None:
    check = tasks.add("cluster", "check-k8s", "check the manifests against each other and the application")
    check.add_argument("piped", nargs="?", choices=("-",), help="read the output of kustomize from standard input")

    tasks.add("cluster", "cluster", "create a local cluster with kind, a registry and metrics")

    deploy = tasks.add("cluster", "deploy", "apply k8s/ and wait until the new pods are serving")
    deploy.add_argument("--image", metavar="NAME", help="registry/name:tag; default: by commit and model")
    deploy.add_argument("--render", action="store_true", help="print the manifests without applying them")
    deploy.add_argument("--unchecked", action="store_true", help="skip the checks before applying")

    for name, what in {
        "status": "show what is running",
        "logs": "show the pods' logs",
        "rollback": "return to the previous release; run it again to undo",
        "undeploy": "remove everything, including the namespace with its claims and secrets",
    }.items():
        tasks.add("cluster", name, what)


def _development(tasks: Tasks) -> None:
    for name, what in {
        "setup": "create a git repository if there is none; `uv run` creates .venv",
        "test": "run the tests; other options are passed to pytest",
        "lint": "check style, types and manifests",
        "format": "apply automatic fixes and format the code",
        "hooks": "run `lint` before each commit and `test` before each push",
        "update": "merge template updates; commit your work first",
        "clean": "remove caches and builds, keep the model and the environment",
    }.items():
        tasks.add("development", name, what)

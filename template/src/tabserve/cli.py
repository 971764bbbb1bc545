"""The command line. A task's module is imported when it runs: `serve` works without a training library."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tabserve.errors import UserError
from tabserve.project import Project


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` shows what there is\n")


def main(project: Project, arguments: Sequence[str] | None = None) -> int:
    """Run one command of a project; returns the exit code."""
    # Process 1 of a container ignores what it has no handler for, also while it still imports.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if "serve" in sys.argv[1:2] else 128 + signal.SIGTERM))
    try:
        parsed = parser(project.name).parse_args(arguments)
        task = importlib.import_module(f"tabserve.tasks.{parsed.run}")
        task.run(parsed, project)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser(name: str) -> argparse.ArgumentParser:
    """The commands and their options."""
    top = Parser(prog=name, description="Train, serve and keep one model.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    contract = commands.add_parser(
        "contract", help="infer contract.yaml from a table: CSV, Parquet, Excel or JSON lines"
    )
    contract.add_argument("data", nargs="?", help="file or address; default: as in contract.yaml, else in config.toml")
    contract.add_argument("--target", help="the column to predict; asked for in a terminal")
    contract.add_argument("--task", choices=("classification", "regression"), help="default: decided from the target")
    contract.add_argument(
        "--write", action="store_true", help="replace a contract.yaml that has the same target or was edited"
    )
    contract.set_defaults(run="contract")

    train = commands.add_parser("train", help="train, evaluate and export model/model.onnx")
    train.add_argument("--data", help="file or address; default: the one that contract.yaml names")
    train.add_argument("--seed", type=int, help="default: [train] seed in config.toml")
    train.set_defaults(run="train")

    check = commands.add_parser("check", help="compare a table with the contract and the training data of the model")
    check.add_argument("data", help="the file or address to check")
    check.add_argument("--report", type=Path, help="default: [check] report in config.toml")
    check.set_defaults(run="check")

    serve = commands.add_parser("serve", help="serve the model over HTTP")
    serve.add_argument("--host", help="default: [serve] host in config.toml")
    serve.add_argument("--port", type=int, help="default: [serve] port in config.toml")
    serve.set_defaults(run="serve")

    predict = commands.add_parser("predict", help="score a table into a CSV or Parquet file")
    predict.add_argument("data", help="the file or address to score")
    predict.add_argument("out", type=Path, help="the file to write, .csv or .parquet")
    predict.set_defaults(run="predict")
    return top

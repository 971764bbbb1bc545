"""The tasks and their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` shows what there is\n")


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
    contract.set_defaults(module="contract")

    train = commands.add_parser("train", help="train, evaluate and export model/model.onnx")
    train.add_argument("--data", help="file or address; default: the one that contract.yaml names")
    train.add_argument("--seed", type=int, help="default: [train] seed in config.toml")
    train.set_defaults(module="train")

    check = commands.add_parser("check", help="compare a table with the contract and the training data of the model")
    check.add_argument("data", help="the file or address to check")
    check.add_argument("--report", type=Path, help="default: [check] report in config.toml")
    check.set_defaults(module="check")

    serve = commands.add_parser("serve", help="serve the model over HTTP")
    serve.add_argument("--host", help="default: [serve] host in config.toml")
    serve.add_argument("--port", type=int, help="default: [serve] port in config.toml")
    serve.set_defaults(module="serve")

    predict = commands.add_parser("predict", help="score a table into a CSV or Parquet file")
    predict.add_argument("data", help="the file or address to score")
    predict.add_argument("out", type=Path, help="the file to write, .csv or .parquet")
    predict.set_defaults(module="predict")

    check_k8s = commands.add_parser("check-k8s", help="check the manifests against each other and the application")
    check_k8s.add_argument("piped", nargs="?", choices=("-",), help="what kustomize built, on standard input")
    check_k8s.set_defaults(module="check_k8s")

    deploy = commands.add_parser("deploy", help="apply k8s/ with an image and wait until it serves")
    deploy.add_argument("image", help="registry/name:tag")
    deploy.add_argument("--render", action="store_true", help="print what would be applied")
    deploy.add_argument("--unchecked", action="store_true", help="let the cluster find out what is wrong")
    deploy.set_defaults(module="deploy")

    rollback = commands.add_parser("rollback", help="go back to the release before")
    rollback.set_defaults(module="rollback")
    return top

"""The command line: contract, train, serve, predict.

Every command imports only what it needs: `serve` runs without a training library.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from . import contract as contracts
from . import settings
from .contract import Contract, Task
from .errors import UserError

CONTRACT = Path("contract.yaml")
REPORTS = Path("reports")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog=Path(sys.argv[0]).name, description="Train, serve and keep one model.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    contract = commands.add_parser("contract", help="infer contract.yaml from a CSV or Parquet file")
    contract.add_argument("data", nargs="?", type=Path, help="the file; default: [contract] data in config.toml")
    contract.add_argument("--target", help="the column to predict; asked for in a terminal")
    contract.add_argument("--task", choices=get_args(Task), help="default: decided from the target")
    contract.add_argument(
        "--write", action="store_true", help="replace a contract.yaml that has the same target or was edited"
    )
    contract.set_defaults(run=run_contract)

    train = commands.add_parser("train", help="train, evaluate and export model/model.onnx")
    train.add_argument("--data", type=Path, help="the file; default: the one that contract.yaml names")
    train.add_argument("--seed", type=int, help="default: [train] seed in config.toml")
    train.set_defaults(run=run_train)

    serve = commands.add_parser("serve", help="serve the model over HTTP")
    serve.add_argument("--host", help="default: [serve] host in config.toml")
    serve.add_argument("--port", type=int, help="default: [serve] port in config.toml")
    serve.set_defaults(run=run_serve)

    predict = commands.add_parser("predict", help="score a CSV or Parquet file into another")
    predict.add_argument("data", type=Path, help="the file to score")
    predict.add_argument("out", type=Path, help="the file to write, .csv or .parquet")
    predict.set_defaults(run=run_predict)
    return top


# --- contract


def run_contract(arguments: argparse.Namespace) -> None:
    """`contract`: infer and write `contract.yaml`, unless that would lose what a person wrote there."""
    infer_contract(arguments.data, arguments.target, arguments.task, arguments.write)


def infer_contract(data: Path | None, target: str | None, task: Task | None, replace: bool) -> Contract:
    """Infer a contract from a file, or from what `config.toml` names, write it and show it."""
    from . import console, files, infer

    configured = settings.load(settings.ContractSettings)
    if data is None:
        target = target or configured.target
        task = task or (None if configured.task == "auto" else configured.task)
    path = data or configured.data
    inferred = infer.infer(path, target or current_target(path) or console.ask_target(path), task)
    if CONTRACT.exists() and not replace:
        check_replaceable(inferred)
    files.write_atomically(CONTRACT, contracts.dump(inferred).encode())
    console.show_contract(inferred, CONTRACT)
    return inferred


def current_target(path: Path) -> str | None:
    """The target of the contract that is there, when the file has that column."""
    from . import data

    if not CONTRACT.exists():
        return None
    target = contracts.load(CONTRACT).target
    return target if target in data.scan(path).collect_schema() else None


def check_replaceable(inferred: Contract) -> None:
    """Refuse to replace a contract that a person edited, or one for the same target that says otherwise.

    Raises:
        UserError: with what would change.
    """
    again = "to replace it, say WRITE=1 (or --write)"
    if contracts.is_edited(CONTRACT.read_text(encoding="utf-8")):
        raise UserError(f"{CONTRACT} was edited by hand and is left as it is; {again}")
    current = contracts.load(CONTRACT)
    changes = contracts.differences(current, inferred) if current.target == inferred.target else []
    if changes:
        raise UserError(f"{CONTRACT} would change and is left as it is: {'; '.join(changes)}; {again}")


# --- train


def run_train(arguments: argparse.Namespace) -> None:
    """`train`: learn, check, and write the model and its report."""
    from . import console, report, train
    from .files import write_atomically

    configured = settings.load(settings.TrainSettings, seed=arguments.seed)
    model_path = settings.load(settings.ServeSettings).model
    contract = contracts.load(CONTRACT) if CONTRACT.exists() else infer_contract(None, None, None, replace=False)
    path = arguments.data or Path(contract.data)
    outcome = train.train(contract, path, configured.seed, configured.test_size, console.step)
    with console.step("draw the report"):
        outputs = {
            REPORTS / "holdout.csv": report.holdout_csv(outcome, contract),
            REPORTS / "metrics.json": report.metrics_json(outcome, contract),
            REPORTS / "report.html": report.page(outcome, contract, configured.seed),
        }
    for file, text in outputs.items():
        write_atomically(file, text.encode())
    write_atomically(model_path, outcome.model)
    console.show_outcome(outcome, contract, model_path, REPORTS / "report.html")


# --- serve


def run_serve(arguments: argparse.Namespace) -> None:
    """`serve`: run the server until it is told to stop."""
    from . import server

    server.serve(settings.load(settings.ServeSettings, host=arguments.host, port=arguments.port))


# --- predict


def run_predict(arguments: argparse.Namespace) -> None:
    """`predict`: score a file."""
    from . import batch, console, model

    configured = settings.load(settings.ServeSettings)
    loaded = model.load(configured.model, configured.threads)
    with console.row_counter() as progress:
        counts = batch.score_file(loaded, arguments.data, arguments.out, progress)
    console.show_counts(counts, arguments.out)

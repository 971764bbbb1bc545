"""The command line: contract, train, check, serve, predict.

Every command imports only what it needs: `serve` runs without a training library.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from . import settings
from .contract import Contract, Task
from .errors import UserError

CONTRACT = Path("contract.yaml")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` shows what there is\n")


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
    top = Parser(prog=(__package__ or "").replace("_", "-"), description="Train, serve and keep one model.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    contract = commands.add_parser(
        "contract", help="infer contract.yaml from a table: CSV, Parquet, Excel or JSON lines"
    )
    contract.add_argument("data", nargs="?", help="file or address; default: as in contract.yaml, else in config.toml")
    contract.add_argument("--target", help="the column to predict; asked for in a terminal")
    contract.add_argument("--task", choices=get_args(Task), help="default: decided from the target")
    contract.add_argument(
        "--write", action="store_true", help="replace a contract.yaml that has the same target or was edited"
    )
    contract.set_defaults(run=run_contract)

    train = commands.add_parser("train", help="train, evaluate and export model/model.onnx")
    train.add_argument("--data", help="file or address; default: the one that contract.yaml names")
    train.add_argument("--seed", type=int, help="default: [train] seed in config.toml")
    train.set_defaults(run=run_train)

    check = commands.add_parser("check", help="compare a table with the contract and the training data of the model")
    check.add_argument("data", help="the file or address to check")
    check.add_argument("--report", type=Path, help="default: [check] report in config.toml")
    check.set_defaults(run=run_check)

    serve = commands.add_parser("serve", help="serve the model over HTTP")
    serve.add_argument("--host", help="default: [serve] host in config.toml")
    serve.add_argument("--port", type=int, help="default: [serve] port in config.toml")
    serve.set_defaults(run=run_serve)

    predict = commands.add_parser("predict", help="score a table into a CSV or Parquet file")
    predict.add_argument("data", help="the file or address to score")
    predict.add_argument("out", type=Path, help="the file to write, .csv or .parquet")
    predict.set_defaults(run=run_predict)
    return top


# --- contract


def run_contract(arguments: argparse.Namespace) -> None:
    """`contract`: infer and write `contract.yaml`, unless that would lose what a person wrote there."""
    infer_contract(arguments.data, arguments.target, arguments.task, arguments.write)


def infer_contract(data: str | None, target: str | None, task: Task | None, replace: bool) -> Contract:
    """Infer a contract, write it where that loses nothing, and show it."""
    from . import console, contract_file, files
    from .data import remarks

    path, target, task = contract_source(data, target, task, replace)
    for remark in remarks(path):
        console.warn(remark)
    inferred = inferred_contract(path, target, task)
    current = None if replace else current_contract(replace)
    if current:
        check_replaceable(current, inferred)
    unchanged = current == inferred
    if not unchanged:
        files.write_atomically({CONTRACT: contract_file.dump(inferred).encode()})
    console.show_contract(inferred, CONTRACT, "unchanged" if unchanged else "review it, edit it, commit it")
    return inferred


def inferred_contract(source: str, target: str | None, task: Task | None) -> Contract:
    """The contract of a file; a person at a terminal is asked for the target until it can be learned."""
    from . import console, infer

    ask = console.ask_task if console.can_ask() else None
    if target:
        return infer.infer(source, target, task, ask)
    while True:
        chosen = console.ask_target(source)
        try:
            return infer.infer(source, chosen, task, ask)
        except UserError as error:
            console.warn(str(error))


def contract_source(
    data: str | None, target: str | None, task: Task | None, replace: bool
) -> tuple[str, str | None, Task | None]:
    """What to infer from: what was asked for, else what `contract.yaml` names, else what `config.toml` names."""
    from . import console

    if current := current_contract(replace):
        path = data or current.data
        if target in (None, current.target) and has_column(path, current.target):
            if target is None:
                console.warn(f"the target is {current.target!r}, as in {CONTRACT}; another one: TARGET=column")
            return path, current.target, task or current.task
        return path, target, task
    configured = settings.load(settings.ContractSettings)
    if data is None:
        target = target or configured.target
        task = task or (None if configured.task == "auto" else configured.task)
    return data or configured.data, target, task


def current_contract(replace: bool) -> Contract | None:
    """The contract that is there; one that cannot be read is as good as none when it is to be replaced anyway.

    Raises:
        UserError: it cannot be read.
    """
    from . import contract_file

    if not CONTRACT.exists():
        return None
    try:
        return contract_file.load(CONTRACT)
    except UserError:
        if replace:
            return None
        raise


def has_column(source: str, name: str) -> bool:
    """Whether the file has a column of this name."""
    from . import data

    return name in data.names(source)


def check_replaceable(current: Contract, inferred: Contract) -> None:
    """Show what a new contract says otherwise, and keep one that would be missed.

    Raises:
        UserError: a person edited it, or it is for the same target.
    """
    from . import console, contract_file

    edited = contract_file.is_edited(CONTRACT.read_text(encoding="utf-8"))
    if not edited and current.target != inferred.target:
        title = "title and description of the API are in config.toml, under [serve]"
        console.warn(f"{CONTRACT} was for {current.target!r} and not edited, so it is replaced; {title}")
        return
    changes = contract_file.differences(current, inferred)
    console.show_differences(changes)
    again = "to replace it, say WRITE=1 (or --write)"
    if current != inferred and edited:
        raise UserError(f"{CONTRACT} was edited by hand and is left as it is; {again}")
    if changes:
        raise UserError(f"{CONTRACT} would change in {len(changes):,} places and is left as it is; {again}")


# --- train


def run_train(arguments: argparse.Namespace) -> None:
    """`train`: learn, check, and write the model and its report."""
    from . import console, contract_file, report, train
    from .data import remarks
    from .files import write_atomically

    configured = settings.load(settings.TrainSettings, seed=arguments.seed)
    named = settings.load(settings.ModelSettings)
    contract = contract_file.load(CONTRACT) if CONTRACT.exists() else infer_contract(None, None, None, replace=False)
    source = arguments.data or contract.data
    for remark in remarks(source):
        console.warn(remark)
    outcome = train.train(contract, source, configured.seed, configured.test_size, console.step, configured.max_rows)
    with console.step("draw the report"):
        outputs = {
            named.model: outcome.model,
            configured.reports / "holdout.csv": report.holdout_csv(outcome, contract).encode(),
            configured.reports / "metrics.json": report.metrics_json(outcome, contract).encode(),
            configured.reports / "report.html": report.page(outcome, contract, configured.seed, named.title).encode(),
        }
    write_atomically(outputs)
    console.show_outcome(outcome, contract, named.model, configured.reports / "report.html")


# --- check


def run_check(arguments: argparse.Namespace) -> None:
    """`check`: what a file breaks of the contract, and what has drifted; fails when it is too much."""
    from . import check, check_page, console, model
    from .files import write_atomically

    configured = settings.load(settings.CheckSettings, report=arguments.report)
    named = settings.load(settings.ModelSettings)
    loaded = model.load(named.model, named.threads)
    with console.row_counter("checking") as progress:
        checked = check.check(loaded, arguments.data, configured.psi, progress)
    page = check_page.page(checked, arguments.data, named.title, loaded.version)
    write_atomically({configured.report: page.encode()})
    console.show_check(checked, configured.report)
    if checked.breaks(configured.refused):
        raise UserError(f"{arguments.data} breaks the contract of the model")
    drifted = [found.name for found in checked.findings if found.drifted]
    if drifted and configured.fail_on_drift:
        raise UserError(f"{arguments.data} has drifted in {', '.join(drifted)}")


# --- serve


def run_serve(arguments: argparse.Namespace) -> None:
    """`serve`: run the server until it is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server has a handler of its own
    gc.disable()  # until the server is ready
    from . import process

    configured = settings.load(settings.ServeSettings, host=arguments.host, port=arguments.port)
    process.serve(configured, outdated(configured.model))


def outdated(model: Path) -> str | None:
    """Why the model is older than what it was made from, where that is here too."""
    made_from = (CONTRACT, Path(__file__).with_name("pipeline.py"))
    if not CONTRACT.exists() or not model.is_file():
        return None
    newer = [path.name for path in made_from if path.exists() and path.stat().st_mtime > model.stat().st_mtime]
    return f"{' and '.join(newer)} changed after {model} was trained: run `make train`" if newer else None


# --- predict


def run_predict(arguments: argparse.Namespace) -> None:
    """`predict`: score a file."""
    from . import batch, console, data, model

    configured = settings.load(settings.ModelSettings)
    loaded = model.load(configured.model, configured.threads)
    if reason := outdated(configured.model):
        console.warn(reason)
    with console.row_counter("scoring") as progress:
        counts = batch.score_file(loaded, arguments.data, arguments.out, progress)
    if not counts.scored:
        raise UserError(f"no row of {arguments.data} keeps the contract: {counts.rejects} says why")
    console.show_counts(counts, arguments.out)
    if absent := batch.absent(loaded, arguments.data):
        console.warn(f"{arguments.data} has no {data.shown(absent)}: taken as missing in every row")

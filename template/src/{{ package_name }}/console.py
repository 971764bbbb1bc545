"""What a person sees in the terminal while a contract is inferred, a model is trained or a file is scored."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .contract import Contract
from .errors import UserError

if TYPE_CHECKING:
    from .batch import Counts
    from .train import Outcome

# Into a file or a pipe, a table is as wide as it needs to be.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
WORRYING_SHARE = 0.05  # of the rows


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a step while it runs, and how long it took."""
    started = time.perf_counter()
    with out.status(escape(name)):
        yield
    out.print(f"[green]ok[/]  {escape(name)} [dim]({time.perf_counter() - started:.1f} s)[/]")


def ask_target(path: Path) -> str:
    """Let a person at a terminal choose the column to predict.

    Raises:
        UserError: there is no terminal to ask in, or no answer.
    """
    from . import data

    names = data.scan(path).collect_schema().names()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(f"which column is the target? Say TARGET=column (or --target); {path} has {', '.join(names)}")
    import questionary

    answer = questionary.select("Which column should the model predict?", choices=names).ask()
    if answer is None:
        raise UserError("no target chosen, nothing written")
    return str(answer)


def show_contract(contract: Contract, path: Path, remark: str) -> None:
    """The columns with the reason for each choice."""
    table = Table("column", "role", "type", "why", box=None, header_style="bold", pad_edge=False)
    styles = {"target": "cyan", "ignored": "dim", "feature": ""}
    for name, column in contract.columns.items():
        cells = (name, column.role, column.type or "-", column.reason)
        table.add_row(*map(escape, cells), style=styles[column.role])
    out.print(table)
    out.print(
        f"[green]ok[/]  {path}: {contract.task} of [cyan]{escape(contract.target)}[/] from "
        f"{len(contract.features)} feature{'s' * (len(contract.features) > 1)}; {remark}"
    )


def show_differences(lines: list[str]) -> None:
    """What a new contract would say otherwise, one difference a line."""
    for line in lines:
        out.print(f"[yellow]differs[/]  {escape(line)}")


def show_outcome(outcome: Outcome, contract: Contract, model: Path, page: Path) -> None:
    """The scores beside the trivial baseline, and where everything is."""
    from .evaluate import better

    total = outcome.train_rows + outcome.parity.rows + sum(outcome.left_out.values())
    for reason, count in outcome.left_out.items():
        word = "[red]warning[/]" if count > WORRYING_SHARE * total else "[yellow]note[/]"
        out.print(f"{word}  {count:,} of {total:,} rows were left out: {escape(reason)}")
    baseline = "always the majority class" if contract.task == "classification" else "always the mean"
    table = Table("score", box=None, header_style="bold", pad_edge=False)
    table.add_column("model", justify="right")
    table.add_column(baseline, justify="right")
    for name, value in outcome.scores.items():
        style = "green" if better(name, value, outcome.baseline[name]) else "red"
        table.add_row(name, f"[{style}]{value:z.4f}[/]", f"{outcome.baseline[name]:z.4f}")
    out.print(table)
    made = f"{model}: version {outcome.version}, {_size(len(outcome.model))}; report: {page}"
    out.print(f"[green]ok[/]  {escape(made)}")


def _size(bytes: int) -> str:
    return f"{bytes / 1e6:.1f} MB" if bytes >= 1e6 else f"{bytes / 1e3:.0f} kB"


@contextmanager
def row_counter() -> Iterator[Callable[[int], None]]:
    """Show how many rows are done and how fast."""
    started = time.perf_counter()
    with out.status("scoring") as status:

        def progress(rows: int) -> None:
            status.update(f"{rows:,} rows ({rows / (time.perf_counter() - started):,.0f} rows/s)")

        yield progress


def warn(text: str) -> None:
    """Something to know that stops nothing."""
    out.print(f"[yellow]note[/]  {escape(text)}")


def show_counts(counts: Counts, path: Path) -> None:
    """How many rows were scored and refused."""
    out.print(f"[green]ok[/]  {escape(str(path))}: {counts.scored:,} rows scored")
    if counts.rejected:
        refused = f"{counts.rejects}: {counts.rejected:,} rows refused, each with its reason"
        out.print(f"[yellow]note[/]  {escape(refused)}")

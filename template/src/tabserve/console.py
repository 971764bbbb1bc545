"""What a person sees in the terminal while a task runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as without_markup
from rich.table import Column, Table

from tabserve.contract.model import SUSPICION, Contract, Split, Task
from tabserve.errors import UserError, printable

if TYPE_CHECKING:
    from tabserve.inference.batch import Counts
    from tabserve.monitoring.check import Check
    from tabserve.tables.sources import Source
    from tabserve.training.train import Outcome

# Into a file or a pipe, a table is as wide as it needs to be.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
WORRYING_SHARE = 0.05  # of the rows
SHOWN_COLUMNS = 60

_table = partial(Table, box=None, header_style="bold", pad_edge=False)
_numbers = partial(Column, justify="right")


def escape(text: str) -> str:
    """A text that is safe to show, without markup."""
    return without_markup(printable(text))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a step while it runs, and how long it took."""
    started = time.perf_counter()
    with out.status(escape(name)):
        yield
    out.print(f"[green]ok[/]  {escape(name)} [dim]({time.perf_counter() - started:.1f} s)[/]")


def can_ask() -> bool:
    """Whether a person sits at a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask_task(target: str, values: int) -> Task:
    """Let a person at a terminal say what a few whole numbers are; raises `UserError` if there is no answer."""
    question = f"{target} has {values} different whole numbers: classes (classification) or a quantity (regression)?"
    answer: Task = _ask("task", question, ["classification", "regression"])
    return answer


def ask_target(source: Source) -> str:
    """Let a person choose the column to predict; raises `UserError` if there is no terminal to ask in, or no answer."""
    from tabserve.tables import reader

    names = reader.names(source)
    if not can_ask():
        known = f"{source} has {reader.shown(names)}"
        raise UserError(f"which column is the target? Say TARGET=column (or --target); {known}")
    question = "Which column should the model predict?"
    return str(_ask("target", question, names, default=names[-1], use_search_filter=True, use_jk_keys=False))


def _ask(what: str, question: str, choices: list[str], **options: Any) -> Any:
    import questionary

    shown = [questionary.Choice(printable(choice), value=choice) for choice in choices]
    answer = questionary.select(printable(question), choices=shown, **options).ask()
    if answer is None:
        raise UserError(f"no {what} chosen, nothing written")
    return answer


def show_contract(contract: Contract, path: Path, remark: str) -> None:
    """The columns with the reason for each choice."""
    table = _table("column", "role", "type", "why")
    styles = {"target": "cyan", "ignored": "dim", "feature": ""}
    for name, column in list(contract.columns.items())[:SHOWN_COLUMNS]:
        cells = (name, column.role, column.type or "-", column.reason)
        table.add_row(*map(escape, cells), style=styles[column.role])
    out.print(table)
    if (more := len(contract.columns) - SHOWN_COLUMNS) > 0:
        out.print(f"[dim]and {more:,} columns more, in {escape(str(path))}[/]")
    for name, column in contract.columns.items():
        if column.role == "feature" and SUSPICION in column.reason:
            out.print(f"[red]warning[/]  {escape(f'{name}: {column.reason[column.reason.index(SUSPICION) :]}')}")
    features = f"{len(contract.features):,} feature{'s' * (len(contract.features) > 1)}"
    task = f"{contract.task} of [cyan]{escape(contract.target)}[/]"
    out.print(f"[green]ok[/]  {escape(str(path))}: {task} from {features}; {escape(remark)}")


def show_differences(lines: list[str]) -> None:
    """What a new contract would say otherwise, one difference a line."""
    for line in lines:
        out.print(f"[yellow]differs[/]  {escape(line)}")


def show_outcome(outcome: Outcome, contract: Contract, model: Path, page: Path) -> None:
    """The scores beside the trivial baseline, and where everything is."""
    from tabserve.training.evaluate import better

    _show_rows(outcome, contract.split)
    for name, why in outcome.suspects.items():
        out.print(f"[red]warning[/]  {escape(f'{name}: {why}')}")
    baseline = "always the majority class" if contract.task == "classification" else "always the mean"
    table = _table("score", _numbers("model"), _numbers(baseline))
    for name, value in outcome.scores.items():
        style = "green" if better(name, value, outcome.baseline[name]) else "red"
        table.add_row(name, f"[{style}]{value:z.4f}[/]", f"{outcome.baseline[name]:z.4f}")
    out.print(table)
    size = len(outcome.model)
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    made = f"{model}: version {outcome.version}, {shown}; report: {page}"
    out.print(f"[green]ok[/]  {escape(made)}")


def _show_rows(outcome: Outcome, split: Split | None) -> None:
    """Which rows were not learned from."""
    loaded = outcome.loaded
    if split:
        warn(f"held out by {split.by} of {split.column!r}, as the contract says")
    if loaded.drawn < loaded.in_file:
        warn(f"{loaded.drawn:,} of {loaded.in_file:,} rows were drawn at random: [train] max_rows in config.toml")
    for reason, count in loaded.left_out.items():
        word = "[red]warning[/]" if count > WORRYING_SHARE * loaded.drawn else "[yellow]note[/]"
        out.print(f"{word}  {count:,} of {loaded.drawn:,} rows were left out: {escape(reason)}")


@contextmanager
def row_counter(doing: str) -> Iterator[Callable[[int], None]]:
    """Show how many rows are done and how fast."""
    started = time.perf_counter()
    with out.status(doing) as status:
        yield lambda rows: status.update(f"{rows:,} rows ({rows / (time.perf_counter() - started):,.0f} rows/s)")


def warn(text: str) -> None:
    """Something to know that stops nothing."""
    out.print(f"[yellow]note[/]  {escape(text)}")


def show_counts(counts: Counts, path: Path) -> None:
    """How many rows were scored and rejected."""
    out.print(f"[green]ok[/]  {escape(str(path))}: {counts.scored:,} rows scored")
    if counts.rejected:
        warn(f"{counts.rejects}: {counts.rejected:,} rows rejected, each with its reason")


def show_check(check: Check, page: Path) -> None:
    """Each column of a checked file: what breaks the contract, and its drift."""
    table = _table("column", _numbers("PSI"), "finding")
    for found in check.worst_first()[:SHOWN_COLUMNS]:
        style = "red" if found.problem else "yellow" if found.drifted else ""
        psi, fine = ("-", "absent") if found.psi is None else (f"{found.psi:.3f}", "ok")
        drifted = f"drifted: above {found.limit:.2f}" if found.drifted else ""
        why = "; ".join(filter(None, (found.problem, drifted))) or fine
        table.add_row(escape(found.name), psi, escape(why), style=style)
    out.print(table)
    if check.unknown:
        warn(f"the contract does not know {', '.join(check.unknown[:10])}: left alone")
    word = "[yellow]note[/]" if check.rejected else "[green]ok[/]"
    out.print(f"{word}  {escape(f'{check.rows:,} rows checked, {check.rejected:,} would be rejected; report: {page}')}")

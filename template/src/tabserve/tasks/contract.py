"""`contract`: infer the contract of a table, and write it where that loses nothing."""

import argparse

from tabserve import console, settings
from tabserve.contract import file as contract_file
from tabserve.contract.model import Contract, Task
from tabserve.discovery import infer
from tabserve.errors import UserError
from tabserve.outputs import write_atomically
from tabserve.project import Project
from tabserve.settings import CONTRACT
from tabserve.tables import reader


def contract(arguments: argparse.Namespace, project: Project) -> None:
    """`contract`: infer and write `contract.yaml`, unless edits would be lost."""
    infer_contract(arguments.data, arguments.target, arguments.task, arguments.write)


def infer_contract(data: str | None, target: str | None, task: Task | None, replace: bool) -> Contract:
    """Infer a contract, write it where that loses nothing, and show it."""
    path, target, task = contract_source(data, target, task, replace)
    for remark in reader.remarks(path):
        console.warn(remark)
    inferred = inferred_contract(path, target, task)
    current = None if replace else current_contract(replace)
    unchanged = current is not None and contract_file.dump(current) == contract_file.dump(inferred)
    if current and not unchanged:
        check_replaceable(current, inferred)
    if not unchanged:
        write_atomically({CONTRACT: contract_file.dump(inferred).encode()}, writer="")
    console.show_contract(inferred, CONTRACT, "unchanged" if unchanged else "review it, edit it, commit it")
    return inferred


def inferred_contract(source: str, target: str | None, task: Task | None) -> Contract:
    """The contract of a file; a terminal prompts until the target can be learned."""
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
    """What to infer from: the arguments, else `contract.yaml`, else `config.toml`."""
    if current := current_contract(replace):
        path = data or current.data
        if target in (None, current.target) and current.target in reader.names(path):
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
    """The contract that is there; none if it is unreadable and to be replaced anyway."""
    if not CONTRACT.exists():
        return None
    try:
        return contract_file.load(CONTRACT)
    except UserError:
        if replace:
            return None
        raise


def check_replaceable(current: Contract, inferred: Contract) -> None:
    """Show what would change; `UserError` where a person would miss what is there."""
    edited = contract_file.is_edited(CONTRACT.read_text(encoding="utf-8"))
    if not edited and current.target != inferred.target:
        title = "title and description of the API are in config.toml, under [serve]"
        console.warn(f"{CONTRACT} was for {current.target!r} and not edited, so it is replaced; {title}")
        return
    changes = contract_file.differences(current, inferred)
    console.show_differences(changes)
    again = "to replace it, add --write (make: WRITE=1)"
    if edited:
        raise UserError(f"{CONTRACT} was edited by hand and is left as it is; {again}")
    if changes:
        raise UserError(
            f"{CONTRACT} would change in {len(changes):,} place{'s' * (len(changes) > 1)} and is left as it is; {again}"
        )

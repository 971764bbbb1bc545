"""From tables to predictions with a project's own Python: contract, training, scored file and API, table by table.

    python -P drive.py PACKAGE JOBS.json

Without -P, `tabserve` would be the folder of tests beside this file.

Each job has a `folder`, a file's `name` in it and a `target`. It leaves `result.json` (exit code and what was printed)
and, where that is 0, `rows.json` (the file's rows as the API takes them) and `predictions.json` (what the scored file
says of them); with a server in this process the API must say the same.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tabserve import cli, console
from tabserve.contract import file as contract_file
from tabserve.contract import schema
from tabserve.contract.model import Contract, label_text, prediction_columns
from tabserve.project import Project
from tabserve.references import handed_over
from tabserve.settings import ServeSettings, load
from tabserve.tables import casting, reader


def drive(project: Project, job: dict[str, str]) -> int:
    """One table, in its folder, by the commands that people say."""
    commands = (
        ["contract", job["name"], "--target", job["target"]],
        ["train"],
        ["predict", job["name"], "scored.csv"],
        ["check-data", job["name"]],
    )
    for command in commands:
        if code := cli.main(project, command):
            return int(code)
    contract = contract_file.load(Path("contract.yaml"))
    typed = casting.typed(contract, pl.concat(reader.batches(job["name"], list(contract.features))))
    rows = [schema.json_row(contract, row) for row in typed.table.filter(~typed.rejected).to_dicts()]
    scored = pl.concat(reader.batches("scored.csv", prediction_columns(contract))).rows()
    predictions = [prediction(contract, row) for row in scored]
    assert answers(project, rows) == predictions, "the API and the scored file differ"
    Path("rows.json").write_text(json.dumps(rows))
    Path("predictions.json").write_text(json.dumps(predictions))
    return 0


def answers(project: Project, rows: Sequence[dict[str, Any]]) -> Any:
    """What the API says of the rows."""
    from starlette.testclient import TestClient

    settings = load(ServeSettings, max_rows=len(rows))
    with TestClient(handed_over(project.application)(settings)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        answer = client.post("/predict", json=list(rows))
        assert answer.status_code == 200, answer.text[:500]
        return answer.json()["predictions"]


def prediction(contract: Contract, row: tuple[str, ...]) -> dict[str, Any]:
    """A row of the scored file as the API says it."""
    if contract.task == "regression":
        return {"value": float(row[0])}
    labels = {label_text(label): label for label in contract.classes}
    return {"label": labels[row[0]], "probabilities": dict(zip(labels, map(float, row[1:]), strict=True))}


def main() -> None:
    """Do the jobs."""
    project: Project = importlib.import_module(f"{sys.argv[1]}.__main__").PROJECT
    for job in json.loads(Path(sys.argv[2]).read_text()):
        os.chdir(job["folder"])
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            console.out.file = printed
            try:
                code = drive(project, job)
            except BaseException:
                code = 99
                traceback.print_exc()
        result = {"code": code, "printed": printed.getvalue(), "errors": errors.getvalue()}
        Path("result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()

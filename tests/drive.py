"""From tables to predictions with a project's own Python: contract, training, scored file and API, table by table.

    python drive.py PACKAGE JOBS.json

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


class Project:
    """The modules of a project's package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")


def drive(project: Project, job: dict[str, str]) -> int:
    """One table, in its folder, by the commands that people say."""
    commands = (
        ["contract", job["name"], "--target", job["target"]],
        ["train"],
        ["predict", job["name"], "scored.csv"],
        ["check", job["name"]],
    )
    for command in commands:
        if code := project.cli.main(command):
            return int(code)
    contract = project.contract_file.load(Path("contract.yaml"))
    typed = project.columns.typed(contract, project.data.read(job["name"], list(contract.features)))
    rows = [project.train.json_row(contract, row) for row in typed.table.filter(~typed.rejected).to_dicts()]
    scored = project.data.read("scored.csv", project.contract.prediction_columns(contract)).rows()
    predictions = [prediction(project, contract, row) for row in scored]
    assert answers(project, rows) == predictions, "the API and the scored file differ"
    Path("rows.json").write_text(json.dumps(rows))
    Path("predictions.json").write_text(json.dumps(predictions))
    return 0


def answers(project: Project, rows: Sequence[dict[str, Any]]) -> Any:
    """What the API says of the rows."""
    from starlette.testclient import TestClient

    settings = project.settings.load(project.settings.ServeSettings, max_rows=len(rows))
    with TestClient(project.server.create_app(settings)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        answer = client.post("/predict", json=list(rows))
        assert answer.status_code == 200, answer.text[:500]
        return answer.json()["predictions"]


def prediction(project: Project, contract: Any, row: tuple[str, ...]) -> dict[str, Any]:
    """A row of the scored file as the API says it."""
    if contract.task == "regression":
        return {"value": float(row[0])}
    labels = {project.contract.label_text(label): label for label in contract.classes}
    return {"label": labels[row[0]], "probabilities": dict(zip(labels, map(float, row[1:]), strict=True))}


def main() -> None:
    """Do the jobs."""
    project = Project(sys.argv[1])
    for job in json.loads(Path(sys.argv[2]).read_text()):
        os.chdir(job["folder"])
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            project.console.out.file = printed
            try:
                code = drive(project, job)
            except BaseException:
                code = 99
                traceback.print_exc()
        result = {"code": code, "printed": printed.getvalue(), "errors": errors.getvalue()}
        Path("result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()

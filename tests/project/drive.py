"""Runs in a project's own Python: from each table to predictions, by file, API and batch.

    python drive.py PACKAGE FOLDER TARGET DATA

It infers, trains and scores in FOLDER, compares the API with the fitted pipeline and with the scored file, and leaves
`rows.json` (the file's rows as the API takes them) and `predictions.json` (what the scored file says of them).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient


def drive(package: str, target: str, source: str) -> None:
    """One table, in the current folder."""
    module = lambda name: importlib.import_module(f"{package}.{name}")  # noqa: E731
    main = module("cli").main
    for command in (["contract", source, "--target", target], ["train"], ["predict", source, "scored.csv"]):
        if code := main(command):
            raise SystemExit(code)
    contract = module("contract").load(Path("contract.yaml"))
    raw = module("data").read(source, list(contract.features))
    typed = module("columns").typed(contract, raw)
    kept = typed.table.filter(~typed.rejected)
    rows = [module("train").json_row(contract, row) for row in kept.to_dicts()]
    scored = module("data").read("scored.csv", module("contract").prediction_columns(contract)).rows()
    predictions = [expected(contract, module("contract").label_text, row) for row in scored]
    Path("rows.json").write_text(json.dumps(rows))
    Path("predictions.json").write_text(json.dumps(predictions))
    settings = module("settings").load(module("settings").ServeSettings, max_rows=len(rows))
    with TestClient(module("server").create_app(settings)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        answer = client.post("/predict", json=rows)
        assert answer.status_code == 200, answer.text[:500]
        assert answer.json()["predictions"] == predictions, "the API and the scored file differ"


def expected(contract: Any, label_text: Any, row: tuple[str, ...]) -> dict[str, Any]:
    """A row of the scored file as the API says it."""
    if contract.task == "regression":
        return {"value": float(row[0])}
    labels = {label_text(label): label for label in contract.classes}
    keys = [label if isinstance(label, str) else json.dumps(label) for label in contract.classes]
    return {"label": labels[row[0]], "probabilities": dict(zip(keys, map(float, row[1:]), strict=True))}


if __name__ == "__main__":
    os.chdir(sys.argv[2])
    drive(sys.argv[1], sys.argv[3], sys.argv[4])

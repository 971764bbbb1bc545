"""For quality.py, in the project's environment: the contract inferred, the default pipeline trained, nothing edited.

What it predicts, and which rows it learned from, goes to a file for each seed.
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

NUMPY = import_module("numpy")
SEEDS = 5
SEEDS_OF_LARGE = 2  # whose scores differ less from split to split
LARGE = 10_000
TEST_SIZE = 0.2
MAX_ROWS = 1_000_000


def main() -> None:
    """Train on one table, with each seed."""
    project, folder = Path(sys.argv[1]), Path(sys.argv[2])
    package = next(project.glob("src/*/__main__.py")).parent.name
    table = json.loads((folder / "table.json").read_text())
    contract = import_module("tabserve.discovery.infer").infer(table["csv"], table["target"])
    rows = usable_rows(contract, table["csv"])
    for path in folder.glob("split-*.npz"):
        path.unlink()
    for seed in range(SEEDS if len(rows) < LARGE else SEEDS_OF_LARGE):
        found = trained(package, contract, table["csv"], seed)
        NUMPY.savez(folder / f"split-{seed}.npz", rows=rows, **found)
    (folder / "contract.json").write_text(contract.model_dump_json())


def usable_rows(contract: Any, source: str) -> Any:
    """Positions in the file of the rows that `table.load` keeps."""
    raw = import_module("polars").concat(import_module("tabserve.tables.reader").batches(source))
    typed = import_module("tabserve.tables.casting").typed(contract, raw)
    return (~typed.rejected & typed.table[contract.target].is_not_null()).arg_true().to_numpy()


def trained(package: str, contract: Any, source: str, seed: int) -> dict[str, Any]:
    """The split, the target, and what the pipeline predicts of the held-out rows."""
    table, train = import_module("tabserve.training.dataset"), import_module("tabserve.training.train")
    pipelines = import_module(f"{package}.pipeline").pipelines
    outcome = train.train(pipelines, contract, source, seed, TEST_SIZE, lambda _: contextlib.nullcontext(), MAX_ROWS)
    loaded = table.load(contract, source, MAX_ROWS, seed).table
    train_rows, test_rows = table.split(contract, loaded, TEST_SIZE, seed)
    if contract.task == "regression":
        predicted = outcome.pipeline.predict(outcome.held_out.matrix)
    else:
        predicted = outcome.pipeline.predict_proba(outcome.held_out.matrix)
    return {"train": train_rows, "test": test_rows, "target": loaded.target, "predicted": predicted}


if __name__ == "__main__":
    main()

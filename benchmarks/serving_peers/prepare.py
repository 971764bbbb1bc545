"""For serving.py, in the project's environment: train once more, and save the pipeline and rows to send.

The same data and seed give the same model, byte for byte; when they do not, the peers would serve another one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

served: Any = import_module("served")
ROWS = 1_000


def main() -> None:
    """Write pipeline.joblib, model.onnx and rows.json."""
    folder = served.FOLDER
    configured = served.project("settings").load(served.project("settings").TrainSettings)
    named = served.project("settings").load(served.project("settings").ModelSettings)
    current = served.project("inference.model").load(named.model)
    contract = served.project("contract.file").load(Path("contract.yaml"))
    outcome = trained(contract, configured)
    if outcome.version != current.version:
        raise SystemExit(f"{named.model} is of other data, settings or code than are here: run `make train` first")
    shutil.copyfile(named.model, folder / "model.onnx")
    save_pipeline(contract, outcome.pipeline, folder / "pipeline.joblib")
    rows = documents(contract, outcome.held_out.rows)
    (folder / "rows.json").write_text(json.dumps([current.metadata["example"], *rows]))


def trained(contract: Any, configured: Any) -> Any:
    """The outcome of the project's own training."""
    pipelines = import_module(f"{served.PACKAGE}.pipeline").pipelines
    return served.project("training.train").train(
        pipelines,
        contract,
        contract.data,
        configured.seed,
        configured.test_size,
        lambda _: contextlib.nullcontext(),
        configured.max_rows,
    )


def save_pipeline(contract: Any, pipeline: Any, path: Path) -> None:
    """The fitted pipeline, with the encoding of rows as its first step."""
    encode = import_module("sklearn.preprocessing").FunctionTransformer(served.FrameEncoder(contract))
    whole = import_module("sklearn.pipeline").Pipeline([("encode", encode), *pipeline.steps])
    import_module("joblib").dump(whole, path)


def documents(contract: Any, table: Any) -> list[dict[str, Any]]:
    """Held-out rows as the API takes them; fewer come more than once."""
    rows = [served.project("contract.schema").json_row(contract, row) for row in table.head(ROWS).to_dicts()]
    return list(itertools.islice(itertools.cycle(rows), ROWS))


if __name__ == "__main__":
    try:
        main()
    except served.project("errors").UserError as error:
        sys.exit(str(error))

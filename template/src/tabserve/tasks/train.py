"""`train`: learn, check, and write the model and its report."""

import argparse

from tabserve import console, settings
from tabserve.contract import file as contract_file
from tabserve.errors import UserError
from tabserve.outputs import check_ours, discard, write_atomically
from tabserve.project import Project
from tabserve.references import handed_over
from tabserve.settings import CONTRACT
from tabserve.tables.reader import remarks
from tabserve.tasks.contract import infer_contract
from tabserve.training import report
from tabserve.training import train as training


def train(arguments: argparse.Namespace, project: Project) -> None:
    """`train`: learn, check, and write the model and its report."""
    write_model(project, arguments.data, arguments.seed, arguments.force)


def write_model(project: Project, data: str | None = None, seed: int | None = None, force: bool = False) -> None:
    """Train, evaluate, and write the model and its report."""
    configured = settings.load(settings.TrainSettings, seed=seed)
    named = settings.load(settings.ModelSettings)
    contract = contract_file.load(CONTRACT) if CONTRACT.exists() else infer_contract(None, None, None, replace=False)
    path = data or contract.data
    for remark in remarks(path):
        console.warn(remark)
    reports = [configured.reports / name for name in ("metrics.json", "report.html")]
    holdout = [configured.reports / "holdout.csv"] * configured.holdout
    writer = f"{project.name} train"
    check_ours(named.model, *reports, *holdout, writer=writer, force=force)
    pipelines = handed_over(project.pipelines)
    if handed_over(project.features) != {}:
        raise UserError("pipeline.py: FEATURES must be {}: no feature can be derived yet")
    size, most = configured.test_size, configured.max_rows
    outcome = training.train(pipelines, contract, path, configured.seed, size, console.step, most, named.project)
    with console.step("draw the report"):
        texts = [report.metrics_json(outcome, contract), report.page(outcome, contract, configured.seed, named.title)]
        texts += [report.holdout_csv(outcome, contract) for _ in holdout]
    encoded = map(str.encode, texts)
    written = {named.model: outcome.model, **dict(zip([*reports, *holdout], encoded, strict=True))}
    write_atomically(written, writer, force)
    if not holdout:  # rows of an earlier training
        discard(configured.reports / "holdout.csv", writer)
    console.show_outcome(outcome, contract, named.model, reports[1])

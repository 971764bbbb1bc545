"""`predict`: score a table into a file."""

import argparse

from tabserve import console, settings
from tabserve.errors import UserError
from tabserve.inference import batch, model
from tabserve.project import Project
from tabserve.tables import reader
from tabserve.tasks.model_file import outdated


def predict(arguments: argparse.Namespace, project: Project) -> None:
    """`predict`: score a file."""
    configured = settings.load(settings.ModelSettings)
    loaded = model.configured(configured)
    if reason := outdated(project, configured.model, loaded.contract):
        console.warn(reason)
    with console.row_counter("scoring") as progress:
        writer, options = f"{project.name} predict", (arguments.force, arguments.raw_cells)
        counts = batch.score_file(loaded, arguments.data, arguments.out, progress, writer, *options)
    if not counts.scored:
        raise UserError(f"no row of {arguments.data} keeps the contract: {counts.rejects} says why")
    console.show_counts(counts, arguments.out)
    if absent := batch.absent(loaded, arguments.data):
        console.warn(f"{arguments.data} has no {reader.shown(absent)}: taken as missing in every row")

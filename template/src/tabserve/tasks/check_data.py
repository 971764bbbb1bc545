"""`check-data`: what a file breaks of the contract, and what has drifted."""

import argparse

from tabserve import console, settings
from tabserve.errors import UserError
from tabserve.inference import model
from tabserve.monitoring import check
from tabserve.monitoring import page as check_page
from tabserve.outputs import check_ours, write_atomically
from tabserve.project import Project
from tabserve.tasks.model_file import outdated


def check_data(arguments: argparse.Namespace, project: Project) -> None:
    """`check-data`: what a file breaks, and what has drifted; fails when it is too much."""
    configured = settings.load(settings.CheckSettings, report=arguments.report)
    named = settings.load(settings.ModelSettings)
    writer = f"{project.name} check-data"
    check_ours(configured.report, writer=writer, force=arguments.force)
    loaded = model.configured(named)
    if reason := outdated(project, named.model, loaded.contract):
        console.warn(reason)
    with console.row_counter("checking") as progress:
        checked = check.check(loaded, arguments.data, configured.psi, progress)
    page = check_page.page(checked, arguments.data, named.title, loaded.version)
    write_atomically({configured.report: page.encode()}, writer, arguments.force)
    console.show_check(checked, configured.report)
    if checked.breaks(configured.rejected):
        raise UserError(f"{arguments.data} breaks the contract of the model")
    drifted = [found.name for found in checked.findings if found.drifted]
    if drifted and configured.fail_on_drift:
        raise UserError(f"{arguments.data} has drifted in {', '.join(drifted)}")

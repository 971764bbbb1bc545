"""The model file that tasks need: is it there, is it up to date?"""

from pathlib import Path

from tabserve.contract.model import Contract
from tabserve.errors import UserError, say
from tabserve.project import Project
from tabserve.references import source
from tabserve.settings import CONTRACT, ContractSettings, ModelSettings, load


def train_if_missing(project: Project, strict: bool = False) -> None:
    """Train where there is no model, but a contract or data (not in the server's image); warn if it is old.

    Raises `UserError` if the file is damaged, or, if `strict`, its contract differs from `contract.yaml`.
    """
    settings = load(ModelSettings)
    path = settings.model
    if not path.exists() and (CONTRACT.exists() or Path(load(ContractSettings).data).is_file()):
        from tabserve.tasks import train

        say(f"there is no {path} yet: training one")
        train.write_model(project)
    elif path.exists():
        from tabserve.contract.file import mismatch
        from tabserve.inference import model as models

        contract = models.configured(settings).contract
        if strict and (reason := mismatch(contract, path)):
            raise UserError(reason)
        if reason := outdated(project, path, contract):
            say(f"warning: {reason}", error=True)


def outdated(project: Project, model: Path, contract: Contract) -> str | None:
    """Why the model is older than its sources, where those are here too: by content, and by time for the pipeline."""
    from tabserve.contract.file import mismatch  # not in the server's image

    return mismatch(contract, model) or older(project, model)


def older(project: Project, model: Path) -> str | None:
    """Why the model is older than the pipeline, where that is here too."""
    path = source(project.pipelines)
    if not CONTRACT.exists() or not model.is_file() or not path or not path.exists():
        return None
    newer = path.stat().st_mtime > model.stat().st_mtime
    return f"{path.name} changed after {model} was trained: run `make train`" if newer else None

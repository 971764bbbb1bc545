"""The model file that tasks need: is it there, is it up to date?"""

from pathlib import Path

from tabserve.errors import say
from tabserve.project import Project
from tabserve.references import source
from tabserve.settings import CONTRACT, ContractSettings, ModelSettings, load


def train_if_missing(project: Project) -> None:
    """Train where there is no model, but a contract or data (not in the server's image); warn if it is old."""
    model = load(ModelSettings).model
    if not model.exists() and (CONTRACT.exists() or Path(load(ContractSettings).data).is_file()):
        from tabserve.tasks import train

        say(f"there is no {model} yet: training one")
        train.write_model(project)
    elif reason := outdated(project, model):
        say(f"warning: {reason}", error=True)


def outdated(project: Project, model: Path) -> str | None:
    """Why the model is older than its sources, where those are here too."""
    if not CONTRACT.exists() or not model.is_file():
        return None
    sources = (CONTRACT, source(project.pipelines))
    newer = [path.name for path in sources if path and path.exists() and path.stat().st_mtime > model.stat().st_mtime]
    return f"{' and '.join(newer)} changed after {model} was trained: run `make train`" if newer else None

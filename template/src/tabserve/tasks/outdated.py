"""Whether a model is older than what it was made from."""

from __future__ import annotations

from pathlib import Path

from tabserve.project import Project
from tabserve.references import source
from tabserve.settings import CONTRACT


def outdated(project: Project, model: Path) -> str | None:
    """Why the model is older than what it was made from, where that is here too."""
    if not CONTRACT.exists() or not model.is_file():
        return None
    made_from = (CONTRACT, source(project.pipelines))
    newer = [path.name for path in made_from if path and path.exists() and path.stat().st_mtime > model.stat().st_mtime]
    return f"{' and '.join(newer)} changed after {model} was trained: run `make train`" if newer else None

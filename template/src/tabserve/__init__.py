"""From a table to a prediction API: the machinery of this project, the same in every project of its template.

    import tabserve
    model = tabserve.load("model/model.onnx")
    model.predict([{"age": 57, "income": 48_000, ...}])

README.md beside this file is the map, and names what is stable.

onnxruntime sends telemetry from official wheels unless this variable is set before its import, so it is set here,
before any module of this package can import it. OpenMP threads that spin while they wait would take the processor
from each other on a busy machine.
"""

import os

TYPE_CHECKING = False  # as typing has it; nothing slow is imported before the command line handles signals
if TYPE_CHECKING:
    from tabserve.inference.model import Model

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load(path: str | os.PathLike[str], threads: int = 1) -> "Model":
    """Load a model file; `predict(rows)` of what it returns takes rows as the API does.

    Args:
        threads: how many threads one inference may use.

    Raises:
        UserError: the file is missing, damaged, not a model of such a project, or of a newer version.
    """
    from pathlib import Path

    from tabserve.inference import model

    return model.load(Path(path), threads)

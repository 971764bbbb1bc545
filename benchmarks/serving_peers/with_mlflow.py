"""For serving.py, in MLflow's environment: the application that `mlflow models serve` starts.

    python with_mlflow.py save
    python with_mlflow.py PORT

The pipeline is saved in the scikit-learn flavour, the ONNX graph as a Python model. There is no signature, so MLflow
checks no types.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

served: Any = import_module("served")
MODEL = served.FOLDER / f"mlflow-{os.environ['SERVED_MODEL']}"
PYFUNC: Any = import_module("mlflow.pyfunc")
REQUIREMENTS = ["mlflow"]  # else MLflow finds them out, which takes long; nothing is installed from them


class Graph(PYFUNC.PythonModel):  # type: ignore[misc]
    """The ONNX graph behind the interface of MLflow."""

    def load_context(self, context: Any) -> None:
        """Load it."""
        self.answers = served.graph()

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answer for a data frame."""
        answers: list[dict[str, Any]] = self.answers(model_input.to_dict("records"))
        return answers


def save() -> None:
    """Save the model as MLflow wants it."""
    if os.environ["SERVED_MODEL"] == "onnx":
        graph = import_module("with_mlflow").Graph()  # not that of __main__, which the server would not find
        PYFUNC.save_model(MODEL, python_model=graph, pip_requirements=REQUIREMENTS)
        return
    steps = import_module("joblib").load(served.FOLDER / "pipeline.joblib")
    import_module("mlflow.sklearn").save_model(
        steps,
        MODEL,
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict_proba" if hasattr(steps, "predict_proba") else "predict",
        pip_requirements=REQUIREMENTS,
    )


def serve(port: int) -> None:
    """Serve with one worker and no access log."""
    app = import_module("mlflow.pyfunc.scoring_server").init(PYFUNC.load_model(str(MODEL)))
    import_module("uvicorn").run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    save() if sys.argv[1] == "save" else serve(int(sys.argv[1]))

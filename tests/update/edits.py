"""What people do to a generated project. Each line that they write holds the word `mine`, and is found by it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.update.changes import edit

Edit = Callable[[Path], None]


def _substitute(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count, f"{path} has nothing like {pattern}"
    path.write_text(text, encoding="utf-8", newline="")


def _append(path: Path, text: str) -> None:
    path.write_bytes(path.read_bytes() + text.encode())


def _first(path: Path, text: str) -> None:
    path.write_bytes(text.encode() + path.read_bytes())


def _estimator(project: Path) -> None:
    (pipeline,) = (path for path in project.glob("src/*/pipeline.py") if path.parent.name != "tabserve")
    _append(pipeline, "\nPOWER = 3  # mine: estimator\n")


def _dependencies(project: Path) -> None:
    path = project / "pyproject.toml"
    _substitute(path, r'^(    "fastapi>=.*)$', r'\1\n    "httpx-mine>=1",')
    _substitute(path, r'^    "mypy>=1.19",$', '    "mypy>=1.20",  # mine: newer')
    _substitute(path, r'^(    "ruff>=.*)$', r'\1\n    "sqlfluff-mine",')


def _settings(project: Path) -> None:
    _substitute(project / "config.toml", "^max_rows = .*per request$", "max_rows = 50  # mine: rows")
    edit(project / "k8s/configmap.yaml", "data:\n", 'data:\n  SERVE_LOG_FORMAT: "mine"\n')


def _log_level(project: Path) -> None:
    _substitute(project / "k8s/configmap.yaml", "SERVE_LOG_LEVEL: .*", "SERVE_LOG_LEVEL: warning  # mine: level")


def _replicas(project: Path) -> None:
    edit(project / "k8s/deployment.yaml", "  revisionHistoryLimit: 5\n", "  revisionHistoryLimit: 9 # mine: history\n")
    _append(project / "k8s/serviceaccount.yaml", "# mine: last\n")


def _target(project: Path) -> None:
    (project / "local.mk").write_text("mine: ## mine: own target\n\t@echo mine\n")
    _append(project / "Makefile", "\n.PHONY: mine-too\nmine-too: ## mine: target\n\t@echo mine too\n")


def _readme(project: Path) -> None:
    edit(project / "README.md", "## Your own data", "## Our data (mine)\n\nAsk Ada (mine).\n\n## Your own data")


def _data(project: Path) -> None:
    (project / "contract.yaml").write_text("version: 1\n# mine: contract\n")
    (project / "data").mkdir(exist_ok=True)
    (project / "data/mine.csv").write_text("a,b\nmine,1\n")


def _test_renamed(project: Path) -> None:
    (project / "tests/test_model.py").rename(project / "tests/test_scores.py")
    _append(project / "tests/test_scores.py", "\n# mine: scores\n")


def _deleted(project: Path) -> None:
    (project / ".pre-commit-config.yaml").unlink()
    (project / "uv.txt").unlink(missing_ok=True)


def _renamed_by_the_template(project: Path) -> None:
    for name in ("compose.override.yaml", "compose.local.yaml"):
        if (project / name).exists():
            _first(project / name, "# mine: compose\n")
    for name in ("src/tabserve/page.py", "src/tabserve/html.py"):
        if (project / name).exists():
            _append(project / name, "\nPAGE = 1  # mine: page\n")


def _removed_by_the_template(project: Path) -> None:
    for name in ("ruff.toml", "src/tabserve/references.py", "k8s/components/ingress/ingress.yaml"):
        if (project / name).exists():
            _append(project / name, "# mine: removed\n")


def _split_by_the_template(project: Path) -> None:
    edit(project / "k8s/network-policy.yaml", "spec:\n", "spec: # mine: first\n")
    _append(project / "k8s/network-policy.yaml", "# mine: second\n")


def _machinery(project: Path) -> None:
    _append(project / "src/tabserve/errors.py", "\n# mine: errors\n")
    _append(project / "src/tabserve/operations/cluster.sh", "# mine: cluster\n")


def _line_ends(project: Path) -> None:
    _append(project / ".gitattributes", "# mine: CRLF\nDockerfile -text\n")
    path = project / "Dockerfile"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"# mine: CRLF\r\n")


def _modes(project: Path) -> None:
    (project / "Makefile").chmod(0o755)
    (project / "mine.sh").write_text("echo mine\n")
    (project / "mine.sh").chmod(0o755)


def _binary(project: Path) -> None:
    for name in ("assets/logo.bin", "assets/picture.bin"):
        if (project / name).exists():
            path = project / name
            path.write_bytes(path.read_bytes() + b"\0mine")


def _binary_of_the_person(project: Path) -> None:
    (project / "mine.bin").write_bytes(b"\0\1mine")


EDITS: dict[str, Edit] = {
    "estimator": _estimator,
    "dependencies": _dependencies,
    "settings": _settings,
    "log level": _log_level,
    "replicas": _replicas,
    "target": _target,
    "readme": _readme,
    "data": _data,
    "test renamed": _test_renamed,
    "deleted": _deleted,
    "renamed by the template": _renamed_by_the_template,
    "removed by the template": _removed_by_the_template,
    "split by the template": _split_by_the_template,
    "machinery": _machinery,
    "line ends": _line_ends,
    "modes": _modes,
    "binary": _binary,
    "own binary": _binary_of_the_person,
}

"""A series of changes of the template, each a version: what has broken the updates of other templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

Change = Callable[[Path], None]
PICTURE = bytes(range(256)) * 8


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="")


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def _files_added(template: Path) -> None:
    (template / "assets").mkdir()
    (template / "assets/logo.bin").write_bytes(PICTURE)
    (template / "NEWS.md.jinja").write_text("# News of {{ project_name }}\n\nNone.\n")


def _setting_added(template: Path) -> None:
    edit(template / "config.toml.jinja", "max_rows = 1000  ", "queue_rows = 70\nmax_rows = 2000  ")


def _dependencies_changed(template: Path) -> None:
    path = template / "pyproject.toml.jinja"
    edit(path, '    "fastapi>=0.128",', '    "aiofiles>=24",\n    "fastapi>=0.129",')
    edit(path, '    "matplotlib>=3.10.7",\n', "")
    edit(path, '    "ruff>=0.14.8",', '    "ruff>=0.15",\n    "rust-just>=1.40",')


def _manifests_changed(template: Path) -> None:
    grace = "terminationGracePeriodSeconds:"
    edit(template / "k8s/deployment.yaml.jinja", grace, f"priorityClassName: x\n      {grace}")
    edit(template / "k8s/configmap.yaml.jinja", "SERVE_LOG_LEVEL: info", "SERVE_LOG_LEVEL: debug")
    _append(template / "k8s/serviceaccount.yaml.jinja", "# the last line\n")


def _files_renamed(template: Path) -> None:
    (template / "compose.override.yaml.jinja").rename(template / "compose.local.yaml.jinja")
    (template / "src/tabserve/page.py").rename(template / "src/tabserve/html.py")
    (template / "assets/logo.bin").rename(template / "assets/picture.bin")


def _file_split(template: Path) -> None:
    path = template / "k8s/network-policy.yaml.jinja"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))
    (path.parent / "network-policy-egress.yaml.jinja").write_text("".join(lines[len(lines) // 2 :]))


def _files_removed(template: Path) -> None:
    (template / "ruff.toml").unlink()
    (template / "src/tabserve/references.py").unlink()
    for path in (template / "k8s/components/ingress").iterdir():
        path.unlink()


def _binary_changed(template: Path) -> None:
    path = template / "assets/picture.bin"
    path.write_bytes(path.read_bytes().replace(b"\x00\x01", b"\x01\x00"))


def _question_renamed(template: Path) -> None:
    questions = template.parent / "copier.yml"
    text = questions.read_text(encoding="utf-8")
    block = re.search(r"^port:\n(?:  .*\n)*", text, re.MULTILINE)
    assert block
    renamed = block[0].replace("port:", "server_port:", 1).replace("check(port,", "check(server_port,")
    renamed = re.sub(r"^  default: .*$", '  default: "{{ port | default(8080) }}"', renamed, flags=re.MULTILINE)
    text = text.replace(block[0], renamed)
    questions.write_text(text, encoding="utf-8")
    for path in template.rglob("*.jinja"):
        path.write_bytes(path.read_bytes().replace(b"{{ port }}", b"{{ server_port }}"))


def _question_added(template: Path) -> None:
    _append(template.parent / "copier.yml", "\nnews:\n  type: bool\n  help: Are there news?\n  default: true\n")


def _targets_changed(template: Path) -> None:
    path = template / "Makefile.jinja"
    edit(path, "help: ## show this list", "help: ## show this list of tasks")
    _append(path, "\n.PHONY: news\nnews: ## show the news\n\t@cat NEWS.md\n")


def _mode_changed(template: Path) -> None:
    (template / "src/tabserve/operations/cluster.sh").chmod(0o755)
    (template / "uv.txt").chmod(0o755)


def _own_files_changed(template: Path) -> None:
    edit(template / "README.md.jinja", "## The API\n", "## The API, version 2\n")
    for pipeline in (template / "src").rglob("pipeline.py"):
        edit(pipeline, '"""An unfitted pipeline for', '"""An unfitted scikit-learn pipeline for')
    for sample in template.rglob("loans.csv"):
        edit(sample, "C100000,", "C999999,")
    (template / "tests/test_more.py").write_text('"""More tests."""\n')


def _dotfiles_changed(template: Path) -> None:
    _append(template / ".gitignore.jinja", "*.tmp\n")
    _append(template / ".dockerignore", "NEWS.md\n")
    edit(template / "Dockerfile.jinja", "EXPOSE", "LABEL news=yes\nEXPOSE")


# In the order of their versions; each gets the folder `template/` of the template.
CHANGES: dict[str, Change] = {
    "1.1.0": _files_added,
    "1.2.0": _setting_added,
    "1.3.0": _dependencies_changed,
    "1.4.0": _manifests_changed,
    "1.5.0": _files_renamed,
    "1.6.0": _file_split,
    "1.7.0": _files_removed,
    "1.8.0": _binary_changed,
    "1.9.0": _question_renamed,
    "1.10.0": _question_added,
    "1.11.0": _targets_changed,
    "1.12.0": _mode_changed,
    "1.13.0": _own_files_changed,
    "1.14.0": _dotfiles_changed,
}

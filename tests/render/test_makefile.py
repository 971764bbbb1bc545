"""The Makefile hands every value on as it was given: no make and no shell reads anything in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tabserve.tasks.options import parse
from tests.conftest import ROOT, Render

RECORDER = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
VALUES = (
    *("two words", "ends with a blank ", "it's", 'say "yes"', "größe.csv", "表.csv", "a\nb", "a\tb", "a\\b", "\\"),
    *("$HOME", "$$", "$x", "${HOME}", "$(shell echo made)", "`id`", "a;id", "a|id", "a&id", "a>b", "*", "~", "!", "%"),
    *("#none", "a#b", "-x.csv", "--write", "--", "a=b", "a:=b", "a:b", "{{ x }}"),
)
# A target that hands the variable on, and the option that it becomes.
OPTIONS = {
    "DATA": ("train", "--data"),
    "TARGET": ("contract", "--target"),
    "TASK": ("contract", "--task"),
    "PORT": ("serve", "--port"),
    "IMAGE": ("push", "--image"),
    "RPS": ("size", "--rps"),
    "ARGS": ("test", "--args"),
}


@pytest.fixture
def folder(render: Render, tmp_path: Path) -> Path:
    """A Makefile whose uv prints its arguments as JSON."""
    (tmp_path / "Makefile").write_text((render() / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "uv").write_text(RECORDER)
    (tmp_path / "uv").chmod(0o755)
    return tmp_path


def passed(folder: Path, target: str, *variables: str, **environment: str) -> list[str]:
    """What a task gets behind its name."""
    command = ["make", "--no-print-directory", f"UV={folder / 'uv'}", target, *variables]
    surroundings = os.environ | environment
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, encoding="utf-8", check=True)
    arguments: list[str] = json.loads(done.stdout)
    assert arguments[:3] == ["run", "loan-offers", target]
    return arguments[3:]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_is_passed_unchanged(folder: Path, value: str) -> None:
    for name, (target, option) in OPTIONS.items():
        assert passed(folder, target, f"{name}={value}") == [f"{option}={value}"], name
    assert passed(folder, "check-data", f"DATA={value}") == ["--", value]
    assert passed(folder, "contract", f"DATA={value}") == ["--", value]
    assert passed(folder, "predict", f"DATA={value}", f"OUT={value}") == ["--", value, value]


@pytest.mark.parametrize("value", [*VALUES, " begins with a blank", "\t"], ids=range(len(VALUES) + 2))
def test_a_value_of_the_environment_is_passed_unchanged(folder: Path, value: str) -> None:
    assert passed(folder, "predict", DATA=value, OUT=value) == ["--", value, value]


def test_every_task_gets_the_arguments(folder: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+): \$\(UV\)", (folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"check-data", "train", "logs"} < set(targets)
    for target in targets:
        assert passed(folder, target, "ARGS=-v 'a b'")[0] == "--args=-v 'a b'", target


def test_every_variable_is_tried(folder: Path) -> None:
    text = (folder / "Makefile").read_text(encoding="utf-8")
    listed = set(re.findall(r"\b([A-Z]+)=", "".join(re.findall(r"## (.*)", text))))
    exported = set(re.search(r"foreach name,([A-Z ]+),", text)[1].split())  # type: ignore[index]
    assert exported == listed == {*OPTIONS, "OUT", "WRITE", "FORCE"}


def test_switches_are_words_of_the_makefile(folder: Path) -> None:
    assert passed(folder, "contract", "WRITE=1") == passed(folder, "contract", "WRITE=$(shell echo 0)") == ["--write"]
    assert passed(folder, "predict", "DATA=a", "OUT=b", "FORCE=1") == ["--force", "--", "a", "b"]
    for no in ("0", "no", "No", "false", "FALSE", "off"):
        assert passed(folder, "contract", f"WRITE={no}") == [], no


def test_args_are_split_as_a_shell_does_and_run_nothing() -> None:
    text = """-k 'a or b' --x="$HOME" `id` $(id) ; #1"""
    assert parse("shop", ["test", f"--args={text}"]).unknown == shlex.split(text)
    assert parse("shop", ["test", "-k", "--args=x"]).unknown == ["-k", "--args=x"]


def test_args_with_an_open_quote_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("shop", ["test", "--args=-k 'a"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ARGS: no closing quotation")


def test_no_recipe_expands_a_value() -> None:
    for makefile, names in (
        ("Makefile", "ANSWERS|ARGS|DEST|LAYER|PROJECT|SECONDS"),
        ("template/Makefile.jinja", "[A-Z]+"),
    ):
        recipes = "".join(re.findall(r"^\t.*\n", (ROOT / makefile).read_text(encoding="utf-8"), re.MULTILINE))
        assert set(re.findall(rf"\$\(({names})\)", recipes)) <= {"RUN", "UV", "PYTHON", "BIN", "MAKEFILE_LIST"}


def test_uv_is_pinned_by_hash_wherever_it_is_installed(render: Render) -> None:
    pinned = (render() / "uv.txt").read_text(encoding="utf-8")
    (version,) = re.findall(r"^uv==(\S+) \\$", pinned, re.MULTILINE)
    assert f"uv=={version}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}", pinned, re.MULTILINE)) > 10, "a hash for each platform"
    files = [path for path in render().rglob("*") if path.is_file() and ".git" not in path.parts]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix != ".csv"]
    installs = [line for text in texts for line in text.splitlines() if re.search(r"\bpip install\b", line)]
    assert installs
    assert all("--require-hashes --requirement uv.txt" in line for line in installs)

"""The commands of both READMEs, run as they are written."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.conftest import ROOT, run
from tests.project.conftest import BIN, Prepared
from tests.project.servers import free_port, wait_until_ready


def blocks(readme: Path) -> list[str]:
    """The shell blocks of a README."""
    return re.findall(r"^```sh\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shape(text: str) -> str:
    """A transcript without what differs from run to run: times, versions, sizes, scores, padding."""
    text = re.sub(r"[0-9a-f]{12}", "#", text)
    return "\n".join(" ".join(re.sub(r"\d[\d,.e-]*", "#", line).split()) for line in text.strip().splitlines())


def test_clone_and_make_new(clone: Path, tmp_path: Path) -> None:
    start, _ = blocks(ROOT / "README.md")
    path = ":".join(folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "uv").exists())
    printed = run("bash", "-euc", start, cwd=tmp_path, URL=str(clone), PATH=path, COLUMNS="110")
    assert (tmp_path / "my-model/model/model.onnx").is_file()
    assert "Nothing is left running" in printed
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = readme.split("$ make new DEST=../my-model\n")[1].split("```")[0]
    assert shape(quoted) == shape(printed[printed.index("installing copier") :])
    assert not subprocess.run(["pgrep", "-f", f"{tmp_path}/my-model"], capture_output=True, text=True).stdout
    remembered = (tmp_path / "my-model/.copier-answers.yml").read_text()
    assert f"_src_path: {clone}\n" in remembered
    occupied = run("make", "new", "DEST=../my-model", cwd=tmp_path / "copier-mlops", code=2)
    assert "error: ../my-model exists and is not empty: choose another DEST" in occupied


def test_make_new_with_answers_and_mistakes(clone: Path, tmp_path: Path) -> None:
    run("git", "clone", "-q", str(clone), "copier-mlops", cwd=tmp_path)
    folder = tmp_path / "copier-mlops"
    (tmp_path / "answers.yml").write_text("project_name: Answered\nlicense: MIT\n")
    (tmp_path / "typo.yml").write_text("licence: MIT\n")
    (tmp_path / "open.yml").write_text("a: [unclosed\n")
    (tmp_path / "list.yml").write_text("- MIT\n")
    options = ("ANSWERS=../answers.yml", "ARGS=--data estimator=linear --data task=regression")
    printed = run("make", "new", "DEST=../answered", *options, cwd=folder)
    assert "Answered works" in printed
    assert '"value": ' in printed
    assert "Ridge" in (tmp_path / "answered/src/answered/pipeline.py").read_text()
    assert "MIT License" in (tmp_path / "answered/LICENSE").read_text()
    for arguments, message in (
        ([], "error: say where: make new DEST=../my-model"),
        (["DEST=../bad", "ANSWERS=none.yml"], "error: none.yml does not exist"),
        (["DEST=../bad", "ARGS=--data package_name=9x"], "question 'package_name': use a-z, 0-9 and _, as in my_model"),
        (["DEST=../bad", "ARGS=--nonsense"], "error: Unknown switch --nonsense"),
        (["DEST=../bad", "ARGS=--pretend"], "error: --pretend leaves out what a project needs"),
        (["DEST=../bad", "ARGS=--data estimator"], "error: --data estimator: write --data question=answer"),
        (["DEST=../bad", "ARGS=--vcs-ref none"], "error: "),
        (["DEST=../bad", "ANSWERS=../open.yml"], "error: ../open.yml is not valid YAML"),
        (["DEST=../bad", "ARGS=--data estimater=linear"], "error: there is no question 'estimater'; there are"),
        (["DEST=../bad", "ANSWERS=../typo.yml"], "error: there is no question 'licence'; there are"),
        (["DEST=../bad", "ANSWERS=../list.yml"], "error: ../list.yml is not a list of answers"),
        (
            ["DEST=../bad", "ARGS=-d data_source=file -d data_path=none.csv"],
            "error: none.csv does not exist: name data_path",
        ),
    ):
        assert message in run("make", "new", *arguments, cwd=folder, code=2)
        assert not (tmp_path / "bad").exists()


def test_uvx_with_the_questions_asked(clone: Path, tmp_path: Path) -> None:
    _, uvx = blocks(ROOT / "README.md")
    port = free_port()
    environment = {"URL": str(clone), "SERVE_PORT": str(port), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm"}
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-euc", uvx],
        cwd=tmp_path,
        env=os.environ | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        printed = press_enter_until_ready(controller, f"http://127.0.0.1:{port}/readyz")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        os.close(controller)
    assert "What is the project called?" in printed
    assert (tmp_path / "my-model/model/model.onnx").is_file()


def press_enter_until_ready(controller: int, url: str, seconds: float = 240) -> str:
    """Accept every default; returns what the terminal showed once the server is ready."""
    printed, deadline, answered = "", time.monotonic() + seconds, 0.0
    while time.monotonic() < deadline:
        if select.select([controller], [], [], 0.1)[0]:
            printed += os.read(controller, 65_536).decode(errors="replace")
        if "Copying from template" not in printed and time.monotonic() - answered > 0.4:
            os.write(controller, b"\r")
            answered = time.monotonic()
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return printed
        except urllib.error.URLError:
            continue
    raise AssertionError(printed[-3_000:])


def test_the_readme_of_a_project(prepared: Prepared, tmp_path: Path) -> None:
    project = prepared()
    port = free_port()
    server = None
    path = f"{BIN}:{os.environ['PATH']}"
    try:
        for line in "".join(blocks(project / "README.md")).splitlines():
            command = line.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
            if command.startswith("make serve"):
                environment = os.environ | {"SERVE_PORT": str(port), "PATH": path}
                server = subprocess.Popen(
                    ["bash", "-euc", command], cwd=project, env=environment, start_new_session=True
                )
                wait_until_ready(f"http://127.0.0.1:{port}")
            else:
                run("bash", "-euc", command, cwd=project, PATH=path)
    finally:
        assert server is not None
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert (project / "reports/predictions.csv").read_text().count("\n") == 4_001

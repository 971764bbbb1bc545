"""The questions in a terminal of 80 columns: how many there are, and that nothing of them is cut off."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from prompt_toolkit.utils import get_cwidth

from tests.questions.test_questions import ASKED, stored

MOST = 10
DOWN, ENTER = "\x1b[B", "\r"
HELP = {question["help"]: name for name, question in ASKED.items()}
OWN_TABLE = {"data_source": DOWN + ENTER}


def ask(template: Path, project: Path, keys: Mapping[str, str], until: str = "\0") -> tuple[list[str], str]:
    """Press these keys, else Enter, at each question, to the end or until a text is shown.

    Returns:
        The questions that were asked, and what was shown.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    command = [sys.executable, "-m", "copier", "copy", "--vcs-ref", "HEAD", str(template), str(project)]
    environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    asked: list[str] = []
    shown, deadline = b"", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and until not in plain(shown):
        if select.select([controller], [], [], 0.1)[0]:
            try:
                shown += os.read(controller, 65_536)
                continue  # until all of the question is there
            except OSError:  # the other end is closed
                break
        for name in new_questions(plain(shown), asked):
            asked.append(name)
            os.write(controller, keys.get(name, ENTER).encode())
    process.kill()
    process.wait()
    os.close(controller)
    return asked, plain(shown)


def new_questions(shown: str, asked: list[str]) -> list[str]:
    """The question that waits for an answer, if there is one."""
    found = re.findall(r"🎤 (.+?) *\n", shown)
    return [HELP[found[-1]]] if found and found[-1] in HELP and HELP[found[-1]] not in asked else []


def plain(shown: bytes) -> str:
    """What a terminal was sent, without colours and movements."""
    text = re.sub(r"\x1b\[[0-9]*[ADH]", "\n", shown.decode(errors="replace"))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]", "", text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def assert_whole(asked: list[str], shown: str) -> None:
    """Nothing of the questions is wider than the terminal or cut off."""
    shown = shown.partition("Copying from template")[0]
    assert all(get_cwidth(line) <= 80 for line in shown.splitlines()), shown
    assert [name for name in asked if not all(text in shown for text in ASKED[name].get("choices", []))] == []


@pytest.mark.parametrize(("keys", "more"), [({}, 0), (OWN_TABLE, 2)], ids=["sample", "file"])
def test_ten_questions_at_most(copier_template: Path, tmp_path: Path, keys: dict[str, str], more: int) -> None:
    asked, shown = ask(copier_template, tmp_path / "my-model", keys)
    plainly = [name for name, question in ASKED.items() if not {"when", "ask"} & question.keys()]
    assert sorted(asked) == sorted([*plainly, *["data_path", "target_column"][:more]])
    assert len(asked) <= MOST
    assert stored(tmp_path / "my-model")["project_name"] == "My Model"
    assert_whole(asked, shown)


def test_details_are_asked_when_they_are_wanted(copier_template: Path, tmp_path: Path) -> None:
    asked, shown = ask(copier_template, tmp_path / "my-model", {"details": "y"})
    assert set(asked) == ASKED.keys() - {"data_path", "target_column"}
    assert_whole(asked, shown)


def test_a_wrong_answer_is_explained_in_one_whole_line(copier_template: Path, tmp_path: Path) -> None:
    message = "Validation error for question 'project_name': leave out { } < > and `"
    _, shown = ask(copier_template, tmp_path / "my-model", {"project_name": "{}" + ENTER}, until=message)
    assert message in shown
    assert not (tmp_path / "my-model").exists()

"""Files are written whole or not at all."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tabserve.errors import UserError
from tabserve.outputs import discard, outputs, write_atomically
from tests.tabserve.conftest import SOURCE

WRITER = "x train"


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    write_atomically({files[0]: b"before"}, WRITER)
    files[0].chmod(0o640)
    files[1].mkdir()
    with pytest.raises(UserError, match="b cannot be written: "):
        write_atomically(dict.fromkeys(files, b"after"), WRITER)
    assert files[0].read_text() == "before"
    files[1].rmdir()
    files[1].symlink_to("a")
    write_atomically({files[1]: b"after"}, WRITER)
    assert files[1].is_symlink()
    assert files[0].read_text() == "after"
    assert files[0].stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tabserve", "a", "b"]


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="pipe cannot be written: it is not a regular file"):
        write_atomically({pipe: b"text"}, WRITER)
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["loop", "n" * 300, "blocker/a"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "blocker").touch()
    with pytest.raises(UserError, match="cannot be written: "):
        write_atomically({tmp_path / name: b"text"}, WRITER)


def test_a_file_that_was_changed_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for text in (b"one", b"two", b"two"):
        write_atomically({path: text}, WRITER)
    path.write_bytes(b"mine")
    discard(path, WRITER)
    with pytest.raises(UserError, match="was changed since"):
        write_atomically({path: b"three"}, WRITER)
    assert path.read_bytes() == b"mine"
    write_atomically({path: b"three"}, WRITER, force=True)
    write_atomically({path: b"four"}, WRITER)
    discard(path, WRITER)
    assert not path.exists()


def test_an_edited_file_that_a_task_writes_is_not_listed_as_an_output(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    write_atomically({path: b"contract"}, writer="")
    with pytest.raises(UserError, match="not written by"):
        write_atomically({path: b"report"}, WRITER)


@pytest.mark.parametrize("other", ["y train", "x predict", ""])
def test_an_output_of_another_project_or_task_is_not_replaced(tmp_path: Path, other: str) -> None:
    path = tmp_path / "out.csv"
    write_atomically({path: b"theirs"}, other)
    discard(path, WRITER)
    with pytest.raises(UserError, match="was not written by `x train`"):
        write_atomically({path: b"ours"}, WRITER)
    assert path.read_bytes() == b"theirs"
    write_atomically({path: b"ours"}, WRITER, force=True)
    write_atomically({path: b"again"}, WRITER)
    with pytest.raises(UserError, match="not written by"):
        write_atomically({path: b"theirs"}, "y train")


@pytest.mark.parametrize("name", ["list", "lock", "new", "new-lock", ".tabserve-x"])
def test_no_name_is_lost_in_the_scratch_folder(tmp_path: Path, name: str) -> None:
    for text in (b"one", b"two"):
        write_atomically({tmp_path / name: text}, WRITER)
        assert (tmp_path / name).read_bytes() == text


def test_two_kills_between_listing_and_renaming_lock_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "a", Path.replace
    write_atomically({path: b"1"}, WRITER)

    def killed(new: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return replace(new, target)

    for text in (b"2", b"3"):
        with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
            context.setattr(Path, "replace", killed)
            write_atomically({path: text}, WRITER)
    write_atomically({path: b"4"}, WRITER)
    assert path.read_bytes() == b"4"


def test_what_is_in_the_way_of_the_lists_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / ".tabserve").write_text("mine")
    with pytest.raises(UserError, match=r"\.tabserve is in the way"), outputs(tmp_path / "a", writer=WRITER):
        pytest.fail("the work began")
    (tmp_path / ".tabserve").unlink()
    (tmp_path / ".tabserve").mkdir()
    os.mkfifo(tmp_path / ".tabserve/a")
    write_atomically({tmp_path / "a": b"text"}, WRITER)
    assert (tmp_path / "a").read_bytes() == b"text"


def test_a_list_behind_a_link_is_neither_believed_nor_written(tmp_path: Path) -> None:
    write_atomically({tmp_path / "theirs/a": b"text"}, WRITER)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/a").write_bytes(b"text")
    (tmp_path / "ours/.tabserve").symlink_to("../theirs/.tabserve")
    before = (tmp_path / "theirs/.tabserve/a").read_bytes()
    with pytest.raises(UserError, match="was not written by"):
        write_atomically({tmp_path / "ours/a": b"new"}, WRITER)
    with pytest.raises(UserError, match=r"\.tabserve is in the way"):
        write_atomically({tmp_path / "ours/a": b"new"}, WRITER, force=True)
    assert (tmp_path / "theirs/.tabserve/a").read_bytes() == before
    assert (tmp_path / "ours/a").read_bytes() == b"text"


def test_a_process_that_is_killed_leaves_no_half_of_a_file_and_nothing_for_long(tmp_path: Path) -> None:
    path, temporary = tmp_path / "out.csv", tmp_path / "temporary"
    temporary.mkdir()
    write_atomically({path: b"before"}, WRITER)
    program = (
        "import os, sys, pathlib; from tabserve.files import temporary; from tabserve.outputs import outputs\n"
        "with outputs(pathlib.Path(sys.argv[1]), writer='x train') as (new,):\n"
        "    new.write_bytes(b'half'); temporary('.csv'); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"before"
    assert list(tmp_path.glob(".tabserve-*"))
    again = program.replace("os.kill(os.getpid(), 9)", "new.write_bytes(b'whole')")
    subprocess.run([sys.executable, "-c", again, str(path)], env=environment, check=True)
    assert path.read_bytes() == b"whole"
    assert sorted(each.name for each in tmp_path.iterdir()) == [".tabserve", "out.csv", "temporary"]
    assert not list(temporary.iterdir())


def test_the_folder_of_a_process_that_runs_stays(tmp_path: Path) -> None:
    with outputs(tmp_path / "a", writer=WRITER) as (first,), outputs(tmp_path / "b", writer=WRITER) as (second,):
        for path in (first, second):
            path.write_bytes(b"text")
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def test_a_folder_that_is_not_ours_stays(tmp_path: Path) -> None:
    notes = tmp_path / ".tabserve-notes/mine.txt"
    notes.parent.mkdir()
    notes.write_text("my notes")
    write_atomically({tmp_path / "a": b"text"}, WRITER)
    assert notes.read_text() == "my notes"


def test_many_processes_write_into_one_folder(tmp_path: Path) -> None:
    code = """if True:
    import pathlib, sys, time
    from tabserve.outputs import write_atomically
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        write_atomically({pathlib.Path(sys.argv[1]): b"text"}, "x train")
    """
    command = [sys.executable, "-c", code]
    paths = os.environ | {"PYTHONPATH": str(SOURCE)}
    running = [subprocess.Popen([*command, str(tmp_path / str(each))], env=paths) for each in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert {path.name for path in tmp_path.iterdir()} == {".tabserve", "0", "1", "2", "3"}


def test_files_get_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically({tmp_path / "new": b"text"}, WRITER)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


WRITES = {
    "write_bytes",
    "write_text",
    "unlink",
    "rmtree",
    "mkstemp",
    "TemporaryDirectory",
    "NamedTemporaryFile",
}
WRITERS = {"files.py", "outputs.py", "tasks/development.py"}  # the last one removes caches


def test_every_output_goes_through_one_module() -> None:
    """Batch scoring writes parts of an output; an update writes temporary files, and the project by git."""
    found = set()
    for path in sorted((SOURCE / "tabserve").rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        name = path.relative_to(SOURCE / "tabserve").as_posix()
        if names & WRITES and not name.startswith("updating/"):
            found.add(name)
    assert found <= WRITERS | {"inference/batch.py"}, found

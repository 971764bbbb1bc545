"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from tabserve.errors import UserError
from tabserve.files import write_atomically


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    files[0].write_text("before")
    files[0].chmod(0o640)
    files[1].mkdir()
    with pytest.raises(UserError, match="b cannot be written: "):
        write_atomically(dict.fromkeys(files, b"after"))
    assert files[0].read_text() == "before"
    files[1].rmdir()
    files[1].symlink_to("a")
    write_atomically({files[1]: b"after"})
    assert files[1].is_symlink()
    assert files[0].read_text() == "after"
    assert files[0].stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="pipe cannot be written: it is not a regular file"):
        write_atomically({pipe: b"text"})
    assert pipe.is_fifo()

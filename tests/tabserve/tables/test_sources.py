"""Files as users have them: compressed, in other encodings, in other formats, elsewhere."""

import bz2
import functools
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import fsspec
import numpy as np
import polars as pl
import pytest
import xlsxwriter

from tabserve.errors import UserError
from tabserve.tables import reader, sources
from tests.tabserve.conftest import SOURCE

HEAD = "name,größe\n"
CSV = HEAD + "".join(f"Zoë {number},{number}\n" for number in range(50))
EXPECTED = [(f"Zoë {number}", str(number)) for number in range(50)]


def zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.csv", content)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("ending", [*COMPRESSORS, "zip"])
def test_compressed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.csv.{ending}"
    if ending == "zip":
        zipped(CSV.encode(), path)
    else:
        path.write_bytes(COMPRESSORS[ending](CSV.encode()))
    assert pl.concat(reader.batches(path)).rows() == EXPECTED
    assert reader.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(CSV.encode(encoding))
    assert pl.concat(reader.batches(path)).rows() == EXPECTED
    assert reader.names(path) == ["name", "größe"]
    assert bool(reader.remarks(path)) == (not encoding.startswith("utf-8"))


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ("ä\n1\n", "ä,b\n1,2\n"):
        path.write_bytes(text.encode("cp1252"))
        assert pl.concat(reader.batches(path)).width == text.count(",") // 2 + 1


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("a,b\n1,2\n", ["a", "b"], 1),
        ("a;b,c;d\n1,5;x;2\n2,5;y;3\n", ["a", "b,c", "d"], 2),
        ("sep=;\na;b\n1;2\n3;4\n", ["a", "b"], 2),
        ("\n\na,b\n1,2\n3,4\n", ["a", "b"], 2),
        ("Report\nof 2024\n\na,b,c\n1,2,3\n4,5,6\n", ["a", "b", "c"], 2),
        (" a , a,,b\n1,2,3,4\n", ["a", "a_2", "column_3", "b"], 1),
        ('"a\nb",c\n"1\n,2",3\n', ["a\nb", "c"], 1),
        ("one\n1\n2\n", ["one"], 2),
        ("a|b\n1|2\n", ["a", "b"], 1),
        ("a,b\n1,2\n\n\n", ["a", "b"], 1),
        ("0,1,2\n5,6,7\n8,9,1\n", ["0", "1", "2"], 2),
        ("land,1990,1991\nx,1,2\n", ["land", "1990", "1991"], 1),
        ("a;b;c\n3;9,1;5\n4;9,2;5\n4;8,2\n", ["a", "b", "c"], 3),
        ("a\rb\r", ["a"], 1),
        ("text;more\nI came, I saw;1\nand, well, so;2\n", ["text", "more"], 2),
    ],
)
def test_dialects(tmp_path: Path, text: str, names: list[str], rows: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, newline="")
    assert reader.names(path) == names
    assert pl.concat(reader.batches(path)).height == rows
    assert pl.concat(reader.batches(path)).columns == names


def test_json_lines_and_json(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": None, "c": True}, {"a": 2.5, "b": "01"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.json").write_text(json.dumps(rows))
    expected = pl.DataFrame(rows)
    assert pl.concat(reader.batches(tmp_path / "t.jsonl")).equals(expected)
    assert pl.concat(reader.batches(tmp_path / "t.json")).equals(expected)


def test_addresses_are_fetched_once() -> None:
    with fsspec.open("memory://folder/t.csv", "wb") as file:
        file.write(CSV.encode())
    assert pl.concat(reader.batches("memory://folder/t.csv")).rows() == EXPECTED
    assert sources.plain("memory://folder/t.csv").path == sources.plain("memory://folder/t.csv").path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server of files on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_on_the_web(tmp_path: Path, site: str) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(CSV.encode("cp1252")))
    assert pl.concat(reader.batches(f"{site}/t.csv.gz?version=2")).rows() == EXPECTED
    with pytest.raises(UserError, match="cannot be fetched: 404"):
        pl.concat(reader.batches(f"{site}/absent.csv"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://absent.csv", "there is no such file"),
        ("gopher://x/t.csv", "Protocol not known"),
        ("http://127.0.0.1:9/t.csv", "cannot be fetched"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        pl.concat(reader.batches(address))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b" \n\n", "is empty"),
        ("t.csv", bytes(range(256)) * 20, "holds NUL bytes"),
        ("t.csv", b"1,2\n3,4\n", "line 1 holds 1, 2 where names should be"),
        ("t.csv", b"a,b\n1,2,3\n", "the record in line 2 has 3 fields, the header has 2"),
        ("t.csv", b"Title\n\na,b\n1,2\n3,4\n1,2,3\n", "the record in line 6 has 3 fields"),
        ("t.csv", b'a,b\n"say \\"hi\\" to",2\n3,4\n', "line 2 writes quotes inside a cell as"),
        ("t.csv", b"0.71,6,yes\n0.52,3,no\n", "line 1 holds 0.71, 6, yes where names should be"),
        (
            "t.csv",
            "stadt\nKöln\nGörlitz\nLüneburg\n".encode() + b"M\xfcnchen\n",
            "except for 1 bytes, the first in line 5",
        ),
        ("t.csv", b"<!DOCTYPE html><html></html>", "is a web page"),
        ("t.csv.gz", gzip.compress(CSV.encode())[:40], "cannot be decompressed: Compressed file ended"),
        ("t.csv.xz", lzma.compress(CSV.encode())[:-20] + bytes(20), "cannot be decompressed"),
        ("t.zip", b"PK\x03\x04" + bytes(60), "cannot be read"),
        ("t.jsonl", b'{"a": NaN}\n', "NaN and Infinity are not valid JSON, write null"),
        ("t.xlsx", CSV.encode(), "cannot be read as Excel"),
        ("t.parquet", CSV.encode(), "cannot be read as Parquet"),
        ("t.jsonl", b'{"a": 1}\n{"a"\n', "cannot be read as JSON lines"),
        ("t.json", b"[1, 2]", "cannot be read as JSON lines"),
    ],
)
def test_files_that_are_not_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        pl.concat(reader.batches(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_sample_is_exact_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BATCH_BYTES", 2_000)
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{number},{number % 3}\n" for number in range(5_000)))
    table, rows = reader.sample(path, 700, ["x"])
    numbers = table["x"].cast(pl.Int64).to_numpy()
    assert (rows, len(numbers), table.columns) == (5_000, 700, ["x"])
    assert (np.diff(numbers) > 0).all()
    assert 2_200 < numbers.mean() < 2_800
    assert reader.sample(path, 6_000)[0].equals(pl.concat(reader.batches(path)))


def test_a_pipe_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(UserError, match="is a pipe or a device, not a file"):
        pl.concat(reader.batches(tmp_path / "t.csv"))


def test_json_in_other_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "cp1252"):
        line = json.dumps({"name": "Zoë", "x": encoding}, ensure_ascii=False)
        (tmp_path / "t.jsonl").write_bytes(f"{line}\n".encode(encoding))
        assert pl.concat(reader.batches(tmp_path / "t.jsonl")).rows() == [("Zoë", encoding)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [5, 16, 64, 10_000])
def test_blocks_hold_every_record_once(end: str, size: int) -> None:
    lines = [f'{number},"a{end}b"' if number % 3 == 0 else f"{number},c" for number in range(40)]
    content = (end.join(lines) + end * 4).encode()
    blocks = list(reader.whole_records(io.BytesIO(content), size))
    assert b"".join(blocks).replace(b"\r", b"") == content.rstrip().replace(b"\r", b"") + b"\n"


def test_odd_names_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"": [1], " a ": [2], "a": [3]}).write_parquet(tmp_path / "t.parquet")
    assert pl.concat(reader.batches(tmp_path / "t.parquet")).columns == ["column_1", "a", "a_2"]


def test_separators_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Customers\nof 2024\na;b;c\n1;2;x\n3;4;y\n5;6;z\n")
    assert reader.remarks(path) == [
        f"{path}: semicolons separate the columns",
        f"{path}: 2 lines above the header are skipped",
    ]


@pytest.mark.parametrize("row", ["1,2,yes,\n\n", "1,2,yes\n"], ids=["blank lines", "short records"])
def test_each_block_has_the_columns_of_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text("age,income,bought,note\n" + "1,2,yes,more\n" * 5 + row * 300)
    whole = pl.concat(reader.batches(path))
    monkeypatch.setattr(reader, "BATCH_BYTES", 64)
    assert pl.concat(reader.batches(path)).equals(whole)
    assert whole.columns == ["age", "income", "bought", "note"]
    assert whole.filter(pl.col("bought") == "yes").height == 305


def nested(content: bytes, *layers: str) -> bytes:
    for layer in layers:
        content = COMPRESSORS[layer](content)
    return content


LONG = b"1,2\n" * 100_000
BOMBS: dict[str, tuple[bytes, str]] = {
    **{f"b.csv.{name}": (pack(LONG), "grows more than 200 times") for name, pack in COMPRESSORS.items()},
    "twice.csv.gz": (nested(LONG, "gz", "bz2"), "grows more than 200 times"),
    "often.csv.gz": (nested(CSV.encode(), *["gz"] * 5), "is compressed more than 4 times over"),
    "deep.jsonl": (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}\n", "nested more than 20 deep"),
    "deeper.jsonl": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "cannot be read as JSON lines"),
    "deep.json": (b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000, "cannot be read as JSON lines"),
    "line.jsonl": (b'{"a":"' + b"x" * 5_000_000 + b'"}\n', "line 1 is longer than"),
    "row in a list.json": (b'[{"a":"x"},{"a":"}' + b"x" * 9_000_000 + b'"}]', "a row is longer than"),
    "row.json": (b'[{"a":"' + b"x" * 5_000_000 + b'"}]', "a row is longer than"),
    "line.csv": (b"x" * 2_000_000, "a line has more than 500,000 characters"),
    "second line.csv": (b"a,b\n" + b"x" * 2_000_000, "a line has more than 500,000 characters"),
    "columns.csv": (",".join(map("c{}".format, range(200_000))).encode(), "a line has more than 500,000 characters"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_grows_gets_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNPACKED_BYTES", 2**17)
    content, message = BOMBS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        reader.remarks(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", ["../out.csv", "/tmp/out.csv", "a/../../out.csv", "C:\\out.csv"])
def test_a_member_of_an_archive_never_leaves_its_folder(tmp_path: Path, member: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        archive.writestr(member, CSV)
    assert pl.concat(reader.batches(folder / "t.zip")).rows() == EXPECTED
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "t.zip"]


@pytest.mark.parametrize("cell", ["XFD1048576", "A1048576"])
def test_a_workbook_with_one_cell_far_from_all_others(tmp_path: Path, cell: str) -> None:
    book = xlsxwriter.Workbook(tmp_path / "far.xlsx")
    sheet = book.add_worksheet()
    for place in ("A1", "B1", "A2", "B2", cell):
        sheet.write(place, "x")
    book.close()
    with pytest.raises(UserError, match=r"has cells far from all others|takes too much memory or time"):
        reader.names(tmp_path / "far.xlsx")


def _workbook(path: Path) -> None:
    """A short text of many cells, then a long one in its place: a workbook lists each text once."""
    book = xlsxwriter.Workbook(path)
    sheet = book.add_worksheet()
    sheet.write_column(0, 0, ["name", *["text"] * 20_000])
    book.close()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"<t>text</t>", b"<t>" + b"x" * 300_000 + b"</t>"))


def _open_document(path: Path) -> None:
    cell = '<table:table-cell office:value-type="string"{}><text:p>x</text:p></table:table-cell>'
    row = "<table:table-row {}>" + cell.format(' table:number-columns-repeated="1000"') + "</table:table-row>"
    spaces = " ".join(
        f'xmlns:{space}="urn:oasis:names:tc:opendocument:xmlns:{space}:1.0"' for space in ("office", "text", "table")
    )
    repeated = row.format('table:number-rows-repeated="900000"')
    sheet = f'<table:table table:name="a">{row.format("")}{repeated}</table:table>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>{sheet}</office:spreadsheet>"
            "</office:body></office:document-content>",
        )


def _repeated(value: object, times: int) -> pl.DataFrame:
    return pl.DataFrame({"a": [value]}).select(pl.col("a").repeat_by(times).explode())


WIDE = ",".join(map("c{}".format, range(3_000))) + "\n"
EXPANDING: dict[str, Callable[[Path], object]] = {
    "texts.xlsx": _workbook,
    "cells.ods": _open_document,
    "texts.parquet": lambda path: _repeated("x" * 30_000, 5_000).write_parquet(path),
    "bytes.parquet": lambda path: _repeated(b"x" * 30_000, 5_000).write_parquet(path),
    "text.parquet": lambda path: pl.DataFrame({"a": ["x" * 300_000_000, "y"]}).write_parquet(path),
    "lists.parquet": lambda path: pl.DataFrame({"a": [[1.0] * 100_000] * 200}).write_parquet(path),
    "rows.parquet": lambda path: _repeated(1, 20_000_000).write_parquet(path),
    "short.csv": lambda path: path.write_text(WIDE + ("1" + "," * 2_999 + "\n") * 300 + "1\n" * 100_000),
    "short.jsonl": lambda path: path.write_text(
        json.dumps(dict.fromkeys(WIDE.split(","), 1)) + "\n" + "{}\n" * 100_000
    ),
}
SAMPLE = """
import sys
from tabserve.errors import UserError
from tabserve.tables import reader
try:
    reader.sample(sys.argv[1], 100_000)
except UserError as error:
    print(error)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")
@pytest.mark.parametrize("name", EXPANDING)
def test_a_small_file_that_takes_much_memory_gets_one_line(name: str, tmp_path: Path) -> None:
    EXPANDING[name](tmp_path / name)
    command = [sys.executable, "-c", SAMPLE, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})
    message, kilobytes = done.stdout.splitlines()
    assert re.search("takes more than|takes too much|cannot be read as Excel|rows, far more", message)
    assert int(kilobytes) < 300_000


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n' * 21 + "\n" + '{"a": 1, "b":\n')
    with pytest.raises(UserError, match="line 23 is not valid JSON: Expecting value"):
        reader.names(tmp_path / "t.jsonl")


def test_what_is_sparse_or_repeats_is_read(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": ["a text of some length"] * 300_000, "b": [[1, 2]] * 300_000, "c": range(300_000)})
    frame.write_parquet(tmp_path / "t.parquet")
    assert pl.concat(reader.batches(tmp_path / "t.parquet")).equals(frame)
    ones = np.random.default_rng(0).random((60_000, 150)) < 0.002
    sparse = pl.DataFrame({f"c{at}": ones[:, at].astype(np.int64) for at in range(150)})
    sparse.write_parquet(tmp_path / "sparse.parquet")
    drawn, rows = reader.sample(tmp_path / "sparse.parquet", 60_000)
    assert rows == 60_000
    assert drawn.equals(sparse)


@pytest.mark.parametrize("sheet", ["digest a=1, b", "https:§§u:p@h", "Authorization: x"])
def test_a_name_that_looks_like_a_credential_breaks_nothing(tmp_path: Path, sheet: str) -> None:
    book = xlsxwriter.Workbook(tmp_path / "digest a=1, b.xlsx")
    for name in (sheet.replace(":", ""), "other"):
        book.add_worksheet(name).write_column(0, 0, ["name", 1])
    book.close()
    assert reader.names(tmp_path / "digest a=1, b.xlsx") == ["name"]
    assert len(reader.remarks(tmp_path / "digest a=1, b.xlsx")) == 1


def test_a_table_is_the_same_file_under_each_of_its_names(tmp_path: Path) -> None:
    path = tmp_path / "my table.csv"
    path.write_text(CSV)
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "hard.csv").hardlink_to(path)
    for source in (path, f"file://{path}", f"file://{quote(str(path))}", f"simplecache::local://{path}"):
        for out in (path, tmp_path / "link.csv", tmp_path / "hard.csv", tmp_path / "." / "x" / ".." / "my table.csv"):
            assert sources.is_same_file(source, out)
    assert not sources.is_same_file(path, tmp_path / "other.csv")

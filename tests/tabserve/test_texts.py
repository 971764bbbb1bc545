"""No credential and no control of a terminal gets into a text that is shown or stored."""

import ast
import base64
import http.server
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from tabserve import cli, console, page
from tabserve.contract import file as contract_file
from tabserve.contract.model import Contract
from tabserve.errors import UserError, one_line, printable
from tabserve.project import Project
from tabserve.serving.app import model_app
from tabserve.serving.observability import JsonFormatter
from tabserve.settings import ServeSettings
from tabserve.tables import credentials, reader
from tests.tabserve.conftest import PACKAGE, SOURCE, wait_until_ready

HIDDEN = {
    "https://user:pw@host/t.csv": "https://***@host/t.csv",
    "https://token@host/t.csv": "https://***@host/t.csv",
    "https://me@corp.com:p@s/s#w:r%40d@host:8080/t.csv?v=1": "https://***@host:8080/t.csv?v=1",
    "https://user:two words@host/t.csv": "https://***@host/t.csv",
    "simplecache::https://u:p@h/x::s3://key:se/cr+et@bucket/x": "simplecache::https://***@h/x::s3://***@bucket/x",
    "zip://t.csv::https://host/t.zip?token=abc#page": "zip://t.csv::https://host/t.zip?token=***#page",
    "https://h/x?sig=a%2Bb&v=1": "https://h/x?sig=***&v=1",
    "https://h/x?S%69G=1&api_key=2&accessToken=3#access_token=4": "https://h/x?S%69G=***&api_key=***&accessToken=***#access_token=***",
    "https://h/x?X-Amz-Credential=a&X-Goog-Date=b&AWSAccessKeyId=c": "https://h/x?X-Amz-Credential=***&X-Goog-Date=***&AWSAccessKeyId=***",
    "https://h/x?q=abcdefghij1234567890": "https://h/x?q=***",
    "https://h/x?tok=1&sign=2&token=SEC;RETD&downloadtoken=3": "https://h/x?tok=***&sign=***&token=***&downloadtoken=***",
    "https://h/x?a=1;token=2": "https://h/x?a=***",
    "https://h/x?to=https%3A%2F%2Fu%3Apw%40h&url=http%3A%2F%2Fh%3Ftoken%3D1": "https://h/x?to=***&url=***",
    "https://h/x?GoogleAccessId=1&tempauth=2&resourcekey=3&passwort=4&Policy=5": "https://h/x?GoogleAccessId=***&tempauth=***&resourcekey=***&passwort=***&Policy=***",
    "http:/u:pw@h/x and //u:pw@h/x": "http:/***@h/x and //***@h/x",
    "{'X-API-Key': 'abc', 'n': 1}": "{'X-API-Key': '***', 'n': 1}",
    "Cookie: sid=abc; b=c": "Cookie: ***",
    "[(b'authorization', b'Basic dXNlcjpwdw==')]": "[(b'authorization', b'***')]",
    "Authorization: Bearer short1": "Authorization: ***",
    "401, message='Unauthorized', url='https://h/t.csv?jwt=se%2Bcret'": "401, message='Unauthorized', url='https://h/t.csv?jwt=***'",
    "{'Authorization': 'Basic dXNlcjpwdw=='}": "{'Authorization': '***'}",
    "https://h/x?userpwd=a&dbpass=b&sessionid=c&tkn=d&totp=1&where=token=e": "https://h/x?userpwd=***&dbpass=***&sessionid=***&tkn=***&totp=***&where=***",
    "Private-Token: abc": "Private-Token: ***",
    "{'X-Functions-Key': 'abc', 'n': 1}": "{'X-Functions-Key': '***', 'n': 1}",
    "AccountKey=abc==": "AccountKey=***",
    "https://h/x?Credential=AKIA2/20260101/eu&response=6629fae49393a05397450978507c4ef1": "https://h/x?Credential=***&response=***",
    "https://h/x?unheard_of=550e8400-e29b-41d4-a716-446655440000&rlkey=a": "https://h/x?unheard_of=***&rlkey=***",
}
SHOWN = (
    "https://host.org:8080/npm/vega@2/x.csv",
    "https://host/npm/vega@2/x.csv?keyword=a&monkey=b&country=texas&file=customers_2024_01_31.csv",
    "abfs://container@account.dfs.core.windows.net/t.csv",
    "https://h/uc?export=download&id=1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVw",
    "https://h/x?station=00412&from=2024-01-01T00:00:00Z&area=North+Sea&crs=EPSG:4326&api-version=2.0&zip_code=1",
    "https://h/x?$where=magnitude > 3.0&$order=id&passengers=3&export=download&year=2024&design=b",
    "https://h/x?REQUEST=GetFeature&outFields=*&city=Zürich&latitude=-12.5&sort=-date&sep=%3B&author=Smith&ts=1700000000000",
    "https://h/x?accessType=DOWNLOAD&commit=9bcdaf5&name=M%C3%BCller&versionId=3HL4kqtJlcpXroDTDmJrmSpXd3dIbrHY",
    "http://minio:9000/bucket/a@b.csv, http://[::1]:8080/x@y.csv and github://org:repo@main/x.csv",
    "Cookie: 5% missing, api-key, age",
    "the bearer bondholder has a digest a=1 b=2",
    "https://h/x?dataset_id=550e8400-e29b-41d4-a716-446655440000",
    "the header X-API-Key does not hold the key",
    "SERVE_API_KEY in the environment, or /run/secrets/serve_api_key: should have 8 or more characters",
    "mail a@b.org, key=1, bearer of news",
)


@pytest.mark.parametrize(("text", "expected"), HIDDEN.items())
def test_credentials_are_hidden_in_every_text(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(f"it says '{text}' here") == f"it says '{expected}' here"
    assert printable(expected) == expected
    assert one_line(ValueError("x" * 180 + text)) == one_line(ValueError("x" * 180 + expected))


def test_credentials_of_several_parts_are_hidden_to_the_end_of_the_line() -> None:
    assert printable('sent Digest username="u", response="6629fae49393a05"') == "sent Digest ***"
    assert printable("AWS4-HMAC-SHA256 Credential=AKIA2/2026, Signature=fe5f8") == "AWS4-HMAC-SHA256 ***"


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_no_credential_is_shown(text: str) -> None:
    assert printable(text) == text


def test_controls_are_escaped_wherever_a_text_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[31m\x9b2J\u202e\u2066\u200b\ufeff\x7f\x00\rb"
    raw = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
    column = {"role": "feature", "type": "number", "reason": hostile}
    document = {hostile: column, "y": {"role": "target", "type": "number"}}
    contract = Contract.model_validate({"version": 1, "data": hostile, "task": "regression", "columns": document})
    console.show_contract(contract, Path(hostile), hostile)
    console.warn(hostile)
    console.show_differences([hostile])
    with console.step(hostile):
        pass
    with pytest.raises(SystemExit):
        cli.run(Project("x", "", "", ""), [hostile])
    record = logging.LogRecord("x", logging.INFO, "", 0, hostile, (), None)
    record.fields = {"path": hostile}
    texts = [*capsys.readouterr(), str(UserError(hostile)), page.text(hostile), JsonFormatter().format(record)]
    for text in texts:
        assert "a" in text
        assert not raw.search(text), text
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


DIRECT = {"print", "escape", "print_exc", "StreamHandler", "basicConfig", "write", "print_exception"}
SINKS = {  # the functions through which texts pass, or what writes for programs
    "errors.py": {"print"},
    "console.py": {"print", "escape"},
    "tables/sources.py": {"write"},  # of tables
    "page.py": {"escape"},
    "serving/docs.py": {"escape"},
    "serving/limits.py": {"write"},  # of what has passed
    "serving/observability.py": {"StreamHandler", "basicConfig", "write"},
    "tasks/cluster.py": {"write"},
    "operations/container.py": {"print"},
    "updating/request.py": {"escape"},  # of what is printable
    "operations/load.py": {"print", "write"},
}


def test_no_module_goes_around_what_makes_texts_safe() -> None:
    for path in sorted((SOURCE / "tabserve").rglob("*.py")):
        name = path.relative_to(SOURCE / "tabserve").as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        wrong = (found & DIRECT) - SINKS.get(name, set())
        assert not wrong, (name, wrong)
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert name in ("page.py", "serving/docs.py", "updating/request.py") or "html" not in imported, name
        opened = "fsspec" in path.read_text(encoding="utf-8")
        assert not opened or name == "tables/sources.py", name


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


USER, PASSWORD, SIGNATURE = "someuser", "p@ss/w:rd#1", "s3cr+t/Sig"
QUOTED = quote(PASSWORD, safe="")
SECRETS = [PASSWORD, "ss/w:rd", SIGNATURE, USER]
SPELLINGS = [
    *SECRETS,
    *(quote(secret, safe="") for secret in SECRETS),
    *(quote(secret) for secret in SECRETS),
    *(base64.b64encode(secret.encode()).decode().rstrip("=") for secret in (PASSWORD, SIGNATURE, f"{USER}:{PASSWORD}")),
]


@pytest.fixture
def address(csv_file: Path) -> Iterator[str]:
    """The host of a server that wants a password below /closed, and a signature below /signed."""
    content = csv_file.read_bytes()
    basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            open_ = self.path.startswith("/closed") and self.headers["authorization"] == basic
            open_ = open_ or (self.path.startswith("/signed") and f"sig={quote(SIGNATURE)}" in self.path)
            status = 404 if self.path.startswith("/none") else 200 if open_ else 401
            body = content if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_credentials_come_from_the_address_the_settings_netrc_or_the_environment(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert reader.names(f"http://{USER}:{QUOTED}@{address}/closed/1")
    for number, stored in enumerate((f"http://***@{address}/closed/", f"http://{address}/closed/")):
        with pytest.raises(
            UserError, match=r"needs a user and a password: give .*DATA=, add .*netrc, or set DATA_USER"
        ):
            reader.names(f"{stored}{number}a")
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        assert reader.names(f"{stored}{number}b")
        (tmp_path / "netrc").unlink()
        with monkeypatch.context() as context:
            context.setenv("DATA_USER", USER)
            context.setenv("DATA_PASSWORD", PASSWORD)
            assert reader.names(f"{stored}{number}c")
            context.setenv("DATA_PASSWORD", "wrong")
            with pytest.raises(UserError, match="rejects these credentials" if not number else "cannot|rejects"):
                reader.names(f"{stored}{number}d")
    with pytest.raises(UserError, match=r"needs a value for sig: .* set DATA_SIG in the environment"):
        reader.names(f"http://{address}/signed?sig=***")
    with pytest.raises(UserError, match=r"set DATA_USER, DATA_PASSWORD, DATA_SIG in the environment"):
        reader.names(f"http://***@{address}/signed?sig=***")
    monkeypatch.setenv("DATA_SIG", SIGNATURE)
    assert reader.names(f"http://{address}/signed?sig=***")
    monkeypatch.setenv("CONTRACT_DATA", f"http://{USER}:{QUOTED}@{address}/closed/9")
    assert credentials.complete(f"http://***@{address}/closed/9") == credentials.complete(
        f"http://{USER}:{QUOTED}@{address}/closed/9"
    )


def test_an_address_is_read_as_its_standard_says(address: str) -> None:
    for path in ("bucket/a@b.csv", "x.csv?mail=a@b.org", "d@2/y.csv", "x#a@b"):
        for host in (address, "minio:9000", "a_b:80", "[::1]:8080", "user:pass@host", "user:p%40s%2F@host:80", "u@h"):
            assert credentials.complete(f"http://{host}/{path}") == f"http://{host}/{path}"
    for given in ("s3://key:se/cr+et@bucket/x", "github://org:repo@main/t.csv", "gs://b/a:b@c.csv", "file:///a:b@c"):
        assert credentials.complete(given) == given
    with pytest.raises(UserError, match="write @ as %40 and / as %2F") as caught:
        reader.names(f"http://{USER}:{PASSWORD}@{address}/closed/x")
    assert "rd" not in str(caught.value).split("fetched")[0]


def test_no_file_and_no_line_holds_a_credential(
    address: str,
    package: Path,
    csv_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(package)
    closed, signed = (
        f"http://{USER}:{QUOTED}@{address}/closed/t.csv",
        f"http://{address}/signed/t.csv?v=1&sig={quote(SIGNATURE, safe='')}",
    )
    project = Project(
        "loan-offers", f"{PACKAGE}.pipeline:pipelines", f"{PACKAGE}.pipeline:FEATURES", f"{PACKAGE}.app:create_app"
    )
    elsewhere = [text.replace(address, "127.0.0.1:1") for text in (closed, signed)]
    failing = [
        *elsewhere,
        closed.replace("closed", "none"),
        closed.replace("rd%231", "rd%232"),
        f"http://{USER}:{PASSWORD}@{address}/closed/t.csv",
        signed.replace("http:", "https:"),
        *(f"{scheme}://{USER}:{QUOTED}@127.0.0.1:1/t.csv?sig={SIGNATURE}" for scheme in ("s3", "sftp", "ftp", "nope")),
    ]
    runs = [
        (["contract", signed, "--target", "bought"], 0),
        (["contract", closed, "--target", "bought", "--write"], 0),
        (["train", "--data", closed], 0),
        (["check-data", signed], 0),
        (["predict", closed, "out.csv"], 0),
        (["train"], 1),
        *((["--debug", "check-data", text], 1) for text in failing),
    ]
    printed = ""
    for arguments, code in runs:
        assert cli.main(project, arguments) == code, capfd.readouterr()
        printed += "".join(capfd.readouterr())
    with TestClient(model_app(ServeSettings())) as client:
        wait_until_ready(client)
        printed += client.get("/model").text
    printed += "".join(capfd.readouterr())
    assert contract_file.load(Path("contract.yaml")).data == f"http://***@{address}/closed/t.csv"
    assert f"http://***@{address}/closed/t.csv" in printed
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.onnx", "report.html", "check.html", "out.csv"} <= {path.name for path in written}
    for path in written:
        printed += path.read_bytes().decode("latin-1")
    assert not [secret for secret in SPELLINGS if secret in printed]


def test_a_secret_in_an_older_contract_is_no_difference_and_goes_when_it_is_written(tmp_path: Path) -> None:
    columns = {"a": {"role": "feature", "type": "number"}, "y": {"role": "target", "type": "number"}}
    document = {"version": 1, "data": "https://u:pw@host/t.csv?sig=abc", "task": "regression", "columns": columns}
    (tmp_path / "old.yaml").write_text(json.dumps(document), encoding="utf-8")
    old = contract_file.load(tmp_path / "old.yaml")
    text = contract_file.dump(old)
    assert "https://***@host/t.csv?sig=***" in text
    (tmp_path / "new.yaml").write_text(text, encoding="utf-8")
    assert contract_file.differences(old, contract_file.load(tmp_path / "new.yaml")) == []

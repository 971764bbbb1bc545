import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from tabserve.cli import main
from tabserve.contract import file as contract_file
from tabserve.project import Project
from tests.tabserve.conftest import PACKAGE, Trained, variables
from tests.tabserve.inference.test_model import endless
from tests.tabserve.serving.running import eventually
from tests.tabserve.serving.test_api import ONE_MODEL

NAME = PACKAGE.replace("_", "-")
CLI = [sys.executable, "-m", PACKAGE]
SERVER_IMPORTS = f"""
import sys
import {PACKAGE}.__main__, {PACKAGE}.app, tabserve.serving.process, tabserve.tasks.serve
print(*sys.modules)
"""

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def cli(environment: dict[str, str]) -> Run:
    """Runs the command line in a folder; returns what it printed and what it complained about."""
    return partial(run, environment)


def run(inherited: dict[str, str], folder: Path, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [*CLI, *arguments],
        cwd=folder,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    return done.stdout, done.stderr


@pytest.fixture
def folder(csv_file: Path, tmp_path: Path) -> Path:
    """An empty project that learns from the hostile table."""
    config = {"data": str(csv_file), "target": "bought"}
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in config.items())
    (tmp_path / "config.toml").write_text(f"[contract]\n{lines}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def trained_once(csv_file: Path, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its first training, which needs no settings but its own."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.toml").write_text(f'[contract]\ndata = "{csv_file}"\ntarget = "bought"\n', encoding="utf-8")
    run(variables(package), folder, "train", SERVE_PORT="none")
    return folder


@pytest.fixture
def trained_folder(trained_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)


def test_train_infers_the_contract_and_writes_everything(cli: Run, folder: Path) -> None:
    cli = partial(cli, TRAIN_HOLDOUT="true")
    out, _ = cli(folder, "train", PYTHONHASHSEED="2")
    assert "ok  contract.yaml: classification of bought from 10 features" in out
    assert "roc_auc" in out
    assert "always the majority class" in out
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    reports = {"reports/holdout.csv", "reports/metrics.json", "reports/report.html"}
    lists = {f"{Path(name).parent}/.tabserve/{Path(name).name}" for name in (*reports, "model/model.onnx")}
    assert files == {"config.toml", "contract.yaml", "model/model.onnx", *reports, *lists}
    outputs = [*sorted(reports), "model/model.onnx"]
    first = [(folder / name).read_bytes() for name in outputs]
    cli(folder, "train", PYTHONHASHSEED="1")  # the seed of string hashing, which orders sets
    assert [(folder / name).read_bytes() for name in outputs] == first
    cli(folder, "train", TRAIN_HOLDOUT="false")
    assert not (folder / "reports/holdout.csv").exists()


def test_predict(cli: Run, trained_folder: Path, csv_file: Path) -> None:
    folder = trained_folder
    out, _ = cli(folder, "predict", str(csv_file), "out.csv")
    assert "ok  out.csv: 400 rows scored" in out
    broken = pl.read_csv(csv_file, infer_schema=False, n_rows=2)
    broken = broken.with_columns(pl.lit("many").alias("rooms, total"))
    (folder / "broken.csv").write_text(broken.write_csv().replace('""""', '""'), encoding="utf-8")
    before = (folder / "out.csv").read_bytes()
    _, err = cli(folder, "predict", "broken.csv", "out.csv", code=1)
    assert (folder / "out.csv").read_bytes() == before
    assert (folder / "out.rejected.csv").read_text(encoding="utf-8").count("valid number") == 2
    assert err == "error: no row of broken.csv keeps the contract: out.rejected.csv says why\n"


def test_no_task_writes_over_a_file_of_others(cli: Run, trained_folder: Path, csv_file: Path) -> None:
    folder = trained_folder
    for name in ("contract.yaml", "model/model.onnx", "pipeline.py"):
        path = folder / name
        before = path.read_bytes() if path.exists() else b"mine"
        path.write_bytes(before)
        _, err = cli(folder, "check-data", str(csv_file), "--report", name, code=1)
        assert f"{name} was not written by `{NAME} check-data`" in err
        assert path.read_bytes() == before
    cli(folder, "check-data", str(csv_file), "--report", "pipeline.py", "--force")
    (folder / "model/model.onnx").write_bytes(b"mine")
    assert "model.onnx was not written" in cli(folder, "train", code=1)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["contract", "none.csv", "--target", "x"], "none.csv does not exist"),
        (["contract", "copy.csv"], "which column is the target? Say TARGET=column"),
        (["contract", "{csv}", "--target", "x"], "has no column 'x'"),
        (["predict", "{csv}", "out.csv"], "there is no model at model/model.onnx: train one with `make train`"),
        (["train", "--data", "none.csv"], "none.csv does not exist"),
        (["train", "--seed", "-1"], "--seed: Input should be greater than or equal to 0, not -1"),
        (["serve", "--port", "99999"], "--port: Input should be less than or equal to 65535, not 99999"),
        (["serve", "--host", ""], "--host: String should have at least 1 character, not ''"),
        (["serve", "--host", "256.0.0.1"], "cannot listen on 256.0.0.1:"),
    ],
)
def test_mistakes_get_one_line(cli: Run, folder: Path, csv_file: Path, arguments: list[str], message: str) -> None:
    (folder / "copy.csv").write_bytes(csv_file.read_bytes())
    _, err = cli(folder, *(argument.replace("{csv}", str(csv_file)) for argument in arguments), code=1)
    assert message in err


@pytest.mark.parametrize(
    ("config", "variables", "message"),
    [
        ("[serve]\nport = 'x'\n", {}, "setting port ([serve] port in config.toml"),
        ("[serve]\ncolour = 'red'\n", {}, "config.toml: [serve] has no setting 'colour'"),
        ("[serve]\nprot = 9000\n", {}, "config.toml: [serve] has no setting 'prot'; did you mean port?"),
        ("", {"SERVE_MAXROWS": "3"}, "SERVE_MAXROWS in the environment is not a setting; did you mean SERVE_MAX_ROWS?"),
        ("", {"SERVE_API_KEY_REQUIRED": "1"}, "is not a setting; did you mean SERVE_REQUIRE_API_KEY?"),
        ("[serve\n", {}, "config.toml cannot be read"),
        (
            "[server]\nport = 1\n",
            {},
            "config.toml: unknown section 'server'; sections are contract, train, check,",
        ),
        ("[serve]\nport = 8080\n", {"SERVE_PORT": "-1"}, "greater than or equal to 0, not '-1'"),
        ("", {"SERVE_MAX_ROWS": "0"}, "setting max_rows"),
        ("", {"SERVE_LOG_LEVEL": "loud"}, "setting log_level"),
        ("", {"SERVE_MODEL": ""}, "should name a file"),
        ("", {"SERVE_TITLE": ""}, "setting title"),
        ("", {"TRAIN_SEED": "x", "SERVE_PORT": "x"}, "setting port ([serve] port in config.toml, or SERVE_PORT in the"),
        ("[serve]\napi_key = 'abcdefgh'\n", {}, "config.toml must not hold a secret: remove api_key"),
    ],
)
def test_invalid_settings_are_refused_at_start(
    cli: Run, tmp_path: Path, config: str, variables: dict[str, str], message: str
) -> None:
    (tmp_path / "config.toml").write_text(config)
    _, err = cli(tmp_path, "serve", code=1, **variables)
    assert message in err


def test_an_edited_contract_is_not_replaced(cli: Run, folder: Path, csv_file: Path) -> None:
    cli(folder, "contract")
    path = folder / "contract.yaml"
    inferred = path.read_text(encoding="utf-8")
    out, _ = cli(folder, "contract")
    assert "features; unchanged" in out
    cli(folder, "contract", str(csv_file), "--target", "prix €")
    assert contract_file.load(path).task == "regression"
    cli(folder, "contract")  # what the contract names counts, not config.toml
    assert contract_file.load(path).target == "prix €"
    path.write_text(inferred, encoding="utf-8")
    path.write_text(inferred.replace("missing: true", "missing: false"), encoding="utf-8")
    out, err = cli(folder, "contract", code=1)
    assert "contract.yaml was edited by hand and is left as it is; to replace it, add --write (make: WRITE=1)" in err
    assert "differs  'Wohnfläche (m²)' missing: false becomes true\n" in out
    cli(folder, "contract", "--write")
    assert path.read_text(encoding="utf-8") == inferred


def test_a_contract_of_the_same_target_shows_what_would_change(cli: Run, folder: Path, csv_file: Path) -> None:
    cli(folder, "contract")
    before = (folder / "contract.yaml").read_text(encoding="utf-8")
    other = folder / "other.csv"
    other.write_text(csv_file.read_text(encoding="utf-8").replace("Wohnfläche (m²)", "area", 1), encoding="utf-8")
    out, err = cli(folder, "contract", "other.csv", code=1)
    assert "differs  'Wohnfläche (m²)' was removed\n" in out
    assert "differs  'area' is new (feature)\n" in out
    assert "contract.yaml would change in 3 places and is left as it is" in err
    assert (folder / "contract.yaml").read_text(encoding="utf-8") == before


def test_an_interrupted_training_leaves_the_model_intact(
    cli: Run, trained_folder: Path, environment: dict[str, str]
) -> None:
    folder, path = trained_folder, trained_folder / "model/model.onnx"
    before = path.read_bytes()
    cli(folder, "train", "--seed", "1")
    other = path.read_bytes()
    for delay in (0.5, 1.5, 2.5):
        process = subprocess.Popen([*CLI, "train", "--seed", "0"], cwd=folder, env=environment)
        time.sleep(delay)
        process.kill()
        process.wait()
        assert path.read_bytes() in (before, other)


def test_an_option_that_makes_no_sense_gets_one_line(cli: Run, tmp_path: Path) -> None:
    _, err = cli(tmp_path, "serve", "--port", "80a", code=2)
    assert err == f"error: argument --port: invalid int value: '80a'; `{NAME} serve --help` lists the options\n"


@pytest.mark.parametrize(("task", "meant"), [("trian", "; did you mean train?"), ("xyzzy", "")])
def test_a_task_that_is_misspelled_gets_one_line(cli: Run, tmp_path: Path, task: str, meant: str) -> None:
    _, err = cli(tmp_path, task, code=2)
    assert err == f"error: there is no task {task!r}{meant}; `{NAME} --help` lists the tasks and options\n"


def test_a_contract_that_differs_from_the_models_is_named(
    cli: Run, trained_folder: Path, csv_file: Path, environment: dict[str, str]
) -> None:
    folder = trained_folder
    contract, later = folder / "contract.yaml", time.time() + 60
    os.utime(contract, (later, later))
    score = ("predict", str(csv_file), "out.csv")
    assert "changed after" not in "".join(cli(folder, *score)), "the same contract at another time"
    text = contract.read_text(encoding="utf-8")
    contract.write_text(f"{text}split: {{by: group, column: source}}\n", encoding="utf-8")
    change = "split: none becomes by='group' column='source'"
    told = f"contract.yaml changed after model/model.onnx was trained ({change}): run `make train`"
    assert "".join(cli(folder, *score)).count(told) == 1
    assert cli(folder, "test", code=1) == ("", f"error: {told}\n")
    process, port, log = serving(folder, environment)
    try:
        eventually(lambda: told in log.read_text(encoding="utf-8"))
        eventually(lambda: get(f"http://127.0.0.1:{port}/readyz") == 200)
    finally:
        process.kill()
        process.wait()
    assert log.read_text(encoding="utf-8").count("changed after") == 1
    contract.write_text("columns: [\n", encoding="utf-8")
    told = "contract.yaml changed after model/model.onnx was trained (contract.yaml is not valid YAML"
    assert told in "".join(cli(folder, *score))


ENDLESS = f"""
import sys
from tabserve.inference import model
model.FIRST = 1.0
from {PACKAGE}.__main__ import main
sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is a POSIX signal")
@ONE_MODEL
def test_a_model_that_never_predicts_ends_every_task_and_no_server(
    trained: Trained, tmp_path: Path, csv_file: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.onnx").write_bytes(endless(trained.outcome.model))
    command = [sys.executable, "-c", ENDLESS]
    told = "model/model.onnx makes no prediction within 1 s: train it again"
    for task in (["predict", str(csv_file), "out.csv"], ["check-data", str(csv_file)], ["test"]):
        done = subprocess.run(
            [*command, *task], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (1, f"error: {told}\n")
    process, port, log = serving(tmp_path, environment, command)
    try:
        eventually(lambda: told in log.read_text(encoding="utf-8"))
        found = [get(f"http://127.0.0.1:{port}/{path}") for path in ("livez", "readyz", "metrics")]
        assert found == [200, 503, 200]
        assert get(f"http://127.0.0.1:{port}/predict", b"{}") == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def serving(
    folder: Path, environment: dict[str, str], command: list[str] = CLI
) -> tuple[subprocess.Popen[bytes], int, Path]:
    """A server that begins to run, its port, and the file of its log."""
    port, path = free_port(), folder / "log"
    with path.open("w") as log:
        named = environment | {"SERVE_PORT": str(port)}
        process = subprocess.Popen([*command, "serve"], cwd=folder, env=named, stdout=log, stderr=log)
    return process, port, path


def test_rows_that_were_left_out_are_counted_by_column(cli: Run, folder: Path) -> None:
    cli(folder, "contract")
    path = folder / "contract.yaml"
    text = path.read_text(encoding="utf-8")
    assert "range: [1, 6]" in text or "range: [0, " in text
    narrow = re.sub(r"(rooms, total:.*?range: )\[[^]]*\]", r"\1[1, 3]", text, count=1, flags=re.DOTALL)
    path.write_text(narrow, encoding="utf-8")
    out, _ = cli(folder, "train")
    told = r"warning  (\d+) of 400 rows were left out: against the contract \(rooms, total in \1, as '[456]'\)"
    assert re.search(told, out)


def test_an_interruption_during_the_imports_gets_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "tabserve.tasks.train":
                raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGTERM)
    monkeypatch.delitem(sys.modules, "tabserve.tasks.train", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    try:
        assert main(Project("name", "", "", ""), ["train"]) == 130
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert capsys.readouterr().err == "interrupted\n"


def test_the_server_imports_no_training_library(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER_IMPORTS], env=environment, capture_output=True, text=True, check=True
    )
    heavy = {"polars", "sklearn", "scipy", "matplotlib", "skl2onnx", "onnx", "pandas", "yaml", "rich", "questionary"}
    assert heavy & set(done.stdout.split()) == set()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def get(url: str, body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(url, body, timeout=5) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is a POSIX signal")
def test_sigterm_finishes_requests_in_flight(trained: Trained, tmp_path: Path, environment: dict[str, str]) -> None:
    port = free_port()
    environment |= {"SERVE_MODEL": str(trained.model), "SERVE_PORT": str(port)}
    command = [*CLI, "serve"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while get(f"http://127.0.0.1:{port}/readyz") != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        answer: list[bytes] = []
        slow = threading.Thread(target=lambda: answer.append(slow_request(port)))
        slow.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        slow.join(15)
        assert answer[0].startswith(b"HTTP/1.1 422 ")
        assert process.wait(10) == 0
    finally:
        process.kill()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    (request,) = [line for line in lines if line["message"] == "request" and line["path"] == "/predict"]
    assert request["status"] == 422
    assert len(request["request_id"]) == 32


def slow_request(port: int) -> bytes:
    """A request whose body arrives two seconds after its head."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        time.sleep(2)
        connection.sendall(b"{}")
        return connection.recv(100_000)

"""The server of a generated project as a process: fuzzed from its own OpenAPI document, and without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.conftest import missing, run
from tests.project.conftest import BIN, Prepared
from tests.project.servers import serving

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]
COUNTERS = """
import fcntl, pathlib, socket, struct, subprocess, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # lo is down in a new namespace: up with it
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))


def counters():
    lines = [line.split() for line in pathlib.Path("/proc/net/snmp").read_text().splitlines()]
    pairs = zip(lines[::2], lines[1::2])
    table = {head[0] + name: int(value) for head, row in pairs for name, value in zip(head[1:], row[1:])}
    six = dict(line.split() for line in pathlib.Path("/proc/net/snmp6").read_text().splitlines())
    return {
        "tcp": table["Tcp:ActiveOpens"],
        "udp": table["Udp:OutDatagrams"],
        "no route": table["Ip:OutNoRoutes"] + int(six["Ip6OutNoRoutes"]),
    }


before = counters()
code = subprocess.run(sys.argv[1:]).returncode
after = counters()
print("NETWORK", *(f"{name}={after[name] - before[name]}" for name in after), sep=" ")
raise SystemExit(code)
"""
SERVE = """
import subprocess, sys, time, urllib.request, urllib.error

process = subprocess.Popen([sys.executable, "-m", sys.argv[1], "serve", "--port", "18080"], stdout=subprocess.DEVNULL)
opened = 0
for _ in range(400):
    opened += 1
    try:
        urllib.request.urlopen("http://127.0.0.1:18080/readyz").close()
        break
    except urllib.error.URLError:
        time.sleep(0.05)
else:
    raise SystemExit("never ready")
for path in ("docs", "model", "metrics"):
    opened += 1
    urllib.request.urlopen(f"http://127.0.0.1:18080/{path}").close()
time.sleep(2)
process.terminate()
print("OPENED", opened)
raise SystemExit(process.wait())
"""


def test_no_request_breaks_the_server(prepared: Prepared) -> None:
    with serving(prepared()) as url:
        printed = run(
            str(BIN / "schemathesis"),
            *("run", f"{url}/openapi.json", "--max-examples", "60", "--seed", "1", "--no-color"),
            cwd=prepared(),
        )
    assert "No issues found" in printed


# --- nothing phones home


def isolated(project: Path, *command: str) -> tuple[str, dict[str, int]]:
    """Run a command where there is no network but loopback; returns its output and the connections it tried."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        missing("namespaces", "`unshare --user --net` does not work here, which only Linux has")
    printed = run(*NAMESPACE, sys.executable, "-c", COUNTERS, *command, cwd=project)
    fields = printed[printed.rindex("NETWORK ") + 8 :].replace("no route", "route").split()
    return printed, {name: int(value) for name, value in (field.split("=") for field in fields)}


def test_the_counters_see_an_attempt(prepared: Prepared) -> None:
    attempt = textwrap.dedent("""
        import socket
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                socket.socket(socket.AF_INET, kind).connect(("192.0.2.1", 80))
            except OSError:
                pass
    """)
    _, tried = isolated(prepared(), sys.executable, "-c", attempt)
    assert tried["route"] >= 2


def test_training_and_scoring_open_no_connection(prepared: Prepared, tmp_path: Path) -> None:
    python = str(prepared() / ".venv/bin/python")
    for arguments in (["train"], ["predict", "data/loans.csv", str(tmp_path / "out.csv")]):
        _, tried = isolated(prepared(), python, "-m", "loan_offers", *arguments)
        assert tried == {"tcp": 0, "udp": 0, "route": 0}


def test_serving_opens_no_connection(prepared: Prepared) -> None:
    printed, tried = isolated(prepared(), str(prepared() / ".venv/bin/python"), "-c", SERVE, "loan_offers")
    opened = int(printed[printed.index("OPENED ") + 7 :].split()[0])
    assert tried == {"tcp": opened, "udp": 0, "route": 0}

"""The container with as little as it may have: no rights, no network, little memory, secrets, wrong settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.heldout import differences, held_out
from tests.image.engine import (
    about,
    container,
    docker,
    python,
    separate_streams,
    served,
    state,
    status,
    wait_for,
    wait_until_health,
)

RESTRICTED = (
    *("--read-only", "--cap-drop", "ALL", "--user", "10001:10001", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp", "--memory", "256m", "--cpus", ".5", "--network", "none"),
)
PREDICT = """
import json, urllib.request
body = json.dumps({rows!r}).encode()
request = urllib.request.Request("http://127.0.0.1:8080/predict", body, {{"content-type": "application/json"}})
print(urllib.request.urlopen(request).read().decode())
"""
KEY = "s3cret-of-tests"


def test_it_predicts_without_rights_network_and_writable_files(image: str, project: Path) -> None:
    expected = held_out(project)[:50]
    with container(image, *RESTRICTED) as name:
        wait_until_health(name, "healthy", 30)
        answer = json.loads(python(name, PREDICT.format(rows=[one.row for one in expected])))
        assert differences(expected, answer["predictions"]) == []
        found = python(name, "print(open('/proc/1/status').read())")
        assert {"CapEff:\t0000000000000000", "NoNewPrivs:\t1"} <= set(found.splitlines())
        assert "Read-only file system" in docker("exec", name, "python", "-c", "open('/app/x', 'w')", code=1)
        assert not state(name)["OOMKilled"]


@pytest.mark.parametrize("memory", ["48m", "16m"], ids=["at the model", "at the imports"])
def test_too_little_memory_ends_it_visibly(image: str, memory: str) -> None:
    with container(image, "--memory", memory, "--memory-swap", memory) as name:
        wait_for(lambda: state(name)["Status"] == "exited", 60, lambda: about(name))
        ended = state(name)
        assert ended["OOMKilled"] or ended["ExitCode"] != 0


def test_a_wrong_setting_ends_it_with_one_line(image: str) -> None:
    done = separate_streams("run", "--rm", "--env", "SERVE_THREADS=none", image)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: setting threads ([serve] threads in config.toml, or SERVE_THREADS in the env")


def test_the_key_of_a_secret_file_is_asked_for(image: str, project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "serve_api_key"
    secret.write_text(f"{KEY}\n")
    secret.chmod(0o444)
    row = held_out(project)[0].row
    with served(image, "--volume", f"{secret}:/run/secrets/serve_api_key:ro") as url:
        assert status(f"{url}/predict", row)[0] == 401
        assert status(f"{url}/predict", row, {"X-API-Key": "another-key"})[0] == 401
        assert status(f"{url}/predict", row, {"X-API-Key": KEY})[0] == 200
        assert status(f"{url}/model")[0] == 401
        assert status(f"{url}/livez")[0] == 200
    with served(image) as url:
        assert status(f"{url}/predict", row)[0] == 200


def test_a_key_that_is_too_short_is_refused_and_not_shown(image: str, tmp_path: Path) -> None:
    secret = tmp_path / "serve_api_key"
    secret.write_text("pencil")
    secret.chmod(0o444)
    done = separate_streams("run", "--rm", "--volume", f"{secret}:/run/secrets/serve_api_key:ro", image)
    assert done.returncode == 1
    assert "SERVE_API_KEY" in done.stderr
    assert "pencil" not in done.stderr

import asyncio
import difflib
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabserve.operations import check as check_k8s
from tabserve.operations import container, in_place, load, size, sizing
from tabserve.operations.container import Server, Use
from tabserve.operations.in_place import LayoutError
from tabserve.operations.manifests import SERVER
from tabserve.operations.sizing import MEBI, Measured, SizeError, Sizes, Stage

ROOT = check_k8s.ROOT
NOW = Sizes(0.25, 1.0, 256 * MEBI, 80)
ROW = {"age": 57}
Answer = Callable[[int], bytes]


# --- from measurements to a proposal


def steady(*cores: float, p99: float = 0.005, **changed: Any) -> list[Stage]:
    """Loads of 100, 200, ... requests/s that use so many cores."""
    return [Stage(str(i), 100.0 * i, 0.001, p99, used, **changed) for i, used in enumerate(cores, 1)]


def measured(stages: list[Stage], **changed: Any) -> Measured:
    top = Stage("8 connections", 1000, cores=0.99)
    found = Measured([top], stages, Stage("lists", 10, cores=0.9), 100 * MEBI, NOW)
    return replace(found, **changed)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ((), False),
        ((100,), False),
        ((100, 101), False),
        ((100, 101, 100), True),
        ((100, 101, 110), False),
        ((100, 90, 200), False),
        ((100, 200, 201, 199), True),
    ],
)
def test_two_steps_without_a_gain_are_saturation(served: tuple[float, ...], expected: bool) -> None:
    assert sizing.saturated([Stage("", each) for each in served]) is expected


def test_a_server_that_refuses_is_saturated() -> None:
    assert sizing.saturated([Stage("", 100), Stage("", 300, refused=1)])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"p99": 0.010}, ""),
        ({"p99": 0.011}, "one of a hundred requests took 11 ms and more"),
        ({"throttled": 0.05}, ""),
        ({"throttled": 0.06}, "the CPU limit throttled it in 6% of the periods"),
        ({"refused": 2, "failed": 1}, "3 requests got no prediction"),
    ],
)
def test_what_is_wrong_with_a_load(changed: dict[str, Any], expected: str) -> None:
    assert sizing.trouble(Stage("", 100, **changed), Stage("", 10, p99=0.001)) == expected


def test_a_slow_model_is_measured_against_itself() -> None:
    calm = Stage("", 10, p99=0.1)
    assert sizing.trouble(Stage("", 20, p99=0.29), calm) == ""
    assert sizing.trouble(Stage("", 20, p99=0.31), calm) != ""


def test_the_highest_load_that_is_served_well_is_the_peak() -> None:
    stages = steady(0.1, 0.2, 0.3)
    disturbed = [stages[0], replace(stages[1], p99=1.0), stages[2], replace(stages[2], served=400, throttled=0.5)]
    assert sizing.highest_good(disturbed) == stages[2]
    assert sizing.highest_good([replace(each, failed=1) for each in stages]) is None


def test_the_request_is_what_the_peak_uses_and_the_target_leaves_room() -> None:
    stages = steady(0.1, 0.2, 0.3, 0.4, 0.5)
    proposal = sizing.propose(measured(stages), stages[-1])
    assert proposal.sizes == Sizes(0.5, 1.0, 144 * MEBI, 80)
    assert (proposal.target, proposal.peak) == (400, 500)
    assert set(proposal.reasons) == set(size.LABELS)
    assert proposal.notes == []


def test_a_target_that_is_asked_for_is_held() -> None:
    stages = steady(0.09, 0.18, 0.27)
    proposal = sizing.propose(measured(stages), stages[-1], 150)
    assert (proposal.sizes.cpu_request, proposal.sizes.share) == (0.3, 50)
    assert proposal.target == 150


def test_an_autoscaler_that_ignores_ten_per_cent_still_acts_before_the_peak() -> None:
    flat = steady(0.1, 0.45, 0.47, 0.49, 0.5)  # batches: twice the load is not twice the CPU
    found = sizing.propose(measured(flat), flat[-1]).sizes
    assert found.share is not None
    assert found.share / 100 * found.cpu_request * 1.1 <= 0.5


def test_an_autoscaler_can_see_a_server_that_hardly_uses_cpu() -> None:
    waiting = steady(0.005, 0.01, 0.02)
    found = sizing.propose(measured(waiting, saturating=[Stage("", 400, cores=0.02)]), waiting[-1])
    assert found.sizes.cpu_request == 0.05
    assert found.sizes.share is not None
    assert 0 < found.sizes.share / 100 * 0.05 < 0.02
    assert "CPU says little of the load" in found.notes[-1]


@pytest.mark.parametrize(
    ("limit", "used", "threads", "idle", "expected"),
    [
        (None, 0.5, 1, 1.0, None),
        (1.0, 0.95, 1, 1.0, 1.0),
        (2.0, 1.1, 1, 1.0, 1.3),
        (2.0, 1.1, 2, 1.0, 2.0),
        (2.0, 1.1, 1, 0.1, 2.0),
        (0.1, 0.01, 1, 1.0, 0.1),
    ],
    ids=["none", "used up", "lower", "not below the threads", "a busy machine", "never more than it was"],
)
def test_the_cpu_limit_is_lower_where_the_server_cannot_use_it(
    limit: float | None, used: float, threads: int, idle: float, expected: float | None
) -> None:
    found = measured(steady(0.01), saturating=[Stage("", 900, cores=used, idle=idle)], threads=threads)
    found = replace(found, lists=Stage("", 1, cores=used), limits=replace(NOW, cpu_limit=limit))
    assert sizing.cpu_limit(found)[0] == expected


@pytest.mark.parametrize(("used", "expected"), [(1, 64), (49, 64), (50, 80), (100, 144), (1000, 1312)])
def test_memory_is_the_most_that_was_used_and_some_more(used: int, expected: int) -> None:
    stages = steady(0.1)
    assert sizing.propose(measured(stages, memory=used * MEBI), stages[0]).sizes.memory == expected * MEBI


def test_what_else_the_measurements_say() -> None:
    bad = steady(0.1, throttled=0.5)
    top = [Stage("", 900, cores=1.0, throttled=0.5)]
    found = sizing.propose(measured(bad, saturating=top, memory=250 * MEBI), bad[0]).notes
    assert [note.split(":")[0] for note in found] == [
        "no load was served well",
        "at saturation the CPU limit throttled 50% of the periods",
        "memory was nearly full",
    ]
    busy = sizing.propose(measured(steady(0.1), saturating=[Stage("", 900, cores=0.5, idle=0.0)]), steady(0.1)[0])
    assert busy.notes[0].startswith("the machine, not the server, was at its limit")


def test_quantities_are_written_as_kubernetes_does() -> None:
    assert [sizing.cpu_text(each) for each in (0.05, 0.3, 1.0, 1.25, 2)] == ["50m", "300m", "1", "1250m", "2"]
    assert [sizing.memory_text(each) for each in (64 * MEBI, 1500 * MEBI, 2048 * MEBI, 10**9)] == [
        *("64Mi", "1500Mi", "2Gi", "1000000000"),
    ]
    assert [sizing.up(each, 0.05) for each in (0.05, 0.0501, 0.3)] == [0.05, 0.1, 0.3]


# --- values in place


def deployment() -> str:
    return (ROOT / size.DEPLOYMENT).read_text(encoding="utf-8")


def changed_lines(before: str, after: str) -> list[str]:
    found = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line[1:].strip() for line in found if line[0] == "+"]


NEW = {
    size.CPU_REQUEST: "123m",
    size.MEMORY_REQUEST: "77Mi",
    size.CPU_LIMIT: "1230m",
    size.MEMORY_LIMIT: "77Mi",
}


def test_nothing_but_the_values_changes_in_the_projects_own_deployment() -> None:
    after = in_place.replaced(deployment(), "Deployment", NEW)
    assert changed_lines(deployment(), after) == ["cpu: 123m", "memory: 77Mi", 'cpu: "1230m"', "memory: 77Mi"]
    crlf = deployment().replace("\n", "\r\n")
    assert in_place.replaced(crlf, "Deployment", NEW) == after.replace("\n", "\r\n")


def test_values_are_found_whatever_stands_around_them() -> None:
    other = "{kind: ConfigMap, data: {cpu: x}}\n---\n# é and 北京 before\n"
    text = f"\ufeff{other}" + deployment().removeprefix("---\n").replace(
        "      containers:\n", "      containers:\n        - name: beside  # first\n          image: beside:1\n"
    )
    after = in_place.replaced(text, "Deployment", NEW)
    assert changed_lines(text, after) == ["cpu: 123m", "memory: 77Mi", 'cpu: "1230m"', "memory: 77Mi"]


ODD: dict[str, tuple[Callable[[str], str], str]] = {
    "no YAML": (lambda text: f"{text}\n  : - [", "no valid YAML"),
    "another kind": (lambda text: text.replace("kind: Deployment", "kind: DaemonSet"), "0 documents of the kind"),
    "two of them": (lambda text: f"{text}{text}", "2 documents of the kind Deployment"),
    "another container": (lambda text: text.replace("- name: server", "- name: main"), "no spec.template.spec.contain"),
    "no requests": (lambda text: text.replace("requests:", "wishes:"), "no spec.template.spec.containers.[server].res"),
    "an alias": (
        lambda text: anchored(text),
        "cannot be changed in place: change it by hand",
    ),
    "nothing": (lambda text: "", "0 documents of the kind Deployment"),
}


def anchored(text: str) -> str:
    """The memory as an anchor in the requests and an alias in the limits."""
    lines = text.splitlines(keepends=True)
    first, second = (number for number, line in enumerate(lines) if line.strip().startswith("memory:"))
    lines[first] = lines[first].replace("memory: ", "memory: &memory ")
    lines[second] = lines[second][: lines[second].index("memory:")] + "memory: *memory\n"
    return "".join(lines)


@pytest.mark.parametrize(("change", "message"), ODD.values(), ids=ODD)
def test_a_file_that_is_laid_out_otherwise_is_refused(change: Callable[[str], str], message: str) -> None:
    with pytest.raises(LayoutError) as refused:
        in_place.replaced(change(deployment()), "Deployment", NEW)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in "ab"]
    for path in files:
        path.write_text("before")
        path.chmod(0o640)
    whole = in_place.write

    def failing(path: Path, content: bytes) -> None:
        if path == files[1] and content == b"after":
            raise OSError("disk full")
        whole(path, content)

    monkeypatch.setattr(in_place, "write", failing)
    with pytest.raises(OSError, match="disk full"):
        in_place.write_all(dict.fromkeys(files, "after"))
    assert [path.read_text() for path in files] == ["before", "before"]
    monkeypatch.undo()
    in_place.write_all(dict.fromkeys(files, "after"))
    assert [path.read_text() for path in files] == ["after", "after"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o640] * 2


# --- the load, on a small server


def reply(status: int = 200, body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 {status} Text\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def serving(answer: Answer, delay: Callable[[int], float] = lambda number: 0) -> Iterator[int]:
    """A server that gives the answer to the request of a number; it takes requests one after another."""
    loop, count, lock = asyncio.new_event_loop(), iter(range(10**9)), asyncio.Lock()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            await reader.readexactly(length)
            async with lock:
                number = next(count)
                await asyncio.sleep(delay(number))
            sent = answer(number)
            writer.write(sent)
            if not sent.startswith(b"HTTP/1.1 200"):
                await writer.drain()
            if b"connection: close" in sent or not sent:
                break
        writer.close()

    async def talk_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(talk_until_closed, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        server.close()
        loop.close()


def loaded(port: int, **command: Any) -> dict[str, Any]:
    return load.obey({"port": port, "path": "/predict", "body": "{}", "seconds": 0.3, "connections": 4} | command)


def test_each_connection_asks_again_as_soon_as_it_is_answered() -> None:
    with serving(lambda number: reply(), lambda number: 0.01) as port:
        told = loaded(port)
    assert set(told["statuses"]) == {"200"}
    assert 10 <= told["statuses"]["200"] <= 40
    assert 0.03 <= told["p50"] <= 0.2  # four wait for each other
    assert told["seconds"] >= 0.3


def test_a_rate_is_kept_whatever_the_server_does() -> None:
    with serving(lambda number: reply()) as port:
        told = loaded(port, rate=200.0, seconds=0.5)
    assert told["statuses"] == {"200": 100}
    assert told["p99"] < 0.25


def test_waiting_is_not_left_out() -> None:
    """A server that stands still delays all requests that were due, not only those that it had taken."""
    with serving(lambda number: reply(), lambda number: 0.4 if number == 0 else 0) as port:
        told = loaded(port, rate=100.0, seconds=0.4, connections=1)
    assert told["statuses"] == {"200": 40}
    assert told["p50"] > 0.1
    assert told["p99"] > 0.3


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        (lambda number: reply(503), {"503"}),
        (lambda number: reply(503 if number % 2 else 200), {"200", "503"}),
        (lambda number: b"", {"0"}),
        (lambda number: b"HTTP/1.1 200 OK\r\n\r\n", {"0"}),
        (lambda number: b"no HTTP at all\r\n\r\n", {"0"}),
        (lambda number: reply().replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), {"200"}),
    ],
    ids=["refuses", "refuses some", "hangs up", "says no length", "speaks otherwise", "closes politely"],
)
@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_what_became_of_requests_is_counted(answer: Answer, statuses: set[str], rate: float) -> None:
    with serving(answer) as port:
        told = loaded(port, rate=rate)
    assert set(told["statuses"]) == statuses


def test_refusals_do_not_become_the_load() -> None:
    with serving(lambda number: reply(503)) as port:
        assert sum(loaded(port)["statuses"].values()) <= 4 * (0.3 / load.PAUSE + 1)


def test_nobody_listens() -> None:
    with serving(lambda number: reply()) as port:
        pass
    assert loaded(port)["statuses"] == {}
    assert load.obey({"port": port, "path": "/readyz"}) == {"status": 0, "body": ""}


def test_answers_in_pieces_are_put_together() -> None:
    whole = reply(404, b"what")
    assert [load.answer_in(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
    assert load.answer_in(whole) == (404, b"what")


def test_it_is_spoken_to_in_lines_of_json() -> None:
    with serving(lambda number: reply(200, b'{"status": "ready"}')) as port:
        command = json.dumps({"port": port, "path": "/readyz"})
        done = subprocess.run(
            [sys.executable, "-I", "-c", Path(load.__file__).read_text()],
            input=f"{command}\n{command}\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"status": 200, "body": '{"status": "ready"}'}
    ] * 2


def test_percentiles_are_measured_values() -> None:
    assert load.percentile([], 0.5) == 0
    assert load.percentile([1, 2, 3, 4], 0.5) == 2
    assert load.percentile(list(range(1, 101)), 0.99) == 99


# --- the container


def test_the_container_is_like_the_pod() -> None:
    found = size.plan_of(None, None)
    options = " ".join(found.options)
    for wanted in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--tmpfs /tmp"):
        assert wanted in options
    assert "--user 10001:10001" in options
    assert "--network none" in options
    assert f"--env SERVE_PORT={found.port}" in options
    assert found.limits == found.now


def test_limits_are_those_of_docker() -> None:
    assert container.limit_options(0.25, 64 * MEBI) == [
        "--cpus",
        "0.25",
        "--memory",
        "67108864",
        "--memory-swap",
        "67108864",
    ]
    assert "--cpus" not in container.limit_options(None, 1)


@pytest.mark.parametrize("cache", ["inactive_file", "total_inactive_file"], ids=["v2", "v1"])
def test_both_versions_of_control_groups_are_read(cache: str) -> None:
    told = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 1_500_000_000},
            "throttling_data": {"periods": 9, "throttled_periods": 3},
            "online_cpus": 2,
        },
        "memory_stats": {"usage": 100, "stats": {cache: 30, "file": 50}},
    }
    assert container.use_of(told) == Use(1.5, 9, 3, 70, 2)
    assert container.use_of({"memory_stats": {}}) == Use(0, 0, 0, 0, 0)


def test_what_docker_says_is_one_line() -> None:
    said = "docker: Error response from daemon: no room.\nSee 'docker run --help'.\n"
    assert container.first_line(said) == "no room."
    assert container.detail('{"detail": "the model is loading"}') == "the model is loading"
    assert container.detail("<html>") == "<html>"


# --- the command


class Fake(Server):
    """A server that is no container: the load comes from this process, and each look at its use finds some more."""

    def ask(self, path: str, **command: Any) -> dict[str, Any]:
        return load.obey({"path": path, "port": self.port} | command)

    def use(self) -> Use:
        return Use(time.process_time(), 10, 0, 50 * MEBI, 2)


def api(number: int) -> bytes:
    request = {"examples": {"one row": {"value": ROW}}, "schema": {"anyOf": [{}, {"maxItems": 10}]}}
    described = {"paths": {"/predict": {"post": {"requestBody": {"content": {"application/json": request}}}}}}
    return reply(200, json.dumps(described if number == 0 else {}).encode())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the manifests, as the folder that the command runs in."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(size, "CONNECTIONS", (1, 2))
    monkeypatch.setattr(size, "ENOUGH", 20)
    return tmp_path


@pytest.fixture
def measurable(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, with a small server instead of a container."""
    with serving(api, lambda number: 0.002) as port:

        @contextmanager
        def running(*_: object) -> Iterator[Server]:
            yield Fake("name", "", (1.0, 256 * MEBI), port, subprocess.Popen(["true"], text=True), 0.5, 60 * MEBI)

        monkeypatch.setattr(container, "running", running)
        yield project


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(folder.glob("k8s/*.yaml"))}


@functools.cache
def scaled_by() -> str:
    path = ROOT / size.AUTOSCALE
    return str(yaml.safe_load(path.read_text())["spec"]["metrics"][0]["resource"]["name"]) if path.exists() else "none"


def test_it_proposes_and_writes_nothing(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(measurable)
    assert size.main(["image", "--seconds", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert contents(measurable) == before
    for text in ("1 connection ", "30% of saturation", "90% of saturation", "4 x lists of 10 rows", "requests.cpu"):
        assert text in printed
    assert ("averageUtilization" in printed) == (scaled_by() == "cpu")
    assert ("the autoscaler aims at" in printed) == (scaled_by() == "memory")


def test_what_is_written_is_what_was_proposed(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(measurable)
    assert size.main(["image", "--seconds", "0.1", "--write"]) == 0
    printed = capsys.readouterr().out
    after = contents(measurable)
    differing = {Path(name).name for name in before if before[name] != after[name]}
    assert "deployment.yaml" in differing
    assert differing <= {"deployment.yaml", "autoscale.yaml"}
    lines = [line for name in before for line in changed_lines(before[name], after[name])]
    assert all(line.split(":")[0] in ("cpu", "memory", "averageUtilization") for line in lines)
    assert "memory: 80Mi" in lines
    assert "ok  written: " in printed
    assert list(check_k8s.in_folder(Path("k8s"))) == []


def test_a_load_that_one_pod_does_not_carry_is_refused(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(measurable)
    assert size.main(["image", "--seconds", "0.1", "--rps", "100000", "--write"]) == 1
    assert "error: one pod does not carry 100,000 requests/s and 25% more" in capsys.readouterr().err
    assert contents(measurable) == before


def test_a_load_that_is_asked_for_is_proposed_for(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = size.main(["image", "--seconds", "0.2", "--rps", "40"])
    printed = capsys.readouterr()
    if code:  # a machine that is too busy may disturb even this
        assert "error: one pod does not carry 40 requests/s" in printed.err
    else:
        assert "one pod: 40 requests/s, and 50 while new pods start" in printed.out


BAD: dict[str, tuple[list[str], str]] = {
    "no rate": (["--rps", "many"], "--rps: 'many' is no amount above 0"),
    "no time": (["--seconds", "0"], "--seconds: '0' is no amount above 0"),
    "less than nothing": (["--cpus=-1"], "--cpus: '-1' is no amount above 0"),
    "infinite": (["--memory", "1e999"], "--memory: '1e999' is no amount above 0"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_amounts_that_are_none_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert size.main(["image", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("change", "message"), [ODD[key] for key in ODD if key != "an alias"])
def test_odd_manifests_are_refused_before_anything_is_loaded(
    project: Path, change: Callable[[str], str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / size.DEPLOYMENT).write_text(change(deployment()))
    assert size.main(["image"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: k8s/deployment.yaml: {message}")
    assert error.count("\n") == 1


def test_nothing_is_written_where_one_file_cannot_be(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (measurable / size.DEPLOYMENT).write_text(anchored(deployment()))
    before = contents(measurable)
    assert size.main(["image", "--seconds", "0.1", "--write"]) == 1
    assert "change it by hand; nothing is written" in capsys.readouterr().err
    assert contents(measurable) == before


def test_a_deployment_without_a_cpu_limit_stays_so(measurable: Path) -> None:
    lines = deployment().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.strip() == "limits:")
    (measurable / size.DEPLOYMENT).write_text("".join(lines[: start + 1] + lines[start + 2 :]))
    assert size.main(["image", "--seconds", "0.1", "--write"]) == 0
    pod = yaml.safe_load((measurable / size.DEPLOYMENT).read_text())["spec"]["template"]["spec"]
    assert set(next(each for each in pod["containers"] if each["name"] == SERVER)["resources"]["limits"]) == {"memory"}


def test_without_an_autoscaler_there_is_no_target(project: Path) -> None:
    (project / size.AUTOSCALE).unlink(missing_ok=True)
    assert size.current()[0].share is None
    assert set(size.written(Sizes(0.1, 1.0, 64 * MEBI, None))) == {size.DEPLOYMENT}


def test_without_docker_it_says_so(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/size.py"), "image"],
        env={**os.environ, "PATH": str(project)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "error: docker is not installed, or not on the PATH\n")


def test_an_engine_elsewhere_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    context = json.dumps([{"Endpoints": {"docker": {"Host": "ssh://elsewhere"}}}])
    told = subprocess.CompletedProcess(["docker"], 0, context, "")
    monkeypatch.setattr(container, "docker", lambda *_: told)
    with pytest.raises(SizeError, match="docker talks to ssh://elsewhere"):
        container.local_engine()

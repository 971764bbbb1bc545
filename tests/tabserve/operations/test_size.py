"""`make size`: what it measures, proposes and writes."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tabserve import cli
from tabserve.operations import check, container, load, size
from tabserve.operations.container import Server, Use
from tabserve.operations.manifests import SERVER
from tabserve.operations.sizing import MEBI, Sizes, texts
from tabserve.project import Project
from tests.tabserve.operations.documents import PATHS
from tests.tabserve.operations.small_server import reply, serving
from tests.tabserve.operations.test_in_place import changed_lines

ROW = {"age": 57}


def sized(*arguments: str) -> int:
    """The exit code of the task, with the image that is called so."""
    project = Project("test", pipelines="none:none", features="none:none", application="none:none")
    return cli.main(project, ["size", "--image", "image", *arguments])


def test_the_container_has_the_settings_and_limits_of_the_pod(project: Path) -> None:
    found = size.plan_of(None, None)
    assert found.settings["SERVE_PORT"] == str(found.port)
    assert found.limits == found.now == Sizes(0.25, 1.0, 256 * MEBI, 80)
    assert size.plan_of(2.0, 64 * MEBI).limits == Sizes(0.25, 2.0, 64 * MEBI, 80)


class Fake(Server):
    """A server without a container: the load comes from this process, and each look at its use finds some more."""

    def ask(self, path: str, **command: Any) -> dict[str, Any]:
        return load.obey({"path": path, "port": self.port} | command)

    def use(self) -> Use:
        return Use(time.process_time(), 10, 0, 50 * MEBI)


def api(number: int) -> bytes:
    request = {"examples": {"one row": {"value": ROW}}, "schema": {"anyOf": [{}, {"maxItems": 10}]}}
    described = {"paths": {"/predict": {"post": {"requestBody": {"content": {"application/json": request}}}}}}
    return reply(200, json.dumps(described if number == 0 else {}).encode())


@pytest.fixture
def quick(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, and few loads."""
    monkeypatch.setattr(size, "CONNECTIONS", (1, 2))
    monkeypatch.setattr(size, "ENOUGH", 10)
    monkeypatch.setattr(size, "MOST_BYTES", 2**16)
    return project


@pytest.fixture
def measurable(quick: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, with a small server instead of a container."""
    with serving(api, lambda number: 0.002) as port:

        @contextmanager
        def running(*_: object) -> Iterator[Server]:
            with subprocess.Popen(["true"], text=True) as ended:
                yield Fake("name", 256 * MEBI, port, ended, 0.5, 60 * MEBI)

        monkeypatch.setattr(container, "running", running)
        yield quick


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(folder.glob("k8s/*.yaml"))}


def scale_by_memory() -> None:
    text = size.AUTOSCALE.read_text()
    assert "name: cpu\n" in text
    size.AUTOSCALE.write_text(text.replace("name: cpu\n", "name: memory\n"))


SCALED = {"cpu": lambda: None, "memory": scale_by_memory, "none": size.AUTOSCALE.unlink}


@pytest.mark.parametrize("measure", SCALED)
def test_it_proposes_and_writes_nothing(measurable: Path, measure: str, capsys: pytest.CaptureFixture[str]) -> None:
    SCALED[measure]()
    before = contents(measurable)
    assert sized("--seconds", "0.05") == 0
    printed = capsys.readouterr().out
    assert contents(measurable) == before
    for text in ("1 connection ", "30% of saturation", "90% of saturation", "4 x lists of 10 rows", "requests.cpu"):
        assert text in printed
    assert ("averageUtilization" in printed) == (measure == "cpu")
    assert ("target is 80% of memory" in printed) == (measure == "memory")


@pytest.mark.parametrize("measure", ["cpu", "memory"])
def test_what_is_written_is_what_was_proposed(
    measurable: Path, measure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    SCALED[measure]()
    before = contents(measurable)
    assert sized("--seconds", "0.05", "--write") == 0
    printed = capsys.readouterr().out
    after = contents(measurable)
    differing = {Path(name).name for name in before if before[name] != after[name]}
    assert "deployment.yaml" in differing
    assert differing <= {"deployment.yaml", "autoscale.yaml"}
    lines = [line for name in before for line in changed_lines(before[name], after[name])]
    assert all(line.split(":")[0] in ("cpu", "memory", "averageUtilization") for line in lines)
    assert "memory: 80Mi" in lines
    assert "ok  written: " in printed
    assert list(check.in_folder(Path("k8s"), PATHS)) == []


def test_a_load_that_one_pod_does_not_carry_is_refused(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(measurable)
    assert sized("--seconds", "0.05", "--rps", "100000", "--write") == 1
    assert "error: one pod cannot handle 100,000 requests/s and 25% more" in capsys.readouterr().err
    assert contents(measurable) == before


def test_a_load_that_is_asked_for_is_proposed_for(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = sized("--seconds", "0.2", "--rps", "40")
    printed = capsys.readouterr()
    if code:  # a machine that is too busy may disturb even this
        assert "error: one pod cannot handle 40 requests/s" in printed.err
    else:
        assert "one pod: 40 requests/s, up to 50 while new pods start" in printed.out


BAD: dict[str, tuple[list[str], str]] = {
    "no rate": (["--rps", "many"], "'many' is not a valid amount above 0"),
    "no time": (["--seconds", "0"], "'0' is not a valid amount above 0"),
    "less than nothing": (["--cpus=-1"], "'-1' is not a valid amount above 0"),
    "infinite": (["--memory", "1e999"], "'1e999' is not a valid amount above 0"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_amounts_that_are_none_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sized(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1


ODD: dict[str, tuple[Callable[[str], str], str]] = {
    "not YAML": (lambda text: f"{text}\n  : - [", "not valid YAML: "),
    "another kind": (
        lambda text: text.replace("kind: Deployment", "kind: DaemonSet"),
        "there must be one Deployment with a container 'server', not 0",
    ),
    "two of them": (lambda text: f"{text}{text}", "there must be one Deployment with a container 'server', not 2"),
    "another container": (
        lambda text: text.replace("- name: server", "- name: main"),
        "there must be one Deployment with a container 'server', not 0",
    ),
    "no requests": (
        lambda text: text.replace("requests:", "wishes:"),
        "requests.cpu of the container 'server' is missing",
    ),
    "no memory": (
        lambda text: text.replace("              memory: 256Mi\n", "", 1),
        "requests.memory of the container 'server' is missing",
    ),
    "not a quantity": (
        lambda text: text.replace("cpu: 250m", "cpu: some"),
        "requests.cpu 'some' is not a valid quantity above 0",
    ),
    "nothing": (lambda text: "", "there must be one Deployment with a container 'server', not 0"),
}


@pytest.mark.parametrize(("change", "message"), ODD.values(), ids=ODD)
def test_odd_manifests_are_refused_before_anything_is_loaded(
    quick: Path, change: Callable[[str], str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size.DEPLOYMENT.write_text(change(size.DEPLOYMENT.read_text()))
    assert sized() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: k8s/deployment.yaml: {message}")
    assert error.count("\n") == 1


def test_an_autoscaler_without_a_target_is_refused(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.AUTOSCALE.write_text(size.AUTOSCALE.read_text().replace("averageUtilization", "averageValue"))
    assert sized() == 1
    assert capsys.readouterr().err == ("error: k8s/autoscale.yaml: no resource metric has an averageUtilization\n")


def anchored(text: str) -> str:
    """The memory as an anchor in the requests and an alias in the limits."""
    lines = text.splitlines(keepends=True)
    first, second = (number for number, line in enumerate(lines) if line.strip().startswith("memory:"))
    lines[first] = lines[first].replace("memory: ", "memory: &memory ")
    lines[second] = lines[second][: lines[second].index("memory:")] + "memory: *memory\n"
    return "".join(lines)


def test_nothing_is_written_where_one_file_cannot_be(measurable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.DEPLOYMENT.write_text(anchored(size.DEPLOYMENT.read_text()))
    before = contents(measurable)
    assert sized("--seconds", "0.05", "--write") == 1
    assert "change it by hand; nothing is written" in capsys.readouterr().err
    assert contents(measurable) == before


def test_a_deployment_without_a_cpu_limit_stays_so(measurable: Path) -> None:
    lines = size.DEPLOYMENT.read_text().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.strip() == "limits:")
    size.DEPLOYMENT.write_text("".join(lines[: start + 1] + lines[start + 2 :]))
    assert sized("--seconds", "0.05", "--write") == 0
    pod = yaml.safe_load(size.DEPLOYMENT.read_text())["spec"]["template"]["spec"]
    assert set(next(each for each in pod["containers"] if each["name"] == SERVER)["resources"]["limits"]) == {"memory"}


def test_without_an_autoscaler_there_is_no_target(project: Path) -> None:
    size.AUTOSCALE.unlink()
    assert size.plan_of(None, None).now.share is None
    assert set(size.written(texts(Sizes(0.1, 1.0, 64 * MEBI, None)))) == {size.DEPLOYMENT}


def test_without_docker_it_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert sized() == 1
    assert capsys.readouterr().err == "error: docker is not installed, or not on the PATH\n"


def test_a_list_grows_only_as_far_as_a_request_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the server never says that a body is too large."""
    asked: list[int] = []

    class Patient:
        def ask(self, path: str, **command: Any) -> dict[str, Any]:
            asked.append(len(command["body"]))
            assert len(asked) < 50
            return {"status": 422}

    monkeypatch.setattr(size, "MOST_BYTES", 1_000)
    each = len(json.dumps(ROW)) + 2
    rows = size.longest(cast(Server, Patient()), ROW, 4)
    assert rows * each < 1_000 <= 2 * rows * each
    assert asked == [2 * 4 * 2**step * each for step in range(len(asked))]

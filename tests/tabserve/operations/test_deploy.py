import copy
import subprocess
from collections.abc import Iterator

import pytest

from tabserve.errors import UserError
from tabserve.operations import deploy, programs
from tabserve.operations.deploy import progress_of, release, with_image
from tabserve.operations.manifests import Document
from tests.tabserve.operations.documents import of, put, server

Answers = list[tuple[str, int]]  # what kubectl prints, and its exit code


def test_an_image_that_is_none_is_refused_before_anything_is_applied() -> None:
    for image in ("", "Bad_Name", "a b", "registry/name:tag:tag", "-x"):
        with pytest.raises(UserError, match="is not a valid image: write IMAGE=registry/name:tag"):
            release(image)


def progress(generation: int = 2, observed: int = 2, wanted: int = 3, **status: int) -> str | None:
    spec, status = {"replicas": wanted}, {"observedGeneration": observed, **status}
    return progress_of({"metadata": {"generation": generation}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (
            {"observed": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
            "waiting for the cluster to notice",
        ),
        ({}, "0 of 3 pods are new"),
        ({"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}, "1 of 3 pods are new"),
        ({"replicas": 5, "updatedReplicas": 3, "availableReplicas": 5}, "2 old pods are terminating"),
        ({"replicas": 3, "updatedReplicas": 3}, "0 of 3 pods are ready"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}, "2 of 3 pods are ready"),
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, None),
        ({"wanted": 0}, None),
    ],
)
def test_progress_says_what_a_rollout_waits_for(numbers: dict[str, int], expected: str | None) -> None:
    assert progress(**numbers) == expected


def test_progress_of_a_deployment_that_is_new_to_the_cluster() -> None:
    assert progress_of({"metadata": {"generation": 1}, "spec": {"replicas": 1}}) == "waiting for the cluster to notice"


def containers(kind: str) -> Iterator[Document]:
    """A document of a kind whose pods have a server and something beside it, before and after a release."""
    for image, annotations in (
        ("old:1", {"kept": "yes"}),
        ("new:2", {"kept": "yes", "kubernetes.io/change-cause": "new:2"}),
    ):
        pods = [{"name": "beside", "image": "beside:1"}, {"name": "server", "image": image}]
        yield {
            "kind": kind,
            "metadata": {"name": "app", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": pods}}},
        }


def test_only_the_server_of_a_deployment_gets_the_image() -> None:
    before, after = containers("Deployment")
    assert with_image(before, "new:2") == after


@pytest.mark.parametrize("kind", ["Job", "StatefulSet"])
def test_other_documents_stay_as_they_are(kind: str) -> None:
    before, _ = containers(kind)
    assert with_image(copy.deepcopy(before), "new:2") == before


def test_the_image_is_the_cause_of_a_change_in_the_projects_own_deployment(own: list[Document]) -> None:
    before = of("Deployment")(own)
    after = with_image(copy.deepcopy(before), "new:2")
    assert server([after])["image"] == "new:2"
    assert after["metadata"]["annotations"]["kubernetes.io/change-cause"] == "new:2"
    put(server, server([before])["image"], "image")([after])
    del after["metadata"]["annotations"]["kubernetes.io/change-cause"]
    assert after["spec"] == before["spec"]


def test_a_deployment_beside_the_server_is_not_the_target(own: list[Document]) -> None:
    beside = copy.deepcopy(of("Deployment")(own))
    beside["metadata"]["name"] = "beside"
    put(server, "cache", "name")([beside])
    documents = [with_image(document, "new:2") for document in [beside, *own]]
    namespace, target, image = deploy.target_of(documents)
    assert target == f"deployment/{of('Deployment')(own)['metadata']['name']}"
    assert (namespace, image) == (of("Deployment")(own)["metadata"]["namespace"], "new:2")
    assert beside["spec"]["template"]["spec"]["containers"][0]["image"] != "new:2"
    with pytest.raises(UserError, match="there is no Deployment with a container 'server'"):
        deploy.target_of([beside])


STARTING = 'error: previous terminated container "fetch" in pod "new" not found'
GONE = "unable to retrieve container logs for containerd://0"


@pytest.mark.parametrize(
    ("current", "before", "shown"),
    [
        ([("cannot fetch", 0)], [], True),
        ([("", 0)], [("cannot fetch", 0)], True),
        ([("", 1)], [(STARTING, 1), ("cannot fetch", 0)], True),
        ([(GONE, 0)], [(GONE, 0), ("cannot fetch", 0)], True),
        ([("", 0)], [(STARTING, 1)], False),
    ],
    ids=["it runs", "it starts again", "it does not start yet", "its logs are gone", "it said nothing"],
)
def test_logs_are_those_of_this_run_or_of_the_one_before(
    current: Answers, before: Answers, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"--previous=false": iter(current), "--previous=true": iter(before)}
    last = {"--previous=false": current[-1], "--previous=true": (before or current)[-1]}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        assert arguments[:3] == ("kubectl", "logs", "new")
        printed, code = next(answers[arguments[-1]], last[arguments[-1]])
        return subprocess.CompletedProcess(arguments, code, "" if code else printed, printed if code else "")

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0)
    assert deploy.logs_of("ours", "new", "fetch") == ("cannot fetch" if shown else "")


def test_a_port_that_is_taken_names_the_file_to_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'The Service "app" is invalid: nodePort: Invalid value: 30080: provided port is already allocated'
    done = subprocess.CompletedProcess(("kubectl",), 1, "", f"{said}\n")
    monkeypatch.setattr(programs, "run", lambda *_, **__: done)
    with pytest.raises(UserError) as error:
        deploy.apply([])
    assert str(error.value) == f"the cluster rejects a manifest: {said}; choose another nodePort in k8s/service.yaml"

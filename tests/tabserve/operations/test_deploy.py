import copy
from collections.abc import Iterator

import pytest

from tabserve.operations.deploy import DeployError, progress_of, release, with_image
from tabserve.operations.manifests import Document
from tests.tabserve.operations.documents import of, put, server


def test_an_image_that_is_none_is_refused_before_anything_is_applied() -> None:
    for image in ("", "Bad_Name", "a b", "registry/name:tag:tag", "-x"):
        with pytest.raises(DeployError, match="names no image: write IMAGE=registry/name:tag"):
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
        ({"replicas": 5, "updatedReplicas": 3, "availableReplicas": 5}, "2 old pods go"),
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

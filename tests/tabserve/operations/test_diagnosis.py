import pytest

from tabserve.operations.diagnosis import SHOWN_EVENTS, trouble_of
from tabserve.operations.manifests import Document

Documents = list[Document]


def new_pod(phase: str = "Running", ready: bool = False, restarts: int = 0, **state: object) -> Document:
    """A pod as Kubernetes gives it, with what the cases look at; `state` and `lastState` are the server's."""
    container = {"name": "server", "image": "registry/app:1", "restartCount": restarts, **state}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": "new"},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": [container]},
    }


def waiting(reason: str, message: str = "") -> dict[str, object]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str, code: int) -> dict[str, object]:
    return {"terminated": {"reason": reason, "exitCode": code}}


def unschedulable() -> Document:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    return {"metadata": {"name": "new"}, "status": {"phase": "Pending", "conditions": [condition]}}


def said(*messages: str, pod: str = "new") -> Documents:
    return [{"involvedObject": {"name": pod}, "message": message} for message in messages]


def rollout(*conditions: dict[str, str]) -> Document:
    return {"status": {"conditions": list(conditions)}}


CRASH = waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
NO_MOUNT = 'MountVolume.SetUp failed for volume "secrets" : secret "x" not found'
NO_IMAGE = "the image registry/app:1 cannot be pulled"
MAKE_SECRET = "create it as k8s/secret.example.yaml says, or mark it optional"

# The pod, what Kubernetes said about it, what is wrong, how to fix it, and whether waiting is in vain.
TROUBLES: dict[str, tuple[Document, Documents, str, str, bool]] = {
    "an image that cannot be pulled": (
        new_pod("Pending", state=waiting("ErrImagePull", "not found")),
        said("Failed to pull image"),
        NO_IMAGE,
        "`make image push`, or say which with IMAGE=",
        False,
    ),
    "an image that still cannot be pulled": (
        new_pod("Pending", state=waiting("ImagePullBackOff")),
        [],
        NO_IMAGE,
        "`make image push`",
        False,
    ),
    "an image with an illegal name": (
        new_pod("Pending", state=waiting("InvalidImageName")),
        [],
        NO_IMAGE,
        "IMAGE=",
        False,
    ),
    "no ConfigMap for variables": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", 'configmap "x" not found')),
        [],
        "there is no ConfigMap 'x'",
        "list its file in k8s/kustomization.yaml",
        True,
    ),
    "no secret for variables": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", 'secret "x" not found')),
        [],
        "there is no Secret 'x'",
        MAKE_SECRET,
        True,
    ),
    "no key for a variable": (
        new_pod("Pending", state=waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap b/c")),
        [],
        "the container cannot be made: couldn't find key a in ConfigMap b/c",
        "fix k8s/deployment.yaml",
        False,
    ),
    "no secret for a volume": (
        new_pod("Pending", state=waiting("ContainerCreating")),
        said("Scheduled", NO_MOUNT),
        "there is no Secret 'x'",
        MAKE_SECRET,
        True,
    ),
    "too little memory": (
        new_pod(restarts=1, state=CRASH, lastState=ended("OOMKilled", 137)),
        [],
        "the server needs more memory than its limit",
        "raise memory in k8s/deployment.yaml",
        True,
    ),
    "a server that ended once": (
        new_pod(restarts=1, state=CRASH, lastState=ended("Error", 1)),
        [],
        "the server ends with code 1",
        "see its logs above",
        False,
    ),
    "a server that ends again and again": (
        new_pod(restarts=3, state=CRASH, lastState=ended("Error", 2)),
        [],
        "the server ends with code 2",
        "see its logs above",
        True,
    ),
    "a server that ended and runs again": (
        new_pod(restarts=2, state={"running": {}}, lastState=ended("Error", 3)),
        [],
        "the server ends with code 3",
        "see its logs above",
        True,
    ),
    "no room": (
        unschedulable(),
        said("0/1 nodes are available"),
        "no node has enough free resources for a pod: Insufficient cpu",
        "lower what k8s/deployment.yaml requests",
        False,
    ),
}


@pytest.mark.parametrize(("pod", "events", "what", "fix", "final"), TROUBLES.values(), ids=TROUBLES)
def test_the_trouble_of_a_pod_says_what_is_wrong_and_how_to_fix_it(
    pod: Document, events: Documents, what: str, fix: str, final: bool
) -> None:
    found = trouble_of(rollout(), [pod], events)
    assert found is not None
    assert found.what == what
    assert fix in found.fix
    assert found.final is final
    assert found.pod == "new"
    assert list(found.events) == [event["message"] for event in events]


@pytest.mark.parametrize(
    ("pod", "events"),
    [
        (new_pod(ready=True, state={"running": {}}), said(NO_MOUNT)),
        (new_pod(state={"running": {}}), said("Readiness probe failed")),
        (new_pod("Pending", state=waiting("ContainerCreating")), said(NO_MOUNT, pod="old")),
    ],
    ids=["one that serves", "one that starts", "one that waits while another is in trouble"],
)
def test_a_pod_that_needs_only_time_is_in_no_trouble(pod: Document, events: Documents) -> None:
    assert trouble_of(rollout({"type": "Progressing", "reason": "ReplicaSetUpdated"}), [pod], events) is None


@pytest.mark.parametrize(
    ("message", "what", "fix"),
    [
        (
            '0/1 nodes are available: persistentvolumeclaim "models" not found.',
            "there is no PersistentVolumeClaim 'models'",
            "create it with a storage class",
        ),
        ("pod has unbound immediate PersistentVolumeClaims", "a PersistentVolumeClaim is not bound", "kubectl get pvc"),
        ("0/1 nodes: 1 Insufficient memory.", "no node has enough free resources for a pod", "lower what k8s"),
        ("0/1 nodes: 1 node(s) didn't match Pod's node affinity/selector", "no node fits a pod", "nodeSelector"),
    ],
)
def test_what_keeps_a_pod_from_a_node_is_told_apart(message: str, what: str, fix: str) -> None:
    pod = unschedulable()
    pod["status"]["conditions"][0]["message"] = message
    found = trouble_of(rollout(), [pod], [])
    assert found is not None
    assert what in found.what
    assert fix in found.fix


def test_pods_that_the_cluster_refuses_are_final_trouble_without_a_pod() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    found = trouble_of(rollout(refused), [], [])
    assert found is not None
    assert found.what == "the cluster rejects the pods: violates PodSecurity"
    assert found.fix == "fix k8s/deployment.yaml"
    assert (found.pod, found.events, found.final) == ("", (), True)
    assert trouble_of(rollout(refused | {"status": "False"}), [], []) is None


def test_a_pod_that_never_becomes_ready_is_final_trouble_after_the_deadline() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    serving = new_pod(ready=True, state={"running": {}}) | {"metadata": {"name": "serving"}}
    probed = ["Readiness probe failed: 503"] * 2
    found = trouble_of(rollout(late), [serving, new_pod(state={"running": {}})], said(*probed))
    assert found is not None
    assert found.what == "pod new runs, but does not become ready"
    assert "logs" in found.fix
    assert (found.pod, found.events, found.final) == ("new", ("Readiness probe failed: 503",), True)


def test_trouble_comes_with_the_newest_events_each_once() -> None:
    messages = [f"message {number}" for number in range(SHOWN_EVENTS + 2)]
    found = trouble_of(rollout(), [unschedulable()], said(messages[0], *messages, messages[-1]))
    assert found is not None
    assert list(found.events) == messages[-SHOWN_EVENTS:]


def init(restarts: int, **state: object) -> Document:
    """A pod whose first container ended, and whose server waits for it."""
    pod = new_pod("Pending", state=waiting("PodInitializing"))
    pod["status"]["initContainerStatuses"] = [{"name": "fetch", "restartCount": restarts, **state}]
    return pod


@pytest.mark.parametrize(
    "state",
    [
        {"state": CRASH, "lastState": ended("Error", 1)},
        {"state": ended("Error", 1), "lastState": ended("Error", 1)},
        {"state": {"running": {}}, "lastState": ended("Error", 1)},
    ],
    ids=["it waits to start again", "it has just ended", "it has just started again"],
)
def test_the_logs_are_those_of_the_container_that_ends(state: dict[str, object]) -> None:
    found = trouble_of(rollout(), [init(2, **state)], [])
    assert found is not None
    assert (found.what, found.container, found.final) == ("container 'fetch' ends with code 1", "fetch", True)


def test_a_container_that_never_ran_has_no_logs() -> None:
    found = trouble_of(rollout(), [new_pod("Pending", state=waiting("ImagePullBackOff"))], [])
    assert found is not None
    assert found.container == ""

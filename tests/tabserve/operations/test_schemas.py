import datetime as dt

import kubernetes_validate
import pytest

from tabserve.operations import schemas
from tests.tabserve.operations.conftest import Problems
from tests.tabserve.operations.documents import (
    Cases,
    Documents,
    Expected,
    Mutation,
    add,
    append,
    assert_just,
    both,
    drop,
    of,
    pod,
    put,
    server,
    service_port,
)

BUDGET = of("PodDisruptionBudget")
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])
SERVER = "Deployment/loan-offers: spec.template.spec.containers[0]"

CASES: Cases = {
    "an unknown field": (
        put(of("Deployment"), 2, "spec", "replicsa"),
        "Deployment/loan-offers: spec: unknown field 'replicsa'; did you mean replicas?",
    ),
    "an unknown field that is like no other": (put(pod, 1, "x"), "spec.template.spec: unknown field 'x'"),
    "an unknown field of the document": (
        put(of("ConfigMap"), {}, "dta"),
        "ConfigMap/loan-offers: unknown field 'dta'; did you mean data?",
    ),
    "a wrong type": (
        put(of("Deployment"), "x", "spec", "revisionHistoryLimit"),
        "Deployment/loan-offers: spec.revisionHistoryLimit: 'x' is not of type 'integer'",
    ),
    "a mapping for a list": (
        put(pod, {"http": 80}, "tolerations"),
        "spec.template.spec.tolerations: {'http': 80} is not of type 'array'",
    ),
    "a list for a mapping": (put(server, ["a"], "securityContext"), f"{SERVER}.securityContext: ['a'] is not of type"),
    "a port that is text": (put(service_port, "80", "port"), "spec.ports[0].port: '80' is not of type 'integer'"),
    "a share that is text": (
        put(of("HorizontalPodAutoscaler"), "5", "spec", "maxReplicas"),
        "spec.maxReplicas: '5' is not of type 'integer'",
    ),
    "a variable that is a number": (
        append(server, {"name": "MORE", "value": 1}, "env"),
        f"{SERVER}.env[0].value: 1 is not of type 'string': put it in quotes",
    ),
    "a nameless variable": (append(server, {"value": "1"}, "env"), f"{SERVER}.env[0]: 'name' is a required property"),
    "a setting that is a number": (
        put(of("ConfigMap"), 1, "data", "MORE"),
        "ConfigMap/loan-offers: data.MORE: 1 is not of type 'string': put it in quotes",
    ),
    "a label that is a date": (
        put(BUDGET, dt.date(2026, 1, 1), "metadata", "labels", "since"),
        "metadata.labels.since: datetime.date(2026, 1, 1) is not of type 'string': put it in quotes",
    ),
    "a quantity that is true": (
        put(server, True, "resources", "limits", "cpu"),
        f"{SERVER}.resources.limits.cpu: True must be text or a number",
    ),
    "a quantity that is empty": (
        put(server, None, "resources", "limits", "cpu"),
        f"{SERVER}.resources.limits.cpu: None must be text or a number",
    ),
    "something long": (
        put(server, {str(number): number for number in range(99)}, "args"),
        f"{SERVER}.args: {{'0': 0, '1': 1, '2': 2, '3': 3, '4': 4, '5': 5, '6': 6, '7' is not of type 'array'",
    ),
    "a missing field": (
        drop(of("Deployment"), "spec", "selector"),
        "Deployment/loan-offers: spec: 'selector' is a required property",
    ),
    "an old version": (
        put(BUDGET, "policy/v1beta1", "apiVersion"),
        f"PodDisruptionBudget/loan-offers: Kubernetes {NEWEST} has no such kind in policy/v1beta1",
    ),
    "a kind in a wrong group": (
        put(of("Ingress"), "extensions/v1", "apiVersion"),
        f"Ingress/added-ingress: Kubernetes {NEWEST} has no such kind in extensions/v1",
    ),
    "an unknown kind": (
        add("apps/v1", "Deploymnet"),
        f"Deploymnet/added-deploymnet: Kubernetes {NEWEST} has no such kind",
    ),
    "an unknown kind of the core": (
        add("v1", "Confgmap"),
        f"Confgmap/added-confgmap: Kubernetes {NEWEST} has no such kind",
    ),
    "an unknown kind of a long group": (
        add("rbac.authorization.k8s.io/v2", "Role"),
        f"Role/added-role: Kubernetes {NEWEST} has no such kind in rbac.authorization.k8s.io/v2",
    ),
    "no kind": (drop(BUDGET, "kind"), "?/loan-offers: kind is missing"),
    "no version": (drop(BUDGET, "apiVersion"), "PodDisruptionBudget/loan-offers: apiVersion is missing"),
    "a version that is a number": (put(BUDGET, 1, "apiVersion"), "apiVersion is missing"),
    "defects of two documents": (
        both(put(of("ConfigMap"), 1, "data", "MORE"), put(BUDGET, 1, "spec", "more")),
        ("data.MORE: 1 is not of type", "spec: unknown field 'more'"),
    ),
}


@pytest.mark.parametrize(("mutate", "expected"), CASES.values(), ids=CASES)
def test_one_defect_gives_just_its_own_message(
    mutate: Mutation, expected: Expected, whole: Documents, problems_of: Problems
) -> None:
    mutate(whole)
    assert_just(problems_of(whole), expected)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("cert-manager.io/v1", "Certificate"),
        ("keda.sh/v1alpha1", "ScaledObject"),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot"),
    ],
)
def test_kinds_from_outside_have_no_schema(version: str, kind: str, whole: Documents, problems_of: Problems) -> None:
    add(version, kind, spec={"anything": 1})(whole)
    assert problems_of(whole) == []


WRONG: dict[str, Mutation] = {
    "a monitor": put(of("ServiceMonitor"), {"selector": {"matchLabels": ["a"]}, "endpoints": [{"path": []}]}, "spec"),
    "a route": put(of("HTTPRoute"), {"rules": [{"backendRefs": [{"name": [], "port": {}}, "x"]}, None]}, "spec"),
    "a spec of nothing": put(of("HTTPRoute"), None, "spec"),
    "a deployment of nothing": put(of("Deployment"), None, "spec"),
    "an autoscaler of nothing": put(of("HorizontalPodAutoscaler"), None, "spec"),
    "a number for a key": put(of("ConfigMap"), {1: "x"}, "data"),
}


@pytest.mark.parametrize("mutate", WRONG.values(), ids=WRONG)
def test_what_no_schema_refuses_does_not_break_the_rules(
    mutate: Mutation, whole: Documents, problems_of: Problems
) -> None:
    mutate(whole)
    assert list(schemas.check(whole)) == []
    problems_of(whole)

import pytest

from tabserve.operations import check
from tabserve.operations.manifests import Document
from tests.tabserve.operations.conftest import Problems
from tests.tabserve.operations.documents import (
    ABSENT,
    PATHS,
    Cases,
    Documents,
    Expected,
    Mutation,
    add,
    append,
    assert_just,
    both,
    claim,
    drop,
    named,
    of,
    pod,
    put,
    server,
    service_port,
    twice,
    volume,
    without,
)

BUDGET = of("PodDisruptionBudget")


def variable(source: str, key: str) -> Mutation:
    """A variable that comes from a key; the project's ConfigMap and Secret have the name of its Deployment."""

    def mutate(documents: Documents) -> None:
        value = {source: {"name": named(of("Deployment"))(documents), "key": key}}
        append(server, {"name": "MORE", "valueFrom": value}, "env")(documents)

    return mutate


def backend(kind: str, **changed: object) -> Mutation:
    """Lead an Ingress or an HTTPRoute somewhere else."""

    def mutate(documents: Documents) -> None:
        rule = of(kind)(documents)["spec"]["rules"][0]
        target = rule["http"]["paths"][0]["backend"]["service"] if kind == "Ingress" else rule["backendRefs"][0]
        target.update(changed)

    return mutate


def monitor(**changed: object) -> Mutation:
    return lambda documents: of("ServiceMonitor")(documents)["spec"]["endpoints"][0].update(changed)


def policy_port(documents: Documents) -> None:
    of("NetworkPolicy")(documents)["spec"]["ingress"][0]["ports"][0]["port"] = "gone"


def add_claim(documents: Documents) -> None:
    documents.append(claim(documents))


def spread(**labels: str) -> list[Document]:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    return [constraint | {"labelSelector": {"matchLabels": labels}}]


def like_the_server(*template: str) -> Mutation:
    """Give the pods of a job the labels of the server's."""

    def mutate(documents: Documents) -> None:
        labels = of("Service")(documents)["spec"]["selector"]
        put(of(template[0]), dict(labels), "spec", *template[1:], "metadata", "labels")(documents)

    return mutate


RIGHT: dict[str, Mutation] = {
    "a service on the node": both(
        put(of("Service"), "NodePort", "spec", "type"), put(service_port, 30_000, "nodePort")
    ),
    "a service with a load balancer": put(of("Service"), "LoadBalancer", "spec", "type"),
    "a target port by number": lambda documents: put(
        service_port, server(documents)["ports"][0]["containerPort"], "targetPort"
    )(documents),
    "an ingress to a named port": lambda documents: backend("Ingress", port={"name": service_port(documents)["name"]})(
        documents
    ),
    "an optional ConfigMap": append(server, {"configMapRef": {"name": "gone", "optional": True}}, "envFrom"),
    "a key of a secret": variable("secretKeyRef", "serve_api_key"),
    "a key of a ConfigMap": variable("configMapKeyRef", "SERVE_PORT"),
    "claims that are made by hand": volume(persistentVolumeClaim={"claimName": "models"}),
    "a claim of the manifests": both(
        add_claim, volume(persistentVolumeClaim={"claimName": "added-persistentvolumeclaim"})
    ),
    "a monitor of the default path": lambda documents: of("ServiceMonitor")(documents)["spec"]["endpoints"][0].pop(
        "path"
    ),
    "a monitor of the project's own": twice("ServiceMonitor", "more"),
    "a selector by expressions": put(
        BUDGET, {"matchExpressions": [{"key": "absent", "operator": "Exists"}]}, "spec", "selector"
    ),
    "a document without a namespace, which kustomize adds": drop(BUDGET, "metadata", "namespace"),
    "a document for the whole cluster": lambda documents: documents.append(
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}, "provisioner": "x"}
    ),
    "a name of a role with colons": lambda documents: documents.append(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a:b"}, "rules": []}
    ),
    "a service that is a name elsewhere": lambda documents: documents.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "elsewhere"},
            "spec": {"type": "ExternalName", "externalName": "db.example.org"},
        }
    ),
    "a name with dots": put(BUDGET, "budget.of.the.server", "metadata", "name"),
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_what_is_allowed_gives_no_problem(change: Mutation, whole: Documents, problems_of: Problems) -> None:
    change(whole)
    assert problems_of(whole) == []


CASES: Cases = {
    "an invalid name": (
        put(BUDGET, "My_Budget", "metadata", "name"),
        "PodDisruptionBudget/My_Budget: metadata.name must be up to 63 of a-z, 0-9 and -",
    ),
    "a name with dots for a service": (
        twice("Service", "a.b"),
        "Service/a.b: metadata.name must be up to 63 of a-z, 0-9 and -",
    ),
    "a document twice": (twice("PodDisruptionBudget"), " is defined twice"),
    "two namespaces": (twice("Namespace", "more"), "there must be one Namespace, not 2"),
    "no namespace": (without("Namespace"), "there must be one Namespace, not 0"),
    "a namespace that admits everything": (
        put(of("Namespace"), "baseline", "metadata", "labels", "pod-security.kubernetes.io/enforce"),
        "pod-security.kubernetes.io/enforce must be restricted",
    ),
    "a document in another namespace": (
        put(BUDGET, "elsewhere", "metadata", "namespace"),
        "namespace 'elsewhere' should be ",
    ),
    "a secret in git": (add("v1", "Secret"), "Secret/added-secret: the values of a Secret must not be in git"),
    "a deployment that selects nothing": (
        put(of("Deployment"), ABSENT, "spec", "selector", "matchLabels"),
        f": selector {ABSENT} matches no pod",
    ),
    "a deployment that selects the pods of a job": (
        put(of("Deployment"), {"task": "job"}, "spec", "selector", "matchLabels"),
        ": selector {'task': 'job'} matches no pod",
    ),
    "a stateful set that selects the pods of a job": (
        put(of("StatefulSet"), {"task": "job"}, "spec", "selector", "matchLabels"),
        "StatefulSet/added-statefulset: selector {'task': 'job'} matches no pod",
    ),
    "a service that selects nothing": (put(of("Service"), ABSENT, "spec", "selector"), f"{ABSENT} matches no pod"),
    "a service without a selector": (drop(of("Service"), "spec", "selector"), ": selector {} matches no pod"),
    "a budget that selects nothing": (
        put(BUDGET, ABSENT, "spec", "selector", "matchLabels"),
        f": selector {ABSENT} matches no pod",
    ),
    "a policy that selects nothing": (
        put(of("NetworkPolicy"), ABSENT, "spec", "podSelector", "matchLabels"),
        f": podSelector {ABSENT} matches no pod",
    ),
    "a spread that selects nothing": (
        put(pod, spread(absent="label"), "topologySpreadConstraints"),
        f": topologySpreadConstraints {ABSENT} matches no pod",
    ),
    "a selector that changes with a release": (
        both(
            put(of("Deployment"), "1", "spec", "selector", "matchLabels", "version"),
            put(of("Deployment"), "1", "spec", "template", "metadata", "labels", "version"),
        ),
        ": selector contains 'version', which changes with a release",
    ),
    "another service account": (put(pod, "gone", "serviceAccountName"), "there is no ServiceAccount 'gone'"),
    "no service account": (drop(pod, "serviceAccountName"), "there is no ServiceAccount 'default'"),
    "settings that are not there": (
        append(server, {"configMapRef": {"name": "gone"}}, "envFrom"),
        "there is no ConfigMap 'gone'",
    ),
    "a volume of a ConfigMap that is not there": (volume(configMap={"name": "gone"}), "there is no ConfigMap 'gone'"),
    "a part of a volume that is not there": (
        volume(projected={"sources": [{"configMap": {"name": "gone"}}]}),
        "there is no ConfigMap 'gone'",
    ),
    "a volume of a secret without an example": (
        volume(secret={"secretName": "gone", "optional": True}),
        "there is no Secret 'gone' in secret.example.yaml",
    ),
    "settings from a secret without an example": (
        append(server, {"secretRef": {"name": "gone"}}, "envFrom"),
        "there is no Secret 'gone' in secret.example.yaml",
    ),
    "a ConfigMap's key that is not there": (variable("configMapKeyRef", "gone"), "' has no key 'gone'"),
    "a secret's key without an example": (variable("secretKeyRef", "gone"), "' has no key 'gone'"),
    "a claim that is not among those of the manifests": (
        both(add_claim, volume(persistentVolumeClaim={"claimName": "gone"})),
        "there is no PersistentVolumeClaim 'gone'",
    ),
    "a service to a port that is not there": (
        put(service_port, "gone", "targetPort"),
        ": the pods have no port 'gone'",
    ),
    "a service to a job": (
        like_the_server("Job", "template"),
        "it would send requests to Job/added-job: give that other labels",
    ),
    "a service to a cron job": (
        like_the_server("CronJob", "jobTemplate", "spec", "template"),
        "it would send requests to CronJob/added-cronjob: give that other labels",
    ),
    "a port of the node without a service there": (
        both(put(of("Service"), "ClusterIP", "spec", "type"), put(service_port, 30_000, "nodePort")),
        "nodePort needs type NodePort or LoadBalancer, not ClusterIP",
    ),
    "a port of the node out of range": (
        both(put(of("Service"), "NodePort", "spec", "type"), put(service_port, 80, "nodePort")),
        "nodePort 80 must be from 30000 to 32767",
    ),
    "an ingress to no service": (backend("Ingress", name="gone"), "ingress: there is no Service 'gone'"),
    "an ingress to no port": (backend("Ingress", port={"number": 9_999}), "' has no port 9999"),
    "an ingress to no named port": (backend("Ingress", port={"name": "gone"}), "' has no port 'gone'"),
    "a route to no service": (backend("HTTPRoute", name="gone"), "httproute: there is no Service 'gone'"),
    "a route to no port": (backend("HTTPRoute", port=9_999), "' has no port 9999"),
    "a monitor of no service": (
        put(of("ServiceMonitor"), ABSENT, "spec", "selector", "matchLabels"),
        f"no Service with the labels {ABSENT} has a port",
    ),
    "a monitor of every service": (drop(of("ServiceMonitor"), "spec", "selector"), "no Service with the labels {}"),
    "a monitor of no port": (monitor(port="gone"), " has a port 'gone'"),
    "a monitor of no path": (monitor(path="/stats"), "the application has no path '/stats'"),
    "a policy for a port that is not there": (policy_port, "networkpolicy: the pods have no port 'gone'"),
}


@pytest.mark.parametrize(("mutate", "expected"), CASES.values(), ids=CASES)
def test_one_defect_gives_just_its_own_message(
    mutate: Mutation, expected: Expected, whole: Documents, problems_of: Problems
) -> None:
    mutate(whole)
    assert_just(problems_of(whole), expected)


def test_a_claim_may_stand_in_an_example(whole: Documents, examples: Documents) -> None:
    made, named_in_pod = claim(whole), {"claimName": "added-persistentvolumeclaim"}
    volume(persistentVolumeClaim=named_in_pod)(whole)
    assert list(check.rules(whole, [*examples, made], PATHS)) == []
    named_in_pod["claimName"] = "gone"
    assert_just(list(check.rules(whole, [*examples, made], PATHS)), "there is no PersistentVolumeClaim 'gone'")

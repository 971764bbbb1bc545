from pathlib import Path

import pytest

from tests.tabserve.operations.conftest import Problems
from tests.tabserve.operations.documents import (
    Cases,
    Documents,
    Expected,
    Mutation,
    append,
    assert_just,
    both,
    drop,
    metric,
    of,
    pod,
    put,
    server,
)

SCALER = of("HorizontalPodAutoscaler")
BUDGET = of("PodDisruptionBudget")


def setting(key: str, value: str) -> Mutation:
    return put(of("ConfigMap"), value, "data", key)


def kept(amount: object) -> Mutation:
    """A budget that says how many pods stay, and not how many may go."""
    return lambda documents: BUDGET(documents).update(
        spec={"minAvailable": amount, "selector": BUDGET(documents)["spec"]["selector"]}
    )


def fixed(documents: Documents) -> None:
    """Three pods, without an autoscaler."""
    documents.remove(SCALER(documents))
    of("Deployment")(documents)["spec"]["replicas"] = 3


RIGHT: dict[str, Mutation] = {
    "an autoscaler on requests per second": append(
        lambda documents: SCALER(documents)["spec"],
        {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "9"}}},
        "metrics",
    ),
    "a daily cron job": put(of("CronJob"), "@daily", "spec", "schedule"),
    "a fixed number of pods": fixed,
    "a budget that keeps some of them": both(fixed, kept(2)),
    "a budget that keeps half of them": both(fixed, kept("50%")),
    "no limit of the CPU": drop(server, "resources", "limits", "cpu"),
    "a wait of another kind": put(server, {"exec": {"command": ["/bin/sleep", "5"]}}, "lifecycle", "preStop"),
    "a schedule with more blanks": put(of("CronJob"), "30  2 * * *", "spec", "schedule"),
    "a setting that is not the server's": setting("MORE", "1"),
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_what_is_allowed_gives_no_problem(change: Mutation, whole: Documents, problems_of: Problems) -> None:
    change(whole)
    assert problems_of(whole) == []


CASES: Cases = {
    "a server on another port": (
        setting("SERVE_PORT", "1"),
        "the server listens on SERVE_PORT 1, the container on ",
    ),
    "a server whose own variable gives another port": (
        append(server, {"name": "SERVE_PORT", "value": "1"}, "env"),
        "the server listens on SERVE_PORT 1, the container on ",
    ),
    "more threads than cores": (setting("SERVE_THREADS", "256"), "SERVE_THREADS 256 is more than the "),
    "no wait before the end": (drop(server, "lifecycle"), "lifecycle.preStop.sleep is missing"),
    "a wait of no time": (
        put(server, 0, "lifecycle", "preStop", "sleep", "seconds"),
        "lifecycle.preStop.sleep is missing",
    ),
    "an end that comes too early": (
        put(pod, 5, "terminationGracePeriodSeconds"),
        "terminationGracePeriodSeconds must be above",
    ),
    "an end without any grace": (
        put(pod, 0, "terminationGracePeriodSeconds"),
        "terminationGracePeriodSeconds must be above",
    ),
    "an end that Kubernetes sets too early": (
        both(drop(pod, "terminationGracePeriodSeconds"), setting("SERVE_GRACE_SECONDS", "25")),
        "terminationGracePeriodSeconds must be above 33 s: preStop, draining",
    ),
    "a grace that is longer than the end": (
        setting("SERVE_GRACE_SECONDS", "9000"),
        "terminationGracePeriodSeconds must be above 90",
    ),
    "a grace that is not a number": (
        setting("SERVE_GRACE_SECONDS", "20s"),
        ": SERVE_GRACE_SECONDS: Input should be a valid int",
    ),
    "a setting that the server does not know": (
        setting("SERVE_MAXROWS", "3"),
        "the server has no setting SERVE_MAXROWS; did you mean SERVE_MAX_ROWS?",
    ),
    "a setting without the prefix's last letter": (
        setting("SERV_MAX_ROWS", "3"),
        "the server has no setting SERV_MAX_ROWS; did you mean SERVE_MAX_ROWS?",
    ),
    "a setting that is like no other": (setting("SERVE_X", "3"), "the server has no setting SERVE_X"),
    "a setting that the server refuses": (
        setting("SERVE_LOG_LEVEL", "verbose"),
        "SERVE_LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error', not 'verbose'",
    ),
    "a variable that the server refuses": (
        append(server, {"name": "SERVE_MAX_ROWS", "value": "0"}, "env"),
        "Deployment/loan-offers: SERVE_MAX_ROWS: Input should be greater than or equal to 1, not '0'",
    ),
    "a key in git": (
        setting("SERVE_API_KEY", "open-sesame"),
        "SERVE_API_KEY is a secret and must not be in git",
    ),
    "a rollout that takes good pods away": (
        put(of("Deployment"), 1, "spec", "strategy", "rollingUpdate", "maxUnavailable"),
        "strategy.rollingUpdate.maxUnavailable 1 must be 0: good pods stay until new ones serve",
    ),
    "a rollout that recreates": (
        put(of("Deployment"), {"type": "Recreate"}, "spec", "strategy"),
        "rollingUpdate.maxUnavailable must be 0",
    ),
    "a rollout without a deadline": (
        drop(of("Deployment"), "spec", "progressDeadlineSeconds"),
        "progressDeadlineSeconds is missing",
    ),
    "an autoscaler upside down": (put(SCALER, 99, "spec", "minReplicas"), "minReplicas 99 is above maxReplicas"),
    "an autoscaler of nothing": (
        put(SCALER, "gone", "spec", "scaleTargetRef", "name"),
        "there is no Deployment 'gone'",
    ),
    "an autoscaler of another kind": (
        put(SCALER, "StatefulSet", "spec", "scaleTargetRef", "kind"),
        "there is no Deployment ",
    ),
    "two who set the number of pods": (put(of("Deployment"), 3, "spec", "replicas"), "replicas must not be set"),
    "an autoscaler that measures what nobody requests": (
        put(metric, "ephemeral-storage", "resource", "name"),
        "it measures ephemeral-storage against the request, and container 'server' requests none",
    ),
    "an autoscaler that wants too much": (
        put(metric, 0, "resource", "target", "averageUtilization"),
        "averageUtilization must be a share of the request in per cent, not 0",
    ),
    "a budget that keeps every pod": (put(BUDGET, 0, "spec", "maxUnavailable"), "it never lets a pod go"),
    "a budget that keeps all per cent": (kept("100%"), "it never lets a pod go"),
    "a budget that keeps most per cent": (kept("90%"), "it never lets a pod go"),
    "a budget that says both": (put(BUDGET, 0, "spec", "minAvailable"), "it must have either"),
    "a budget that says neither": (drop(BUDGET, "spec", "maxUnavailable"), "it must have either"),
    "a budget that keeps what an autoscaler keeps": (
        lambda documents: kept(SCALER(documents)["spec"]["minReplicas"])(documents),
        "it never lets a pod go",
    ),
    "a budget that keeps all replicas": (both(fixed, kept(3)), "it never lets a pod go"),
    "a job that starts again": (
        put(of("Job"), "Always", "spec", "template", "spec", "restartPolicy"),
        "Job/added-job: template.spec.restartPolicy 'Always' must be Never or OnFailure",
    ),
    "a job that stays": (drop(of("Job"), "spec", "ttlSecondsAfterFinished"), "ttlSecondsAfterFinished is missing"),
    "a job that hangs": (
        drop(of("CronJob"), "spec", "jobTemplate", "spec", "activeDeadlineSeconds"),
        "CronJob/added-cronjob: jobTemplate.spec.activeDeadlineSeconds is missing",
    ),
    "a cron job that overlaps": (
        put(of("CronJob"), "Allow", "spec", "concurrencyPolicy"),
        "concurrencyPolicy 'Allow' must be Forbid",
    ),
    "a cron job at no time": (put(of("CronJob"), "5 4 * *", "spec", "schedule"), "schedule '5 4 * *' must have five"),
}


@pytest.mark.parametrize(("mutate", "expected"), CASES.values(), ids=CASES)
def test_one_defect_gives_just_its_own_message(
    mutate: Mutation, expected: Expected, whole: Documents, problems_of: Problems
) -> None:
    mutate(whole)
    assert_just(problems_of(whole), expected)


def test_a_defect_of_the_configuration_file_is_not_one_of_the_manifests(
    whole: Documents, problems_of: Problems
) -> None:
    Path("config.toml").write_text('[serve]\nport = "none"\n')
    assert problems_of(whole) == []

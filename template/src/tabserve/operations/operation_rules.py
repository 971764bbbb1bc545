"""Rules for what runs: settings, stopping, rollouts, scaling, jobs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabserve.operations.manifests import Document, Manifests, Pod, at, label, name, quantity, settings_of

SCHEDULE = re.compile(r"[\d*?/,A-Za-z-]+( [\d*?/,A-Za-z-]+){4}|@(yearly|annually|monthly|weekly|daily|midnight|hourly)")
UNLIMITED = 1_000.0


# --- servers


def configuration(manifests: Manifests) -> Iterator[str]:
    """Values of ConfigMaps are text."""
    for document in manifests.of("ConfigMap"):
        for key, value in (document.get("data") or {}).items():
            if not isinstance(value, str):
                yield f"{label(document)}: the value of {key!r} must be text: put it in quotes"


def servers(manifests: Manifests) -> Iterator[str]:
    """Port, threads and time to stop agree with the settings in the ConfigMap."""
    for pod in manifests.pods:
        if pod.kind == "Deployment":
            for container in pod.spec.get("containers") or ():
                settings = settings_of(manifests, container)
                found = (*_port(container, settings), *_threads(container, settings), *_stop(pod, container, settings))
                yield from (f"{pod.owner}: {problem}" for problem in found)


def _port(container: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[str]:
    numbers = [str(port.get("containerPort")) for port in container.get("ports") or ()]
    if "SERVE_PORT" in settings and str(settings["SERVE_PORT"]) not in numbers:
        yield f"the server listens on SERVE_PORT {settings['SERVE_PORT']}, the container on {', '.join(numbers)}"


def _threads(container: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[str]:
    cores = quantity(at(container, "resources", "limits", "cpu")) or UNLIMITED
    threads = str(settings.get("SERVE_THREADS", 1))
    if not threads.isdecimal() or int(threads) > max(cores, 1):
        yield f"SERVE_THREADS {threads} is more than the {cores:g} cores that the CPU limit allows"


def _stop(pod: Pod, container: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[str]:
    if not container.get("ports"):
        return  # a sidecar
    wait = at(container, "lifecycle", "preStop", "sleep", "seconds")
    if not at(container, "lifecycle", "preStop") or wait == 0:
        yield "lifecycle.preStop.sleep is missing: requests would reach a server that is gone"
    grace = str(settings.get("SERVE_GRACE_SECONDS", 20))
    if not grace.isdecimal():
        yield f"SERVE_GRACE_SECONDS must be a number of seconds, not {grace}"
        return
    needed = int(grace) + (wait or 0)
    given = pod.spec.get("terminationGracePeriodSeconds")
    if (30 if given is None else given) <= needed:
        yield f"terminationGracePeriodSeconds must be above preStop and SERVE_GRACE_SECONDS together, {needed} s"


def rollouts(manifests: Manifests) -> Iterator[str]:
    """A bad release never takes good pods away, and does not hang for ever."""
    for deployment in manifests.of("Deployment"):
        spec = deployment.get("spec") or {}
        if at(spec, "strategy", "rollingUpdate", "maxUnavailable") not in (0, "0%"):
            yield f"{label(deployment)}: rollingUpdate.maxUnavailable must be 0: good pods stay until new ones serve"
        if not spec.get("progressDeadlineSeconds"):
            yield f"{label(deployment)}: progressDeadlineSeconds is missing: a bad release would wait for ten minutes"


# --- scaling


def autoscalers(manifests: Manifests) -> Iterator[str]:
    """Autoscalers have a target that they can measure, and that does not set its own number of pods."""
    deployments = {name(document): document for document in manifests.of("Deployment")}
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        spec = scaler.get("spec") or {}
        least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
        if least > most:
            yield f"{label(scaler)}: minReplicas {least} is above maxReplicas {most}"
        target = deployments.get(str(at(spec, "scaleTargetRef", "name")))
        if target is None or at(spec, "scaleTargetRef", "kind") != "Deployment":
            yield f"{label(scaler)}: there is no Deployment {at(spec, 'scaleTargetRef', 'name')!r}"
            continue
        if "replicas" in (target.get("spec") or {}):
            yield f"{label(target)}: replicas must not be set where an autoscaler sets them: every deploy would undo it"
        for metric in spec.get("metrics") or ():
            yield from (f"{label(scaler)}: {problem}" for problem in _measurable(metric, target))


def _measurable(metric: Mapping[str, Any], deployment: Document) -> Iterator[str]:
    if metric.get("type") != "Resource":
        return
    measured = at(metric, "resource", "name")
    target = at(metric, "resource", "target", "averageUtilization")
    containers = at(deployment, "spec", "template", "spec", "containers") or []
    for container in containers:
        if not at(container, "resources", "requests", str(measured)):
            yield f"it measures {measured} against the request, and container {container.get('name')!r} requests none"
    if at(metric, "resource", "target", "type") == "Utilization" and (not isinstance(target, int) or target < 1):
        yield f"averageUtilization must be a share of the request in per cent, not {target}"


def budgets(manifests: Manifests) -> Iterator[str]:
    """A disruption budget lets at least one pod go, or no node could ever be drained."""
    least = min((at(s, "spec", "minReplicas") or 1 for s in manifests.of("HorizontalPodAutoscaler")), default=0)
    least = least or min((at(d, "spec", "replicas") or 1 for d in manifests.of("Deployment")), default=1)
    for budget in manifests.of("PodDisruptionBudget"):
        spec = budget.get("spec") or {}
        kept, gone = spec.get("minAvailable"), spec.get("maxUnavailable")
        if gone in (0, "0%") or (kept is not None and _share(kept, least) >= least):
            yield f"{label(budget)}: it never lets a pod go, so no node can be drained; use maxUnavailable: 1"
        if (gone is None) == (kept is None):
            yield f"{label(budget)}: it must say one of maxUnavailable and minAvailable"


def _share(amount: Any, whole: int) -> int:
    """A number of pods, or a percentage of them, rounded up as Kubernetes does."""
    text = str(amount)
    return math.ceil(int(text[:-1]) * whole / 100) if re.fullmatch(r"\d+%", text) else int(amount)


def jobs(manifests: Manifests) -> Iterator[str]:
    """Jobs end, are cleaned up, and do not overlap."""
    for document in [*manifests.of("Job"), *manifests.of("CronJob")]:
        spec = document.get("spec") or {}
        job = at(spec, "jobTemplate", "spec") or spec
        if at(job, "template", "spec", "restartPolicy") not in ("Never", "OnFailure"):
            yield f"{label(document)}: restartPolicy must be Never or OnFailure"
        yield from (
            f"{label(document)}: {key} is missing: {why}"
            for key, why in {
                "ttlSecondsAfterFinished": "finished jobs would stay for ever",
                "activeDeadlineSeconds": "a job that hangs would run for ever",
            }.items()
            if key not in job
        )
        if document.get("kind") == "CronJob" and spec.get("concurrencyPolicy") != "Forbid":
            yield f"{label(document)}: concurrencyPolicy must be Forbid: two runs would write the same files"
        if document.get("kind") == "CronJob" and not SCHEDULE.fullmatch(str(spec.get("schedule"))):
            yield f"{label(document)}: {spec.get('schedule')!r} is no schedule of five fields"


RULES = (configuration, servers, rollouts, autoscalers, budgets, jobs)


def check(manifests: Manifests) -> Iterator[str]:
    """All rules."""
    for rule in RULES:
        yield from rule(manifests)

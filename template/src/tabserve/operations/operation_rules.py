"""Rules for what runs: settings, stopping, rollouts, jobs, scaling."""

import math
from collections.abc import Iterator, Mapping

from tabserve.errors import UserError, suggestion
from tabserve.operations.manifests import SERVER, Manifests, Pod, at, items, label, quantity, settings_of
from tabserve.operations.pod_rules import PRESENT, Container, Fields, wrong_fields
from tabserve.settings import ServeSettings, load

SETTINGS = {f"SERVE_{field}".upper(): field for field in ServeSettings.model_fields}
SCHEDULE = r"[\d*?/,A-Za-z-]+( +[\d*?/,A-Za-z-]+){4}|@(yearly|annually|monthly|weekly|daily|midnight|hourly)"
JOB: Fields = (
    ("ttlSecondsAfterFinished", PRESENT, "is missing: finished jobs would stay forever"),
    ("activeDeadlineSeconds", PRESENT, "is missing: a job that hangs would run forever"),
    ("template.spec.restartPolicy", "Never|OnFailure", "must be Never or OnFailure"),
)
CRON_JOB: Fields = (
    ("concurrencyPolicy", "Forbid", "must be Forbid: two runs would write the same files"),
    ("schedule", SCHEDULE, "must have five fields, as in 30 2 * * *"),
    *((f"jobTemplate.spec.{path}", pattern, must) for path, pattern, must in JOB),
)
DEPLOYMENT: Fields = (
    ("strategy.rollingUpdate.maxUnavailable", "0%?", "must be 0: good pods stay until new ones serve"),
    ("progressDeadlineSeconds", PRESENT, "is missing: a bad release would wait for ten minutes"),
)


def settings(manifests: Manifests) -> Iterator[str]:
    """The server knows each setting and accepts its value; no secret is in git."""
    given = [(label(document), document.get("data") or {}) for document in manifests.of("ConfigMap")]
    for pod in manifests.pods:
        given += [(pod.owner, {item["name"]: item.get("value")}) for c in pod.containers for item in items(c, "env")]
    for where, values in given:
        for key, value in values.items():
            ours = str(key).startswith("SERVE_") or suggestion(str(key), SETTINGS, cutoff=0.9)
            if ours and value is not None and (problem := _setting_problem(key, value)):
                yield f"{where}: {problem}"


def _setting_problem(key: str, value: str) -> str:
    if key == "SERVE_API_KEY":
        return f"{key} is a secret and must not be in git; see secret.example.yaml"
    if key not in SETTINGS:
        return f"the server has no setting {key}{suggestion(key, SETTINGS)}"
    try:
        load(ServeSettings, **{SETTINGS[key]: value})
    except UserError as error:
        option, _, message = str(error).partition(": ")
        return f"{key}: {message}" if option == f"--{SETTINGS[key].replace('_', '-')}" else ""  # else config.toml's
    return ""


def servers(manifests: Manifests) -> Iterator[str]:
    """Port, threads and time to stop agree with the settings."""
    for pod in (pod for pod in manifests.pods if pod.kind == "Deployment"):
        for container in (each for each in items(pod.spec, "containers") if each["name"] == SERVER):
            found = _server_problems(pod, container, settings_of(manifests, container))
            yield from (f"{pod.owner}: {problem}" for problem in found)


def _server_problems(pod: Pod, container: Container, settings: Mapping[str, str]) -> Iterator[str]:
    ports = [str(port["containerPort"]) for port in items(container, "ports")]
    if (port := settings.get("SERVE_PORT")) and port not in ports:
        yield f"the server listens on SERVE_PORT {port}, the container on {', '.join(ports)}"
    cores, threads = quantity(at(container, "resources", "limits", "cpu")), _number(settings, "SERVE_THREADS")
    if cores is not None and threads > max(cores, 1):
        yield f"SERVE_THREADS {threads} is more than the {cores:g} cores that the CPU limit allows"
    wait = at(container, "lifecycle", "preStop", "sleep", "seconds")
    if not at(container, "lifecycle", "preStop") or wait == 0:
        yield "lifecycle.preStop.sleep is missing: requests would reach a server that is gone"
    given = pod.spec.get("terminationGracePeriodSeconds")
    needed = sum(_number(settings, f"SERVE_{part}_SECONDS") for part in ("DRAIN", "GRACE")) + (wait or 0)
    if (30 if given is None else given) <= needed:
        yield f"terminationGracePeriodSeconds must be above {needed} s: preStop, draining and SERVE_GRACE_SECONDS"


def _number(settings: Mapping[str, str], key: str) -> int:
    text = settings.get(key) or ""
    return int(text if text.isdecimal() else ServeSettings.model_fields[SETTINGS[key]].default)


def specs(manifests: Manifests) -> Iterator[str]:
    """A bad release ends, and keeps good pods; jobs end and do not overlap."""
    for kind, fields in (("Deployment", DEPLOYMENT), ("Job", JOB), ("CronJob", CRON_JOB)):
        for document in manifests.of(kind):
            yield from (f"{label(document)}: {problem}" for problem in wrong_fields(document.get("spec"), fields))


def autoscalers(manifests: Manifests) -> Iterator[str]:
    """Autoscalers can measure their Deployment, and it sets no number of pods."""
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        spec = scaler.get("spec") or {}
        reference = at(scaler, "spec", "scaleTargetRef") or {}
        least, most = spec.get("minReplicas") or 1, spec.get("maxReplicas") or 0
        if least > most:
            yield f"{label(scaler)}: minReplicas {least} is above maxReplicas {most}"
        target = manifests.named("Deployment").get(reference.get("name", ""))
        if target is None or reference["kind"] != "Deployment":
            yield f"{label(scaler)}: there is no Deployment {reference.get('name')!r}"
            continue
        if at(target, "spec", "replicas") is not None:
            yield f"{label(target)}: replicas must not be set where an autoscaler sets them: every deploy would undo it"
        for metric in items(spec, "metrics"):
            yield from (f"{label(scaler)}: {problem}" for problem in _metric_problems(metric, target))


def _metric_problems(metric: Container, deployment: Container) -> Iterator[str]:
    measured, target = (at(metric, "resource", key) for key in ("name", "target"))
    for container in items(deployment, "spec", "template", "spec", "containers") if measured else ():
        if not at(container, "resources", "requests", measured):
            yield f"it measures {measured} against the request, and container {container['name']!r} requests none"
    if at(target, "type") == "Utilization" and (target.get("averageUtilization") or 0) < 1:
        yield f"averageUtilization must be a share of the request in per cent, not {target.get('averageUtilization')}"


def budgets(manifests: Manifests) -> Iterator[str]:
    """A disruption budget lets a pod go, or no node could ever be drained."""
    scaled = [at(each, "spec", "minReplicas") or 1 for each in manifests.of("HorizontalPodAutoscaler")]
    fixed = [at(each, "spec", "replicas") or 1 for each in manifests.of("Deployment")]
    least = min(scaled or fixed, default=1)
    for budget in manifests.of("PodDisruptionBudget"):
        kept, gone = (at(budget, "spec", key) for key in ("minAvailable", "maxUnavailable"))
        if gone in (0, "0%") or (kept is not None and _share(kept, least) >= least):
            yield f"{label(budget)}: it never lets a pod go, so no node can be drained; use maxUnavailable: 1"
        if (gone is None) == (kept is None):
            yield f"{label(budget)}: it must have either maxUnavailable or minAvailable"


def _share(amount: int | str, whole: int) -> int:
    """A number of pods; a percentage is rounded up, as Kubernetes does."""
    share = str(amount).removesuffix("%")
    return amount if isinstance(amount, int) else math.ceil(int(share) * whole / 100) if share.isdecimal() else 0


RULES = (settings, servers, specs, autoscalers, budgets)

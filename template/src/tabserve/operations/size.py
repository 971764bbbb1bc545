"""Load the image at its limits, and propose what to request, the limits and the autoscaler's target.

    make size [RPS=200] [WRITE=1] [ARGS="--seconds 4 --cpus 500m --memory 256Mi"]

It takes about a minute. `--write` puts the proposal into k8s/deployment.yaml and k8s/autoscale.yaml. What is proposed
holds for this machine's cores: measure on one like those of the cluster.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tabserve.errors import UserError, say
from tabserve.operations import container, in_place, sizing
from tabserve.operations.container import Server
from tabserve.operations.in_place import Nodes, Place
from tabserve.operations.manifests import SERVER, Document, Manifests, at, items, quantity, read, settings_of
from tabserve.operations.sizing import Measured, Proposal, Sizes, Stage, per_second, texts
from tabserve.outputs import write_atomically

K8S = Path("k8s")
DEPLOYMENT, AUTOSCALE = K8S / "deployment.yaml", K8S / "autoscale.yaml"
SIZES = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128)
STEADY_CONNECTIONS = 128  # what many clients hold open
SECONDS = 4.0  # of each load
LISTS, REFUSED = 64, 4  # connections that send whole lists, and longer ones than there may be
MOST_BYTES = 2**26  # of a request
ENOUGH, LONGEST = 200, 5  # requests of a steady load, and how many times longer it may take to get them
ROW = "{:26}  {:>10}  {:>8}  {:>8}  {:>6}  {:>9}  {:>6}  {:>6}"
HEADER = ROW.format("load", "requests/s", "p50 ms", "p99 ms", "cores", "throttled", "503", "failed")


class Plan(NamedTuple):
    """What is loaded, and what the manifests say now."""

    settings: dict[str, str]
    port: int
    threads: int
    limits: Sizes  # what it is loaded at
    now: Sizes
    memory_share: int | None  # what an autoscaler by memory aims at


def run(
    image: str,
    write: bool = False,
    rps: float | None = None,
    seconds: float = SECONDS,
    cpus: float | None = None,
    memory: float | None = None,
) -> None:
    """Measure, propose, and write if asked to.

    Args:
        rps: requests/s that one pod should serve; None for as many as it can.
        seconds: of each load.
        cpus: limit to load it at, in cores; None for that of the manifests.
        memory: the same, in bytes.

    Raises:
        UserError: it cannot be measured, one pod does not carry the load, or a file cannot be written.
    """
    plan = plan_of(cpus, memory)
    proposal = measure_and_propose(image, plan, seconds, rps)
    report(plan, proposal)
    finish(plan.now, proposal.sizes, write)


def amount(text: str) -> float:
    """A quantity above 0, or `UserError`."""
    found = quantity(text)
    if not found or not math.isfinite(found):
        raise UserError(f"{text!r} is not a valid amount above 0: write 200, 0.5, 250m or 256Mi")
    return found


# --- what the manifests say


def plan_of(cpus: float | None, memory: float | None) -> Plan:
    """What to load, and what the manifests say now; `UserError` where they do not say it."""
    documents, problems = read(sorted(K8S.glob("*.yaml")))
    if problems:
        raise UserError(problems[0])
    pods = [pod.spec for pod in Manifests(read([DEPLOYMENT])[0]).pods if pod.kind == "Deployment"]
    servers = [each for pod in pods for each in items(pod, "containers") if each["name"] == SERVER]
    if len(servers) != 1:
        raise UserError(f"{DEPLOYMENT}: there must be one Deployment with a container {SERVER!r}, not {len(servers)}")
    settings = settings_of(Manifests(documents), servers[0])
    text = settings.get("SERVE_THREADS", "1")
    threads = int(text) if text.isdecimal() else 1
    if cpus and threads > max(cpus, 1):
        raise UserError(f"a limit of {cpus:g} CPU is below SERVE_THREADS {threads} in the ConfigMap: lower that first")
    targets = _targets()
    now = _sizes(servers[0], targets.get("cpu"))
    limits = replace(now, cpu_limit=cpus or now.cpu_limit, memory=memory or now.memory)
    port = int(settings.get("SERVE_PORT") or servers[0]["ports"][0]["containerPort"])
    return Plan(settings, port, threads, limits, now, targets.get("memory"))


def _sizes(server: Document, share: int | None) -> Sizes:
    found: dict[str, float | None] = {}
    for size in SIZES:
        text = at(server, "resources", *size.split("."))
        found[size] = quantity(text) or None
        if found[size] is None and (text is not None or size != "limits.cpu"):
            wrong = (
                f"of the container {SERVER!r} is missing"
                if text is None
                else f"{text!r} is not a valid quantity above 0"
            )
            raise UserError(f"{DEPLOYMENT}: {size} {wrong}")
    return Sizes(found["requests.cpu"] or 0.0, found["limits.cpu"], found["limits.memory"] or 0.0, share)


def _targets() -> dict[str, int]:
    """What the autoscaler aims at, in per cent of the request, by what it measures; none without an autoscaler."""
    metrics = [metric for each in read([AUTOSCALE])[0] for metric in items(each, "spec", "metrics")]
    shares = {at(each, "resource", "name"): at(each, "resource", "target", "averageUtilization") for each in metrics}
    found = {name: round(amount(str(share))) for name, share in shares.items() if share}
    if AUTOSCALE.exists() and not found:
        raise UserError(f"{AUTOSCALE}: no resource metric has an averageUtilization")
    return found


# --- measuring


def measure_and_propose(image: str, plan: Plan, seconds: float, rps: float | None) -> Proposal:
    """Load the image, print what it did, and propose; `UserError` where one pod does not carry the target."""
    limits = (plan.limits.cpu_limit, plan.limits.memory)
    with container.running(image, plan.settings, limits, plan.port) as server:
        cpu, memory = texts(plan.limits)["limits.cpu"], sizing.memory_text(plan.limits.memory)
        say(f"{image} with {cpu or 'unlimited'} CPU, {memory}: ready after {server.ready:.1f} s\n")
        say(HEADER)
        body, rows = example(server)
        loaded(server, "", body, 4, seconds / 2)  # what runs for the first time is slow
        saturating = saturate(server, body, seconds)
        wanted = [] if rps is None else [rps, rps * sizing.ROOM]
        if wanted and wanted[-1] > sizing.best(saturating).served:
            raise UserError(too_much(wanted[0], f"it saturates at {per_second(sizing.best(saturating).served)}"))
        steady = steadily(server, body, seconds, sizing.best(saturating).served, wanted)
        lists = whole_lists(server, body, rows, seconds)
        measured = Measured(saturating, steady, lists, server.most, plan.limits, plan.threads)
    return chosen(measured, rps)


def chosen(measured: Measured, rps: float | None) -> Proposal:
    """The proposal for a target, or for the highest load that is served well."""
    if rps is None:
        least = min(measured.steady, key=lambda each: each.served)
        return sizing.propose(measured, sizing.highest_good(measured.steady) or least)
    peak = measured.steady[-1]
    if why := sizing.trouble(peak, sizing.calmest(measured.steady)):
        raise UserError(too_much(rps, why))
    return sizing.propose(measured, peak, rps)


def too_much(rps: float, why: str) -> str:
    """What to say of a load that one pod does not carry."""
    more = f"{sizing.ROOM - 1:.0%} more while new pods start"
    return f"one pod cannot handle {per_second(rps)} requests/s and {more}: {why}"


def example(server: Server) -> tuple[Any, int]:
    """A row that the model answers, and how many there may be in a request; `UserError` where the API has none."""
    answer = server.ask("/openapi.json", timeout=30)
    try:
        body = json.loads(answer["body"])["paths"]["/predict"]["post"]["requestBody"]
        request = body["content"]["application/json"]
        found = request["examples"]["one row"]["value"]
        most = max((int(each.get("maxItems", 1)) for each in request["schema"]["anyOf"]), default=1)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"/openapi.json returned {answer['status']} and no example row") from None
    if (answer := server.ask("/predict", body=json.dumps(found), timeout=60))["status"] != 200:
        detail = container.field_of(answer["body"], "detail")
        raise UserError(f"/predict returned {answer['status']} for the example row: {detail}")
    return found, most


def saturate(server: Server, body: Any, seconds: float) -> list[Stage]:
    """More and more connections, each of which asks as soon as it is answered."""
    stages: list[Stage] = []
    for count in CONNECTIONS:
        stages.append(shown(loaded(server, f"{count} connection{'s' * (count > 1)}", body, count, seconds)))
        if sizing.saturated(stages):
            break
    if not sizing.best(stages).served:
        raise UserError("the server answered no request; see the table")
    return stages


def steadily(server: Server, body: Any, seconds: float, most: float, wanted: Sequence[float]) -> list[Stage]:
    """Requests at a rate: shares of what is possible, or little and what is wanted."""
    stages: list[Stage] = []

    def load(name: str, rate: float) -> None:
        long = min(max(seconds, ENOUGH / rate), LONGEST * seconds)
        stages.append(shown(loaded(server, name, body, STEADY_CONNECTIONS, long, rate)))

    for share in (*sizing.SHARES, *sizing.LOWER)[: 1 if wanted else None]:
        if share in sizing.SHARES or not sizing.highest_good(stages):
            load(f"{share:.0%} of saturation", share * most)
    for rate in wanted:
        load(f"{per_second(rate)} requests/s", rate)
    return stages


def whole_lists(server: Server, body: Any, most: int, seconds: float) -> Stage:
    """Lists as long as they may be: what takes most memory."""
    rows = most
    while rows > 1 and server.ask("/predict", body=json.dumps([body] * rows), timeout=60)["status"] == 413:
        rows //= 2
    found = shown(loaded(server, f"{LISTS} x lists of {rows:,} rows", [body] * rows, LISTS, seconds))
    long = longest(server, body, rows)
    if long > rows:
        shown(loaded(server, f"{REFUSED} x {long:,} rows, rejected", [body] * long, REFUSED, seconds))
    return found


def longest(server: Server, body: Any, rows: int) -> int:
    """The rows of a list that the server still reads, though it refuses them: more are too many bytes."""
    size = len(json.dumps(body)) + 2
    while 2 * rows * size < MOST_BYTES:
        if server.ask("/predict", body=json.dumps([body] * 2 * rows), timeout=60)["status"] == 413:
            break
        rows *= 2
    return rows


def loaded(server: Server, name: str, body: Any, connections: int, seconds: float, rate: float = 0.0) -> Stage:
    """One load."""
    before = server.use()
    found = server.ask("/predict", body=json.dumps(body), connections=connections, seconds=seconds, rate=rate)
    after = server.use()
    cores = (after.cpu - before.cpu) / found["seconds"]
    throttled = (after.throttled - before.throttled) / max(after.periods - before.periods, 1)
    statuses = found.pop("statuses")
    served, refused = statuses.pop("200", 0) / found.pop("seconds"), statuses.pop("503", 0)
    failed = sum(statuses.values())
    return Stage(name, served, cores=cores, throttled=throttled, refused=refused, failed=failed, **found)


# --- telling


def shown(stage: Stage) -> Stage:
    """Print a stage."""
    times = (f"{1000 * seconds:.1f}" for seconds in (stage.p50, stage.p99))
    use = (f"{stage.cores:.2f}", f"{stage.throttled:.0%}")
    say(ROW.format(stage.name, per_second(stage.served), *times, *use, stage.refused, stage.failed))
    return stage


def report(plan: Plan, proposal: Proposal) -> None:
    """Print the proposal beside what is there."""
    say(
        f"\none pod: {per_second(proposal.target)} requests/s, up to {per_second(proposal.peak)} while new pods start\n"
    )
    say(f"{'':26}  {'now':>8}  {'proposed':>8}  because")
    now, new = texts(plan.now), texts(proposal.sizes)
    for label, reason in proposal.reasons.items():
        if now[label] is not None:
            say(f"{label:26}  {now[label]:>8}  {new[label]:>8}  {reason}")
    for note in proposal.notes:
        say(f"note: {note}")
    if plan.memory_share is not None:  # a model's memory hardly depends on the load
        peak = round(100 / sizing.SPARE_MEMORY)
        say(
            f"note: the autoscaler's target is {plan.memory_share}% of memory, and the peak is {peak}% of what is "
            f"proposed: it would {'scale to maxReplicas' if peak >= plan.memory_share else 'hardly ever add a pod'}"
        )
    say()


# --- writing


def finish(now: Sizes, new: Sizes, write: bool) -> None:
    """Write, or say how; `UserError` where a file is not laid out as expected, or cannot be written: then none is."""
    before, after = texts(now), texts(replace(new, share=now.share and new.share))
    if before == after:
        say("ok  k8s/ already has these values")
    elif not write:
        say("nothing is written; with WRITE=1, `make size` measures again and writes the new proposal to k8s/")
    else:
        write_atomically(written(after), writer="")
        changes = [f"{label} {before[label]} -> {after[label]}" for label in after if before[label] != after[label]]
        say(f"ok  written: {', '.join(changes)}; see `git diff k8s`, then run `make check-k8s deploy`")


def written(new: Mapping[str, str | None]) -> dict[Path, bytes]:
    """The files with new sizes, by label."""
    cpu, limit, memory, share = new.values()
    values = dict(zip(SIZES, (cpu, memory, limit, memory), strict=True))
    done = {DEPLOYMENT: _edited(DEPLOYMENT, _places_of_sizes, values)}
    return done | ({AUTOSCALE: _edited(AUTOSCALE, _places_of_targets, {"cpu": share})} if share else {})


def _edited(path: Path, places_of: Callable[[Nodes], Mapping[str, Place]], values: Mapping[str, str | None]) -> bytes:
    text = path.read_bytes().decode()  # with its own line ends
    places = places_of(in_place.scalars(text))
    try:
        return in_place.replaced(text, {places[name]: value for name, value in values.items() if value}).encode()
    except UserError as error:
        raise UserError(f"{path}: {error}; nothing is written") from None


def _places_of_sizes(nodes: Nodes) -> dict[str, Place]:
    names = [place for place, node in nodes.items() if node.value == SERVER and place[-1] == "name"]
    server = next(place[:-1] for place in names if place[-3] == "containers")
    return {size: (*server, "resources", *size.split(".")) for size in SIZES}


def _places_of_targets(nodes: Nodes) -> dict[str, Place]:
    resources = [place for place in nodes if place[-2:] == ("resource", "name")]
    return {nodes[place].value: (*place[:-1], "target", "averageUtilization") for place in resources}

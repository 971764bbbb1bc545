"""Load the image at its limits, and propose what to request, the limits and the autoscaler's target.

    make size [RPS=200] [WRITE=1] [ARGS="--seconds 4 --cpus 500m --memory 256Mi"]

It takes about a minute. `--write` puts the proposal into k8s/deployment.yaml and k8s/autoscale.yaml. What is proposed
holds for this machine's cores: measure on one like those of the cluster.
"""

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabserve.errors import UserError
from tabserve.files import write_atomically
from tabserve.operations import container, in_place, sizing
from tabserve.operations.container import Server
from tabserve.operations.in_place import Place
from tabserve.operations.manifests import SERVER, Manifests, items, quantity, read, settings_of
from tabserve.operations.sizing import Measured, Proposal, Sizes, Stage, per_second, texts

K8S = Path("k8s")
DEPLOYMENT, AUTOSCALE = K8S / "deployment.yaml", K8S / "autoscale.yaml"
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128)
STEADY_CONNECTIONS = 128  # what many clients hold open
SECONDS = 4.0  # of each load
LISTS, REFUSED = 64, 4  # connections that send whole lists, and longer ones than there may be
MOST_BYTES = 2**26  # of a request
ENOUGH, LONGEST = 200, 5  # requests of a steady load, and how many times longer it may take to get them
ROW = "{:26}  {:>10}  {:>8}  {:>8}  {:>6}  {:>9}  {:>6}  {:>6}"
HEADER = ROW.format("load", "requests/s", "p50 ms", "p99 ms", "cores", "throttled", "503", "failed")


@dataclass(frozen=True)
class Plan:
    """What is loaded, and what the manifests say now."""

    options: list[str]  # of `docker run`
    port: int
    threads: int
    limits: Sizes  # what it is loaded at
    now: Sizes
    memory_share: int | None = None  # what an autoscaler by memory aims at


def main(arguments: Sequence[str]) -> int:
    """Measure, propose, and write if asked to; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that containers are taken away
    try:
        parsed = parse(arguments)
        plan = plan_of(parsed.cpus, parsed.memory)
        proposal = measure_and_propose(parsed.image, plan, parsed.seconds, parsed.rps)
        report(plan, proposal)
        finish(plan.now, proposal.sizes, parsed.write)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is written, and the containers are taken away", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--write", action="store_true", help="put the proposal into k8s/")
    parser.add_argument("--rps", type=amount, help="that one pod should carry; default: as many as it can")
    parser.add_argument("--seconds", type=amount, default=SECONDS, help="of each load")
    for limit in ("--cpus", "--memory"):
        parser.add_argument(limit, type=amount, help="limit to load it at; default: as in k8s/deployment.yaml")
    return parser.parse_args(arguments)


def amount(text: str) -> float:
    """A positive quantity.

    Raises:
        UserError: it is not valid.
    """
    found = quantity(text)
    if not found or not math.isfinite(found):
        raise UserError(f"{text!r} is not a valid amount above 0: write 200, 0.5, 250m or 256Mi")
    return found


# --- what the manifests say


def plan_of(cpus: float | None, memory: float | None) -> Plan:
    """What to load, and what the manifests say now.

    Raises:
        UserError: the manifests cannot be read, lack a value, or there are more threads than cores.
    """
    documents, problems = read(sorted(K8S.glob("*.yaml")))
    if problems:
        raise UserError(problems[0])
    pods = [pod.spec for pod in Manifests(documents).pods if pod.kind == "Deployment"]
    servers = [(pod, each) for pod in pods for each in items(pod, "containers") if each["name"] == SERVER]
    if len(servers) != 1:
        raise UserError(f"{DEPLOYMENT}: there must be one Deployment with a container {SERVER!r}, not {len(servers)}")
    now, memory_share = current()
    pod, server = servers[0]
    settings = settings_of(Manifests(documents), server)
    text = settings.get("SERVE_THREADS", "1")
    threads = int(text) if text.isdecimal() else 1
    if cpus and threads > max(cpus, 1):
        raise UserError(f"{cpus:g} cores are less than SERVE_THREADS {threads} in the ConfigMap: lower it first")
    limits = replace(now, cpu_limit=cpus or now.cpu_limit, memory=memory or now.memory)
    port = int(settings.get("SERVE_PORT") or server["ports"][0]["containerPort"])
    return Plan(container.run_options(pod, server, settings), port, threads, limits, now, memory_share)


def current() -> tuple[Sizes, int | None]:
    """The sizes in the manifests, and what an autoscaler by memory aims at.

    Raises:
        UserError: one is missing.
    """
    sizes = sizes_in(text_of(DEPLOYMENT))
    for name in ("requests.cpu", "requests.memory", "limits.memory"):
        if name not in sizes:
            raise UserError(f"{DEPLOYMENT}: {name} of the container {SERVER!r} is missing")
    numbers = {name: number(DEPLOYMENT, name, text) for name, (_, text) in sizes.items()}
    values = numbers["requests.cpu"], numbers.get("limits.cpu"), numbers["limits.memory"]
    if not AUTOSCALE.exists():
        return Sizes(*values, None), None
    targets = {name: round(number(AUTOSCALE, name, text)) for name, (_, text) in targets_in(text_of(AUTOSCALE)).items()}
    if not targets:
        raise UserError(f"{AUTOSCALE}: no metric of a resource has an averageUtilization")
    return Sizes(*values, targets.get("cpu")), targets.get("memory")


def sizes_in(text: str) -> dict[str, tuple[Place, str]]:
    """The places and values of the server's resources.

    Raises:
        UserError: there is no server, or more than one.
    """
    nodes = in_place.scalars(text)
    names = [place for place, node in nodes.items() if node.value == SERVER and place[-1] == "name"]
    servers = [place[:-1] for place in names if place[-3] == "containers"]
    if len(servers) != 1:
        raise UserError(f"{DEPLOYMENT}: there must be one container {SERVER!r}, not {len(servers)}")
    found = {}
    for size in ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory"):
        place = (*servers[0], "resources", *size.split("."))
        if place in nodes:
            found[size] = (place, nodes[place].value)
    return found


def targets_in(text: str) -> dict[str, tuple[Place, str]]:
    """The places and values of an autoscaler's targets, by what they measure."""
    nodes, found = in_place.scalars(text), {}
    for place, node in nodes.items():
        target = (*place[:-1], "target", "averageUtilization")
        if place[-2:] == ("resource", "name") and target in nodes:
            found[node.value] = (target, nodes[target].value)
    return found


def number(path: Path, name: str, text: str) -> float:
    """A quantity of a file.

    Raises:
        UserError: it is not valid.
    """
    if size := quantity(text):
        return size
    raise UserError(f"{path}: {name} {text!r} is not a valid quantity above 0")


def text_of(path: Path) -> str:
    """A file as it is, with its own line ends."""
    return path.read_bytes().decode()


# --- measuring


def measure_and_propose(image: str, plan: Plan, seconds: float, rps: float | None) -> Proposal:
    """Load the image, print what it did, and propose.

    Raises:
        UserError: it cannot be loaded, or one pod does not carry the target.
    """
    limits = (plan.limits.cpu_limit, plan.limits.memory)
    with container.running(image, plan.options, limits, plan.port) as server:
        cpu, memory = texts(plan.limits)["limits.cpu"], sizing.memory_text(plan.limits.memory)
        print(f"{image} with {cpu or 'no limit of'} CPU, {memory}: ready after {server.ready:.1f} s\n")
        print(HEADER)
        body, rows = example(server)
        loaded(server, "", body, 4, seconds / 2)  # what runs for the first time is slow
        saturating = saturate(server, body, seconds)
        wanted = [] if rps is None else [rps, rps * sizing.ROOM]
        if wanted and wanted[-1] > sizing.best(saturating).served:
            raise UserError(too_much(wanted[0], f"it is saturated at {per_second(sizing.best(saturating).served)}"))
        steady = steadily(server, body, seconds, sizing.best(saturating).served, wanted)
        lists = whole_lists(server, body, rows, seconds)
        measured = Measured(saturating, steady, lists, server.most, plan.limits, plan.threads)
    return chosen(measured, rps)


def chosen(measured: Measured, rps: float | None) -> Proposal:
    """The proposal for a target, or for the highest load that is served well.

    Raises:
        UserError: one pod does not carry the target.
    """
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
    return f"one pod does not carry {per_second(rps)} requests/s and {more}: {why}"


def example(server: Server) -> tuple[Any, int]:
    """A row that the model answers, and how many there may be in a request.

    Raises:
        UserError: the API has none.
    """
    answer = server.ask("/openapi.json", timeout=30)
    try:
        body = json.loads(answer["body"])["paths"]["/predict"]["post"]["requestBody"]
        request = body["content"]["application/json"]
        found = request["examples"]["one row"]["value"]
        most = max((int(each.get("maxItems", 1)) for each in request["schema"]["anyOf"]), default=1)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"/openapi.json answers {answer['status']} and has no example of a row") from None
    if (answer := server.ask("/predict", body=json.dumps(found), timeout=60))["status"] != 200:
        detail = container.field_of(answer["body"], "detail")
        raise UserError(f"/predict answers {answer['status']} to the example: {detail}")
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
        shown(loaded(server, f"{REFUSED} x {long:,} rows, too many", [body] * long, REFUSED, seconds))
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
    return sizing.stage(name, found, cores, throttled)


# --- telling


def shown(stage: Stage) -> Stage:
    """Print a stage."""
    times = (f"{1000 * seconds:.1f}" for seconds in (stage.p50, stage.p99))
    use = (f"{stage.cores:.2f}", f"{stage.throttled:.0%}")
    print(ROW.format(stage.name, per_second(stage.served), *times, *use, stage.refused, stage.failed), flush=True)
    return stage


def report(plan: Plan, proposal: Proposal) -> None:
    """Print the proposal beside what is there."""
    print(
        f"\none pod: {per_second(proposal.target)} requests/s, and {per_second(proposal.peak)} while new pods start\n"
    )
    print(f"{'':26}  {'now':>8}  {'proposed':>8}  because")
    now, new = texts(plan.now), texts(proposal.sizes)
    for label, reason in proposal.reasons.items():
        if now[label] is not None:
            print(f"{label:26}  {now[label]:>8}  {new[label]:>8}  {reason}")
    for note in proposal.notes:
        print(f"note: {note}")
    if plan.memory_share is not None:  # a model's memory hardly depends on the load
        peak = round(100 / sizing.SPARE_MEMORY)
        print(
            f"note: the autoscaler aims at {plan.memory_share} % of memory, and {peak} % of the proposed are used at "
            f"most: it would {'run to its most pods' if peak >= plan.memory_share else 'hardly ever add a pod'}"
        )
    print()


# --- writing


def finish(now: Sizes, new: Sizes, write: bool) -> None:
    """Write, or say how.

    Raises:
        UserError: a file is not laid out as expected, or cannot be written; then none is.
    """
    if now.share is None:
        new = replace(new, share=None)
    before, after = texts(now), texts(new)
    if before == after:
        print("ok  k8s/ says so already")
    elif not write:
        print("nothing is written; with WRITE=1, `make size` measures again and puts what it then proposes into k8s/")
    else:
        write_all(written(new))
        changes = [f"{label} {before[label]} -> {after[label]}" for label in after if before[label] != after[label]]
        print(f"ok  written: {', '.join(changes)}; see `git diff k8s`, then `make check-k8s deploy`")


def written(new: Sizes) -> dict[Path, str]:
    """The files with new sizes.

    Raises:
        UserError: a file is not laid out as expected.
    """
    cpu, limit, memory, share = texts(new).values()
    sizes = {"requests.cpu": cpu, "requests.memory": memory, "limits.cpu": limit, "limits.memory": memory}
    files = {DEPLOYMENT: (sizes_in, sizes), AUTOSCALE: (targets_in, {"cpu": share})}
    done = {}
    for path, (values_in, wanted) in files.items():
        if changed := {name: text for name, text in wanted.items() if text is not None}:
            text = text_of(path)
            places = values_in(text)
            try:
                done[path] = in_place.replaced(text, {places[name][0]: value for name, value in changed.items()})
            except UserError as error:
                raise UserError(f"{path}: {error}; nothing is written") from None
    return done


def write_all(files: dict[Path, str]) -> None:
    """Write all files, or none; they keep their modes, and links stay links."""
    modes = {path: path.stat().st_mode for path in files}
    write_atomically({path.resolve(): text.encode() for path, text in files.items()})
    for path, mode in modes.items():
        path.chmod(mode)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

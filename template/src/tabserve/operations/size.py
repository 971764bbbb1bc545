"""Load the image at its limits, and propose what to request, the limits and the autoscaler's target.

    make size [RPS=200] [WRITE=1] [ARGS="--seconds 4 --cpus 500m --memory 256Mi"]

It takes about a minute. `--write` puts the proposal into k8s/deployment.yaml and k8s/autoscale.yaml. What is proposed
holds for this machine's cores: measure on one like those of the cluster.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tabserve.errors import UserError, one_line
from tabserve.files import write_atomically
from tabserve.operations import container, in_place, sizing
from tabserve.operations.container import Server
from tabserve.operations.in_place import LayoutError, Place
from tabserve.operations.manifests import SERVER, Manifests, at, items, quantity, read, settings_of
from tabserve.operations.sizing import Measured, Proposal, SizeError, Sizes, Stage, per_second

Item = tuple[tuple[str, str], ...]  # keys and values of the wanted item of a list; dots lead to inner keys
Steps = tuple[str | Item, ...]

K8S = Path("k8s")
DEPLOYMENT, AUTOSCALE = K8S / "deployment.yaml", K8S / "autoscale.yaml"
RESOURCES: Steps = ("spec", "template", "spec", "containers", (("name", SERVER),), "resources")
CPU_REQUEST, CPU_LIMIT = (*RESOURCES, "requests", "cpu"), (*RESOURCES, "limits", "cpu")
MEMORY_REQUEST, MEMORY_LIMIT = (*RESOURCES, "requests", "memory"), (*RESOURCES, "limits", "memory")
METRIC: Steps = ("spec", "metrics", (("type", "Resource"), ("resource.name", "cpu")))
SHARE = (*METRIC, "resource", "target", "averageUtilization")
KINDS = {DEPLOYMENT: "Deployment", AUTOSCALE: "HorizontalPodAutoscaler"}
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128)
STEADY_CONNECTIONS = 128  # what many clients hold open
SECONDS = 4.0  # of each load
UNITS = {"rps": "200 or 0.5", "seconds": "4 or 0.5", "cpus": "1, 0.5 or 250m", "memory": "256Mi or 1Gi"}
LISTS, REFUSED = 64, 4  # connections that send whole lists, and longer ones than there may be
MOST_BYTES = 2**26  # of a request
ENOUGH, LONGEST = 200, 5  # requests of a steady load, and how many times longer it may take to get them
HEADER = ("load", "requests/s", "p50 ms", "p99 ms", "cores", "throttled", "503", "failed")
WIDTHS = (26, 10, 8, 8, 6, 9, 6, 6)


@dataclass(frozen=True)
class Plan:
    """What is loaded, and what the manifests say now.

    Attributes:
        options: of `docker run`.
        limits: what it is loaded at.
        now: what the manifests say.
        memory_share: what an autoscaler by memory aims at.
    """

    options: list[str]
    port: int
    threads: int
    limits: Sizes
    now: Sizes
    memory_share: int | None = None


def main(arguments: Sequence[str]) -> int:
    """Measure, propose, and write if asked to; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that containers are taken away
    try:
        parsed = parse(arguments)
        plan = plan_of(parsed.cpus, parsed.memory)
        proposal = measure_and_propose(parsed.image, plan, parsed.seconds, parsed.rps)
        report(plan, proposal)
        finish(plan.now, proposal.sizes, parsed.write, again(parsed))
    except (SizeError, UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is written, and the containers are taken away", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line.

    Raises:
        SizeError: an amount is none.
    """
    parser = argparse.ArgumentParser(description="Load the image at its limits and propose resources.")
    parser.add_argument("image")
    parser.add_argument("--write", action="store_true", help="put the proposal into k8s/")
    parser.add_argument("--rps", metavar="N", help="requests/s that one pod should carry; default: as many as it can")
    parser.add_argument("--seconds", metavar="N", default=f"{SECONDS:g}", help=f"of each load; default: {SECONDS:g}")
    parser.add_argument("--cpus", metavar="N", help="CPU limit to load it at; default: that of k8s/deployment.yaml")
    parser.add_argument("--memory", metavar="N", help="memory limit to load it at; default: that of the same file")
    parsed = parser.parse_args(arguments)
    for name, units in UNITS.items():
        setattr(parsed, name, amount(name, getattr(parsed, name), units))
    return parsed


def amount(name: str, text: str | None, units: str) -> float | None:
    """A positive quantity, where there is one.

    Raises:
        SizeError: it is none.
    """
    found = None if text is None else quantity(text)
    if text is not None and (not found or not math.isfinite(found)):
        raise SizeError(f"--{name}: {text!r} is no amount above 0: write {units}")
    return found


def again(parsed: argparse.Namespace) -> str:
    """The command that measures the same and writes."""
    options = {"--seconds": parsed.seconds, "--cpus": parsed.cpus, "--memory": parsed.memory}
    given = [
        f"{name} {value:g}" for name, value in options.items() if value and (name, value) != ("--seconds", SECONDS)
    ]
    words = [
        "make size",
        *([f"RPS={parsed.rps:g}"] if parsed.rps else []),
        *([f'ARGS="{" ".join(given)}"'] if given else []),
    ]
    return " ".join([*words, "WRITE=1"])


# --- what the manifests say


def plan_of(cpus: float | None, memory: float | None) -> Plan:
    """What to load, and what the manifests say now.

    Raises:
        SizeError: the manifests cannot be read, or there are more threads than cores.
        LayoutError: they lack a value that would be changed.
    """
    now, memory_share = current()
    documents, problems = read(sorted(K8S.glob("*.yaml")))
    if problems:
        raise SizeError(problems[0])
    deployment = next(each for each in documents if each.get("kind") == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    server = next(each for each in pod["containers"] if each["name"] == SERVER)
    settings = settings_of(Manifests(documents), server)
    limits = replace(now, cpu_limit=cpus or now.cpu_limit, memory=memory or now.memory)
    threads = settings.get("SERVE_THREADS", "1")
    if cpus and threads.isdecimal() and int(threads) > max(cpus, 1):
        raise SizeError(
            f"--cpus: {cpus:g} cores are less than SERVE_THREADS {threads} in the ConfigMap: lower it first"
        )
    return Plan(
        container.run_options(pod, server, settings),
        int(settings.get("SERVE_PORT") or server["ports"][0]["containerPort"]),
        int(threads) if threads.isdecimal() else 1,
        limits,
        now,
        memory_share,
    )


def current() -> tuple[Sizes, int | None]:
    """The sizes in the manifests, and what an autoscaler by memory aims at.

    Raises:
        LayoutError: one is missing.
    """
    cpu, memory = number(DEPLOYMENT, CPU_REQUEST), number(DEPLOYMENT, MEMORY_LIMIT)
    number(DEPLOYMENT, MEMORY_REQUEST)
    limit = None if found(DEPLOYMENT, CPU_LIMIT)[1] is None else number(DEPLOYMENT, CPU_LIMIT)
    if not AUTOSCALE.exists():
        return Sizes(cpu, limit, memory, None), None
    metrics = {at(each, "resource", "name"): each for each in items(document(AUTOSCALE)[1], "spec", "metrics")}
    share = round(number(AUTOSCALE, SHARE)) if "cpu" in metrics or "memory" not in metrics else None
    aim = quantity(at(metrics.get("memory"), "resource", "target", "averageUtilization"))
    return Sizes(cpu, limit, memory, share), None if aim is None else round(aim)


def document(path: Path) -> tuple[Place, Any]:
    """Where the one document of a file's kind is, and the document.

    Raises:
        LayoutError: there is none, or there are several.
    """
    try:
        documents = list(yaml.safe_load_all(text_of(path)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path}: not valid YAML: {one_line(error)}") from None
    fitting = [position for position, each in enumerate(documents) if at(each, "kind") == KINDS[path]]
    if len(fitting) != 1:
        raise LayoutError(f"{path}: there must be one document of the kind {KINDS[path]}, not {len(fitting)}")
    return (fitting[0],), documents[fitting[0]]


def found(path: Path, steps: Steps) -> tuple[Place, Any]:
    """Where a value is in a file, and the value; None where there is none."""
    place, value = document(path)
    for step in steps:
        key, value = (step, at(value, step)) if isinstance(step, str) else fitting_item(step, value)
        place = (*place, key)
    return place, value


def fitting_item(wanted: Item, value: Any) -> tuple[int, Any]:
    """The position of the item of a list that has these values, and the item; -1 and None where there is none."""
    for position, each in enumerate(value if isinstance(value, list) else ()):
        if all(at(each, *key.split(".")) == text for key, text in wanted):
            return position, each
    return -1, None


def number(path: Path, steps: Steps) -> float:
    """A quantity in a file.

    Raises:
        LayoutError: it is missing, or not a quantity.
    """
    _, value = found(path, steps)
    shown = ".".join(step if isinstance(step, str) else f"[{' '.join(text for _, text in step)}]" for step in steps)
    if value is None:
        raise LayoutError(f"{path}: {shown} is missing")
    if not (size := quantity(value)):
        raise LayoutError(f"{path}: {shown} is {value!r}, not a quantity above 0")
    return size


def text_of(path: Path) -> str:
    """A file as it is, with its own line ends."""
    return path.read_bytes().decode()


# --- measuring


def measure_and_propose(image: str, plan: Plan, seconds: float, rps: float | None) -> Proposal:
    """Load the image, print what it did, and propose.

    Raises:
        SizeError: it cannot be loaded, or one pod does not carry what is asked for.
    """
    limits = (plan.limits.cpu_limit, plan.limits.memory)
    with container.running(image, plan.options, limits, plan.port) as server:
        print(f"{image} with {container.limits_text(*limits)}: ready after {server.ready:.1f} s\n")
        print(row(HEADER))
        body, rows = example(server)
        loaded(server, "", body, 4, seconds / 2)  # what runs for the first time is slow
        saturating = saturate(server, body, seconds)
        wanted = [] if rps is None else [rps, rps * sizing.ROOM]
        if wanted and wanted[-1] > sizing.best(saturating).served:
            raise SizeError(too_much(wanted[0], f"it is saturated at {per_second(sizing.best(saturating).served)}"))
        steady = steadily(server, body, seconds, sizing.best(saturating).served, wanted)
        lists = whole_lists(server, body, rows, seconds)
        measured = Measured(saturating, steady, lists, server.most, plan.limits, plan.threads)
    return chosen(measured, rps)


def chosen(measured: Measured, rps: float | None) -> Proposal:
    """The proposal for the load that is asked for, or for the highest that is served well.

    Raises:
        SizeError: one pod does not carry what is asked for.
    """
    if rps is None:
        least = min(measured.steady, key=lambda each: each.served)
        return sizing.propose(measured, sizing.highest_good(measured.steady) or least)
    peak = measured.steady[-1]
    if why := sizing.trouble(peak, sizing.calmest(measured.steady)):
        raise SizeError(too_much(rps, why))
    return sizing.propose(measured, peak, rps)


def too_much(rps: float, why: str) -> str:
    """What to say of a load that one pod does not carry."""
    more = f"{sizing.ROOM - 1:.0%} more while new pods start"
    return f"one pod does not carry {per_second(rps)} requests/s and {more}: {why}"


def example(server: Server) -> tuple[Any, int]:
    """A row that the model answers, and how many there may be in a request.

    Raises:
        SizeError: the API has none.
    """
    answer = server.ask("/openapi.json", timeout=30)
    try:
        request = json.loads(answer["body"])["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        found = request["examples"]["one row"]["value"]
        most = max((int(each.get("maxItems", 1)) for each in request["schema"]["anyOf"]), default=1)
    except (ValueError, KeyError, TypeError):
        raise SizeError(f"/openapi.json answers {answer['status']} and has no example of a row") from None
    if (answer := server.ask("/predict", body=json.dumps(found), timeout=60))["status"] != 200:
        raise SizeError(f"/predict answers {answer['status']} to the example: {container.detail(answer['body'])}")
    return found, most


def saturate(server: Server, body: Any, seconds: float) -> list[Stage]:
    """More and more connections, each of which asks as soon as it is answered."""
    stages: list[Stage] = []
    for count in CONNECTIONS:
        stages.append(shown(loaded(server, f"{count} connection{'s' * (count > 1)}", body, count, seconds)))
        if sizing.saturated(stages):
            break
    if not sizing.best(stages).served:
        raise SizeError("the server answered no request; see the table")
    return stages


def steadily(server: Server, body: Any, seconds: float, most: float, wanted: Sequence[float]) -> list[Stage]:
    """Requests at a rate, whenever answers come: shares of what is possible, or little and what is wanted."""
    stages: list[Stage] = []

    def load(name: str, rate: float) -> None:
        long = min(max(seconds, ENOUGH / rate), LONGEST * seconds)
        stages.append(shown(loaded(server, name, body, STEADY_CONNECTIONS, long, rate)))

    for share in sizing.SHARES[: 1 if wanted else None]:
        load(f"{share:.0%} of saturation", share * most)
    for share in () if wanted else sizing.LOWER:
        if not sizing.highest_good(stages):
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
    told = server.ask("/predict", body=json.dumps(body), connections=connections, seconds=seconds, rate=rate)
    after = server.use()
    cores = (after.cpu - before.cpu) / told["seconds"]
    throttled = (after.throttled - before.throttled) / max(after.periods - before.periods, 1)
    return sizing.stage(name, told, cores, throttled)


# --- telling


def shown(stage: Stage) -> Stage:
    """Print a stage."""
    cells = [stage.name, per_second(stage.served), f"{1000 * stage.p50:.1f}", f"{1000 * stage.p99:.1f}"]
    cells += [f"{stage.cores:.2f}", f"{stage.throttled:.0%}", str(stage.refused), str(stage.failed)]
    print(row(cells), flush=True)
    return stage


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    first, *others = zip(cells, WIDTHS, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def report(plan: Plan, proposal: Proposal) -> None:
    """Print the proposal beside what is there."""
    target, peak = per_second(proposal.target), per_second(proposal.peak)
    print(f"\none pod: {target} requests/s, and {peak} while new pods start\n")
    print(f"{'':26}  {'now':>8}  {'proposed':>8}  because")
    for name, label in LABELS.items():
        now, new = texts(plan.now)[name], texts(proposal.sizes)[name]
        if now is not None:
            print(f"{label:26}  {now:>8}  {new:>8}  {proposal.reasons[name]}")
    for note in [*proposal.notes, *memory_note(plan, proposal)]:
        print(f"note: {note}")
    print()


LABELS = {
    "cpu_request": "requests.cpu",
    "cpu_limit": "limits.cpu",
    "memory": "requests and limits.memory",
    "share": "averageUtilization of cpu",
}


def texts(sizes: Sizes) -> dict[str, str | None]:
    """Sizes as they are written; None where there is none."""
    return {
        "cpu_request": sizing.cpu_text(sizes.cpu_request),
        "cpu_limit": None if sizes.cpu_limit is None else sizing.cpu_text(sizes.cpu_limit),
        "memory": sizing.memory_text(sizes.memory),
        "share": None if sizes.share is None else str(sizes.share),
    }


def memory_note(plan: Plan, proposal: Proposal) -> list[str]:
    """What to say of an autoscaler by memory: a model's memory hardly depends on the load."""
    if plan.memory_share is None:
        return []
    peak = round(100 / sizing.SPARE_MEMORY)
    fate = "it would run to its most pods" if peak >= plan.memory_share else "it would hardly ever add a pod"
    return [
        f"the autoscaler aims at {plan.memory_share} % of memory, and {peak} % of the proposed are used at most: {fate}"
    ]


# --- writing


def finish(now: Sizes, new: Sizes, write: bool, command: str) -> None:
    """Write, or say with which command.

    Raises:
        LayoutError: a file is not laid out as expected; then none is written.
        UserError: a file cannot be written; then none is.
    """
    if now.share is None:
        new = replace(new, share=None)
    if texts(now) == texts(new):
        print("ok  k8s/ says so already")
    elif not write:
        print(f"nothing is written; `{command}` measures again and puts what it then proposes into k8s/")
    else:
        write_all(written(new))
        print(f"ok  written: {', '.join(changes(now, new))}; see `git diff k8s`, then `make check-k8s deploy`")


def written(new: Sizes) -> dict[Path, str]:
    """The files with new sizes.

    Raises:
        LayoutError: a file is not laid out as expected.
    """
    said = texts(new)
    wanted = {CPU_REQUEST: said["cpu_request"], MEMORY_REQUEST: said["memory"]}
    wanted |= {CPU_LIMIT: said["cpu_limit"], MEMORY_LIMIT: said["memory"]}
    files = {DEPLOYMENT: wanted} | ({AUTOSCALE: {SHARE: said["share"]}} if said["share"] else {})
    done = {}
    for path, values in files.items():
        known = {found(path, steps)[0]: text for steps, text in values.items() if text is not None}
        try:
            done[path] = in_place.replaced(text_of(path), known)
        except LayoutError as error:
            raise LayoutError(f"{path}: {error}; nothing is written") from None
    return done


def write_all(files: Mapping[Path, str]) -> None:
    """Write all files, or none; they keep their modes, and links stay links.

    Raises:
        UserError: one cannot be written.
    """
    modes = {path: path.stat().st_mode for path in files}
    write_atomically({path.resolve(): text.encode() for path, text in files.items()})
    for path, mode in modes.items():
        path.chmod(mode)


def changes(now: Sizes, new: Sizes) -> list[str]:
    """What is different."""
    before, after = texts(now), texts(new)
    return [f"{label} {before[key]} -> {after[key]}" for key, label in LABELS.items() if before[key] != after[key]]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

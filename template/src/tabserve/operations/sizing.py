"""From what was measured to what to request: plain arithmetic; docs/deploy.md of the template says why.

The *peak* is the load that one pod still serves well. The *target* is the load that the autoscaler holds: less than the
peak, because new pods take their time and Kubernetes ignores the first 10 % above a target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MEBI = 2**20
GAIN = 0.05  # what more connections must bring, or the server is saturated
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the throughput at saturation
LOWER = (0.22, 0.15, 0.08)  # where not even the first is served well
ROOM = 1.25  # the peak over the target
QUICK, SLOWER = 0.010, 3.0  # a p99 in seconds that is always good, and as a multiple of the best p99
THROTTLED = 0.05  # the share of periods in which a pod may reach its CPU limit
STARVED = 0.2  # idle cores of the machine
FULL = 0.9  # the share of a limit from which it is the bottleneck
SPARE_CPU, SPARE_MEMORY = 1.1, 1.3
CPU_STEP, LIMIT_STEP, MEMORY_STEP, LEAST_MEMORY = 0.05, 0.1, 16 * MEBI, 64 * MEBI
TOLERANCE = 1.1  # what the use may be above the target before an autoscaler adds a pod
LABELS = ("requests.cpu", "limits.cpu", "requests and limits.memory", "averageUtilization of cpu")
LEAST_SHARE = 50  # per cent: below, the autoscaler would follow noise


@dataclass(frozen=True)
class Stage:
    """One load and what it did; seconds count from when a request was due."""

    name: str
    served: float  # requests/s that were answered with 200
    p50: float = 0.0
    p99: float = 0.0
    cores: float = 0.0  # that the server used
    throttled: float = 0.0  # the share of periods at the CPU limit
    refused: int = 0  # answers with 503
    failed: int = 0  # other answers, or none
    own: float = 0.0  # cores of the load itself
    idle: float = math.inf  # cores that nobody used


@dataclass(frozen=True)
class Sizes:
    """What the manifests say of one pod, in cores and bytes."""

    cpu_request: float
    cpu_limit: float | None
    memory: float
    share: int | None  # the autoscaler's target in per cent of the CPU request


@dataclass(frozen=True)
class Measured:
    """Everything that was measured."""

    saturating: Sequence[Stage]  # more and more connections
    steady: Sequence[Stage]  # at a rate, with more and more of it
    lists: Stage  # of many rows
    memory: float  # the most bytes that were in use
    limits: Sizes  # of the server
    threads: int = 1  # of an inference

    @property
    def busiest(self) -> Stage:
        """The stage that used most CPU."""
        return max((*self.saturating, *self.steady, self.lists), key=lambda each: each.cores)

    @property
    def starved(self) -> bool:
        """Whether the machine had no CPU left for the server, so that it could not reach its limit."""
        return best(self.saturating).idle < STARVED


@dataclass(frozen=True)
class Proposal:
    """What to request, and why."""

    sizes: Sizes
    target: float  # requests/s that the autoscaler holds
    peak: float  # requests/s that a pod still serves well
    reasons: Mapping[str, str] = field(default_factory=dict)  # by label
    notes: Sequence[str] = ()


# --- reading the measurements


def saturated(stages: Sequence[Stage]) -> bool:
    """Whether more connections are in vain: the last two brought nothing, or the server refuses requests."""
    if stages and stages[-1].refused:
        return True
    before = max((each.served for each in stages[:-2]), default=0.0)
    return len(stages) > 2 and max(each.served for each in stages[-2:]) < (1 + GAIN) * before


def best(stages: Sequence[Stage]) -> Stage:
    """The stage that served most."""
    return max(stages, key=lambda each: each.served)


def trouble(stage: Stage, least: Stage) -> str:
    """Why a load was not served well, compared with the calmest; or nothing."""
    if stage.failed or stage.refused:
        return f"{stage.failed + stage.refused:,} requests got no prediction"
    if stage.throttled > THROTTLED:
        return f"the CPU limit throttled it in {stage.throttled:.0%} of the periods"
    if stage.p99 > max(QUICK, SLOWER * least.p99):
        return f"one in a hundred requests took {1000 * stage.p99:.0f} ms or more"
    return ""


def calmest(steady: Sequence[Stage]) -> Stage:
    """The steady load with the quickest answers: what this machine can do when nothing disturbs it."""
    return min(steady, key=lambda each: each.p99)


def highest_good(steady: Sequence[Stage]) -> Stage | None:
    """The highest steady load that was served well."""
    good = [each for each in steady if not trouble(each, calmest(steady))]
    return best(good) if good else None


def cores_at(load: float, steady: Sequence[Stage]) -> float:
    """The CPU that a load uses, between the loads that were measured."""
    points = [(0.0, 0.0), *sorted((each.served, each.cores) for each in steady)]
    for (low, used), (high, more) in pairwise(points):
        if load <= high:
            return used + (more - used) * (load - low) / (high - low) if high > low else more
    return points[-1][1]


# --- the proposal


def propose(measured: Measured, peak: Stage, target: float | None = None) -> Proposal:
    """What to request of a pod with this peak, and with this load as the autoscaler's target."""
    held, load = (peak.served / ROOM, peak.served) if target is None else (target, target * ROOM)
    used = cores_at(held, measured.steady)
    limit, why_limit = cpu_limit(measured)
    request = min(max(up(max(peak.cores, used), CPU_STEP), CPU_STEP), limit or math.inf)
    limit = limit and max(limit, request)
    share = utilization(measured, min(used, peak.cores / TOLERANCE), request)
    memory = max(up(measured.memory * SPARE_MEMORY, MEMORY_STEP), LEAST_MEMORY)
    most = "the most that a pod should serve" if target is None else f"{ROOM - 1:.0%} more than the target"
    reasons = (
        f"{peak.cores:.3f} cores at {per_second(load)} requests/s, {most}",
        why_limit,
        f"{measured.memory / MEBI:.0f} Mi at peak, plus {SPARE_MEMORY - 1:.0%}",
        f"{used:.2f} cores at {per_second(held)} requests/s; {ROOM - 1:.0%} headroom for pod startup",
    )
    sizes = Sizes(request, limit, memory, share)
    return Proposal(sizes, held, load, dict(zip(LABELS, reasons, strict=True)), notes(measured, peak))


def utilization(measured: Measured, used: float, request: float) -> int:
    """The autoscaler's target in per cent of the request, not below `LEAST_SHARE` if the pod can use that."""
    most = max(each.cores for each in measured.steady if each.served) / TOLERANCE
    least = min(LEAST_SHARE, math.floor(100 * most / request))
    return max(math.floor(round(100 * used / request, 6)), least, 1)


def cpu_limit(measured: Measured) -> tuple[float | None, str]:
    """The CPU limit, and why: as it was, or lower where the server cannot use it."""
    loaded, used = measured.limits.cpu_limit, measured.busiest.cores
    if loaded is None:
        return None, "there is none"
    if used >= FULL * loaded:
        return loaded, f"{used:.2f} cores were used: the limit is the bottleneck"
    if measured.starved:
        return loaded, "unchanged: this machine had no CPU to spare"
    enough = max(up(used * SPARE_CPU, LIMIT_STEP), float(measured.threads) if measured.threads > 1 else 0.0)
    return min(enough, loaded), f"{used:.2f} cores at peak, plus {SPARE_CPU - 1:.0%}"


def notes(measured: Measured, peak: Stage) -> list[str]:
    """What else should be known."""
    top, limit = best(measured.saturating), measured.limits.cpu_limit
    why, found = trouble(peak, calmest(measured.steady)), []
    if why:
        found += [f"no load was served well: {why}; try more CPU (--cpus 2) or a faster model"]
    if limit and top.throttled > THROTTLED:
        found += [
            f"at saturation, the CPU limit throttled {top.throttled:.0%} of the periods: a higher limit allows more"
        ]
    elif measured.starved or top.own >= FULL:
        found += ["the machine, not the server, was at its limit: use one with more cores"]
    elif top.cores < FULL / 2 * min(limit or 1.0, 1.0):
        found += [f"at saturation, only {top.cores:.2f} cores were used: CPU use says little about the load"]
    if measured.memory >= FULL * measured.limits.memory:
        found += ["memory was nearly full: measure again with more (--memory ...)"]
    return found


def up(value: float, step: float) -> float:
    """The next multiple of a step."""
    return round(math.ceil(round(value / step, 6)) * step, 6)


# --- quantities


def per_second(rate: float) -> str:
    """A rate for people."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def cpu_text(cores: float) -> str:
    """Cores as Kubernetes writes them."""
    thousandths = round(cores * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def memory_text(size: float) -> str:
    """Bytes as Kubernetes writes them."""
    units = (("Gi", 1024 * MEBI), ("Mi", MEBI), ("", 1))
    return next(f"{size / unit:.0f}{name}" for name, unit in units if size % unit == 0 or unit == 1)


def texts(sizes: Sizes) -> dict[str, str | None]:
    """Sizes as they are written, by label; None where there is none."""
    limit = None if sizes.cpu_limit is None else cpu_text(sizes.cpu_limit)
    share = None if sizes.share is None else str(sizes.share)
    return dict(zip(LABELS, (cpu_text(sizes.cpu_request), limit, memory_text(sizes.memory), share), strict=True))

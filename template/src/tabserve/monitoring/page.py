"""The report of a checked file as one HTML page."""

import numpy as np
from matplotlib.axes import Axes

from tabserve.monitoring.check import Check, Finding
from tabserve.page import document, figure, table, text

SHOWN_PLOTS = 24
SHOWN_BINS = 15


def page(check: Check, source: str, name: str, version: str) -> str:
    """The report on a file; `name` is that of the project, `version` of the model."""
    present = [found for found in check.findings if found.psi is not None]
    plotted = sorted(present, key=lambda found: -(found.psi or 0))[:SHOWN_PLOTS]
    figures = [figure(_bars, found, height=1.2 + 0.22 * min(len(found.bins), SHOWN_BINS)) for found in plotted]
    head = ("column", "PSI", "bound", "fine", "what breaks the contract")
    compared = f"compared with the contract and the training data of model version {version}"
    note = f"{check.rows:,} rows, {check.rejected:,} of them rejected · {compared}"
    unknown = text(", ".join(check.unknown))
    body = [
        "<h2>Columns</h2>",
        f'<div class="wide">{table(head, map(_row, check.worst_first()), scored=True)}</div>',
        f"<p>The contract does not know: {unknown}.</p>" if unknown else "",
        "<h2>Distributions</h2>",
        '<p class="note">PSI is the population stability index: 0 when a distribution is that of the training data, '
        "above 0.1 when it has moved, above 0.25 when it has moved far. Few rows allow a larger index.</p>",
        f'<div class="plots">{"".join(figures)}</div>',
    ]
    return document(f"{name}: check of {source}", note, body)


def _row(found: Finding) -> tuple[str, ...]:
    if found.psi is None:
        return found.name, "", "", "no" if found.problem else "", found.problem or "absent, as the contract allows"
    alike = "no" if found.drifted or found.problem else "yes"
    problem = found.problem.replace(found.examples, "", 1)
    return found.name, f"{found.psi:.3f}", f"{found.limit:.3f}", alike, problem


def _bars(axes: Axes, found: Finding) -> None:
    """Shares by bin; of many bins the ones that differ most."""
    expected, actual = np.array(found.expected), np.array(found.actual)
    chosen = np.sort(np.argsort(-np.abs(expected - actual), kind="stable")[:SHOWN_BINS])[::-1]
    names = [found.bins[position] for position in chosen]
    heights = np.arange(len(chosen))
    axes.barh(heights + 0.2, expected[chosen], height=0.4, color="#9aa5b1", label="training")
    axes.barh(heights - 0.2, actual[chosen], height=0.4, color="#4c78a8", label="this file")
    axes.set_yticks(heights, [name if len(name) <= 24 else f"{name[:23]}…" for name in names])
    axes.set(xlabel="share of rows", title=f"{found.name} (PSI {found.psi:.3f})")
    axes.legend(fontsize=7)

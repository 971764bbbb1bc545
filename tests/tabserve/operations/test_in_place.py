"""Values of YAML files are changed where they are, and nothing else is."""

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest

from tabserve.errors import UserError
from tabserve.operations import in_place, size
from tabserve.operations.in_place import Place
from tabserve.operations.sizing import MEBI, Sizes, texts

NEW = Sizes(0.123, 1.23, 77 * MEBI, 66)
CHANGED = ["cpu: 123m", "memory: 77Mi", 'cpu: "1230m"', "memory: 77Mi"]


def changed_lines(before: str, after: str) -> list[str]:
    found = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line[1:].strip() for line in found if line[0] == "+"]


def written(text: str, path: Path = size.DEPLOYMENT) -> str:
    """The text of a manifest with the new sizes in it."""
    path.write_bytes(text.encode())
    return size.written(texts(NEW))[path].decode()


@pytest.fixture
def deployment(project: Path) -> str:
    return (project / size.DEPLOYMENT).read_text(encoding="utf-8")


@pytest.fixture
def autoscale(project: Path) -> str:
    return (project / size.AUTOSCALE).read_text(encoding="utf-8")


def beside(text: str) -> str:
    return text.replace(
        "      containers:\n", "      containers:\n        - name: beside  # first\n          image: beside:1\n"
    )


ODD: dict[str, Callable[[str], str]] = {
    "the project's own": str,
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "another document and another container before": lambda text: (
        "\ufeff{kind: ConfigMap, data: {cpu: x}}\n---\n# é and 北京 before\n" + beside(text.removeprefix("---\n"))
    ),
    "an empty document before": lambda text: f"---\n{text}",
    "another indentation": lambda text: text.replace("            requests:\n", "            requests:\n\n").replace(
        "maxSurge: 1", "maxSurge:   1     # one"
    ),
    "lists that are not indented": lambda text: text.replace("                - ALL", "              - ALL"),
    "mappings in braces": lambda text: text.replace(
        "      maxSurge: 1\n      maxUnavailable: 0\n", "      { maxSurge: 1,  maxUnavailable: 0 }\n"
    ),
    "comments behind the values": lambda text: text.replace("memory: 256Mi", "memory:   256Mi   # measured"),
    "no line end at the end": lambda text: text.rstrip("\n"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_nothing_but_the_values_changes(deployment: str, change: Callable[[str], str]) -> None:
    text = change(deployment)
    after = written(text)
    lines = changed_lines(text, after)
    assert [line.partition("   # measured")[0].replace("  ", "").replace(":7", ": 7") for line in lines] == CHANGED
    back = after
    for new, old in (("123m", "250m"), ('"1230m"', '"1"'), ("77Mi", "256Mi")):
        back = back.replace(new, old)
    assert back == text


def test_nothing_but_the_target_changes_in_an_autoscaler(autoscale: str) -> None:
    crlf = autoscale.replace("\n", "\r\n")
    after = written(crlf, size.AUTOSCALE)
    assert changed_lines(crlf, after) == ["averageUtilization: 66"]
    assert after == crlf.replace("averageUtilization: 80", "averageUtilization: 66")


TEXT = "a: 1\nb: [{name: x, c: '2'}, {name: y, c: 3}]\n"


def test_values_are_found_by_keys_and_positions() -> None:
    after = in_place.replaced(TEXT, {(0, "a"): "one", (0, "b", 0, "c"): "two", (0, "b", 1, "c"): "three"})
    assert after == "a: one\nb: [{name: x, c: 'two'}, {name: y, c: three}]\n"


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [
        ("cpu: 250m", "1", 'cpu: "1"'),
        ("cpu: 250m", "500m", "cpu: 500m"),
        ("cpu: '1'", "500m", "cpu: '500m'"),
        ("cpu: 1", "2", "cpu: 2"),
        ("cpu: 1", "500m", "cpu: 500m"),
        ("averageUtilization: 80", "66", "averageUtilization: 66"),
    ],
)
def test_a_text_stays_a_text_and_a_number_a_number(before: str, new: str, after: str) -> None:
    assert in_place.replaced(before, {(0, before.partition(":")[0]): new}) == after


REFUSED: dict[str, tuple[str, Place]] = {
    "a value that is not there": (TEXT, (0, "c")),
    "another document": (TEXT, (1, "a")),
    "a mapping": (TEXT, (0, "b", 0)),
    "an anchor with an alias": ("a: &x 1\nb: *x\n", (0, "a")),
    "an alias": ("a: &x 1\nb: *x\n", (0, "b")),
    "an alias of a mapping": ("a: &x {c: 1}\nb: *x\n", (0, "b", "c")),
    "a text in lines": ("a: |\n  1\nb: 2\n", (0, "a")),
    "an empty value": ("a:\nb: 2\n", (0, "a")),
    "not YAML": ("a: [", (0, "a")),
}


@pytest.mark.parametrize(("text", "place"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_changed_alone_is_refused(text: str, place: Place) -> None:
    with pytest.raises(UserError) as refused:
        in_place.replaced(text, {place: "new"})
    assert str(refused.value) == f"{'.'.join(map(str, place[1:]))} cannot be changed in place: change it by hand"

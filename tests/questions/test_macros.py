"""The macros behind the questions, each on its own: names, quantities and validators."""

from __future__ import annotations

import keyword
import re
import sys

import pytest
import yaml

from tabserve.tables import sources
from tests.conftest import ROOT
from tests.macros import ENVIRONMENT, exported

LONG = "a" * 10_000
VALIDATORS = [
    "project_name",
    "package_name",
    "description",
    "person",
    "email",
    "data_path",
    "column",
    "label",
    "registry",
    "cpu",
    "memory",
]
# No validator accepts any of these, and each could tear a message or the rendered files apart.
HOSTILE = [
    " ",
    "\n",
    "\t",
    "name\n",
    "\nname",
    "name\r",
    "a\nb",
    "a@b.c\n",
    "data.csv\n",
    "250m\n",
    "512Mi\n",
    "ghcr.io/team\n",
    "https://a\nb",
    "nul\x00l",
    "bell\x07s",
    "next\x85line",
    "line\u2028break",
    "paragraph\u2029break",
    "half \ud83d pair",
    LONG,
    LONG + "@example.com",
    LONG + ".csv",
    "x\n" * 5_000,
]

ACCEPTED: dict[str, list[str]] = {
    "project_name": [
        "Loan Offers",
        "loans",
        "Crédit Score 2",
        "Øre",
        "ß",
        "7 wonders",
        "import",
        "json",
        "../loans",
        'Say "hi" & it\'s 100 %',
        "back\\slash # : , [x]",
        "🏦 Bank",
        "銀行 bank",
        "a" * 60,
    ],
    "package_name": ["loans", "loan_model", "l2", "ml", "class_model", "json_model", "a" * 40, "a_b_c_1"],
    "description": ["Predicts.", "x", "Ünïcödé 🏦", "${{ x }} {% raw %} # : \\ \" '", "銀行", "../x", "d" * 200],
    "person": ["Ada Lovelace", "@team", "Team @ Home", "Doe, Jane", 'Ö\'Neill "Bo"', "null", "李", "p" * 100],
    "email": ["", "a@b", "ada@example.com", "first.last+tag@sub.example.co.uk", "o'brien@example.com", "x_y-z@a-b.de"],
    "data_path": [
        "data/train.csv",
        "/abs/train.parquet",
        "../up.tsv",
        "C:\\data\\x.CSV",
        "größe 🏦.pq",
        "a b.txt",
        'it\'s "x" #1: 100 %.csv',
        "p" * 496 + ".csv",
        "sales.xlsx",
        "train.csv.gz",
        "Events.JSONL.zst",
        "archive.zip",
        "iris.data",
        "https://example.com/loans?id=3",
        "s3://bucket/loans.parquet",
    ],
    "column": [
        "",
        "target",
        "class",
        "1st",
        "größe",
        "a b",
        "y\\n",
        '"',
        "'",
        "${{ x }}",
        "km/h",
        "meta.data",
        "c" * 200,
    ],
    "label": ["a", "1", "ml", "my-team", "a--b", "1a", "0-9", "x" * 62, "x" * 63],
    "registry": [
        "ghcr.io/team",
        "localhost:5000",
        "localhost",
        "docker.io/a/b/c",
        "GHCR.io/team",
        "10.0.0.1:5000/team",
        "registry.example.com:443/a.b/c_d/e__f/g--h",
        "team",
        "eu-west1-docker.pkg.dev/project-1/images",
    ],
    "cpu": ["250m", "0.5", "2", "1", "0.001", "1000m", "1m", "1.5", "64"],
    "memory": ["512Mi", "1Gi", "512M", "64k", "64Ki", "1T", "1Ti", "134217728"],
}

REFUSED: dict[str, list[str]] = {
    "project_name": [
        "",
        "123",
        "銀行",
        "πδ",
        "🏦",
        '"',
        "../",
        " x",
        "x ",
        "a" * 61,
        "<b>x",
        "{{ x }}",
        "`x`",
        "${{ x }}",
    ],
    "package_name": [
        "",
        "a",
        "_",
        "_x",
        "x_",
        "a__b",
        "1st",
        "2",
        "Loans",
        "loan-offers",
        "loan offers",
        "loan.offers",
        "größe",
        "x²",
        "x٣",
        "../x",
        '"x"',
        "it's",
        "a" * 41,
        "__init__",
        "class",
        "import",
        "none",
        "true",
        "match",
        "type",
        "json",
        "os",
        "random",
        "tomllib",
        "numpy",
        "tabserve",
        "sklearn",
        "yaml",
        "fastapi",
        "scikit_learn",
        "pyyaml",
        "tests",
        "src",
        "build",
    ],
    "description": ["", " x", "x ", "d" * 201],
    "person": ["", " x", "x\u00a0", "p" * 101, "Zoë <me@x>", "me@example.com"],
    "email": [
        "a",
        "@",
        "a@",
        "@b",
        "a b@c.de",
        "a@b@c",
        "a@b c",
        "a@.de",
        "a@b.",
        "a@b..de",
        "a@-b.de",
        "ü@b.de",
        'a"b@c.de',
        "a\\b@c.de",
        "<a@b.de>",
        "a" * 250 + "@b.de",
    ],
    "data_path": [
        "",
        "train",
        "train.pdf",
        "~/train.csv",
        "~zoe/train.csv",
        "://x",
        "https://user:pw@host/t.csv",
        "s3://key@bucket/t.csv",
        "https://host/t.csv?v=1&SIG=abc",
        "https:///x",
        ".csv",
        "data/.csv",
        "data/",
        "../",
        ".csv ",
        "train.csv/",
        "p" * 497 + ".csv",
        "-x.csv",
    ],
    "column": [
        *(" x", "x ", "c" * 201, "../x", "/data/loans", "~/loans", "./y", "C:\\loans", "https://example.com/y"),
        *("loans.csv", "data/Loans.CSV", "loans.parquet", "loans.csv.gz", "loans.xlsx"),
    ],
    "label": ["", "-", "-a", "a-", "A", "My-Team", "a_b", "a.b", "a b", "ü", '"a"', "../a", "x" * 64, "x" * 62 + "-x"],
    "registry": [
        "",
        "https://x",
        "https://ghcr.io/team",
        "Host/UPPER",
        "x:tag",
        "a//b",
        "/a",
        "a/",
        "a/../b",
        "../a",
        "-a",
        "a-",
        "a..b",
        "a/b..c",
        "a/b___c",
        "a/-b",
        "ghcr.io/team:1.0",
        "ghcr.io/team@sha256",
        "host:",
        "host:123456",
        "host:99999/team",
        "host:5000:1",
        "user@host",
        "größe.de",
        '"a"',
        "a b",
        "a" * 201,
    ],
    "cpu": [
        "",
        "0",
        "0m",
        "0.0",
        "-1",
        "+1",
        "1e3",
        "512Mi",
        "1.5m",
        ".5",
        "2.",
        "0.0001",
        "1,5",
        "m",
        "½",
        "٣",
        "1 m",
        "250M",
    ],
    "memory": [
        "",
        "0",
        "0Mi",
        "-1",
        "+1Gi",
        "1e3",
        "512MB",
        "512mi",
        "512m",
        "1.5Gi",
        "0.5",
        "Gi",
        "512 Mi",
        "1KI",
        "٣Gi",
        "1Pi",
    ],
}

HINTS = {"add", "begin", "leave", "name", "remove", "use", "write"}

# Names that people give, and names that nobody should.
ODD_NAMES = [
    "Loan Offers",
    "Crédit Score 2",
    "Größe & Maß",
    "Łódź",
    "Ærø Øl Åse",
    "İstanbul",
    "ÇA VA",
    "Kelvin",
    "ﬁnance",
    "straße",
    "class",
    "Import",
    "None",
    "TYPE",
    "json",
    "OS",
    "cProfile",
    "random",
    "numpy",
    "Scikit-Learn",
    "PyYAML",
    "scikit learn",
    "tests",
    "Data",
    "x",
    "1",
    "7 wonders",
    "2024",
    "1 2 3 a",
    "__init__",
    "_",
    "",
    " ",
    "\n",
    "a\nb",
    "loans\n",
    "銀行",
    "🏦",
    "🏦 Bank",
    "../../etc/passwd",
    "C:\\temp",
    "a" * 39 + " b",
    "a" * 40 + " b",
    "1" * 100,
    LONG,
    "ü" * 10_000,
    "a-b_c.d",
    "--a--",
    "\"quoted\" 'name'",
    "{{ 7 * 7 }}",
    "${{ x }}",
    "\x00null",
    "\ud800",
    "٣",
]


def call(library: str, macro: str, *values: object) -> str:
    arguments = ", ".join(f"values[{index}]" for index in range(len(values)))
    text = f"{{% from 'extensions/{library}.jinja' import {macro} as check %}}{{{{ check({arguments}) }}}}"
    return ENVIRONMENT.from_string(text).render(values=values)


def assert_message(message: str) -> None:
    assert message.split()[0] in HINTS, f"does not begin with how to correct it: {message!r}"
    assert message.splitlines() == [message], f"not one line: {message!r}"
    assert message == message.strip() and message.isprintable(), f"not plain: {message!r}"
    assert len(message) <= 37, f"does not fit 80 columns: {message!r}"


def distribution_names() -> set[str]:
    """What the rendered project depends on, with any answer."""
    project = (ROOT / "template/pyproject.toml.jinja").read_text()
    questions = yaml.safe_load((ROOT / "copier.yml").read_text())
    text = project + "".join(
        questions[name]["default"] for name in ("estimator_requirements", "onnxruntime_requirements")
    )
    return {name.replace("-", "_") for name in re.findall(r'"([A-Za-z0-9_-]+)>=[0-9]', text)}


@pytest.mark.parametrize(("macro", "value"), [(macro, value) for macro in VALIDATORS for value in ACCEPTED[macro]])
def test_accepts(macro: str, value: str) -> None:
    assert call("validate", macro, value) == ""


@pytest.mark.parametrize(("macro", "value"), [(macro, value) for macro in VALIDATORS for value in REFUSED[macro]])
def test_refuses(macro: str, value: str) -> None:
    assert_message(call("validate", macro, value))


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("macro", VALIDATORS)
def test_refuses_hostile(macro: str, value: str) -> None:
    assert_message(call("validate", macro, value))


def test_every_validator_is_tested() -> None:
    module = ENVIRONMENT.get_template("extensions/validate.jinja").module
    macros = {name for name, value in vars(module).items() if type(value).__name__ == "Macro"}
    assert macros - {"one_line", "is_taken", "words", "bytes", "millicores"} == {
        *VALIDATORS,
        "limit",
        "maximum",
        "memory_of_server",
        "namespace_of_project",
        "between",
    }


@pytest.mark.parametrize("value", [0.5, 1, 2.0, 64])
def test_cpu_accepts_numbers(value: float) -> None:
    assert call("validate", "cpu", value) == ""


@pytest.mark.parametrize(
    ("macro", "value", "part"),
    [
        ("package_name", "json", "add _model"),
        ("package_name", "1st", "as in my_model"),
        ("registry", "https://x", "leave out everything up to ://"),
        ("label", "x" * 64, "use at most 63"),
        ("email", "a\nb", "write name@example.com"),
        ("cpu", "512Mi", "write 250m"),
        ("memory", "512MB", "as 512Mi"),
        ("description", "a\nb", "write one line"),
        ("project_name", "銀行", "add a Latin letter"),
        ("data_path", "x.pdf", ".parquet"),
        ("data_path", "~/x.csv", "in place of ~"),
        ("data_path", "--x.csv", "begin it with ./"),
        ("column", "data/loans.csv", "name a column"),
        ("person", "Zoë <me@x>", "leave out the email"),
        ("registry", "localhost:65536", "a port up to 65535"),
    ],
)
def test_message_says_how_to_mend(macro: str, value: str, part: str) -> None:
    assert part in call("validate", macro, value)


@pytest.mark.parametrize(
    ("request_", "limit", "kind"),
    [
        ("250m", "250m", "cpu"),
        ("250m", "0.5", "cpu"),
        ("1000m", "1", "cpu"),
        ("2", "10", "cpu"),
        ("900m", "1.0", "cpu"),
        ("512Mi", "1Gi", "memory"),
        ("1000M", "1G", "memory"),
        ("1G", "1Gi", "memory"),
        ("1024Mi", "1Gi", "memory"),
        ("wrong", "1Gi", "memory"),
    ],
)
def test_limit_accepts(request_: str, limit: str, kind: str) -> None:
    assert call("validate", "limit", request_, limit, kind) == ""


@pytest.mark.parametrize(
    ("request_", "limit", "kind"),
    [
        ("500m", "250m", "cpu"),
        ("1", "999m", "cpu"),
        ("10", "9", "cpu"),
        ("1.001", "1", "cpu"),
        ("1Gi", "1G", "memory"),
        ("2Gi", "1025Mi", "memory"),
        ("1Mi", "1000000", "memory"),
    ],
)
def test_limit_refuses_less_than_the_request(request_: str, limit: str, kind: str) -> None:
    message = call("validate", "limit", request_, limit, kind)
    assert_message(message)
    assert message == f"use {request_} or more (the request)"


@pytest.mark.parametrize("value", ["", "512Mi\n", "1e3", "0", "-1", LONG])
@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_limit_refuses_what_is_no_quantity(value: str, kind: str) -> None:
    message = call("validate", "limit", "1", value, kind)
    assert_message(message)
    assert message == call("validate", kind, value)


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (9, 10), (2, 1000)])
def test_maximum_accepts(least: int, most: int) -> None:
    assert call("validate", "maximum", least, most) == ""


@pytest.mark.parametrize("value", ["128Mi", "1Gi", "134217728"])
def test_memory_of_the_server_accepts(value: str) -> None:
    assert call("validate", "memory_of_server", value) == ""


@pytest.mark.parametrize("value", ["127Mi", "1M", "64Mi", "512MB", "", "1m"])
def test_memory_of_the_server_refuses(value: str) -> None:
    assert_message(call("validate", "memory_of_server", value))


def test_namespace_of_the_project() -> None:
    for value in ("scoring", "kubernetes", "x" * 63):
        assert call("validate", "namespace_of_project", value) == ""
    for value in ("default", "kube-system", "kube-public", "My-Team", "x" * 64):
        assert_message(call("validate", "namespace_of_project", value))


def test_between() -> None:
    for value in (30000, 32767, 31000):
        assert call("validate", "between", value, 30000, 32767) == ""
    for value in (29999, 32768, 0, -1):
        message = call("validate", "between", value, 30000, 32767)
        assert message == "use 30000 to 32767"
        assert_message(message)


@pytest.mark.parametrize(
    ("quantity", "cores", "threads"), [("250m", "0.25", "1"), ("2500m", "2.5", "2"), ("4", "4.0", "4")]
)
def test_cores_and_threads(quantity: str, cores: str, threads: str) -> None:
    assert call("quantities", "cores", quantity) == cores
    assert call("quantities", "whole_cores", quantity) == threads


@pytest.mark.parametrize(
    ("one", "other", "larger"), [("1", "250m", "1"), ("1", "2", "2"), ("1", "1001m", "1001m"), ("1", "no", "1")]
)
def test_the_larger_cpu(one: str, other: str, larger: str) -> None:
    assert call("quantities", "larger_cpu", one, other) == larger


@pytest.mark.parametrize(("least", "most"), [(2, 1), (10, 9), (1, 0), (1, -1), (1, 1001), (1, 10**9)])
def test_maximum_refuses(least: int, most: int) -> None:
    assert_message(call("validate", "maximum", least, most))


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("250m", "250"),
        ("0.5", "500"),
        ("2", "2000"),
        ("0.001", "1"),
        ("0.29", "290"),
        ("1.005", "1005"),
        (0.5, "500"),
        (2, "2000"),
        *((refused, "") for refused in REFUSED["cpu"]),
    ],
)
def test_millicores(quantity: str | float, expected: str) -> None:
    assert call("quantities", "millicores", quantity) == expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("1", "1"),
        ("64k", "64000"),
        ("64Ki", str(64 * 1024)),
        ("512M", "512000000"),
        ("512Mi", str(512 * 1024**2)),
        ("2G", str(2 * 1000**3)),
        ("2Gi", str(2 * 1024**3)),
        ("3T", str(3 * 1000**4)),
        ("3Ti", str(3 * 1024**4)),
        (1024, "1024"),
        *((refused, "") for refused in REFUSED["memory"]),
    ],
)
def test_bytes(quantity: str | int, expected: str) -> None:
    assert call("quantities", "bytes", quantity) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Crédit Score 2", "credit_score_2"),
        ("Größe & Maß", "groesse_mass"),
        ("Łódź Ærø", "lodz_aero"),
        ("  a  b\n", "a_b"),
        ("../../x", "x"),
        ("銀行", ""),
        ("", ""),
        (LONG, LONG),
        (12, "12"),
    ],
)
def test_words(name: str | int, expected: str) -> None:
    assert call("names", "words", name, "_") == expected


def test_words_with_another_separator() -> None:
    assert call("names", "words", "Crédit Score_2", "-") == "credit-score-2"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Loan Offers", "loan_offers"),
        ("7 wonders", "wonders"),
        ("json", "json_model"),
        ("Class", "class_model"),
        ("Tabserve", "tabserve_model"),
        ("Scikit-Learn", "scikit_learn_model"),
        ("x", "x_model"),
        ("2024", "my_model"),
        ("銀行", "my_model"),
        ("", "my_model"),
        ("a" * 39 + " b", "a" * 39),
        (LONG, "a" * 40),
    ],
)
def test_package_from(name: str, expected: str) -> None:
    assert call("names", "package_from", name) == expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("my-model", "My Model"),
        ("loan_offers.v2", "Loan Offers V2"),
        ("größe", "Größe"),
        ("churnAPI", "ChurnAPI"),
        ("2024", "My Model"),
        ("銀行", "My Model"),
        ("..", "My Model"),
        ("", "My Model"),
    ],
)
def test_project_from(folder: str, expected: str) -> None:
    assert call("names", "project_from", folder) == expected


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name[:20]))
def test_the_proposed_project_name_is_valid(name: str) -> None:
    assert call("validate", "project_name", call("names", "project_from", name)) == ""


@pytest.mark.parametrize("target", ["", "y", "${{ x }}", "c" * 200, "a b " * 50])
def test_the_proposed_description_is_valid(target: str) -> None:
    for source, task in (("file", "auto"), ("sample", "auto"), ("sample", "regression")):
        text = call("names", "description_from", source, target, task)
        assert call("validate", "description", text) == ""
        assert len(text) <= 78
        assert ("loan" in text) == ((source, task) == ("sample", "auto"))


def test_tables_are_those_that_the_project_reads() -> None:
    read = [ending for endings in sources.ENDINGS.values() for ending in endings]
    assert {f".{name}" for name in exported("validate", "tables")} == set(read)
    assert {f".{name}" for name in exported("validate", "compressed")} == set(sources.COMPRESSED_ENDINGS)


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name[:20]))
def test_the_proposed_package_name_is_valid(name: str) -> None:
    proposed = call("names", "package_from", name)
    assert proposed.isidentifier()
    assert call("validate", "package_name", proposed) == ""


@pytest.mark.parametrize(
    "name", sorted({*sys.stdlib_module_names, *map(str.lower, keyword.kwlist), *distribution_names()} - {"_"})
)
def test_no_taken_name_is_proposed(name: str) -> None:
    assert call("validate", "package_name", call("names", "package_from", name)) == ""


@pytest.mark.parametrize("name", ["class", "none", "json", "numpy", "sklearn", "scikit_learn", "tests"])
def test_is_taken(name: str) -> None:
    assert call("names", "is_taken", name) == "yes"


@pytest.mark.parametrize("name", ["loans", "class_model", "jso", "jsonn", "", "_", "JSON", LONG])
def test_is_not_taken(name: str) -> None:
    assert call("names", "is_taken", name) == ""


def test_standard_library_is_complete() -> None:
    modules = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert modules <= set(exported("names", "standard_library"))


def test_keywords_are_complete() -> None:
    assert {word.lower() for word in keyword.kwlist} <= set(exported("names", "keywords"))


def test_libraries_hold_every_dependency() -> None:
    """The project would depend on itself if it had the name of one."""
    names = distribution_names()
    assert {"numpy", "scikit_learn", "lightgbm", "xgboost_cpu"} <= names
    assert names <= set(exported("names", "libraries"))

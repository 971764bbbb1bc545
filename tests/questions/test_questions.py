"""The questions as copier asks them: what they accept, what they refuse and where the answers end up."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import copier as copier_itself
import pytest
import yaml
from pytest_copier.plugin import CopierFixture

from tests.conftest import ROOT, Render, copy

QUESTIONS_FILE: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text())
QUESTIONS: dict[str, dict[str, Any]] = {
    name: question for name, question in QUESTIONS_FILE.items() if not name.startswith("_")
}
ASKED = {name: question for name, question in QUESTIONS.items() if question.get("when") is not False}
COMPUTED = sorted(QUESTIONS.keys() - ASKED.keys())
FREE = sorted(name for name, question in ASKED.items() if question["type"] == "str" and "choices" not in question)
VALIDATED = sorted(name for name, question in ASKED.items() if "validator" in question)
CHOSEN = sorted(name for name, question in ASKED.items() if "choices" in question)
FILE = {"data_source": "file"}

# What a question refuses, and a part of its message.
REFUSED: list[tuple[str, Any, str]] = [
    ("project_name", "", "write a few words"),
    ("project_name", "銀行", "add a Latin letter"),
    ("project_name", "Loans\n", "remove blanks"),
    ("project_name", "${{ x }}", "leave out {"),
    ("package_name", "1st", "use a-z, 0-9 and _"),
    ("package_name", "json", "add _model"),
    ("package_name", "../x", "use a-z, 0-9 and _"),
    ("package_name", "a" * 41, "use at most 40"),
    ("package_name", "a__b", "use one underscore"),
    ("description", "a\nb", "write one line"),
    ("description", "x" * 10_000, "use at most 200"),
    ("user_name", "", "write a few words"),
    ("user_name", "Ada\x00", "write one line"),
    ("user_name", "Zoë <me@x>", "leave out the email"),
    ("user_email", "ada", "write name@example.com"),
    ("user_email", 'a"b@c.de', "write name@example.com"),
    ("user_email", "a" * 255, "use at most 254"),
    ("data_path", "train.pdf", "use a .csv"),
    ("data_path", "a\n.csv", "write one line"),
    ("data_path", "~/x.csv", "write the home folder"),
    ("data_path", "-x.csv", "begin it with ./"),
    ("target_column", "a\nb", "write one line"),
    ("target_column", " a", "remove blanks"),
    *(("target_column", name, "name a column") for name in ("data/loans.csv", "loans.ods", "a.json.gz", "data/", "..")),
    ("registry", "https://ghcr.io", "leave out everything up to ://"),
    ("registry", "", "write host[:port]/path"),
    ("registry", "a:99999", "use a port"),
    ("namespace", "My-Team", "use a-z, 0-9 and -"),
    ("namespace", "kube-system", "use one of the project's own"),
    ("namespace", "x" * 64, "use at most 63"),
    ("port", 80, "use 1024 to 65535"),
    ("node_port", 8080, "use 30000 to 32767"),
    ("min_replicas", 0, "use 1 to 1000"),
    ("max_replicas", 1, "use 2 or more (the minimum)"),
    ("max_replicas", 1001, "use at most 1000"),
    ("cpu_request", "half", "write 250m"),
    ("cpu_limit", "100m", "use 250m or more (the request)"),
    ("memory", "512MB", "write a number and a unit"),
    ("memory", "64Mi", "use 128Mi or more"),
]
GOOD: list[tuple[str, Any]] = [
    ("project_name", "Crédit Score 2"),
    ("package_name", "credit_score"),
    ("description", "Says who pays back."),
    ("user_name", "Ada Lovelace"),
    ("user_email", "o'brien+ml@example.com"),
    ("data_path", "/abs/dir with blank/train.parquet"),
    ("data_path", "data/sales.xlsx"),
    ("data_path", "data/train.csv.gz"),
    ("data_path", "s3://bucket/events.jsonl"),
    *(("target_column", name) for name in ("größe (cm)", "km/h", "user.data")),
    ("registry", "ghcr.io/team"),
    ("namespace", "scoring"),
    ("port", 9000),
    ("node_port", 32000),
    ("min_replicas", 1),
    ("max_replicas", 20),
    ("cpu_request", "500m"),
    ("cpu_limit", "2"),
    ("memory", "1Gi"),
]

# Text that is special to TOML, YAML, JSON, Jinja, a shell or a CI system, and yet a fine answer.
HOSTILE = [
    'say "hi"',
    "it's",
    '"""',
    "'''",
    "back\\slash \\n \\u0041 \\",
    "\\",
    "größe ß",
    "🏦 👩‍💻",
    "銀行",
    "a # b",
    "# a",
    "a: b",
    "100 %",
    "%s %(x)s %",
    "$HOME `id` $(id)",
    "a, b ] }",
    "- a",
    "[project]",
    "*a",
    "&a",
    "!a",
    "@a",
    "| a",
    "> a",
    "---",
    "null",
    "true",
    "0123",
    "1e3",
    "2024-01-01",
    "~",
    "=",
    "</script>",
    "a\u00a0b",
    "a\u200bb",
    "a\ufeffb",
    "a\ufffeb",
]
JINJA = ["${{ x }}", "{{ 7 * 7 }}", "{% raw %}", "{# a #}", "{{ unknown.attribute }}"]


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def stored(project: Path) -> dict[str, Any]:
    answers: dict[str, Any] = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return answers


def prepared(name: str) -> dict[str, Any]:
    """What must be answered so that a question is asked at all."""
    return FILE if name in {"data_path", "target_column"} else {}


@pytest.mark.parametrize("name", ASKED)
def test_question_is_complete(name: str) -> None:
    question = ASKED[name]
    assert question["help"].strip() == question["help"] != ""
    assert len(question["help"]) <= 76
    assert max(map(len, question.get("choices", [""]))) <= 74
    assert "default" in question
    assert question["type"] in {"str", "int", "float", "bool"}


@pytest.mark.parametrize("name", FREE)
def test_free_text_has_a_validator(name: str) -> None:
    assert "extensions/validate.jinja" in QUESTIONS[name]["validator"]


@pytest.mark.parametrize("name", CHOSEN)
def test_default_is_one_of_the_choices(name: str) -> None:
    choices = ASKED[name]["choices"]
    assert ASKED[name]["default"] in (choices.values() if isinstance(choices, dict) else choices)


def test_every_validator_is_tested() -> None:
    assert {name for name, _, _ in REFUSED} == set(VALIDATED)
    assert {name for name, _ in GOOD} == set(VALIDATED)


def test_computed_values_come_last() -> None:
    assert list(QUESTIONS)[len(ASKED) :] == [name for name in QUESTIONS if name in COMPUTED]


def test_defaults_need_no_answer(copier: CopierFixture, tmp_path: Path) -> None:
    answers = copier.copy(tmp_path / "my-model").answers
    assert answers["project_name"] == "My Model"
    assert answers["package_name"] == "my_model"
    assert answers["user_name"] == "My Model team"
    assert answers["user_email"] == ""
    unasked = {"data_path", "target_column"}
    assert set(answers) == ASKED.keys() - unasked
    silent = copier.copy(tmp_path / "other", service_type="ClusterIP", autoscale="none").answers
    assert set(silent) == ASKED.keys() - unasked


def test_the_project_is_called_as_the_folder_in_which_copier_runs(
    copier_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "churn").mkdir()
    monkeypatch.chdir(tmp_path / "churn")
    copier_itself.run_copy(str(copier_template), ".", defaults=True, quiet=True)
    assert stored(tmp_path / "churn")["project_name"] == "Churn"


@pytest.mark.parametrize(
    ("answers", "description"),
    [
        ({}, "Predicts which customers accept a loan offer."),
        ({"task": "regression"}, "Predicts how much customers spend by card."),
        (FILE | {"target_column": "price"}, "Predicts price."),
        (FILE, "Predicts the target of a table."),
    ],
)
def test_description_follows_the_data(render: Render, answers: dict[str, str], description: str) -> None:
    assert stored(render(**answers))["description"] == description


def test_defaults_fit_other_answers(copier: CopierFixture, tmp_path: Path) -> None:
    answers = copier.copy(tmp_path / "project", package_name="a_b", min_replicas=7, cpu_request="2").answers
    assert (answers["namespace"], answers["max_replicas"], answers["cpu_limit"]) == ("a-b", 7, "2")


def test_package_name_follows_the_project_name(copier: CopierFixture, tmp_path: Path) -> None:
    project = copier.copy(tmp_path / "project", project_name="7 Crédit Scores")
    assert project.answers["package_name"] == "credit_scores"
    assert (project / "src/credit_scores/__init__.py").is_file()


@pytest.mark.parametrize(("name", "value", "message"), REFUSED, ids=lambda value: ascii(value)[:30])
def test_refuses(copier: CopierFixture, tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="Validation error") as error:
        copier.copy(tmp_path / "project", **{**prepared(name), name: value})
    assert f"'{name}': {message}" in str(error.value)
    assert len(str(error.value)) <= 80 and str(error.value).isprintable()
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_accepts(copier: CopierFixture, tmp_path: Path, name: str, value: Any) -> None:
    project = copier.copy(tmp_path / "project", **{**prepared(name), name: value})
    assert project.answers[name] == value


@pytest.mark.parametrize("name", CHOSEN)
def test_refuses_an_unknown_choice(copier: CopierFixture, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"Invalid choice for '{name}'"):
        copier.copy(tmp_path / "project", **{name: "unknown"})
    assert not (tmp_path / "project").exists()


def test_data_path_is_not_asked_for_the_sample(render: Render) -> None:
    project = render(data_source="sample", data_path="no table")
    assert "data_path" not in stored(project)
    assert toml(project / "config.toml")["contract"]["data"] == "data/loans.csv"


def test_project_slug(render: Render) -> None:
    project = toml(render(package_name="credit_score_2") / "pyproject.toml")["project"]
    assert project["name"] == "credit-score-2"
    assert project["scripts"] == {"credit-score-2": "credit_score_2.__main__:main"}


@pytest.mark.parametrize(
    ("answers", "data", "target"),
    [
        ({}, "data/loans.csv", "loan_accepted"),
        ({"task": "classification"}, "data/loans.csv", "loan_accepted"),
        ({"task": "regression"}, "data/loans.csv", "card_spend"),
        (FILE, "data/train.csv", ""),
        (FILE | {"target_column": "y"}, "data/train.csv", "y"),
        (FILE | {"target_column": "y", "task": "regression"}, "data/train.csv", "y"),
        (FILE | {"data_path": "/abs/x.parquet"}, "/abs/x.parquet", ""),
        ({"data_source": "sample", "target_column": "y"}, "data/loans.csv", "loan_accepted"),
    ],
)
def test_configured_data(render: Render, answers: dict[str, str], data: str, target: str) -> None:
    contract = toml(render(**answers) / "config.toml")["contract"]
    assert contract == {"data": data, "target": target, "task": answers.get("task", "auto")}


def test_configured_target_is_in_the_sample(render: Render) -> None:
    for task in ("classification", "regression"):
        project = render(task=task)
        contract = toml(project / "config.toml")["contract"]
        header = (project / contract["data"]).read_text(encoding="utf-8").splitlines()[0]
        assert contract["target"] in header.split(",")


@pytest.mark.parametrize(
    ("email", "author"),
    [("", {"name": "Ada"}), ("ada@example.com", {"name": "Ada", "email": "ada@example.com"})],
)
def test_author(render: Render, email: str, author: dict[str, str]) -> None:
    project = render(user_name="Ada", user_email=email)
    assert toml(project / "pyproject.toml")["project"]["authors"] == [author]


@pytest.mark.parametrize("estimator", ASKED["estimator"]["choices"].values())
def test_estimator_requirements(render: Render, estimator: str) -> None:
    groups = toml(render(estimator=estimator) / "pyproject.toml")["dependency-groups"]
    train = {requirement.split(">=")[0] for requirement in groups["train"] if isinstance(requirement, str)}
    boosters = {"lightgbm": {"lightgbm"}, "xgboost": {"xgboost", "xgboost-cpu"}}
    assert train & {"lightgbm", "xgboost", "xgboost-cpu"} == boosters.get(estimator, set())


def test_settings_of_the_user(copier_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text(yaml.safe_dump({"defaults": {"user_name": "Ada Ö.", "user_email": "ada@example.com"}}))
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    project = copy(copier_template, tmp_path / "project")
    assert stored(project)["user_name"] == "Ada Ö."
    assert toml(project / "pyproject.toml")["project"]["authors"] == [{"name": "Ada Ö.", "email": "ada@example.com"}]


def test_an_answer_wins_over_the_settings(
    copier_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text("defaults: {user_name: Ada}")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    project = copy(copier_template, tmp_path / "project", {"user_name": "Grace"})
    assert stored(project)["user_name"] == "Grace"


@pytest.mark.parametrize("answers", [{}, FILE, FILE | {"target_column": "y"}, {"estimator": "xgboost"}])
def test_nothing_computed_is_stored(render: Render, answers: dict[str, str]) -> None:
    names = set(stored(render(**answers)))
    assert COMPUTED and not names & set(COMPUTED)
    assert names - {"_commit", "_src_path"} <= set(ASKED)
    assert ({"data_path", "target_column"} <= names) == (answers.get("data_source") == "file")


def test_answers_file_says_who_writes_it(render: Render) -> None:
    project = render()
    assert (project / ".copier-answers.yml").read_text().startswith("# Do not edit")
    assert stored(project)["_commit"] == "99.99.99"


def test_needs_no_trust(copier_template: Path, tmp_path: Path) -> None:
    assert not {"_tasks", "_jinja_extensions", "_migrations", "_external_data"} & QUESTIONS_FILE.keys()
    project = copy(copier_template, tmp_path / "project", unsafe=False)
    assert (project / "pyproject.toml").is_file()


@pytest.mark.parametrize("text", [*HOSTILE, *JINJA], ids=ascii)
def test_hostile_text_arrives_unchanged(render: Render, text: str) -> None:
    answers = {
        "description": text,
        "user_name": text,
        "data_source": "file",
        "data_path": f"data/{text}.csv",
        "target_column": text,
        "license": "MIT",
    }
    project = render(**answers)
    about = toml(project / "pyproject.toml")["project"]
    assert about["description"] == text
    assert about["authors"] == [{"name": text}]
    assert toml(project / "config.toml")["contract"] == {"data": f"data/{text}.csv", "target": text, "task": "auto"}
    assert stored(project).items() >= answers.items()
    assert f"Copyright (c) {text}\n" in (project / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [text for text in HOSTILE if not {*"{}<>`"} & {*text}], ids=ascii)
def test_hostile_project_name_arrives_unchanged(render: Render, text: str) -> None:
    name = f"Loans {text}"
    project = render(project_name=name)
    assert stored(project)["project_name"] == name
    assert toml(project / "pyproject.toml")["project"]["authors"] == [{"name": f"{name} team"}]
    assert (project / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert toml(project / "config.toml")["contract"]["target"] == "loan_accepted"


@pytest.mark.parametrize("email", ["o'brien@example.com", "a%b#c$d@e", "a&b|c~d@e", "a/b=c?d!e^f*@g"])
def test_hostile_email_arrives_unchanged(render: Render, email: str) -> None:
    project = render(user_email=email)
    assert stored(project)["user_email"] == email
    assert toml(project / "pyproject.toml")["project"]["authors"][0]["email"] == email


def test_the_next_steps_make_a_repository_before_they_commit() -> None:
    steps = re.findall(r"^ +(make \w+|git add)", QUESTIONS_FILE["_message_after_copy"], re.MULTILINE)
    assert steps == ["make setup", "make train", "make serve", "git add", "make help"]

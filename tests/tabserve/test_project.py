"""What a project hands over, and that nothing else of it is read."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from tabserve.contract.file import dump
from tabserve.errors import UserError
from tabserve.project import Project
from tabserve.references import application, handed_over, source
from tabserve.tasks.model_file import train_if_missing
from tests.tabserve.conftest import OWN, PACKAGE, SOURCE, Trained
from tests.tabserve.serving.test_api import ONE_MODEL

NAMES = {"pipelines", "features", "application"}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that can be imported as `handed`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "handed", raising=False)
    return tmp_path / "handed.py"


def test_a_reference_leads_to_an_object_and_its_file(module: Path) -> None:
    module.write_text("VALUE = {'a': 1}\n")
    assert handed_over("handed:VALUE") == {"a": 1}
    assert source("handed:VALUE") == module


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("OTHER = 1", "handed.py has no VALUE"),
        (
            "raise ValueError('no such\\nname')",
            "handed.py cannot be imported: ValueError: no such name (handed.py, line 1)",
        ),
        (
            "\nimport nowhere",
            "handed.py cannot be imported: ModuleNotFoundError: No module named 'nowhere' (handed.py, line 2)",
        ),
        ("import ast\nast.nothing", "AttributeError: module 'ast' has no attribute 'nothing' (handed.py, line 2)"),
        ("def broken(:", "handed.py cannot be imported: SyntaxError: "),
    ],
)
def test_what_cannot_be_imported_gets_one_line(module: Path, code: str, message: str) -> None:
    module.write_text(code)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        handed_over("handed:VALUE")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return None", "handed.py: create() must return the application, not None"),
        ("return 5", "handed.py: create() must return the application, not 5"),
        ("return type(settings)", "handed.py: create() must return the application, not <class 'int'>"),
        ("raise ValueError('no')", "handed.py: create() fails: ValueError: no (handed.py, line 2)"),
        ("raise SystemExit(0)", "handed.py: create() fails: SystemExit: 0 (handed.py, line 2)"),
        ("return nowhere.app", "NameError: name 'nowhere' is not defined (handed.py, line 2)"),
        ("raise UserError('as it is')", "as it is"),
    ],
)
def test_an_application_that_cannot_be_made_gets_one_line(module: Path, code: str, message: str) -> None:
    module.write_text(f"def create(settings):\n    {code}\n\nfrom tabserve.errors import UserError\n")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        application("handed:create", 1)
    assert "\n" not in str(error.value)


def test_an_application_takes_settings(module: Path) -> None:
    module.write_text("def create(): ...\nmade = lambda settings: print\nother = 5\n")
    assert application("handed:made", 1) is print
    for name, message in (("create", "takes 0 positional arguments"), ("other", "not callable")):
        with pytest.raises(UserError, match=message):
            application(f"handed:{name}", 1)


def test_a_file_that_is_gone_gets_one_line() -> None:
    assert source("nowhere.pipeline:pipelines") is None
    with pytest.raises(UserError, match=r"^pipeline.py cannot be imported: ModuleNotFoundError: "):
        handed_over("nowhere.pipeline:pipelines")


# --- nothing else of the project is read


def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module of the machinery."""
    return {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (SOURCE / "tabserve").rglob("*.py")}


def test_three_things_are_handed_over() -> None:
    assert set(vars(Project("", "", "", ""))) == {"name"} | NAMES
    asked = {
        ast.unparse(node.args[0])
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("handed_over", "source")
    }
    assert asked <= {"reference"} | {f"project.{name}" for name in NAMES}
    read = {
        node.attr
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "project"
    }
    assert read == {"name"} | NAMES


def test_only_references_and_the_command_line_import_by_name() -> None:
    """Whatever else a module reads of the project's package would need its name."""
    found = {
        (name, ast.unparse(node.func))
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.search(r"import_module|resolve_name|__import__|find_spec", ast.unparse(node.func))
    }
    assert found == {
        ("references.py", "pkgutil.resolve_name"),
        ("references.py", "importlib.util.find_spec"),
        ("cli.py", "import_module"),
    }
    assert PACKAGE not in "".join(map(ast.unparse, trees().values()))


def test_the_own_package_names_what_it_hands_over(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package)
    project = handed_over(f"{PACKAGE}.__main__:PROJECT")
    assert project.name == "loan-offers"
    assert handed_over(project.features) == {}
    assert callable(handed_over(project.pipelines))
    assert callable(handed_over(project.application))
    assert {path.name for path in OWN.glob("*.py")} == {"__init__.py", "__main__.py", "app.py"}


@ONE_MODEL
def test_tasks_that_only_use_the_model_say_that_it_is_old(
    trained: Trained, module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module.write_text("def pipelines(): ...\n")
    Path("model").mkdir()
    Path("model/model.onnx").write_bytes(trained.outcome.model)
    Path("contract.yaml").write_text(dump(trained.contract), encoding="utf-8")
    project = Project("test", pipelines="handed:pipelines", features="", application="")
    os.utime("model/model.onnx", (2e9, 2e9))
    train_if_missing(project)
    assert capsys.readouterr().err == ""
    os.utime(module, (3e9, 3e9))
    train_if_missing(project)
    changed = "handed.py changed after model/model.onnx was trained: run `make train`"
    assert capsys.readouterr().err == f"warning: {changed}\n"
    contract = trained.contract.model_copy(update={"data": "other.csv"})
    Path("contract.yaml").write_text(dump(contract), encoding="utf-8")
    train_if_missing(project)
    assert "contract.yaml changed after model/model.onnx was trained (data: " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^contract.yaml changed after .* becomes other.csv\): run `make train`$"):
        train_if_missing(project, strict=True)

"""The manifests of a project, rendered once; the tests change copies of them."""

import copy
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from kubernetes_validate import utils

from tabserve.operations import check, schemas
from tabserve.operations.manifests import Document, read
from tests.conftest import Render
from tests.tabserve.operations.documents import ADDITIONS, PATHS

Problems = Callable[[list[Document]], list[str]]


@pytest.fixture(scope="session")
def k8s(render: Render) -> Path:
    """The manifests of a project; only read them."""
    return render() / "k8s"


@pytest.fixture
def project(k8s: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with a copy of the manifests."""
    folder = tmp_path / "project"
    shutil.copytree(k8s, folder / "k8s")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def folder(project: Path) -> Path:
    """The copy of the manifests."""
    return project / "k8s"


@pytest.fixture(scope="session")
def applied(k8s: Path) -> list[Document]:
    """The documents that a project applies; only read them."""
    documents, unreadable, unlisted = check.part(k8s)
    assert unreadable + unlisted == []
    return documents


@pytest.fixture(scope="session")
def complete(applied: list[Document]) -> list[Document]:
    """The same with a document of every other kind that has rules; only read them."""
    documents = copy.deepcopy(applied)
    for add in ADDITIONS.values():
        add(documents)
    return documents


@pytest.fixture
def own(applied: list[Document]) -> list[Document]:
    """The documents that a project applies."""
    return copy.deepcopy(applied)


@pytest.fixture
def whole(complete: list[Document]) -> list[Document]:
    """The same with a document of every other kind that has rules."""
    return copy.deepcopy(complete)


@pytest.fixture(scope="session")
def examples(k8s: Path) -> list[Document]:
    """The examples, which are not applied."""
    return read(sorted(k8s.glob(check.EXAMPLES)))[0]


@pytest.fixture(scope="session", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """Keep the schemas in memory; kubernetes-validate reads two megabytes for each document."""
    with mock.patch.object(utils, "schema_contents", functools.cache(utils.schema_contents)):
        yield


@pytest.fixture(scope="session")
def problems_of(examples: list[Document]) -> Problems:
    """What the check says about documents."""

    def problems(documents: list[Document]) -> list[str]:
        wrong = list(schemas.check([*documents, *examples]))
        return wrong or list(dict.fromkeys(check.rules(documents, examples, PATHS)))

    return problems


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine reach the check."""
    monkeypatch.chdir(tmp_path)

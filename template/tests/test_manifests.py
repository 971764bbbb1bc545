"""The manifests in k8s/ agree with each other and with the application."""

from pathlib import Path

from fastapi.testclient import TestClient

from tabserve.operations import check


def test_the_manifests_agree(client: TestClient) -> None:
    assert list(check.in_folder(Path("k8s"), check.paths_of(client.app))) == []

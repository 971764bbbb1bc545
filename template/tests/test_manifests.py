"""The manifests in k8s/ agree with each other and with the application."""

from pathlib import Path

from tabserve.operations import check


def test_the_manifests_agree() -> None:
    assert list(check.in_folder(Path("k8s"))) == []

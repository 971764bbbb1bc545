from tests.conftest import Render


def test_renders(render: Render) -> None:
    assert (render() / "pyproject.toml").is_file()

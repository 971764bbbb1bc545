"""Settings, from `config.toml` and the environment; the environment wins.

`[serve] port = 8080` in the file is `SERVE_PORT=8080` in the environment, and likewise for the other sections.
What is secret, `SERVE_API_KEY`, comes from the environment or `/run/secrets/serve_api_key`, never from the file.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import pydantic
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, ValidatorFunctionWrapHandler, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from tabserve.errors import UserError, suggestion
from tabserve.files import toml

CONFIG = Path("config.toml")
CONTRACT = Path("contract.yaml")
SECRETS = Path("/run/secrets")  # a file for each, mounted by Docker and k8s/deployment.yaml
SECTIONS = ("contract", "train", "check", "serve", "app")  # the last one is for app.py


def _file_name(path: Path) -> Path:
    if not path.name:
        raise ValueError("should name a file")
    return path


def _sendable(key: SecretStr) -> SecretStr:
    """A header carries printable ASCII, and loses blanks at its ends."""
    if not re.fullmatch(r"[!-~]{8,}", key.get_secret_value()):
        raise ValueError("should have 8 or more printable ASCII characters and no blanks")
    return key


Key = Annotated[SecretStr, AfterValidator(_sendable)]
FilePath = Annotated[Path, AfterValidator(_file_name)]


class Section(BaseSettings):
    """One table of `config.toml`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, secrets_dir=SECRETS)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: Any, **sources: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment before secret files before `config.toml`."""
        section = str(settings_cls.model_config["env_prefix"]).rstrip("_").lower()
        secrets = [sources["file_secret_settings"]] if SECRETS.is_dir() else []
        file = InitSettingsSource(settings_cls, _file().get(section, {}))
        return sources["init_settings"], sources["env_settings"], *secrets, file


class ContractSettings(Section, env_prefix="CONTRACT_"):
    """What the first contract is inferred from."""

    data: str = Field(default="data/loans.csv", min_length=1)
    target: str = ""
    task: Literal["auto", "classification", "regression"] = "auto"


class TrainSettings(Section, env_prefix="TRAIN_"):
    """How to train."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    test_size: float = Field(default=0.2, ge=0.01, le=0.99)
    max_rows: int = Field(default=1_000_000, ge=20)
    reports: Path = Path("reports")
    holdout: bool = False


class CheckSettings(Section, env_prefix="CHECK_"):
    """Tolerances of `check-data`."""

    rejected: float = Field(default=0.0, ge=0, le=1)
    psi: float = Field(default=0.25, gt=0)
    fail_on_drift: bool = False
    report: FilePath = Path("reports/check.html")


class ModelSettings(Section, env_prefix="SERVE_", extra="ignore"):
    """What the model is called, where its file is and how it is run: what more than the server needs of `[serve]`."""

    title: str = Field(default="Prediction API", min_length=1)
    project: str = ""  # the name in the metadata of the model; empty: not compared
    model: FilePath = Path("model/model.onnx")
    threads: int = Field(default=1, ge=1, le=256)


class ServeSettings(ModelSettings, extra="forbid"):
    """How to serve."""

    description: str = ""
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    max_rows: int = Field(default=1_000, ge=1)
    max_body_bytes: int = Field(default=2**20, ge=1)
    longest_wait: float = Field(default=1.0, gt=0)
    read_timeout: float = Field(default=30.0, ge=0.1, le=3600)
    drain_seconds: int = Field(default=3, ge=0)
    grace_seconds: int = Field(default=20, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    require_api_key: bool = False
    api_key: Key | None = None
    api_key_previous: Key | None = None

    @field_validator("api_key", "api_key_previous", mode="wrap")
    @classmethod
    def _usable(cls, key: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> SecretStr | None:
        """Where a key is required, an unusable one counts as none: the server starts, but never becomes ready."""
        try:
            return cast(SecretStr | None, check(key))
        except ValueError:
            if info.data.get("require_api_key"):
                return None
            raise

    @property
    def keys(self) -> list[bytes]:
        """The valid keys: during a rotation two."""
        given = (self.api_key, self.api_key_previous)
        return [key.get_secret_value().encode() for key in given if key is not None]


S = TypeVar("S", bound=Section)


def load(kind: type[S], **overrides: Any) -> S:
    """The settings of one section: command-line overrides, then the environment, then `config.toml`.

    Raises `UserError` if `config.toml` is not valid TOML, or a setting is unknown or invalid.
    """
    section = str(kind.model_config["env_prefix"]).rstrip("_").lower()
    given = {name: value for name, value in overrides.items() if value is not None}
    _check_environment(section, kind)
    try:
        return kind(**given)
    except OSError as error:
        raise UserError(f"{SECRETS} cannot be read: {error.strerror} ({error.filename})") from None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            close = suggestion(name, [known for known in kind.model_fields if not known.startswith("api_key")])
            raise UserError(f"{CONFIG}: [{section}] has no setting {name!r}{close}") from None
        shown = "" if name.startswith("api_key") else f", not {first['input']!r}"
        variable = f"{section.upper()}_{name.upper()}"
        where = f"setting {name} ([{section}] {name} in {CONFIG}, or {variable} in the environment)"
        if name.startswith("api_key"):
            where = f"{variable} in the environment, or {SECRETS}/{variable.lower()}"
        if name in given:
            where = f"--{name.replace('_', '-')}"
        raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}{shown}") from None


def _check_environment(section: str, kind: type[Section]) -> None:
    """Variables with the section's prefix may be for others; one that is nearly a setting is a mistake."""
    prefix = f"{section.upper()}_"
    fields = (ServeSettings if issubclass(kind, ModelSettings) else kind).model_fields
    exact = [f"{prefix}{name.upper()}" for name in fields]
    known = {spelling: name for name in exact for spelling in (name, _sorted(name))}
    for name in map(str.upper, os.environ):
        if name.startswith(prefix) and name not in known:
            near = [found for each in (name, _sorted(name)) for found in get_close_matches(each, known, 1, 0.85)]
            if near:
                raise UserError(f"{name} in the environment is not a setting; did you mean {known[near[0]]}?")


def _sorted(name: str) -> str:
    """A name with its words in another order, for names that differ in that."""
    return "_".join(sorted(name.split("_")))


def other_secrets() -> str | None:
    """What to say of secrets that were mounted under names that the server does not know."""
    names = [path.name for path in sorted(SECRETS.glob("[!.]*")) if path.is_file()]
    return f"{SECRETS} holds {', '.join(names)}, but no serve_api_key" if names else None


def _file() -> dict[str, dict[str, Any]]:
    try:
        document = toml(CONFIG)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{CONFIG} cannot be read: {error}") from None
    for name, table in document.items():
        if name not in SECTIONS or not isinstance(table, dict):
            raise UserError(f"{CONFIG}: unknown section {name!r}; sections are {', '.join(SECTIONS)}")
        if secret := next((name for name in table if name.startswith("api_key")), None):
            where = f"remove {secret} and set SERVE_{secret.upper()} in the environment"
            raise UserError(f"{CONFIG} must not hold a secret: {where}")
    return document

"""Credentials of addresses. What is stored has `***` in their place; reading an address puts them back."""

import netrc
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from tabserve.errors import HIDDEN, PARAMETER, USER, UserError, replaced_parameters, without_credentials
from tabserve.settings import ContractSettings, load

HOST = re.compile(r"[^/?#:]*")


def complete(address: str) -> str:
    """The address with its credentials, from `config.toml`, netrc or the environment; `UserError` where one is missing.

    The user and the password of a web address are quoted, so that they may hold any character.
    """
    if HIDDEN in address:
        configured = load(ContractSettings).data
        address = configured if without_credentials(configured) == address else address
    return replaced_parameters(
        USER.sub(lambda found: _user(address, found), address), lambda *one: _value(address, *one)
    )


def with_user(address: str) -> str:
    """The address with `***@` where its last part has no user."""
    start = address.rindex("://") + 3
    return address if USER.match(address, start) else f"{address[:start]}{HIDDEN}@{address[start:]}"


def _user(address: str, found: re.Match[str]) -> str:
    if found[0] != f"{HIDDEN}@":
        user, colon, password = found[0][:-1].partition(":")
        is_web = address[: found.start()].endswith(("http://", "https://"))
        return f"{quote(user, safe='%')}{colon}{quote(password, safe='%')}@" if is_web else found[0]
    user, password = _of_host(HOST.match(address, found.end())[0])  # type: ignore[index]
    if not user and not password:
        raise missing(address, "needs a user and a password")
    return f"{quote(user, safe='')}:{quote(password, safe='')}@"


def _of_host(host: str) -> tuple[str, str]:
    """User and password, from the environment before netrc."""
    if "DATA_USER" in os.environ or "DATA_PASSWORD" in os.environ:
        if absent := [name for name in ("DATA_USER", "DATA_PASSWORD") if name not in os.environ]:
            raise UserError(f"{host} needs a user and a password: {absent[0]} is not set in the environment")
        return os.environ["DATA_USER"], os.environ["DATA_PASSWORD"]
    path = Path(os.environ.get("NETRC") or Path.home() / ("_netrc" if os.name == "nt" else ".netrc"))
    try:
        user, _, password = netrc.netrc(path).authenticators(host) or ("", "", "")
    except FileNotFoundError:
        return "", ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except netrc.NetrcParseError as error:  # its message may quote a password
        raise UserError(f"{path}, line {error.lineno}: not valid for netrc") from None
    return user, password or ""


def missing(address: str, what: str) -> UserError:
    """What to say where a store wants credentials, or others."""
    stored = without_credentials(address)
    has_user, parameters = USER.search(stored), PARAMETER.finditer(stored)
    variables = [_variable(found[1]) for found in parameters if found[2] == HIDDEN]
    if has_user or not variables:
        variables = ["DATA_USER", "DATA_PASSWORD", *variables]
    how = f"set {', '.join(variables)} in the environment"
    netrc = "add the host to ~/.netrc, or " if variables == ["DATA_USER", "DATA_PASSWORD"] else ""
    return UserError(f"{address} {what}: give the whole address with DATA=, {'' if netrc else 'or '}{netrc}{how}")


def _variable(name: str) -> str:
    return f"DATA_{re.sub('[^A-Za-z0-9]+', '_', unquote(name)).upper()}"


def _value(address: str, name: str, value: str) -> str:
    if value != HIDDEN:
        return value
    variable = _variable(name)
    if variable not in os.environ:
        raise UserError(
            f"{address} needs a value for {unquote(name)}: give the whole address with DATA=, or set {variable} in the "
            "environment"
        )
    return quote(os.environ[variable], safe="%")

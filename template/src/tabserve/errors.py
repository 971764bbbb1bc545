"""The one error that users see, and the text that reaches a terminal, a log or a page."""

import difflib
import re
import sys
from collections.abc import Callable, Iterable
from urllib.parse import unquote

HIDDEN = "***"
# ESC and other controls, and what changes the direction or the look of the text around it.
CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
# The user of an address, and its password: all before the last @ ahead of the path (RFC 3986). A password may hold / if
# what follows the colon is not a port. Before an account of Azure, or a branch of GitHub, it is not a credential.
_START = r"(?:(?<=//)|(?<=:/)|(?<=:\\\\))(?!/)(?<!github://)"
_PASSWORD = r":(?!\d{1,5}(?:[/?#'\"\s]|$))"
_ALONE = r"(?<!abfs://)(?<!abfss://)(?<!wasb://)(?<!wasbs://)[^\s/?#:@]*@"
USER = re.compile(
    rf"{_START}(?:[^\s/?#]*:[^\s/?#]*@|[^\s/?#:@[]*{_PASSWORD}(?:(?:(?!://)[^\s?])*|(?:(?!://)[^'\"\n?])*?)@|{_ALONE})"
)
# What is shown may hide more: a password that breaks the rules, with / and @.
SHOWN_USER = re.compile(
    rf"{_START}(?:[^\s/?#:[]*{_PASSWORD}(?:(?:(?!://)\S)*|(?:(?!://)[^'\"\n])*?)@|[^\s/?#]*:[^\s/?#]*@|{_ALONE})"
)
PARAMETER = re.compile(r"(?<=[?&;#])([^\s=&;#?]+)=([^\s&#'\"<>]*)")
HEADER = re.compile(
    r"(?i)((?:authorization|(?:api|account|access)-?key|x-auth|x-session|(?<![\w-])[a-z][\w-]*-(?:token|key|secret|password|signature))"
    r"(?:['\"]?\s*+[:=]|['\"]\s*+,)"
    r"\s*+(?>(?:b(?=['\"]))?['\"]?)(?!\*\*\*))[^\s'\"](?:[^'\"\n]*[^\s'\"])?"
    r"|(cookie['\"]?\s*+[:=,]\s*+(?>(?:b(?=['\"]))?['\"]?)(?!\*\*\*))(?=[^'\"\n]*=)[^\s'\"](?:[^'\"\n]*[^\s'\"])?"
    r"|(\b(?:bearer|basic|negotiate|ntlm)\s+)(?=[\w.~+/=%-]{16}|[a-z]*[\w.~+/=%-]*\d)[\w.~+/=%-]{8,}"
    r"|(\b(?:digest|aws4-[\w-]+)\s+)(?=\w+=.*,).*"
)
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A parameter is shown if people have written its value and its name does not speak of secrets, or if its name is one
# of those whose values may look random.
LETTER = r"[^\W\d_A-Z]"
PLAIN = re.compile(  # no part is tried twice: values come from people, and may be long
    r"(?:[ _.,:;/+*<>|()$-]++|(?<![^\W_])"
    rf"(?:(?:[A-Z]?{LETTER}{{2,20}}+)++|[A-Z]?{LETTER}|[A-Z]{{1,12}}|\d{{1,13}}|\w{{1,7}})(?![^\W_]))*+"
)
SECRET = re.compile(
    r"amz|goog|sig|sign|tok|tk|pat|jwt|sas|hmac|sid|pin|mfa|cvv|hash|policy|nonce|hdnts|hdnea|assertion|verifier|bearer"
    r"|cookie|ticket|session|keys|pass(?:code|phrase)?|psw|cred(?:ential)?s?|auth|(?!monkey|turkey|hockey|jockey).*key"
    r"|.*(?:pass|pwd?|otp|tkn|sess?id|sessionid|pincode|oauth|tempauth)"
    r"|.*(?:authoriz|authentic|authtoken|token|secret|passw|kennwort|signature|credential|keyid|accessid).*"
)
HARMLESS = re.compile(
    "ids?|gid|uuid|files?|doc|data|dataset|resource|sheet|table|url|uri|g|where|select|order|query|filter|columns|fields"
    "|commit|rev|ref|version"
)


class UserError(Exception):
    """An error that the user can fix: one line with what is wrong, where, and how to fix it.

    The command line prints it to standard error without a traceback and exits with code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str, lines: bool = False) -> str:
    """A text that is safe to show and to store: without credentials of addresses, and with controls escaped.

    Args:
        lines: whether it keeps its line ends and tabs.
    """
    return without_controls(without_credentials(SHOWN_USER.sub(f"{HIDDEN}@", text)), lines)


def without_controls(text: str, lines: bool = False) -> str:
    """A text with escapes for controls, as Python and YAML write them in quotes."""
    kept = "\n\t" if lines else ""
    return CONTROLS.sub(lambda found: found[0] if found[0] in kept else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def without_credentials(text: str) -> str:
    """A text with `***` for the credentials in its addresses and headers."""
    addresses = replaced_parameters(USER.sub(f"{HIDDEN}@", text), lambda name, value: HIDDEN)
    return HEADER.sub(lambda found: f"{next(filter(None, found.groups()))}{HIDDEN}", addresses)


def replaced_parameters(text: str, replace: Callable[[str, str], str]) -> str:
    """The text with other values for the secret parameters of its addresses; `replace` gets name and value."""

    def one(found: re.Match[str]) -> str:
        name, value = unquote(found[1]), unquote(found[2])
        shown = not value or (value != HIDDEN and _is_shown(name, value))
        return found[0] if shown else f"{found[1]}={replace(name, found[2])}"

    return PARAMETER.sub(one, text)


def _is_shown(name: str, value: str) -> bool:
    words = [word.lower() for word in WORDS.findall(name)]
    if words and all(map(HARMLESS.fullmatch, words)):
        return not _nests(value)
    secret = name.lower() == "code" or any(SECRET.fullmatch(word) for word in (*words, "".join(words)))
    return not secret and bool(PLAIN.fullmatch(value))


def _nests(value: str) -> bool:
    """Whether the value is an address, or further parameters, with credentials."""
    inner = value if "://" in value else f"?{re.sub('[ ;,+]', '&', value)}"
    return len(value) > 2 and without_credentials(inner) != inner


def say(text: object = "", error: bool = False, end: str = "\n") -> None:
    """Print a text at once, to standard output or to standard error: the only `print` of this package."""
    print(printable(str(text), lines=True), file=sys.stderr if error else sys.stdout, end=end, flush=True)


def one_line(error: Exception) -> str:
    """The message of an error as one line of at most 200 characters."""
    return " ".join(printable(str(error), lines=True).split())[:200] or type(error).__name__


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean ...?` where a known word is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


def first_line(error: Exception) -> str:
    """The first line of the message of an error, at most 200 characters of it."""
    return (printable(str(error), lines=True).strip() or type(error).__name__).splitlines()[0][:200]

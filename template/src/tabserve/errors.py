"""The one error that users see, and the text that reaches a terminal, a log or a page."""

import difflib
import re
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from urllib.parse import unquote

HIDDEN = "***"
# ESC and other controls, and what changes the direction or the look of the text around it.
CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
# A user and a password, up to the last @, as a password may hold / and #; host.org:8080/ is not a user. Or a user
# alone, often a token; before an account of Azure it is a container.
USER = re.compile(
    r"(?:(?<=//)|(?<=:/)|(?<=:\\\\))(?!/)(?:(?!(?:[\w-]+\.[\w.-]+|localhost|\[[^]]*]):\d{1,5}(?:[/?#]|$))[^\s/?#:]*:(?:(?:(?!://)\S)*|(?:(?!://)[^'\"\n])*?)@"
    r"|(?<!abfs://)(?<!abfss://)(?<!wasb://)(?<!wasbs://)[^\s/?#:@]*@)"
)
PARAMETER = re.compile(r"(?<=[?&;#])([^\s=&;#?]+)=([^\s&#'\"<>]*)")
HEADER = re.compile(
    r"(?i)((?:authorization|x-[\w-]*(?:token|secret|password)|api-?key|cookie)"
    r"['\"]?\s*+[:,=]\s*+(?>(?:b(?=['\"]))?['\"]?)(?!\*\*\*))[^\s'\"](?:[^'\"\n]*[^\s'\"])?"
    r"|(\bbearer\s+)(?=[\w.~+/=%-]{8})[\w.~+/=%-]+"
)
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SECRET = re.compile(
    r"sig|signature|token|keys?|secret|pass(?:word|wd|phrase|code)?|pwd?|psw|auth|authorization|cred(?:ential)?s?|bearer"
    r"|session|jwt|sas|hmac|otp|sid|cookie|ticket|tok|tk|pin|sign|hash|policy|hdnts|hdnea|assertion|verifier|nonce"
    r"|.*(?:token|secret|passw|kennwort|signature|credential|tempauth|accessid|keyid).*|(?!monkey|turkey|hockey|jockey).*key"
    r"|(?:api|access|secret|private|account|auth|app|client|o|id|refresh|session|security|sas|user|master|csrf|storage"
    r"|shared|subscription|license|service)+(?:keys?|token|secret|sig|pass(?:word|wd)?|pwd|code|id|auth|credential)"
)
IDENTIFIER = re.compile(r"(?i)(^|[^a-z])(g|file|doc|data|resource|sheet|dataset)?_?-?(id|file|dataset|resource)$")
RANDOM_LENGTH, RANDOM_CHANGES = 20, 8  # characters, and changes between kinds of them, of a value that looks random


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
    hidden = without_credentials(text)
    return CONTROLS.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escaped(found[0]), hidden)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def without_credentials(text: str) -> str:
    """A text with `***` for the credentials in its addresses and headers."""
    addresses = replaced_parameters(USER.sub(f"{HIDDEN}@", text), lambda name, value: HIDDEN)
    return HEADER.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", addresses)


def replaced_parameters(text: str, replace: Callable[[str, str], str]) -> str:
    """The text with other values for the secret parameters of its addresses; `replace` gets name and value."""

    def one(found: re.Match[str]) -> str:
        name, value = unquote(found[1]), unquote(found[2])
        secret = found[2] and (value == HIDDEN or _is_secret(name) or _is_random(name, value) or _nests(value))
        return f"{found[1]}={replace(name, found[2])}" if secret else found[0]

    return PARAMETER.sub(one, text)


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in WORDS.findall(name)]
    known = name.lower().startswith(("x-amz-", "x-goog-")) or name.lower() == "code"
    return known or any(SECRET.fullmatch(word) for word in (*words, "".join(words)))


def _nests(value: str) -> bool:
    """Whether the value is an address, or further parameters, with credentials."""
    inner = f"?{value}".replace(";", "&") if ";" in value else value
    return len(value) > 2 and without_credentials(inner) != inner


def _is_random(name: str, value: str) -> bool:
    """Whether letters and digits are mixed as nobody writes them, unless it is what identifies a file."""
    if IDENTIFIER.search(name):
        return False
    plain = re.search(rf"[A-Za-z0-9]{{{RANDOM_LENGTH},}}", value) or re.fullmatch(
        rf"[\w+/=~-]{{{RANDOM_LENGTH},}}", value
    )
    if not plain or not re.search("[0-9]", plain[0]) or not re.search("[A-Za-z]", plain[0]):
        return False
    kinds = [character.isdigit() + 2 * character.isupper() for character in plain[0]]
    changes = sum(left != right for left, right in pairwise(kinds))
    return plain[0].isalnum() or changes >= RANDOM_CHANGES


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

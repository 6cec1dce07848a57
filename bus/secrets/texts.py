"""Removes secrets from texts: by shape, or because they are known.

Known secrets are the values redacted elsewhere in this process, and those in the environment under
a secret's name; so an exception's text does not reveal them either.
"""

import json
import os
import re
from collections.abc import Mapping
from urllib.parse import quote

from .names import counts_something, is_secret_name, is_secret_outright

STRUCK_OUT = "***"
MAX_KNOWN = 1000
_LEAST_CHARS = 6  # shorter ones occur in too many words
_LONG_CHARS = 16

# The login in a URL. A password may contain any characters, "@" and "/" too; a port is none.
_IN_URL = re.compile(
    r"(?<=:/)/*(?:[^/?#\s\"'<>:@]{0,200}:(?!\d+(?:[/?#]|$))[^\s\"'<>]{0,400}@|[^/?#\s\"'<>]{1,400}@)"
)
_LOGIN = re.compile(
    r"(?<![\w/:@.+%-])(?!mailto:)[\w.+%-]{1,64}:[^\s\"'<>/]{1,200}@(?=[\w\[])(?!sha256:)"
)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s*[:=]\s*)([\"']?)([^\"'\r\n]+)", re.I
)
_SCHEME = re.compile(
    r"\b(bearer|basic|digest)\s+(?=[^\s\"']{0,200}[\d=._~+/-])[^\s,;\"'}\]]{4,}", re.I
)
_QUERY = re.compile(r"([?&;#]([\w.$%-]+)=)([^&#\s\"'<>;]+)")
_IN_QUERIES = frozenset(["sig", "signature", "x-amz-signature", "code"])
_NAMED = re.compile(r"([\w.$-]{1,80})[\"']?\s*(?:=|:(?!//))\s*")
_VALUE = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|([^\s,;&\"'})\]]+)")
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.I)
_HEXADECIMAL = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")
_BASE64 = re.compile(r"[\w+/~-]{24,}={0,2}", re.ASCII)
_DIGITS = re.compile(r"\d+")
_PLAIN_WORDS = frozenset(["none", "null", "true", "false", ""])
_SHAPES = re.compile(
    "|".join(
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
            r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{12,}\b",  # AWS
            r"\bgh[pousr]_[A-Za-z0-9]{16,}",
            r"\bgithub_pat_\w{16,}",
            r"\bglpat-[\w-]{16,}",
            r"\bhf_[A-Za-z0-9]{16,}",
            r"\bsk-(?=[\w-]{0,80}\d)[\w-]{16,}",  # OpenAI and others
            r"\b[sr]k_(?:live|test)_\w{10,}",
            r"\bwandb_v\d_\w{16,}",
            r"(?<![\w/@.-])[0-9a-f]{40}(?![\w-])",  # W&B
            r"\bdapi[0-9a-f]{32}\b",
            r"\bxox[abeoprs]-[\w-]{10,}",
            r"\bAIza[\w-]{30,}",
            r"\bnpm_[A-Za-z0-9]{30,}",
            r"\bpypi-[\w-]{30,}",
            r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",  # JSON web tokens
            r"(?<=hooks\.slack\.com/services/)[\w/]+",
        )
    )
)
# A text of this name with 40 digits is a version, not W&B's key.
_OF_VERSIONS = re.compile("commit|sha|hash|rev|digest|checksum|version|git", re.I)
_FORTY = re.compile("[0-9a-f]{40}")

_known: dict[str, tuple[str, ...]] = {}  # secret -> its forms


def remember(secret: str, outright: bool = False) -> None:
    """Have a secret removed from all texts from now on.

    Secrets that are too short or too much like a word are not: ``key="val_loss"`` must not remove a
    metric's name.

    Args:
        secret: the value.
        outright: its name is certain.
    """
    text = secret.strip()
    is_telling = outright or len(text) >= _LONG_CHARS or any(c.isdigit() for c in text)
    if len(text) < _LEAST_CHARS or not is_telling or _NUMBER.fullmatch(text):
        return
    if text.lower() not in _PLAIN_WORDS and len(_known) < MAX_KNOWN:
        _known[text] = _forms(text)


def strike_known(text: str, in_environment: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """Return the text without known secrets.

    Args:
        text: the text.
        in_environment: what ``secrets_in_environment`` found, for many texts; it is called if not
            given.
    """
    found = secrets_in_environment() if in_environment is None else in_environment
    forms = {**_known, **found}
    for secret in sorted(forms, key=len, reverse=True):
        for form in forms[secret]:
            if form in text:
                text = text.replace(form, STRUCK_OUT)
    return text


def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it is in texts: plain, as in repr and JSON, and as in a URL."""
    in_url = quote(secret, safe="", errors="replace")  # a variable may hold what is no UTF-8
    return secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], in_url


def secrets_in_environment() -> dict[str, tuple[str, ...]]:
    """Return the values that the environment has now under a secret's name, with their forms."""
    secret = [name for name in os.environ if is_secret_name(name)]  # values take longer to get
    values = [os.environ.get(name, "") for name in secret]
    return {
        value: _forms(value)
        for value in values
        if len(value) >= _LEAST_CHARS + 2
        and not value.startswith("/")
        and not _NUMBER.fullmatch(value)
    }


def strike_shapes(text: str, name: object = "") -> str:
    """Return the text without what has the shape of a secret.

    That is: logins in URLs, headers, parameters of queries, keys of well-known services.

    Args:
        text: the text.
        name: its name; a commit's text is not a key.
    """
    text = _IN_URL.sub(_login, text)
    text = _LOGIN.sub(_login, text)
    text = _HEADER.sub(rf"\1\2\3{STRUCK_OUT}", text)
    text = _SCHEME.sub(_scheme, text)
    text = _QUERY.sub(_in_query, text)
    if _FORTY.fullmatch(text) and _OF_VERSIONS.search(str(name)):
        return text
    return _SHAPES.sub(STRUCK_OUT, text)


def _login(found: re.Match[str]) -> str:
    who = found[0].lstrip("/")
    slashes = found[0][: -len(who)]
    remember(who[:-1].partition(":")[2])
    return f"{slashes}{STRUCK_OUT}@"


def _scheme(found: re.Match[str]) -> str:
    remember(found[0].split()[1])
    return f"{found[1]} {STRUCK_OUT}"


def _in_query(found: re.Match[str]) -> str:
    if found[2].lower() not in _IN_QUERIES and not hides(found[2], found[3]):
        return found[0]
    remember(found[3])
    return f"{found[1]}{STRUCK_OUT}"


def strike_named(text: str, outright: bool = False) -> str:
    """Return the text without what follows a secret's name and ``=`` or ``:`` in it.

    So it is in JSON, in DSNs and in lines of an environment.

    Args:
        text: the text.
        outright: only what follows a certain name, or was drawn at random; for prose.
    """
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(text):
        if found.start() < done or not is_secret_name(name := found[1]):
            continue
        value = _VALUE.match(text, found.end())
        if value is None:
            continue
        group = value.lastindex or 0
        if outright and not (is_secret_outright(name) or _is_drawn(value[group])):
            continue
        if hides(name, value[group]):
            remember(value[group], is_secret_outright(name))
            parts += text[done : value.start(group)], STRUCK_OUT
            done = value.end(group)
    return "".join([*parts, text[done:]])


def _is_drawn(text: str) -> bool:
    """Return whether nobody writes such a text by hand: it was drawn at random, and encoded."""
    if _HEXADECIMAL.fullmatch(text):
        return True
    is_mixed = text.lower() != text != text.upper() and len(_DIGITS.findall(text)) > 1
    return is_mixed and _BASE64.fullmatch(text) is not None


def hides(name: object, text: str) -> bool:
    """Return whether a text of this name is a secret; a number may be written as a text.

    Args:
        name: the name.
        text: the value.
    """
    if not is_secret_name(name) or text.lower() in _PLAIN_WORDS or text == STRUCK_OUT:
        return False
    if _NUMBER.fullmatch(text):
        return is_secret_outright(name) or not counts_something(name)
    return True

"""Striking out what is secret, before anything is written."""

import re
from collections.abc import Mapping
from typing import Any

STRUCK_OUT = "***"

_IN_ARGUMENTS = re.compile(r"token|key|passw|pwd|secret|credential|auth|bearer", re.IGNORECASE)
_URL_USER = re.compile(r"(?<=://)[^/@\s]+@")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset(
    [
        "token",
        "tokens",
        "key",
        "keys",
        "apikey",
        "accesskey",
        "secretkey",
        "pass",
        "passwd",
        "password",
        "passwords",
        "passphrase",
        "pwd",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "auth",
        "authorization",
        "bearer",
    ]
)


def redact(arguments: list[str]) -> list[str]:
    """A command line with what looks secret struck out: the values of options of such a name,
    what follows such a name and ``=`` or ``:`` within an argument, and who logs in to a URL.
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("--"):
            shown.append(STRUCK_OUT)
            hide_next = False
            continue
        secret = _IN_ARGUMENTS.search(argument)
        # The first separator behind the name: what is before it may be looked at.
        sign = re.search("[=:]", argument[secret.end() :]) if secret else None
        if secret and sign:
            shown.append(argument[: secret.end() + sign.end()] + STRUCK_OUT)
        else:
            shown.append(_URL_USER.sub(f"{STRUCK_OUT}@", argument))
        hide_next = bool(secret) and not sign and argument.startswith("-")
    return shown


def is_secret_name(name: object) -> bool:
    """Whether a setting of this name holds a secret: ``hf_token`` and ``apiKey`` do, ``tokenizer``
    and ``author`` do not.
    """
    return any(word.lower() in _SECRET_WORDS for word in _WORD.findall(str(name)))


def redact_setting(name: object, value: Any) -> Any:
    """A setting's value, struck out if its name says that it is secret; numbers are kept, because
    ``max_tokens`` is none. In mappings and sequences each value is looked at.
    """
    if isinstance(value, Mapping):
        return {key: redact_setting(key, entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redact_setting(name, entry) for entry in value]
    if isinstance(value, str):
        if value and is_secret_name(name):
            return STRUCK_OUT
        return _URL_USER.sub(f"{STRUCK_OUT}@", value)
    if isinstance(value, bytes) and is_secret_name(name):
        return STRUCK_OUT
    return value

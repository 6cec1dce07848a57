"""Recognises names of secrets.

A name is split into words, at underscores, punctuation and capitals. A word is looked up as it is,
by its end (``authtoken``), and together with the word before it (``db_pass``).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PASSWORDS = (
    "passwd|password|passwords|passphrase|passphrases|passcode|passkey|passwort|pwd|pswd|pw|"
    "secret|secrets|credential|credentials|creds"
)
_SECRET = frozenset(
    f"{_PASSWORDS}|cred|token|tokens|key|keys|pass|auth|oauth|authorization|authentication|bearer|"
    "jwt|otp|totp|cookie|cookies|sessionid".split("|")
)
_SECRET_ENDING = re.compile(
    "(?:token|tokens|auth|apikey|apikeys|passwd|password|passwords|passphrase|passcode|passwort|"
    "pwd|secret|secrets|credential|credentials)$"
)
# Certain names of secrets: a number of this name is secret too.
_OUTRIGHT = frozenset(f"{_PASSWORDS}|authtoken|accesstoken|apitoken|bottoken".split("|"))
_OUTRIGHT_ENDING = re.compile(
    "(?:passwd|password|passwords|passphrase|passcode|passwort|pwd|secret|secrets|apikey)$"
)
_OF_KEYS = (
    "access|account|api|auth|aws|client|deploy|encryption|gpg|hf|host|license|master|openai|pgp|"
    "private|rsa|sas|secret|service|shared|signing|ssh|storage|store|wandb"
)
_OF_PASSWORDS = (
    "admin|amqp|app|auth|aws|cert|db|dev|elastic|email|ftp|git|host|http|https|imap|key|keystore|"
    "ldap|login|mail|minio|mongo|my|mysql|net|pdf|pem|pg|pop|postgres|prod|proxy|rabbit|redis|root|"
    "server|service|sftp|smtp|sql|ssh|store|sudo|svc|user|usr|vpn|wifi|zip"
)
_COMPOUND = re.compile(f"(?:{_OF_KEYS})keys?|(?:{_OF_PASSWORDS})pass")
_EXACTLY = frozenset(["pass", "pin"])
# Names of tokens of texts: pad_token="<pad>".
_OF_TEXTS = frozenset(
    [
        "pad",
        "eos",
        "bos",
        "unk",
        "mask",
        "sep",
        "cls",
        "special",
        "image",
        "audio",
        "video",
        "start",
        "stop",
        "begin",
        "end",
    ]
)
# A number of such a name is a count or measure.
_COUNTS = frozenset(
    [
        "block",
        "chunk",
        "count",
        "dim",
        "dims",
        "dimension",
        "embed",
        "heads",
        "hidden",
        "id",
        "ids",
        "layers",
        "len",
        "length",
        "limit",
        "max",
        "min",
        "n",
        "new",
        "num",
        "number",
        "per",
        "rate",
        "ratio",
        "size",
        "step",
        "steps",
        "total",
        "type",
        "vocab",
        "weight",
    ]
)
_SEVERAL = frozenset(["tokens", "keys", "passwords", "secrets", "credentials", "creds", "auth"])


def is_secret_name(name: object) -> bool:
    """Return whether a setting of this name holds a secret.

    ``hf_token``, ``apiKey`` and ``dbpass`` do, ``tokenizer``, ``author`` and ``pad_token`` do not.
    """
    return _is_secret_name(str(name))


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = _words(name)
    if len(words) == 1 and words[0] in _EXACTLY:
        return True
    found = {word for word in words if word in _SECRET or _SECRET_ENDING.search(word)}
    if found and found <= {"token", "tokens"} and not _OF_TEXTS.isdisjoint(words):
        return False
    return bool(found) or any(map(_COMPOUND.fullmatch, _with_pairs(words)))


def is_secret_outright(name: object) -> bool:
    """Return whether the name is certain enough that a number is a secret too.

    ``password`` is, ``max_tokens`` is not.
    """
    words = _words(name)
    if len(words) == 1 and words[0] in _EXACTLY:
        return True
    return any(
        word in _OUTRIGHT or _OUTRIGHT_ENDING.search(word) or _COMPOUND.fullmatch(word)
        for word in _with_pairs(words)
    )


def names_several(name: object) -> bool:
    """Return whether the name may mean several secrets, such as ``tokens``."""
    words = _words(name)
    return bool(words) and words[-1] in _SEVERAL


def counts_something(name: object) -> bool:
    """Return whether a number of this name is a quantity though it sounds secret: ``key_dim``."""
    words = _words(name)
    return "tokens" in words or "keys" in words or not _COUNTS.isdisjoint(words)


def _words(name: object) -> list[str]:
    return [word.lower() for word in _WORD.findall(str(name))]


def _with_pairs(words: Sequence[str]) -> list[str]:
    """Return the words, and each joined to the one before it."""
    return [*words, *(first + second for first, second in pairwise(words))]

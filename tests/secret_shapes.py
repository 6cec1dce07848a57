"""Secrets in the shapes in which users have them: as hyperparameters, and on the command line.

Each has a text of its own, so that a test says which shape got through.
"""

import argparse
import collections
import dataclasses
import enum
import functools
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

import nightbus as nb


@dataclasses.dataclass
class Login:
    user: str
    api_key: str


@dataclasses.dataclass(frozen=True)
class Frozen:
    dbPassword: str  # as some write it


class Pair(NamedTuple):
    host: str
    secret: str


class Packed(msgspec.Struct, frozen=True):
    passphrase: str


class Account:
    """An object of a class that nobody knows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Account(password={self.text!r})"


class Registered(Account):
    """One whose class says what checkpoints keep of it."""


def _enum(text: str) -> Any:
    return enum.Enum("Credential", {"A": text}).A  # type: ignore[attr-defined]


def register() -> None:
    """Have checkpoints carry the classes here."""
    for kind in (Login, Frozen, Pair, Packed):
        nb.register_type(kind)
    nb.register_type(Registered, lambda found: {"token": found.text}, lambda _: Registered(""))


def canary(number: int) -> str:
    """A secret that no other shape has."""
    return f"CaNaRy{number:03d}zQ"


# name of the hyperparameter -> its value, of a secret
_HPARAMS: list[tuple[str, Callable[[str], Any]]] = [
    ("hub_token", str),
    ("authtoken", str),
    ("dbpass", str),
    ("db_pass", str),
    ("apiKey", str),
    ("dbPassword", str),
    ("AWS_SECRET_ACCESS_KEY", str),
    ("WANDB_API_KEY", str),
    ("passphrase", str),
    ("pwd", str),
    ("smtp.password", str),
    ("private-key", str),
    ("jwt", str),
    ("token_of_bytes", str.encode),
    ("credentials", lambda text: {"id": text}),
    ("auth", lambda text: {"deep": [{"deeper": text}]}),
    ("secret", pathlib.Path),
    ("tokens", lambda text: {text}),
    ("access_tokens", lambda text: frozenset([text])),
    ("secret_keys", lambda text: [text, text]),
    ("passwords", lambda text: (text, 1)),
    ("key_queue", lambda text: collections.deque([text])),
    ("account_password", Account),
    ("login_token", lambda text: Login("me", text)),
    ("secret_of_enum", _enum),
    ("secret_call", lambda text: functools.partial(print, text)),
    ("secret_namespace", lambda text: types.SimpleNamespace(value=text)),
    ("config_of_fields", lambda text: Login("me", text)),
    ("config_frozen", Frozen),
    ("config_tuple", lambda text: Pair("host", text)),
    ("config_struct", Packed),
    ("config_namespace", lambda text: argparse.Namespace(dbpass=text, lr=1.0)),
    ("config_simple", lambda text: types.SimpleNamespace(apiKey=text)),
    ("config_registered", Registered),
    ("config_in_a_list", lambda text: [Login("me", text)]),
    ("config_object_in_a_dict", lambda text: {"account": Account(text)}),
    ("nested", lambda text: {"storage": {"secretKey": text, "region": "north"}}),
    ("logins", lambda text: [{"password": text}]),
    ("in_a_tuple", lambda text: ({"token": text}, 1)),
    ("pairs", lambda text: [("api_key", text), ("lr", "0.1")]),
    ("environment", lambda text: [{"name": "API_TOKEN", "value": text}]),
    ("lines", lambda text: [f"DB_PASS={text}", "EPOCHS=3"]),
    ("command", lambda text: ["train.py", "--token", text]),
    ("shell", lambda text: f"export HF_TOKEN={text}; python train.py"),
    ("document", lambda text: f'{{"user": "me", "api_key": "{text}"}}'),
    ("dsn", lambda text: f"host=db user=me password={text} dbname=x"),
    ("connection", lambda text: f"Server=db;User=me;Password={text};"),
    ("url", lambda text: f"postgres://me:{text}@host/db"),
    ("url_with_sign", lambda text: f"postgres://me:p@{text}@host/db"),
    ("url_with_slash", lambda text: f"postgres://me:p/w@{text}@host/db"),
    ("url_of_path", lambda text: pathlib.Path(f"s3://me:{text}@host/db")),
    ("url_in_a_set", lambda text: {f"https://{text}@host"}),
    ("url_as_a_key", lambda text: {f"https://me:{text}@host": 1}),
    ("url_of_bytes", lambda text: {"to": f"https://me:{text}@host".encode()}),
    ("proxy", lambda text: f"me:{text}@host:3128"),
    ("query", lambda text: f"https://host/x?lr=1&token={text}&b=2"),
    ("signed", lambda text: f"https://host/x?X-Amz-Signature={text}"),
    ("header", lambda text: f"Authorization: Bearer {text}"),
    ("bearer_value", lambda text: f"Bearer {text}"),
    ("headers", lambda text: {"Authorization": f"Basic {text}", "Accept": "*/*"}),
    ("cookies_header", lambda text: f"Cookie: session={text}; a=b"),
    ("aws", lambda text: f"AKIA{text.upper():0<16}"),
    ("github", lambda text: f"ghp_{text:x<36}"),
    ("github_new", lambda text: f"github_pat_{text:x<36}"),
    ("hub", lambda text: f"hf_{text:x<34}"),
    ("openai", lambda text: f"sk-proj-{text:x<40}"),
    ("wandb", lambda text: text.encode().hex().ljust(40, "0")),
    ("web_token", lambda text: f"eyJhbGciOiJI.{text:x<20}.sig"),
    ("pem", lambda text: f"-----BEGIN RSA PRIVATE KEY-----\n{text}\n-----END RSA PRIVATE KEY-----"),
]
# words of the command line, of a secret
_ARGUMENTS: list[Callable[[str], list[str]]] = [
    lambda text: ["--passphrase", text],
    lambda text: ["--pass", text],
    lambda text: ["--api-token", text],
    lambda text: ["-api_key", text],
    lambda text: [f"--password={text}"],
    lambda text: [f"--dbPassword={text}"],
    lambda text: ["--authtoken", text],
    lambda text: ["--secrets", "one-more-word", text],
    lambda text: [f"trainer.wandb_key={text}"],
    lambda text: [f"DB_PASS={text}"],
    lambda text: [f"https://me:p@{text}@host/data"],
    lambda text: [f"--url=https://me:p@{text}@host/data"],
    lambda text: [f"--url=https://host/x?token={text}"],
    lambda text: [f"me:{text}@host"],
    lambda text: ["--header", f"Authorization: Bearer {text}"],
    lambda text: ["-H", f"X-Api-Key: {text}"],
    lambda text: ["--overrides", f"lr=1,token={text},n=2"],
    lambda text: [f'{{"api_key": "{text}"}}'],
    lambda text: [f"hf_{text:x<34}"],
]

# shape -> its secret
SECRETS: Mapping[str, str] = {
    name: canary(number)
    for number, name in enumerate(
        [
            *(name for name, _ in _HPARAMS),
            *(f"argument {number}" for number in range(len(_ARGUMENTS))),
            "an error's message",
            "the environment",
        ]
    )
}


def hyperparameters() -> dict[str, Any]:
    """One of each shape."""
    return {name: make(SECRETS[name]) for name, make in _HPARAMS}


def arguments() -> list[str]:
    """A command line with one of each shape."""
    return [
        word
        for number, make in enumerate(_ARGUMENTS)
        for word in make(SECRETS[f"argument {number}"])
    ]

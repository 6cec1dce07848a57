"""Alert: who is told of what, how often, and what is kept of it."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio
from models import Small, events, loader, trainer
from trio.testing import MockClock

import nightbus as nb
from nightbus.actors.alert_senders import CommandSender, WebhookSender

MESSAGE = {"text": "m-1: completed", "run": "m-1"}


class Webhook:
    """A server that keeps what it is sent, and answers with statuses in turn."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.statuses = [200]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(json.loads(body))
                self.send_response(outer.statuses[min(len(outer.got), len(outer.statuses)) - 1])
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hooks/T0/verysecretword"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


class Sent:
    """Takes the place of what sends; fails as often as it is told."""

    name = "test"

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.failures = failures

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        self.messages.append(message)
        if len(self.messages) <= self.failures:
            raise OSError("no route")

    @property
    def occasions(self) -> list[str]:
        return [message["occasion"] for message in self.messages]


class Run:
    """The run as an alert sees it."""

    run_path = None
    ending: tuple[str, str] | None = None

    def __init__(self) -> None:
        self.now: object = 0
        self.recorded: list[tuple[Any, ...]] = []

    def progress(self) -> object:
        return self.now

    def emit(self, kind: type[nb.Event], *fields: Any, source: str = "") -> None:
        assert kind is nb.AlertSent
        self.recorded.append(fields)


async def watching(sent: Sent, **arguments: Any) -> tuple[nb.Alert, Run]:
    alert, run = nb.Alert(command=["true"], **arguments), Run()
    alert._sender = sent
    alert._nightbus_context = run  # type: ignore[assignment]
    await alert.on_start()
    return alert, run


def put(name: str, value: float, step: int = 0) -> nb.Put:
    return nb.Put(0, 0, 0, "train", 0, step, 0, 0, "module", name, value, (), "")


def test_a_crash_is_told_before_its_exception_goes_on_and_the_address_is_kept_nowhere(
    tmp_path: Path, webhook: Webhook
) -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("rate", float("nan"))
            raise ValueError(f"cannot reach {webhook.address}")

    run = trainer(tmp_path, actors=nb.Alert(webhook.address))

    with pytest.raises(ValueError, match="cannot reach"):
        run.fit(Fails(), loader())

    assert [message["occasion"] for message in webhook.got] == ["nan", "crash"]
    assert webhook.got[1]["text"].endswith(": failed: ValueError: cannot reach ***")
    recorded = events(run, nb.AlertSent)
    assert [(each.to, each.attempts, each.problem) for each in recorded] == [
        ("webhook 127.0.0.1", 1, "")
    ] * 2
    assert run.run_folder is not None
    for path in run.run_folder.path.rglob("*"):
        assert not path.is_file() or b"verysecretword" not in path.read_bytes(), path


async def test_what_is_not_delivered_is_tried_again_later_each_time(
    autojump_clock: MockClock,
) -> None:
    sent = Sent(failures=3)
    alert, run = await watching(sent)
    begin_s = trio.current_time()

    await alert._take(put("loss", float("inf")))

    assert trio.current_time() - begin_s >= 1 + 2 + 4
    assert [fields[3:] for fields in run.recorded] == [(4, "")]


async def test_a_message_is_given_up_and_that_is_recorded(autojump_clock: MockClock) -> None:
    alert, run = await watching(Sent(failures=9), attempts=2)

    await alert._take(put("loss", float("nan")))

    assert [fields[2:] for fields in run.recorded] == [("test", 2, "OSError: no route")]


async def test_a_hang_is_told_once_and_again_after_progress(autojump_clock: MockClock) -> None:
    sent = Sent()
    alert, run = await watching(sent, hang=60)

    for now in (1, 1, 1, None, 2, 2):
        run.now = now
        await alert._on_poll()
        await trio.sleep(61)

    assert sent.occasions == ["hang", "hang"]


async def test_a_condition_is_told_when_it_becomes_true() -> None:
    sent = Sent()
    alert, _ = await watching(sent, when="loss > 2 and step > 0", on=())

    for step, value in enumerate((3.0, 3.0, 4.0, 1.0, float("nan"), 5.0)):
        await alert._take(put("loss", value, step))

    assert sent.occasions == ["when", "when"]
    assert sent.messages[0]["text"].endswith("loss is 3.0 (epoch 0, step 1)")


@pytest.mark.parametrize(
    ("when", "told"), [("step > 1", ["when"]), ("loss.min < 2", ["when"]), ("loss.max < 2", [])]
)
async def test_a_condition_may_be_on_a_place_or_on_the_lowest_of_all_values(
    when: str, told: list[str]
) -> None:
    sent = Sent()
    alert, _ = await watching(sent, when=when, on=())

    for step, value in enumerate((3.0, 1.0, 3.0)):
        await alert._take(put("loss", value, step))

    assert sent.occasions == told


@pytest.mark.parametrize("argument", ["when", "plateau"])
def test_a_metric_that_never_came_is_said_at_the_end(
    tmp_path: Path, argument: str, capfd: pytest.CaptureFixture[str]
) -> None:
    watched = {"when": "val_los > 2 and train_loss > 0", "plateau": "val_los"}[argument]
    alert = nb.Alert(command=["true"], on=(), **{argument: watched})  # type: ignore[arg-type]

    trainer(tmp_path, max_epochs=1, actors=alert).fit(Small(), loader())

    (said,) = (line for line in capfd.readouterr().err.splitlines() if "Alert waited" in line)
    assert "'val_los'" in said


async def test_a_plateau_is_told_once_until_the_metric_improves() -> None:
    sent = Sent()
    alert, _ = await watching(sent, plateau="loss", patience=2, on=())

    for value in (3.0, 3.0, 3.5, 3.0, 2.0, 2.0, 2.0):
        await alert._take(put("loss", value))

    assert sent.occasions == ["plateau", "plateau"]


def test_the_end_of_a_run_is_told_before_its_log_ends(tmp_path: Path) -> None:
    alert, sent = nb.Alert(command=["true"]), Sent()
    alert._sender = sent
    run = trainer(tmp_path, max_epochs=1, actors=alert)

    run.fit(Small(), loader())

    assert sent.occasions == ["end"]
    assert [each.text.split(": ")[1] for each in events(run, nb.AlertSent)] == ["completed"]


def test_chats_get_the_field_that_they_take() -> None:
    assert WebhookSender("https://hooks.slack.com/services/T/B/x")._field == "text"
    assert WebhookSender("https://discord.com/api/webhooks/1/x")._field == "content"
    assert WebhookSender("https://notslack.com/x")._field is None


def test_an_answer_that_is_none_of_success_is_no_delivery(webhook: Webhook) -> None:
    webhook.statuses = [302, 500]
    sender = WebhookSender(webhook.address)

    for status in ("302", "500"):
        with pytest.raises(OSError, match=status):
            sender.send(MESSAGE, 30.0)


def test_a_program_gets_the_text_and_the_rest_as_json(tmp_path: Path) -> None:
    keeps = "import sys; open(sys.argv[1], 'w').write(sys.argv[2] + sys.stdin.read())"

    CommandSender([sys.executable, "-c", keeps, str(tmp_path / "got")]).send(MESSAGE, 60.0)

    assert (tmp_path / "got").read_text() == MESSAGE["text"] + json.dumps(MESSAGE)
    with pytest.raises(OSError, match="ended with 1"):
        CommandSender(["false"]).send(MESSAGE, 60.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "expected a webhook or a command"),
        ({"webhook": "ftp://secret"}, "begins with https://"),
        ({"command": "notify-send x"}, "expected a list of a program"),
        ({"command": ["true"], "on": ("oom",)}, "on='oom'"),
        ({"command": ["true"], "hang": 0}, "expected seconds, more than 0"),
        ({"command": ["true"], "when": "loss >"}, "loss >"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(nb.UsageError, match=said) as caught:
        nb.Alert(**arguments)
    assert "secret" not in str(caught.value)

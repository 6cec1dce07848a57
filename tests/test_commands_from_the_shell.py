"""Commands that users define are sent from the shell to actors of a run in another process."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers import eventually, nightbus
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small, events, loader, trainer
from steered_runs import Training, recorded, talk, training

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.control.named_command import named_command
from nightbus.bus.control.protocol import Request, encode_line
from nightbus.bus.control.verbs import VERBS, WORDS
from nightbus.bus.errors import ControlError, UsageError
from nightbus.bus.inspection.control_client import send
from nightbus.bus.named_types import names_below

pytestmark = pytest.mark.long

PROGRAM = Path(__file__).parent / "commanded_process.py"
SET_RATE = ("--to", "rates", "--command", "tests.SetRate")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    with training(tmp_path_factory.mktemp("commanded"), program=PROGRAM) as started:
        yield started


def sent(live: Training, *arguments: str) -> subprocess.CompletedProcess[str]:
    return nightbus("send", live.run.path, *arguments)


Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """``nightbus send`` in this process, which is quicker; the run is in another one."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = ["send", *map(str, arguments)]
        try:
            code = main(words)
        except SystemExit as ended:  # of argparse
            code = int(str(ended.code))
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, shown.out, shown.err)

    return call


def asked(live: Training, to: str, command: str, fields: str = "{}") -> Any:
    """The answer, sent as it is."""
    raw = msgspec.Raw(fields.encode())
    return send(live.run, Request("command", to=to, command=command, arguments=raw))


# -- what is done --------------------------------------------------------------------------------


def test_a_command_is_delivered_at_a_safe_point_and_its_reply_is_printed(live: Training) -> None:
    first = sent(live, *SET_RATE, "--json", '{"rate": 0.25}')
    second = sent(live, *SET_RATE, "--json", '{"rate": 0.1,\n "why": "back"}')

    assert first.returncode == second.returncode == 0
    assert first.stdout.startswith("tests.SetRate: 0.1; now epoch ")
    assert second.stdout.startswith("tests.SetRate: 0.25; now epoch ")


def test_the_log_says_who_sent_it_and_what(live: Training) -> None:
    sent(live, *SET_RATE, "--json", '{"rate": 0.1, "why": "logged"}')

    def taken() -> Any:
        found = [event for event in recorded(live.run) if isinstance(event, nb.CommandTaken)]
        return next((event for event in found if "logged" in event.arguments), None)

    event = eventually(taken)
    assert (event.target, event.command) == ("rates", "tests.SetRate")
    assert json.loads(event.arguments) == {"rate": 0.1, "why": "logged"}
    assert event.source.startswith("nightbus send (pid ")


def test_an_actor_on_the_bus_thread_answers_too(live: Training) -> None:
    done = sent(live, "--to", "knows", "--command", "tests.Describe")

    assert done.returncode == 0
    assert done.stdout.startswith('tests.Describe: {"actors": ["rates", "knows"], "text": "a')
    assert "\x1b" not in done.stdout


def test_programs_get_the_reply_as_json(live: Training) -> None:
    done = sent(live, "--to", "knows", "--command", "tests.Describe", "--json")

    shown = json.loads(done.stdout)
    assert (shown["command"], shown["kind"]) == ("tests.Describe", "done")
    assert shown["reply"] == {"actors": ["rates", "knows"], "text": "a\x1b[31mb", "none": None}
    assert shown["status"]["fn"] == "fit"


def test_fields_and_json_for_programs_go_together(live: Training) -> None:
    done = sent(live, "--json", *SET_RATE, "--json", '{"rate": 0.1}')

    assert json.loads(done.stdout)["reply"] == 0.1


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("nothing", "tests.Return: done;"),
        ("text", "tests.Return: one line\nand another;"),
        ("number", "tests.Return: 0.25;"),
        ("set", "tests.Return: [1];"),
        ("nan", "tests.Return: done;"),  # JSON has none
        ("odd", "tests.Return: a Odd, which cannot be shown;"),
        ("keys", 'tests.Return: {"(1, 2)": 3};'),
        ("long", "tests.Return: done; its reply takes 100002 bytes, more than an answer takes;"),
    ],
)
def test_whatever_a_handler_returns_is_an_answer(
    live: Training, shell: Shell, kind: str, shown: str
) -> None:
    fields = json.dumps({"kind": kind})

    done = shell(live.run.path, "--to", "knows", "--command", "tests.Return", "--json", fields)

    assert done.returncode == 0
    assert done.stdout.startswith(shown)


def test_a_handler_that_raises_is_answered_and_the_actor_goes_on(live: Training) -> None:
    done = sent(live, "--to", "knows", "--command", "tests.Fail")
    again = sent(live, "--to", "knows", "--command", "tests.Describe")

    assert done.returncode == 1
    assert "knows raised on tests.Fail: ValueError: as it was told to" in done.stderr
    assert again.returncode == 0


def test_the_runs_own_commands_can_be_sent_by_their_names(live: Training) -> None:
    paused = sent(live, "--command", "nightbus.Pause")
    held = live.step()
    resumed = sent(live, "--to", "fit", "--command", "nightbus.Resume", "--json")

    assert paused.stdout.startswith("nightbus.Pause: paused; now epoch ")
    assert json.loads(resumed.stdout)["reply"] == "running"
    eventually(lambda: live.step() > held)


def test_validation_takes_commands_for_actors_on_the_bus_thread_alone(tmp_path: Path) -> None:
    with training(tmp_path, "--validate", program=PROGRAM) as live:
        described = sent(live, "--to", "knows", "--command", "tests.Describe")
        rate = sent(live, *SET_RATE, "--json", '{"rate": 1}')

    assert described.returncode == 0
    assert rate.returncode == 1
    assert "validate takes no commands; Ctrl-C ends it" in rate.stderr


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["--to", "nobody", "--command", "tests.SetRate"],
            "there is no actor 'nobody' in this run; there are: evaluationepochloop, fit, knows, ",
        ),
        (
            ["--to", "rates", "--command", "tests.SetRat"],
            "no command 'tests.SetRat' is defined in this run; rates takes: tests.SetRate",
        ),
        (
            ["--to", "rates", "--command", "tests.Unheard", "--json", '{"number": 1}'],
            "rates does not handle tests.Unheard; rates takes: tests.SetRate",
        ),
        (
            ["--to", "knows", "--command", "tests.SetRate", "--json", '{"rate": 1}'],
            "knows does not handle tests.SetRate; knows takes: tests.Describe, tests.Fail, "
            "tests.Return",
        ),
        (
            ["--command", "tests.SetRate", "--json", '{"rate": 1}'],
            "fit does not handle tests.SetRate; fit takes: nightbus.Pause, nightbus.Resume, "
            "nightbus.RunValidation, nightbus.SaveCheckpoint, nightbus.Stop",
        ),
        (["--to", "rates", "--command", "Nameless"], "no command 'Nameless' is defined"),
        (["--to", "rates", "--command", "nb.Put"], "no command 'nb.Put' is defined"),
        (
            [*SET_RATE],
            "the fields do not fit: Object missing required field `rate`; tests.SetRate has: "
            "rate: float, why: str",
        ),
        ([*SET_RATE, "--json", '{"rate": "high"}'], "Expected `float`, got `str` - at `$.rate`"),
        ([*SET_RATE, "--json", '{"rate": 1, "rat": 2}'], "unknown field `rat`"),
        ([*SET_RATE, "--json", '{"rate": null}'], "Expected `float`, got `null` - at `$.rate`"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(
    live: Training, shell: Shell, arguments: list[str], why: str
) -> None:
    done = shell(live.run.path, *arguments)

    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_refused_is_no_dead_letter(live: Training) -> None:
    asked(live, "nobody", "tests.SetRate")
    asked(live, "rates", "tests.Unheard", '{"number": 1}')

    status = send(live.run, Request("status")).status
    assert status is not None
    assert status.dead_letters == 0


@pytest.mark.parametrize(
    "words",
    [["RUN", "status", "--json"], ["RUN", "--json", "status"], ["--json", "RUN", "status"]],
)
def test_json_for_programs_may_stand_anywhere(
    live: Training, shell: Shell, words: list[str]
) -> None:
    done = shell(*[live.run.path if word == "RUN" else word for word in words])

    assert json.loads(done.stdout)["kind"] == "done"


# -- visitors that make no sense -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        (b'{"verb": "command"}', "no command '' is defined"),
        (b'{"verb": "command", "to": 3}', "cannot be read"),
        (b'{"verb": "command", "to": "rates", "command": "os.system"}', "no command 'os.system'"),
        (
            b'{"verb": "command", "to": "rates", "command": "' + b"x" * 60_000 + b'"}',
            "no command 'xxx",
        ),
        (
            b'{"verb": "command", "to": "' + b"x" * 60_000 + b'", "command": "tests.SetRate"}',
            "there is no actor 'xxx",
        ),
        (
            b'{"verb": "command", "to": "rates", "command": "tests.SetRate", "arguments": "x"}',
            "Expected `object`, got `str`",
        ),
        (
            b'{"verb": "command", "to": "rates", "command": "tests.SetRate", "arguments": '
            + b'{"why":' * 8_000
            + b"1"
            + b"}" * 8_000
            + b"}",
            "",
        ),
        (b'{"verb": "command", "arguments": {"rate": }}', "cannot be read"),
    ],
    ids=["empty", "type", "code", "long name", "long actor", "text", "nesting", "cut"],
)
def test_what_makes_no_sense_is_refused_and_does_no_harm(
    live: Training, request_line: bytes, why: str
) -> None:
    answer = talk(live.socket_path, request_line + b"\n")

    assert answer.kind == "refused"
    assert why in answer.message
    assert len(answer.message) < 1_000
    assert asked(live, "rates", "tests.SetRate", '{"rate": 0.1}').kind == "done"


class Ping(nb.Command, name="tests.Ping"):
    number: int = 0


class Everywhere:
    """An actor that takes whatever there is."""

    def addresses(self) -> list[str]:
        return ["rates"]

    def commands_of(self, address: str) -> list[str]:
        return names_below(nb.Command)

    def waits_for_safe_point(self, address: str) -> bool:
        return True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["tests.Ping", "nightbus.Stop", "os.system", ""]),
    st.dictionaries(st.sampled_from(["number", "reason", "x"]), json_values).map(json.dumps)
    | st.text(max_size=20)
    | json_values.map(json.dumps),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_makes_a_command_of_its_class_or_an_error_of_ours(
    name: str, fields: str
) -> None:
    raw = msgspec.Raw(fields.encode("utf-8", "surrogatepass"))
    request = Request("command", to="rates", command=name, arguments=raw)

    try:
        command = named_command(request, "rates", Everywhere())
    except ControlError as error:
        assert name in str(error)  # noqa: PT017
    else:
        assert (type(command), name) in {(Ping, "tests.Ping"), (nb.Stop, "nightbus.Stop")}


def test_a_request_of_a_verb_is_what_older_runs_understand() -> None:
    for verb in WORDS:
        fields = json.loads(encode_line(Request(verb, "enough", 3.0)))
        assert fields.keys() <= {"verb", "reason", "timeout_s", "version"}


# -- commands within a process -------------------------------------------------------------------


def test_a_named_command_is_told_and_recorded_under_its_name(tmp_path: Path) -> None:
    class Pong(nb.Actor):
        @nb.on(Ping)
        def pong(self, command: Ping) -> None:
            seen.append(command.number)

    class Module(Small):
        def on_train_start(self) -> None:
            self.tell("pong", Ping(number=3))
            self.tell("nobody", Ping())

    seen: list[int] = []
    run = trainer(tmp_path, actors=[Pong()])
    run.fit(Module(), loader())

    assert seen == [3]
    (taken,) = events(run, nb.CommandTaken)
    assert taken.command == "tests.Ping"
    (letter,) = [each for each in events(run, nb.DeadLetter) if each.target == "nobody"]
    assert letter.command == "tests.Ping"


def test_a_handler_gets_commands_of_a_class_that_was_defined_again(tmp_path: Path) -> None:
    def cell() -> type[nb.Command]:
        class InNotebook(nb.Command, name="tests.CommandInNotebook"):
            value: int

        return InNotebook

    before, after = cell(), cell()
    seen: list[Any] = []

    class Takes(nb.Actor):
        @nb.on(before)
        def take(self, command: Any) -> None:
            seen.append(command.value)

    class Module(Small):
        def on_train_start(self) -> None:
            self.tell("takes", after(value=1))

    trainer(tmp_path, actors=[Takes()]).fit(Module(), loader())

    assert seen == [1]


def test_fields_that_cannot_be_sent_are_named_when_the_class_is_made() -> None:
    with pytest.raises(UsageError, match=r"Odd\.module cannot be recorded: Small is not plain"):

        class Odd(nb.Command, name="tests.Odd"):
            module: Small


def test_every_verb_is_for_a_command_of_the_run() -> None:
    for verb in VERBS.values():
        assert verb.command.__module__ == "nightbus.bus.events"

"""A new event or command is one class; what else needs to know it is made of that, or is named."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import nightbus as nb
from nightbus.bus import events as vocabulary
from nightbus.bus.events import EVENT_TYPES, PUBLIC_NAMES, Event

FACADE = Path(nb.__file__)
ONE_MORE_CLASS = '''

class Blinked(Event, frozen=True, array_like=True, tag=250, gc=False):
    """A light blinked.

    Attributes:
        times: how often.
    """

    times: int
'''
WITH_ONE_MORE_EVENT = """
import sys
from nightbus.bus import events
from pathlib import Path
source = Path(events.__file__).read_text()
table = source.index("\\n\\ndef _classes(")
source = source[:table] + CLASS + source[table:]
exec(compile(source, events.__file__, "exec"), vars(events))

import nightbus as nb
from nightbus.bus.inspection.tail import EventFilter
from nightbus.bus.log.codec import decode_events, encode_events
(read,) = decode_events(encode_events([nb.Blinked(0, 1, 0, "", 0, 0, -1, 0, "", 3)]), 0, 0)
print(type(read) is nb.Blinked, read.times, "Blinked" in nb.__all__, "Blinked" in dir(nb))
EventFilter(("Blinked",))
"""


def test_a_class_is_all_that_a_new_event_takes_to_be_written_read_and_public() -> None:
    code = WITH_ONE_MORE_EVENT.replace("CLASS", repr(ONE_MORE_CLASS))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("True 3 True True\n", "")


def test_every_event_that_has_a_tag_is_in_the_table() -> None:
    kinds = [kind for kind in vars(vocabulary).values() if isinstance(kind, type)]
    tagged = {kind for kind in kinds if issubclass(kind, Event) and kind is not Event}

    assert {kind for kind in tagged if kind.__struct_config__.tag is not None} == {
        *EVENT_TYPES.values()
    }
    assert all(kind.__struct_config__.tag == tag for tag, kind in EVENT_TYPES.items())


def shown_to_type_checkers() -> dict[str, str]:
    """Public name -> module, as the facade's block for type checkers says."""
    (block,) = [
        node
        for node in ast.parse(FACADE.read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: "." * line.level + (line.module or "")
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


def test_type_checkers_see_the_names_that_there_are() -> None:
    """One that is missing on one side is to be added there: in __init__.py, below TYPE_CHECKING
    or in the tables behind it.
    """
    shown = shown_to_type_checkers()

    assert sorted(set(nb.__all__) - set(shown)) == []
    assert sorted(set(shown) - set(nb.__all__)) == sorted(nb._OF_EXTRAS)


def test_type_checkers_see_them_where_they_are() -> None:
    for name, module in shown_to_type_checkers().items():
        assert getattr(importlib.import_module(module, "nightbus"), name) is getattr(nb, name)


def test_all_events_and_commands_are_public() -> None:
    assert set(PUBLIC_NAMES) <= set(nb.__all__)
    assert {"Event", "Put", "Command", "Stop"} <= set(PUBLIC_NAMES)


def test_everything_public_can_be_imported_at_once() -> None:
    code = "from nightbus import *; print(Put, Trainer.__name__)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "<class 'nightbus.bus.events.Put'> Trainer\n"

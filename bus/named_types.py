"""Events and commands that users define, under the names by which they are recorded and sent.

A log, or a request from outside, has no more than such a name. It is looked up among the classes
that this process has defined by itself: nothing is imported because of it.
"""

import inspect
import re
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import inspect as types

from .errors import UsageError

OWN_NAMESPACE = "nightbus"
MAX_NAME_CHARS = 100
_OWN_MODULE = f"{__package__}.events"
_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MORE_THAN_PLAIN = (types.CustomType, types.RawType, types.ExtType)


class NamedClass(NamedTuple):
    """A class with a name.

    Attributes:
        name: the name.
        kind: the class.
        fields: its own fields, as (attribute, key in what is recorded or sent).
        shape: what has to be the same in another class of the same name.
        decoder: reads its fields as they are recorded.
    """

    name: str
    kind: type[msgspec.Struct]
    fields: tuple[tuple[str, str], ...]
    shape: tuple[str, ...]
    decoder: "msgspec.msgpack.Decoder[Any]"


_by_name: dict[str, NamedClass] = {}
_reserved: dict[type, tuple[str, ...]] = {}


class NamedType(msgspec.StructMeta):
    """The type of classes that take a name: ``class SampleSeen(UserEvent, name="myteam.Seen")``.

    The fields of one that has a name are checked when the class is made.
    """

    _named: NamedClass | None

    def __new__(
        metatype,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Make a class; ``options`` are those of msgspec's structs.

        Raises:
            UsageError: the name or a field is not usable, or the name is taken.
        """
        namespace["_named"] = None  # a name is not inherited
        made: Any = super().__new__(metatype, class_name, bases, namespace, **options)
        if name is not None:
            made._named = _register(made, name)
        return made


def reserve_fields(kind: type[msgspec.Struct]) -> None:
    """Keep classes that derive from this one from defining its fields.

    Args:
        kind: the class.
    """
    _reserved[kind] = kind.__struct_fields__


def named_class(kind: type) -> NamedClass | None:
    """Return the properties of a class with a name; None for one without.

    Args:
        kind: the class.
    """
    found: NamedClass | None = getattr(kind, "_named", None)
    return found


def find_named(name: str, base: type) -> NamedClass | None:
    """Return the class of a name.

    Args:
        name: its name.
        base: what it derives from.

    Returns:
        None when this process has defined none.
    """
    found = _by_name.get(name)
    return found if found is not None and issubclass(found.kind, base) else None


def names_below(base: type) -> list[str]:
    """Return the names of the classes that derive from one, in order.

    Args:
        base: the class; one that has a name is among them.
    """
    return sorted(name for name, each in _by_name.items() if is_a(each.kind, base))


def has_names_below(base: type) -> bool:
    """Return whether a class that derives from this one has a name.

    Args:
        base: the class.
    """
    return any(issubclass(each.kind, base) for each in _by_name.values())


def is_a(kind: type, wanted: type) -> bool:
    """Return whether a class is another, derives from it, or was since defined again.

    Args:
        kind: the class.
        wanted: the other.
    """
    if issubclass(kind, wanted):
        return True
    name = named_class(wanted)
    if name is None:
        return False
    return any(
        mine.name == name.name for each in kind.__mro__ if (mine := named_class(each)) is not None
    )


def label_of(kind: type) -> str:
    """Return the name of a type in the log: its own, otherwise that of its class.

    Args:
        kind: a type of events or commands.
    """
    named = named_class(kind)
    return kind.__name__ if named is None or kind.__module__ == _OWN_MODULE else named.name


def declared_fields(named: NamedClass) -> str:
    """Return the fields of a class as they are declared, for people.

    Args:
        named: the class.
    """
    hints = get_type_hints(named.kind)
    shown = {
        name: hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
        for name, hint in hints.items()
    }
    return ", ".join(f"{field}: {shown[field]}" for field, _ in named.fields)


def _register(kind: type[msgspec.Struct], name: str) -> NamedClass:
    where = kind.__qualname__
    _check_name(name, where, is_ours=kind.__module__ == _OWN_MODULE)
    if kind.__struct_config__.array_like:
        raise UsageError(
            f"{where}: array_like=True cannot be; its fields are recorded by their names"
        )
    reserved = next((_reserved[base] for base in kind.__mro__ if base in _reserved), ())
    shape = ("an event" if reserved else "a command", *_shape_of(kind, reserved))
    _check_reserved(kind, reserved)
    other = _by_name.get(name)
    if other is not None and other.shape[0] != shape[0]:
        raise UsageError(
            f"{where}: {name!r} is the name of {other.shape[0]}, {other.kind.__module__}."
            f"{other.kind.__qualname__}, and this is {shape[0]}; give it another name"
        )
    if other is not None and other.shape != shape:
        raise UsageError(
            f"{name!r} is the name of {other.kind.__module__}.{other.kind.__qualname__}"
            f"({declared_fields(other)}) already, and {where} has other fields; give it another "
            "name, or restart the process where the class was changed"
        )
    keys = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    fields = tuple((field, key) for field, key in keys if field not in reserved)
    try:
        decoder = msgspec.msgpack.Decoder(kind)
    except TypeError as error:
        raise UsageError(f"{where} cannot be recorded: {error}") from None
    made = _by_name[name] = NamedClass(name, kind, fields, shape, decoder)
    return made


def _check_name(name: object, where: str, is_ours: bool) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        raise UsageError(
            f"{where}: name={name!r}: expected words of letters, digits and _ with a dot between "
            f"them, at most {MAX_NAME_CHARS} characters, such as 'myteam.{where.split('.')[-1]}'"
        )
    if (name.split(".")[0].lower() == OWN_NAMESPACE) is not is_ours:
        raise UsageError(
            f"{where}: name={name!r}: what begins with {OWN_NAMESPACE} is its own; begin it with "
            "the name of your team or package"
        )


def _check_reserved(kind: type, reserved: tuple[str, ...]) -> None:
    for base in kind.__mro__:
        if base in _reserved:
            return
        for field in inspect.get_annotations(base):
            if field in reserved:
                raise UsageError(
                    f"{kind.__qualname__}.{field}: every event has {field}, which says where it "
                    "arose; call it otherwise"
                )


def _shape_of(kind: type[msgspec.Struct], reserved: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields with their types and defaults.

    Raises:
        UsageError: one cannot be recorded.
    """
    try:
        info = types.type_info(kind)
    except NameError as error:
        raise UsageError(f"{kind.__qualname__}: its fields' types are not known: {error}") from None
    except TypeError as error:  # for example a union of types that cannot be distinguished
        raise UsageError(f"{kind.__qualname__}: its fields cannot be recorded: {error}") from None
    assert isinstance(info, types.StructType)
    shape = []
    for field in info.fields:
        if field.name in reserved:
            continue
        refused = _refused(field.type, set())
        if refused is not None:
            raise UsageError(
                f"{kind.__qualname__}.{field.name} cannot be recorded: {refused} is not plain data;"
                " expected numbers, text, bytes, dates, enums, and lists, tuples, sets, dicts, "
                "dataclasses and structs of those (of a tensor: a float, or put_image and the like)"
            )
        told = f"{field.name} {field.encode_name} {field.type!r} {field.default!r}"
        made = getattr(field.default_factory, "__qualname__", "")
        shape.append(_ADDRESS.sub("", f"{told} {made}"))
    return tuple(shape)


def _refused(kind: Any, seen: set[type]) -> str | None:
    """Return the part of a type that is not plain data; None if there is none."""
    if isinstance(kind, _MORE_THAN_PLAIN):
        return getattr(getattr(kind, "cls", type(kind)), "__name__", str(kind))
    within: list[Any] = []
    for name in ("type", "item_type", "key_type", "value_type"):
        if hasattr(kind, name):
            within.append(getattr(kind, name))
    within += [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    if hasattr(kind, "fields") and kind.cls not in seen:
        seen.add(kind.cls)
        within += [field.type for field in kind.fields]
    found = (_refused(each, seen) for each in within)
    return next((each for each in found if each is not None), None)

"""Checks and encodes events that users define, when they are emitted."""

from typing import Any

import msgspec

from .errors import UsageError
from .events import MAX_FIELD_DEPTH, UserEvent, is_deeper
from .log.codec import UNENCODABLE
from .named_types import named_class
from .secrets.redaction import redact_setting

MAX_EVENT_BYTES = 64 << 10  # of an event's fields, as they are recorded


def encode_user_event(event: object) -> tuple[str, bytes]:
    """Encode a user's event for the log, without secrets.

    Args:
        event: the event.

    Returns:
        Its type's name, and its fields as a msgpack map.

    Raises:
        UsageError: it is not such an event, has no name, is too large, or a field does not fit its
            type.
    """
    named = named_class(type(event))
    if named is None or not isinstance(event, UserEvent):
        raise UsageError(_why_no_event(event))
    kind = type(event).__qualname__
    fields = {key: getattr(event, field) for field, key in named.fields}
    try:
        data = _encoder.encode(fields)
        named.decoder.decode(data)
    except (*UNENCODABLE, msgspec.DecodeError) as error:
        raise UsageError(f"{kind} cannot be recorded: {_first_misfit(fields, error)}") from None
    plain: dict[str, Any] = msgspec.msgpack.decode(data)
    if is_deeper(plain, MAX_FIELD_DEPTH):
        raise UsageError(
            f"{kind} cannot be recorded: its fields are nested more than {MAX_FIELD_DEPTH} deep"
        )
    shown = {key: redact_setting(key, value) for key, value in plain.items()}
    if any(shown[key] is not value for key, value in plain.items()):
        data = _encoder.encode(shown)
    if len(data) > MAX_EVENT_BYTES:
        raise UsageError(
            f"{kind} takes {len(data)} bytes, more than the {MAX_EVENT_BYTES} of an event; keep "
            "what is large in a file and record its path, or use put_image, put_text and the like"
        )
    return named.name, data


def decoded_user_event(kind: type[UserEvent], data: bytes) -> UserEvent | None:
    """Make an event of its fields as they are recorded, without saying where it arose.

    Args:
        kind: its class, which has a name.
        data: as ``encode_user_event`` returns it.

    Returns:
        The event; None if what was struck out leaves a field that does not fit.
    """
    named = named_class(kind)
    try:
        made: UserEvent | None = None if named is None else named.decoder.decode(data)
    except msgspec.DecodeError:
        return None
    return made


def _item(value: Any) -> Any:
    """Return a tensor or array of one element as a number.

    Raises:
        TypeError: it is something else.
    """
    try:
        return value.item()
    except (AttributeError, ValueError, RuntimeError):
        what = type(value).__name__
        raise TypeError(f"it holds a {what}, which is not plain data") from None


_encoder = msgspec.msgpack.Encoder(enc_hook=_item)


def _first_misfit(fields: dict[str, Any], error: Exception) -> str:
    for key, value in fields.items():
        try:
            _encoder.encode(value)
        except UNENCODABLE as failure:
            return f"field {key!r}: {failure}"
    return str(error)


def _why_no_event(event: object) -> str:
    kind = event if isinstance(event, type) else type(event)
    if not issubclass(kind, UserEvent):
        return (
            f"emit() takes an event of your own, not {kind.__name__}; derive its class from "
            "nightbus.UserEvent"
        )
    if isinstance(event, type):
        return f"emit({kind.__name__}): pass an instance of it"
    return (
        f"{kind.__qualname__} has no name to be recorded under; give it one: "
        f"class {kind.__name__}(UserEvent, name='myteam.{kind.__name__}')"
    )

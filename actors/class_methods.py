"""Class methods that make a new object, and say so where they are called on one."""

from functools import wraps
from typing import TYPE_CHECKING, Any

from ..bus.system.streams import notify_user

if TYPE_CHECKING:
    makes_new = classmethod
else:

    class makes_new(classmethod):
        """A classmethod; on an object, a line says that the object is left as it is."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            bound = super().__get__(instance, owner)
            if instance is None:
                return bound
            name, kind = bound.__name__, type(instance).__name__

            @wraps(bound)
            def called(*args: Any, **kwargs: Any) -> Any:
                notify_user(
                    f"nightbus: {name} returns a new {kind}, and leaves the one that it was "
                    f"called on as it is; write new = {kind}.{name}(...)"
                )
                return bound(*args, **kwargs)

            return called

"""Classes that a call makes, such as that of a file of rows.

No module has their names, so `pickle` stores the function that made the class and its argument, and calls it again.
"""

import copyreg
from collections.abc import Callable
from typing import Any


class MadeClass(type):
    """The type of a class that a call made, and of its subclasses."""


def made_class(maker: Callable[..., type], argument: str, base: type, attributes: dict[str, Any]) -> Any:
    """A subclass of `base`, which `pickle` finds again as `maker(argument)`; `maker` keeps what it has made."""
    made_by = {"made_by": (maker, (argument,))}
    return MadeClass(base.__name__, (base,), {"__module__": base.__module__, **attributes, **made_by})


def _how_to_find(cls: type) -> str | tuple[Callable[..., type], tuple[str]]:
    return vars(cls).get("made_by", cls.__qualname__)


copyreg.pickle(MadeClass, _how_to_find)  # type: ignore[arg-type]

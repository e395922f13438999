"""Classes that a function makes as the program runs, such as the class for a file of rows.

`pickle` cannot find such a class by its name in a module. So it stores the function and its argument, and calls the
function again.
"""

import copyreg
from collections.abc import Callable
from typing import Any


class MadeClass(type):
    """The metaclass of a class that `made_class` made, and of its subclasses."""


def made_class(maker: Callable[..., type], argument: str, base: type, attributes: dict[str, Any]) -> Any:
    """A subclass of `base`, which `pickle` finds again as `maker(argument)`.

    maker: must be cached, so that it returns the same class again.
    """
    made_by = {"made_by": (maker, (argument,))}
    return MadeClass(base.__name__, (base,), {"__module__": base.__module__, **attributes, **made_by})


def _how_to_find(cls: type) -> str | tuple[Callable[..., type], tuple[str]]:
    # A subclass that is written in a module has no `made_by` of its own: pickle finds it there by its name.
    return vars(cls).get("made_by", cls.__qualname__)


copyreg.pickle(MadeClass, _how_to_find)  # type: ignore[arg-type]

"""Files with tasks, as authors outside write them, made of classes in a test: code that is checked, and not a text."""

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

HEAD = "import asyncio\nimport os\nimport time\n\nimport envs\n"


def task_text(*classes: type, id: str = "", head: str = "", **constants: Any) -> str:
    """The text of a file with these classes, of which the last is registered as `id`, "" = none is.

    The last one is called there as the id says, `Edited` for "my/Edited-v0". A class may use its ancestors among
    `classes`, and what stands above them in the file: the modules of `HEAD`, the lines of `head`, and each of
    `constants` by its name.
    """
    sources = [textwrap.dedent(inspect.getsource(cls)) for cls in classes]
    above = [f"{name} = {value!r}\n" for name, value in constants.items()]
    registered = ""
    if id:
        name = re.sub(r".*/|-v\d+$", "", id)
        sources[-1] = re.sub(rf"\b{classes[-1].__name__}\b", name, sources[-1])
        registered = f'envs.register("{id}", {name})\n'
    return "\n\n".join([HEAD + head + "".join(above), *sources, registered])


def write_task(file: Path | str, *classes: type, id: str, head: str = "", **constants: Any) -> str:
    """Writes the file of `task_text`; returns how `--env` names its task."""
    Path(file).write_text(task_text(*classes, id=id, head=head, **constants))
    return f"{file}:{id}"

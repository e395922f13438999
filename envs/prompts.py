"""A prompt of the user's own: `prompt_style=FILE`, a text with places for what a problem holds."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.errors import EnvError, check_choice

FIELDS = ("question", "numbers", "target", "puzzle")
"""Every name that a template may hold in braces; each task has its own of them."""
_SEPARATOR = re.compile(r"\r?\n---\r?\n")
_PLACE = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")


@dataclass(frozen=True)
class Template:
    """A user's prompt for one task."""

    prompt: str
    """With `{name}` for each field of the task; other braces mean themselves."""
    prefix: str
    """Text with which every completion begins, written for the model."""
    sha256: str
    """Of the file."""

    def fill(self, values: Mapping[str, object]) -> str:
        """The prompt of one problem."""
        return _PLACE.sub(lambda place: str(values[place[1]]), self.prompt)


def refuse_path(env: str, style: object, known: Sequence[str | None]) -> None:
    """Raises EnvError for a prompt style that can only be meant as a path, and has no file there."""
    if style in known or not isinstance(style, str) or not style:
        return
    if Path(style).is_dir():
        raise EnvError(
            f"{env}: prompt_style={style} is a folder. Name a file in it, with a prompt of your own."
        )
    if Path(style).name != str(Path(style)):
        styles = ", ".join(word for word in known if word)
        missing = f"there is no file {Path.cwd() / style}"
        raise EnvError(
            f"{env}: prompt_style={style}: {missing}. Use {styles}, or a file with a prompt of your own."
        )


def read_style(
    env: str, style: object, known: Sequence[str | None], fields: Sequence[str]
) -> Template | None:
    """The template of a prompt style that is a file, None for one of the known styles.

    The file is UTF-8. Its last line `---`, if there is one, divides the prompt from what the completion begins with;
    the line break before that line and one at the end of the file belong to neither. Every one of `fields` must
    stand in the prompt, e.g. `{puzzle}`, and no other of FIELDS. Raises EnvError for an unknown style, naming the
    nearest known one, and for a file that cannot be used.
    """
    if style in known or not isinstance(style, str) or not Path(style).is_file():
        refuse_path(env, style, known)
        or_file = f"or a file with a prompt of your own, of which there is none by this name in {Path.cwd()}"
        check_choice(env, "prompt_style", style, known, or_file)
        return None
    try:
        raw = Path(style).read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(f"{env}: prompt_style={style} cannot be read: {error}.") from error
    text = text.removesuffix("\n").removesuffix("\r")
    last = max(_SEPARATOR.finditer(text + "\n"), key=lambda match: match.start(), default=None)
    prompt, prefix = (text[: last.start()], text[last.end() :]) if last else (text, "")
    places = set(_PLACE.findall(prompt))
    for name in (*fields, *places):
        if name not in places or name not in fields:
            has = "lacks" if name in fields else "must not hold"
            wanted = " and ".join(f"{{{field}}}" for field in fields)
            raise EnvError(f"{env}: prompt_style={style} {has} {{{name}}}; a prompt for it has {wanted}.")
    if found := _PLACE.search(prefix):
        raise EnvError(
            f"{env}: prompt_style={style} has {found[0]} behind its line ---; what a completion begins with is the "
            "same for every problem. Write it out, or put it before that line."
        )
    return Template(prompt, prefix, hashlib.sha256(raw).hexdigest())

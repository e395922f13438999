"""A user's own prompt, `prompt_style=FILE`: a text with fields such as `{question}`, which each problem fills."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.errors import EnvError, check_choice

FIELDS = ("question", "numbers", "target", "puzzle")
"""The names that templates may have in braces; each task has some of them."""
# A line `---` and the line break before it. The break behind it is not matched, since the next line may be `---`, too.
_SEPARATOR = re.compile(r"\r?\n---(?=\r?\n|\Z)")
_FIELD_IN_BRACES = re.compile(r"\{(" + "|".join(FIELDS) + r")\}")


@dataclass(frozen=True)
class Template:
    """A user's prompt for one task."""

    prompt: str
    """The prompt, with `{name}` for each field of the task; any other braces are plain text."""
    prefix: str
    """The text with which every completion begins; the model continues it."""
    sha256: str
    """The hash of the file, in hexadecimal digits."""

    def fill(self, values: Mapping[str, object]) -> str:
        """The prompt of one problem."""
        return _FIELD_IN_BRACES.sub(lambda found: str(values[found.group(1)]), self.prompt)

    def behind_prefix(self, completion: str) -> str:
        """The part of a completion that the model writes itself: the completion without the prefix."""
        return completion.removeprefix(self.prefix)


def check_style(env: str, style: object, known: Iterable[str | None], other: str = "") -> None:
    """Raises EnvError unless `style` is one of the `known` prompt styles.

    A style of None leaves the choice to the task, where `known` has it. other: what the error adds to the list of known
    styles, e.g. "or the path of a file".
    """
    known = list(known)
    if style == "paper" and "instruct" in known:
        raise EnvError(
            f"{env}: prompt_style=paper is called prompt_style=instruct, as its words are ours and no paper's. To "
            "have a paper's own instructions, put them into a file, --env-args system_prompt=@FILE."
        )
    check_choice(env, "prompt_style", style, known, other)


def refuse_path(env: str, style: object, known: Sequence[str | None]) -> None:
    """Raises EnvError for a style that is meant as a file and is none: a folder, or a path such as `prompts/mine.txt`.

    Any other unknown style, such as a single word, is left to `check_style`.
    """
    if style in known or not isinstance(style, str) or not style:
        return
    if Path(style).is_dir():
        raise EnvError(
            f"{env}: prompt_style={style} is a folder. Name a file in it, with a prompt of your own."
        )
    names_a_folder = Path(style).name != str(Path(style))
    if names_a_folder:
        styles = ", ".join(word for word in known if word)
        missing = f"there is no file {Path.cwd() / style}"
        raise EnvError(
            f"{env}: prompt_style={style}: {missing}. Use {styles}, or a file with a prompt of your own."
        )


def read_style(
    env: str, style: object, known: Sequence[str | None], fields: Sequence[str]
) -> Template | None:
    """The template of a prompt style that is a file, None for one of the known styles.

    The file is UTF-8. Its last line `---`, if there is one, separates the prompt from the beginning of the completion;
    the line breaks around that line, and one at the end of the file, belong to neither. The prompt must have all of
    `fields`, e.g. `{puzzle}`, and no other of FIELDS. Raises EnvError for an unknown style, naming the nearest known
    one, and for a file that cannot be used.
    """
    path = Path(style) if isinstance(style, str) and style not in known else None
    if path is None or not path.is_file():
        # The two checks raise EnvError for an unknown style, each for another kind, and pass a known one.
        refuse_path(env, style, known)
        or_file = f"or a file with a prompt of your own, of which there is none by this name in {Path.cwd()}"
        check_style(env, style, known, or_file)
        return None
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(f"{env}: prompt_style={style} cannot be read: {error}.") from error
    text = text.removesuffix("\n").removesuffix("\r")
    prompt, prefix = text, ""
    if separators := list(_SEPARATOR.finditer(text)):
        last = separators[-1]
        prompt, prefix = text[: last.start()], text[last.end() :].removeprefix("\r").removeprefix("\n")
    names_in_prompt = _FIELD_IN_BRACES.findall(prompt)
    missing = [f"lacks {{{name}}}" for name in fields if name not in names_in_prompt]
    foreign = [f"must not hold {{{name}}}" for name in names_in_prompt if name not in fields]
    if faults := [*missing, *foreign]:
        wanted = " and ".join(f"{{{field}}}" for field in fields)
        raise EnvError(f"{env}: prompt_style={style} {faults[0]}; a prompt for it has {wanted}.")
    if found := _FIELD_IN_BRACES.search(prefix):
        raise EnvError(
            f"{env}: prompt_style={style} has {found[0]} behind its line ---; what a completion begins with is the "
            "same for every problem. Write it out, or put it before that line."
        )
    return Template(prompt, prefix, hashlib.sha256(raw).hexdigest())

"""Finds the program in a completion, and decides whether it is run behind the prompt's own code or instead of it.

The program is not run here. `task.py` sends it to a worker. There, `judge.py` runs it in the sealed interpreter
(`interpreter.py`), in which `guest.py` calls its functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from verifiers.reading.answer import ANSWER_LIMIT, NOT_TEXT, regions
from verifiers.verdicts import MALFORMED, NO_ANSWER, OK

_FENCES = "```", "~~~"
_BLANK = " \t\r\n"
_BEGIN, _DONE = "[BEGIN]", "[DONE]"
"""The marks around a program in the prompt of MBPP's paper."""
_STARTS = ("def ", "async def ", "class ", "import ", "from ", "@")
"""The beginnings of lines that begin a definition or an import."""
_TRIED, _BEFORE = 3, 16
"""Behind prose, a program is looked for at `_TRIED` lines that begin like `_STARTS`, and at `_BEFORE` lines before the
first of them."""


def locate(text: str, entry: str) -> tuple[int, int, int]:
    """(OK | NO_ANSWER | MALFORMED, start, end) of the program in a completion; -1, -1 if there is none.

    Only the text before the first end-of-text token counts. The program is looked for in the last closed `<answer>`
    block, else behind an unclosed `<answer>`, else everywhere. If that text has `[BEGIN]` and `[DONE]`, only what
    stands between them counts; if it has fenced blocks, only the last one that defines `entry`, or else the last one.
    """
    where = regions(text)
    low, high = where.block
    if low < 0:
        low, high = max(where.unclosed[0], where.begin), where.cut
    # Text behind the first [DONE] is about another problem.
    high = next((start for start, _ in marks_at_lines(text, _DONE, low, high)), high)
    low = max([low, *(after for _, after in marks_at_lines(text, _BEGIN, low, high))])
    blocks = fenced_blocks(text, low, high)
    if blocks:
        defining = [block for block in blocks if defines(text[slice(*block)], entry)]
        low, high = (defining or blocks)[-1]
    first_not_blank = high - len(text[low:high].lstrip(_BLANK))
    low = max(low, text.rfind("\n", low, first_not_blank) + 1)  # the first line keeps its indentation
    high = low + len(text[low:high].rstrip(_BLANK))
    if low == high:
        return NO_ANSWER, -1, -1
    if high - low > ANSWER_LIMIT or NOT_TEXT.search(text, low, high):
        return MALFORMED, -1, -1
    return OK, low, high


def marks_at_lines(text: str, mark: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """(start of the line, end of the mark) of each `mark` in text[low:high] before which its line has only blanks."""
    place = text.find(mark, low, high)
    while place >= 0:
        start = place
        while start > low and text[start - 1] in " \t":
            start -= 1
        if start == 0 or text[start - 1] == "\n":
            yield start, place + len(mark)
        place = text.find(mark, place + 1, high)


def fenced_blocks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """(start, end) of the fenced blocks that are not empty, between backticks or tildes.

    The last fence may have no partner. If it is bare and the only fence, it closes a block that the prompt has opened;
    otherwise it opens a block that goes on to the end.
    """
    blocks: list[tuple[int, int]] = []
    opened = -1  # where the text of the open block begins; -1 if no block is open
    fence, bare = "", False  # the fence that opened it, and whether nothing else stands on the fence's line
    i = start
    while i < end:
        after = text.find("\n", i, end) + 1 or end
        line = text[i:after].strip()
        if opened < 0 and line.startswith(_FENCES):
            opened, fence = after, line[:3]
            bare = line == fence
        elif opened >= 0 and line.startswith(fence):
            blocks.append((opened, i))
            opened = -1
        elif opened >= 0 and line.endswith(fence):
            blocks.append((opened, text.rindex(fence, i, after)))
            opened = -1
        i = after
    if opened >= 0 and bare and not blocks:
        blocks.append((start, text.rindex(fence, start, opened)))
    elif opened >= 0:
        blocks.append((opened, end))
    return [block for block in blocks if text[slice(*block)].strip()]


def indentation(line: str) -> str:
    """The spaces and tabs at the beginning of a line."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def imported(text: str) -> list[str]:
    """The names of the packages that lines of a program import."""
    names = []
    for line in text.split("\n"):
        words = line.split(None, 1)
        if len(words) == 2 and words[0] in ("import", "from"):
            listed = "".join(
                takewhile(lambda character: character.isalnum() or character in "_., \t", words[1])
            )
            names += [part.split()[0] for part in listed.split(",") if part.strip()]
    absolute = [name for name in names if not name.startswith(".")]
    return list(dict.fromkeys(name.partition(".")[0] for name in absolute))  # each once, in order


def reads_input(text: str) -> bool:
    """Whether a line without indentation reads input: `print(f(int(input())))`, often the last line of a program."""
    return any(_reads(line) for line in text.split("\n") if line[:1].strip())


def _reads(line: str) -> bool:
    """Whether a line calls `input`, opens descriptor 0 or uses `sys.stdin`."""
    for word in ("input", "sys.stdin", "open(0)"):
        place = line.find(word)
        while place >= 0:
            after = place + len(word)
            before = line[place - 1] if place else ""
            begins = not (before.isalnum() or before == "_")
            if word == "input":
                while line[after : after + 1].isspace():
                    after += 1
                ends = line[after : after + 1] == "("
            else:
                behind = line[after : after + 1]
                ends = word == "open(0)" or not (behind.isalnum() or behind == "_")
            if begins and ends:
                return True
            place = line.find(word, place + 1)
    return False


def defines(text: str, entry: str, by_value: bool = True) -> bool:
    """Whether a line of the outermost level begins a definition of `entry`, or (`by_value`) gives it a value.

    entry: for `Class.method`, a definition of the class counts; for a whole program, "", the result is false.
    """
    entry = entry.partition(".")[0]
    if not entry:
        return False
    lines = [line for line in text.split("\n") if line.strip()]
    outer = indentation(lines[0]) if lines else ""
    heads = [f"def {entry}", f"class {entry}", f"async def {entry}"]
    if by_value:
        heads.append(entry)
    for line in lines:
        if indentation(line) != outer:
            continue
        words = " ".join(line.split())  # with one space between two words, as in `heads`
        for head in heads:
            if words.startswith(head) and words.removeprefix(head).lstrip()[:1] in ("(", "=", ":", "["):
                return True
    return False


def ways_to_run(text: str, entry: str, prompt: str, lenient: bool) -> list[list[str]]:
    """Lists of sources to run one after the other, so that `text` defines `entry`; the first list that compiles counts.

    A whole function is put behind the prompt's imports and helpers, and so is any text if the prompt begins no
    function. A body is put behind the whole prompt. A text that only gives `entry` a value may be either: a body can
    have a variable with the function's name, and if it returns, it is no program by itself. Lenient: a whole function
    may be indented, and a body, or only its first line, may have lost its indentation.
    """
    heads = [  # the lines of the prompt that begin the function
        place
        for place, line in enumerate(prompt.split("\n"))
        if defines(line.rstrip(), entry) and line == line.lstrip()
    ]
    ways = []
    if defines(text, entry) or not heads:
        whole = text
        if lenient and (outer := indentation(text)):
            whole = "\n".join(line.removeprefix(outer) for line in text.split("\n"))
        before = "\n".join(prompt.split("\n")[: heads[-1]]) if heads else prompt
        ways.append([before, whole] if before.strip() else [whole])
    if heads and not defines(text, entry, by_value=False):
        body = _indented(text, prompt) if lenient else text
        whole_prompt = prompt if prompt.endswith("\n") else f"{prompt}\n"
        ways.append([whole_prompt + body])
    return ways


def without_prose(text: str, entry: str) -> list[str]:
    """Possible programs behind prose: the text from later lines on, the longest first.

    They begin at the first lines that begin a definition or an import, and at lines before the first of these, since a
    program may begin with other statements. Nothing is parsed here. The guest finds out whether the whole text
    compiles, and otherwise which of these is the first that compiles. [] if the first line begins a definition or an
    import, or if no rest of the text defines `entry`.
    """
    lines = text.split("\n")
    not_blank = [place for place, line in enumerate(lines) if line.strip()]
    starts = [place for place in not_blank if lines[place].startswith(_STARTS)][:_TRIED]
    begins_with_code = starts[:1] == not_blank[:1]
    if not not_blank or begins_with_code or (entry and not starts):
        return []
    before_code = [place for place in not_blank[1:] if not starts or place < starts[0]][-_BEFORE:]
    rests = ["\n".join(lines[place:]) for place in (*before_code, *starts)]
    return [rest for rest in rests if not entry or defines(rest, entry)]


def _indented(body: str, prompt: str) -> str:
    """The body of a function with the indentation of the prompt's, if it has another one.

    The first line of `body`, or every line, may lack it, or all lines may be indented evenly, by another number.
    """
    first, *rest = body.split("\n")
    if outer := indentation(body):
        inner = (
            next((indentation(line) for line in reversed(prompt.split("\n")) if line.strip()), "") or "    "
        )
        is_even = all(line.startswith(outer) for line in (first, *rest) if line.strip())
        if outer == inner or not is_even:
            return body
        return "\n".join(
            inner + line.removeprefix(outer) if line.strip() else line for line in (first, *rest)
        )
    second = next((line for line in rest if line.strip()), "")
    # The spaces before the second line, if it has kept them: more if the first line begins a block.
    least = 8 if first.rstrip().endswith(":") else 4
    if second and len(indentation(second).expandtabs()) >= least:
        return f"    {body}"
    return "\n".join(f"    {line}" for line in (first, *rest))

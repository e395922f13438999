"""Completions as the page's script reads them: columns, texts once, and what environments make of some of them."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import accumulate, chain, zip_longest
from typing import TYPE_CHECKING, Any

from spg_trainer.reporting.runs import Completions, Recorded, Row
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv

MAX_BYTES = 3_000_000
"""What the completions of a page may take; sets that would take more than their share show their first rows."""
RENDERED = 48
"""Problems of a run that are shown as their environment renders them; the others are text."""
MAX_STEPS = 2500
"""Unfinished texts of a run that are rendered, about two seconds of them; of later completions only the last step."""
PIECE = re.compile("<[^>]*>|&[#a-zA-Z0-9]+;|.", re.DOTALL)
"""What a step adds to a rendering or takes from it: a tag or a character, as `page.js` cuts it."""
PART = re.compile("<[^>]*>[^<]*|[^<]+|<")
"""What many renderings share: a tag and the text behind it, e.g. a cell."""
OUTCOMES = {
    (False, True): "fixed",
    (True, False): "broken",
    (False, False): "still wrong",
    (True, True): "still right",
}


class Pool:
    """Texts, each of them once, by number."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.size = 0

    def add(self, text: str) -> int:
        """The number of a text."""
        if text not in self.texts:
            self.texts[text] = len(self.texts)
            self.size += len(text) + 3
        return self.texts[text]


def columns(pool: Pool, one: Completions, budget: int) -> dict[str, Any]:
    """The columns of a set of completions, up to `budget` bytes of them, at least one row."""
    rows, spent = [], 0
    for row in one.rows:
        before = pool.size
        encoded = {
            "index": row["index"],
            "generation": row["generation"],
            "prompt": pool.add(prompt_text(row["prompt"])),
            "completion": pool.add(row["completion"]),
            "correct": int(row["correct"]),
            "reward": round(row["reward"], 4),
            "rewards": [round(value, 4) for value in row["rewards"].values()],
            "reason": pool.add(row["reason"]),
            "length": row.get("length", sum(step >= 0 for step in row["reveal_step"])),
            "tokens": [pool.add(token) for token in row.get("tokens", ())],
            "reveal": row["reveal_step"],
            "sure": [None if value is None else round(100 * value) for value in row.get("confidence", ())],
        }
        spent += len(json.dumps(encoded, separators=(",", ":"))) + pool.size - before
        if rows and spent > budget:
            break
        rows.append(encoded)
    names = list(one.rows[0]["rewards"]) if one.rows else []
    table = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    facts = {
        "name": one.name,
        "step": one.step,
        "split": one.split,
        "total": len(one.rows),
        "components": names,
    }
    return {**facts, "rows": len(rows), **table, "html": {}, "undo": {}}


def prompt_text(prompt: str | list[dict[str, str]]) -> str:
    """A prompt as one text."""
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{m['role']}: {m['content']}" for m in prompt)


def paired(before: Sequence[Row], after: Sequence[Row]) -> dict[str, list[tuple[int, int]]]:
    """Outcome -> (row before, row after) of the completions of one problem and generation."""
    place = {(row["index"], row["generation"]): number for number, row in enumerate(after)}
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in OUTCOMES.values()}
    for number, row in enumerate(before):
        other = place.get((row["index"], row["generation"]))
        if other is not None:
            found[OUTCOMES[bool(row["correct"]), bool(after[other]["correct"])]].append((number, other))
    return found


class Renderer:
    """Renders rows as the environment of their run does."""

    def __init__(self, env: "TextEnv") -> None:
        self.env, self.left = env, MAX_STEPS

    def final(self, row: Row) -> str:
        """The whole completion; what was raised, where that fails."""
        try:
            return self.env.render_html(self.env.problem(row["index"]), row["completion"])
        except Exception as error:  # an author's code may fail in any way
            return f"<p>{escape(f'render_html raised {type(error).__name__}: {error}')}</p>"

    def undo(self, row: Row, final: str, pool: Pool) -> list[list[int]] | str:
        """What to change in `final` to go back a step, for each step from the last to the first.

        A step is [where, how many pieces, number of the text that replaces them, ...], empty where nothing changes.
        Empty as a whole if the steps are not known or too many; a text where an unfinished one cannot be rendered.
        """
        tokens, completion = row.get("tokens", ()), row["completion"]
        ends = list(accumulate(map(len, tokens)))
        kept = sum(end <= len(completion) for end in ends)  # the rest is the end token and what is behind it
        last = 1 + max(row["reveal_step"], default=-1)
        if "".join(tokens[:kept]) != completion or last > self.left:
            return []
        self.left -= last
        spans = [range(end - len(token), end) for token, end in zip(tokens[:kept], ends, strict=False)]
        steps, later = [], PIECE.findall(final)
        try:
            problem = self.env.problem(row["index"])
            for step in reversed(range(last)):
                late = (span for span, at in zip(spans, row["reveal_step"], strict=False) if at >= step)
                hidden = set(chain.from_iterable(late))
                earlier = PIECE.findall(self.env.render_partial(problem, completion, hidden))
                changes = [(at, count, pool.add("".join(new))) for at, count, new in changed(later, earlier)]
                steps.append([number for change in changes for number in change])
                later = earlier
        except Exception as error:
            return f"render_partial raised {type(error).__name__}: {error}"
        return steps


def changed(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, Sequence[str]]]:
    """(where, how many pieces of `old`, what stands there in `new`), from left to right."""
    if len(old) == len(new):  # place by place, as a board or a text of fixed length changes
        start = 0
        for end in range(1 + len(old)):
            if end == len(old) or old[end] == new[end]:
                if start < end:
                    yield start, end - start, new[start:end]
                start = end + 1
        return
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    tail = next((i for i in range(shorter - start) if old[-1 - i] != new[-1 - i]), shorter - start)
    yield start, len(old) - tail - start, new[start : len(new) - tail]


def renderer(run: Recorded, split: str) -> tuple[Renderer | None, str]:
    """What renders a row as the run's environment does, or None and why there is no such thing."""
    try:
        env = envs.make(run.environment.get("env", run.config.env), split=split, **run.config.env_args)
        env.problem(0)
    except Exception as error:  # an author's file may be gone, or fail in any way
        return None, f"{type(error).__name__}: {error}"
    return Renderer(env), ""


def failures(run: Recorded, render: Renderer | None) -> list[dict[str, Any]]:
    """Each reason of a wrong completion, most frequent last first, with counts before and after and an example."""
    sets = run.before_after or run.samples[-1:]
    wrong = [[row for row in one.rows if not row["correct"]] for one in sets]
    reasons = dict.fromkeys(row["reason"] for rows in reversed(wrong) for row in rows)
    found = []
    for reason in reasons:
        counts = [sum(row["reason"] == reason for row in rows) for rows in wrong]
        example = next(row for rows in reversed(wrong) for row in rows if row["reason"] == reason)
        found.append(
            {
                "reason": reason or "no reason given",
                "counts": [(one.name, count, len(one.rows)) for one, count in zip(sets, counts, strict=True)],
                "row": example,
                "prompt": prompt_text(example["prompt"]),
                "html": render.final(example) if render else "",
            }
        )
    return sorted(found, key=lambda one: -one["counts"][-1][1])


def page_data(run: Recorded, pool: Pool, budget: int) -> dict[str, Any]:
    """A run's completions for the page's script, its failures, and a note where its environment renders nothing."""
    sets = [one for one in [*run.evaluations, *run.samples] if one.rows]
    tables = {one.name: columns(pool, one, budget // max(1, len(sets))) for one in sets}
    pair = run.before_after
    render, note = renderer(run, pair[0].split if pair else "train")
    if len(pair) == 2 and render:
        of_each = RENDERED // len(OUTCOMES)
        shown = (one.rows[: tables[one.name]["rows"]] for one in pair)
        outcomes = [couples[:of_each] for couples in paired(*shown).values()]
        for couple in filter(None, chain.from_iterable(zip_longest(*outcomes))):  # some of each, if not all
            for one, number in zip(pair, couple, strict=True):
                final, table = render.final(one.rows[number]), tables[one.name]
                table["html"][number] = [pool.add(part) for part in PART.findall(final)]
                table["undo"][number] = render.undo(one.rows[number], final, pool)
    return {
        "script": {
            "name": run.path.name,
            "block": run.config.rollout.block_length,
            "sets": list(tables.values()),
        },
        "failures": failures(run, render),
        "note": note,
    }

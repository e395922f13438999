"""No completion makes any built-in task raise, hang or contradict itself, alone or in a batch.

The short run is part of every test run. `pytest --slow -k million` judges a million generated answers, one by
one and in batches, and says which took longest.
"""

import json
import random
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import verifiers
from tests.common.soup import MODES, PIECES, REFERENCES, RIGHT, built_in, soup
from verifiers import verify, verify_batch
from verifiers.verdicts import REASONS, TIERS

HARD_SECONDS = 3.0 + 0.5  # the hard deadline, and what a busy system may keep a process from running


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """A worker that is ready: one that is not yet may end a verdict as a timeout on a busy machine."""
    verify_batch("math500", [r"<answer>\sum_{k=1}^{n} k</answer>"], answer=[r"\frac{n(n+1)}{2}"])


class Awkward(str):
    """A string whose every hook lies."""

    def __str__(self):
        raise RuntimeError("no")

    encode = __len__ = __iter__ = __eq__ = __str__  # type: ignore[assignment]
    __hash__ = str.__hash__


def check(task: str, completion: object, reference: dict) -> None:
    """One completion, alone in both modes: a verdict that makes sense, within the deadline."""
    verdicts = []
    for mode in MODES:
        start = time.monotonic()
        verdict = verify(task, completion, mode=mode, **reference)
        assert time.monotonic() - start < HARD_SECONDS
        assert verdict.reason in REASONS and verdict.decided_by in TIERS
        assert type(verdict.correct) is bool and verdict.correct == (verdict.reason == "ok")
        assert 0 <= verdict.score <= 1 and (verdict.score == 1 or not verdict.correct)
        assert verdict.extracted is None or type(verdict.extracted) is str
        assert isinstance(completion, str) or (verdict.reason, verdict.extracted) == ("malformed", None)
        json.dumps(verdict.extracted)
        verdicts.append(verdict)
    assert verdicts[0].correct or not verdicts[1].correct, "right in strict mode, wrong in lenient mode"


STRANGE = (
    st.binary(max_size=40)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.lists(st.text(max_size=5), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
    | st.builds(object)
    | st.just(verify)
)


@pytest.mark.parametrize("task", built_in())
def test_any_text_gets_a_verdict(task):
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        soup() | st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
        st.data(),
    )
    def hold(text, data):
        check(task, text, data.draw(st.sampled_from(REFERENCES[task])))

    hold()


@pytest.mark.parametrize("task", built_in())
def test_any_object_gets_a_verdict_alone_and_in_a_batch(task):
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STRANGE | soup() | soup().map(Awkward), min_size=1, max_size=6))
    def hold(completions):
        reference = REFERENCES[task][0]
        columns = {name: [value] * len(completions) for name, value in reference.items()}
        for completion in completions:
            check(task, completion, reference)
        for mode in MODES:
            alone = [verify(task, completion, mode=mode, **reference) for completion in completions]
            assert list(verify_batch(task, completions, mode=mode, **columns)) == alone

    hold()


def giants() -> list[str]:
    """Answers of 20 k to 300 k characters, nested, repeated or endless, as they are and in a box."""
    bodies = [piece * (100_000 // len(piece)) for piece in PIECES]
    bodies += [
        piece * 9000 + "1" + "}" * 9000 for piece in ("{", "\\frac{", "\\sqrt{", "1^{", "\\boxed{", "\\text{")
    ]
    bodies += [
        "(" * 30_000 + "1" + ")" * 30_000, "-" * 60_001 + "1", "1," * 30_000, "1/" * 30_000 + "1",
        "1+" * 30_000 + "1",
    ]  # fmt: skip
    bodies += [
        "1" * 300_000, "0." + "3" * 60_000, "1e" + "9" * 60_000, "1" * 30_000 + "/" + "3" * 30_000,
        "\u0664" * 30_000,
    ]  # fmt: skip
    bodies += [
        "9^" * 20_000 + "9",
        "9!" * 20_000,
        "<answer>1</answer>" * 10_000,
        "<answer>" * 30_000 + "</answer>" * 30_000,
    ]
    return [*bodies, *(f"<answer>\\boxed{{{body[:60_000]}}}</answer>" for body in bodies)]


@pytest.mark.parametrize("task", built_in())
def test_giant_answers_get_a_verdict_in_time(task, record_property):
    texts = giants()
    reference = REFERENCES[task][0]
    longest, which = 0.0, ""
    alone = []
    for text in texts:
        start = time.process_time()
        alone.append(verify(task, text, **reference))
        seconds = time.process_time() - start
        if seconds > longest:
            longest, which = seconds, text[:40]
        assert seconds < HARD_SECONDS, text[:60]
    record_property("longest", f"{longest:.3f} s: {which!r}")
    columns = {name: [value] * len(texts) for name, value in reference.items()}
    assert list(verify_batch(task, texts, **columns)) == alone


def mutated(rng: random.Random, text: str) -> str:
    """`text` after a few random edits: pieces put in, cut out, doubled, characters swapped."""
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(text) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:place] + rng.choice(PIECES) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + rng.randrange(1, 4) :]
        elif kind == 2:
            text = text[:place] + text[place - rng.randrange(8) : place] * rng.randrange(1, 4) + text[place:]
        elif kind == 3:
            text = text[:place] + rng.choice(string.printable) + text[place + 1 :]
        else:
            text = (
                text[:place]
                + chr(rng.choice((rng.randrange(0x3000), rng.randrange(0x110000))))
                + text[place:]
            )
    return text


def generated(rng: random.Random, task: str) -> str:
    """An answer to the first reference of `task`: right, nearly right, or soup, somewhere in a completion."""
    answer = (
        rng.choice(RIGHT[task]) if rng.random() < 0.8 else "".join(rng.choices(PIECES, k=rng.randrange(12)))
    )
    answer = mutated(rng, answer)
    frames = (
        "<answer>{}</answer>", "so\n<answer>\n\\boxed{{{}}}\n</answer><|eot_id|>", "\\boxed{{{}}}", "#### {}",
        "{}",
    )  # fmt: skip
    text = rng.choice(frames).format(answer)
    return mutated(rng, text) if rng.random() < 0.2 else text


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("task", built_in())
def test_a_share_of_a_million_generated_answers(task, capsys, record_property):
    count = 1_000_000 // len(built_in())
    rng, reference = random.Random(f"fuzz {task}"), REFERENCES[task][0]
    longest, which, reasons, done = 0.0, "", dict.fromkeys(REASONS, 0), 0
    while done < count:
        texts = [generated(rng, task) for _ in range(min(5000, count - done))]
        mode = rng.choice(MODES)
        alone = []
        for text in texts:
            start = time.monotonic()
            alone.append(verify(task, text, mode=mode, **reference))
            seconds = time.monotonic() - start
            if seconds > longest:
                longest, which = seconds, text
        for verdict in alone:
            reasons[verdict.reason] += 1
        columns = {name: [value] * len(texts) for name, value in reference.items()}
        batch = verify_batch(task, texts, mode=mode, **columns)
        for one, other in zip(alone, batch, strict=True):
            assert (one.correct, one.reason) == (other.correct, other.reason) or one.reason == "timeout"
        done += len(texts)
    counts = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items() if number)
    said = f"{task}: {done:,} answers, longest verdict {longest * 1e3:.1f} ms for {which[:80]!r}; {counts}"
    record_property("longest", said)
    with capsys.disabled():
        print(f"\n{said}")
    assert longest < HARD_SECONDS and reasons["ok"] > count / 100
    assert reasons["error"] == 0 and reasons["timeout"] < count / 10_000
    assert verifiers.verify(task, f"<answer>{RIGHT[task][0]}</answer>", **reference).reason in REASONS

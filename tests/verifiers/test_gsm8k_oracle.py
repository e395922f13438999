"""Right answers by construction and answers one edit away, judged against a slow oracle; kernel = plain path."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers
from tests.common.gsm8k_oracle import PLACES, answer, edit, oracle
from verifiers import gsm8k, verify, verify_batch

COUNT = 10_000


def test_ten_thousand_right_answers_are_accepted():
    rng = random.Random(20261)
    pairs = [answer(rng) for _ in range(COUNT)]
    texts = [rng.choice(PLACES).format(text) for text, _ in pairs]
    golds = [f"{value.numerator}/{value.denominator}" for _, value in pairs]
    verdicts = verify_batch("gsm8k", texts, answer=golds)
    refused = [pair for pair, right in zip(pairs, verdicts.correct, strict=True) if not right]
    assert refused == []
    for text, value in pairs[:1000]:
        assert oracle(text, value), text


def test_ten_thousand_answers_one_edit_away_are_refused():
    rng = random.Random(20262)
    texts, golds = [], []
    while len(texts) < COUNT:
        text, value = answer(rng)
        text = edit(rng, text)
        if not oracle(text, value):
            texts.append(text)
            golds.append(f"{value.numerator}/{value.denominator}")
    verdicts = verify_batch("gsm8k", [f"<answer>{text}</answer>" for text in texts], answer=golds)
    accepted = [
        pair for pair, right in zip(zip(texts, golds, strict=True), verdicts.correct, strict=True) if right
    ]
    assert accepted == []


_PIECES = st.sampled_from(
    [
        "<answer>",
        "</answer>",
        "\\boxed{",
        "{",
        "}",
        "\\",
        "####",
        "<|eot_id|>",
        "18",
        "0",
        "9" * 20,
        "1,250",
        ".5",
        "1.",
        ",",
        ".",
        "...",
        "-",
        "+",
        "−",
        "$",
        "\\$",
        "%",
        "/",
        "1/2",
        " 1/2",
        "\\frac",
        "\\frac{1}{2}",
        "{18}",
        "½",
        "²",
        "^",
        "^2",
        "^{2}",
        "^\\circ",
        "\\times 10^",
        "×10",
        "e",
        "e5",
        "E-3",
        "10",
        "=",
        " = ",
        "≈",
        "\\approx",
        "<",
        ">",
        "!",
        "!=",
        "*",
        "**",
        "(",
        ")",
        "_",
        "|",
        " ",
        "\n",
        "\\,",
        "\\!",
        "\u2009",
        "\xa0",
        "\u200b",
        "x",
        " or ",
        " per ",
        " minus ",
        "eggs",
        " million",
        "k",
        "th",
        "not ",
        "\\text{",
        "\\pm",
        "\\neq",
        "\\circ",
        "\\quad",
        "\\dots",
        "\\sqrt",
        "±",
        "≠",
        "…",
        "\x00",
        "�",
        "١",
        "𝟖",
        "€",
        "①",
        "é",
        "万",
    ]
)
_TEXTS = st.lists(
    _PIECES | st.characters(codec=None) | st.text("0123456789.,/-= ", max_size=6), max_size=12
).map("".join)
_COMPLETIONS = _TEXTS | _TEXTS.map(lambda text: f"<answer>{text}</answer>")
_GOLDS = st.sampled_from(
    ["18", "-18", "1,250", "0.5", "1/2", "9" * 20, "1" + "0" * 25, "0", "36/2", "1e3", "5", "a\n#### 18"]
)


def by_kernel(texts: list[str], golds: list[object], mode: str) -> verifiers.Verdicts:
    n = len(texts)
    columns = np.empty(n, np.int8), np.empty(n, np.int8), np.empty((n, 2), np.int64)
    gsm8k._run(gsm8k._kernel(), texts, golds, mode == "lenient", columns)
    reason, tier, spans = columns
    return verifiers.Verdicts(reason == 0, (reason == 0).astype(float), reason, tier, spans, texts)


@settings(max_examples=400, deadline=None)
@given(st.lists(_COMPLETIONS, min_size=1, max_size=8), _GOLDS)
def test_kernel_and_plain_path_agree(texts, gold):
    for mode in ("lenient", "strict"):
        plain = [verify("gsm8k", text, mode=mode, answer=gold) for text in texts]
        assert list(by_kernel(texts, [gold] * len(texts), mode)) == plain
        assert all(verdict.score == float(verdict.correct) for verdict in plain)


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_kernel_and_plain_path_refuse_the_same_references(gold):
    messages = []
    for judge in (verify_batch, lambda task, texts, answer: by_kernel(texts, answer, "lenient")):
        try:
            judge("gsm8k", ["<answer>18</answer>"], answer=[gold])
            messages.append("")
        except verifiers.VerifierError as error:
            messages.append(str(error))
    assert messages[0] == messages[1]


def test_kernel_and_plain_path_agree_on_constructed_answers():
    rng = random.Random(3)
    pairs = [answer(rng) for _ in range(1500)]
    texts = [
        rng.choice(PLACES).format(edit(rng, text) if row % 2 else text) for row, (text, _) in enumerate(pairs)
    ]
    golds = [f"{value.numerator}/{value.denominator}" for _, value in pairs]
    plain = [verify("gsm8k", text, answer=gold) for text, gold in zip(texts, golds, strict=True)]
    assert list(by_kernel(texts, golds, "lenient")) == plain
    assert 800 < sum(verdict.correct for verdict in plain) < 1400

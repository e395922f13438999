"""Which mark shows an answer, and a completion whose reading fails."""

import pytest

from tests.common.soup import use_kernels
from verifiers import verify, verify_batch
from verifiers.reading import answer

MARKED = [
    ("<answer>18</answer>", "block"), ("<answer>18", "block"), ("é \\boxed{18}", "box"),
    ("<answer>\\boxed{18}</answer>", "box"), ("#### 18", "hashes"), ("é The answer is 18.", "named"),
    ('{"answer": 18}', "named"), ("A: 18", "named"), ("So she has **18** eggs.", "bold"), ("18 eggs", "last"),
    ("no", None),
]  # fmt: skip


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_a_verdict_says_which_mark_shows_its_answer(task: str, monkeypatch) -> None:
    use_kernels(monkeypatch)
    texts, marks = map(list, zip(*MARKED, strict=True))
    assert [verify(task, text, mode="flexible", answer="18").mark for text in texts] == marks
    verdicts = verify_batch(task, texts, mode="flexible", answer=["18"] * len(texts))
    assert verdicts.marks == marks == [verdict.mark for verdict in verdicts]
    assert verdicts[2:4].marks == marks[2:4]


def test_of_countdown_no_sentence_is_a_mark() -> None:
    verdict = verify("countdown", "The answer is 3*5+7.", mode="flexible", numbers=[3, 5, 7], target=22)
    assert verdict.correct and verdict.mark == "last"


@pytest.mark.parametrize("mode", ["strict", "lenient", "flexible"])
@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_a_completion_whose_reading_raises_is_an_error_of_its_row(task, mode, monkeypatch, caplog) -> None:
    regions = answer.regions

    def raising(text: str) -> answer.Regions:
        if "planted" in text:
            raise SystemError("internal error in regular expression engine")
        return regions(text)

    monkeypatch.setattr(answer, "regions", raising)
    texts = ["<answer>\\boxed{18}</answer>", "planted \\boxed{18}", "<answer>\\boxed{17}</answer>"]
    assert verify(task, texts[1], mode=mode, answer="18").reason == "error"
    assert verify_batch(task, texts, mode=mode, answer=["18"] * 3).reasons == ["ok", "error", "wrong"]
    assert "planted" in caplog.text and "could not be judged" in caplog.text

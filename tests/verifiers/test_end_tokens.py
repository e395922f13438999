"""Every end token of the model families ends a completion, for every task; what follows is another turn."""

import pytest

import envs
from tests.common.soup import judge
from verifiers import verify

ENDS = "<|eot_id|> <|endoftext|> <|im_end|> <|role_end|> <|end|> </s> <|eot|> <end_of_turn>".split()
GRID, OTHER = "1234341221434321", "1234341221434312"
ANSWERS = {
    "gsm8k": ("18", "19", {"answer": "18"}),
    "math500": ("18", "19", {"answer": "18"}),
    "sudoku": (GRID, OTHER, {"puzzle": GRID}),
    "countdown": ("1+2", "2+1", {"numbers": [1, 2], "target": 3}),
}


@pytest.mark.parametrize("task", ANSWERS)
@pytest.mark.parametrize("end", ENDS)
def test_what_follows_an_end_token_is_another_turn(end, task):
    answer, wrong, reference = ANSWERS[task]
    texts = [
        f"<answer>{answer}</answer>{end}\nuser\nnext\n<answer>{wrong}",
        f"<answer>{answer}</answer>{end}<answer>{wrong}</answer>",
        f"so <answer>{answer}{end}</answer>",
        f"#### {answer}{end}",
        f"\\boxed{{{answer}}}{end} \\boxed{{{wrong}}}",
    ]
    assert [verify(task, text, **reference).correct for text in texts] == [True] * len(texts)
    assert judge(task, texts, [reference] * len(texts)).correct.all()
    assert envs.read_answer(f"<answer>18</answer>{end}<answer>19</answer>") == "18"
    assert envs.read_answer(f"{end}<answer>19</answer>") is None


@pytest.mark.parametrize("text", ["<|im_start|>", "<|mdm_mask|>", "</st>", "<s>", "<|end", "<||>"])
def test_what_only_looks_like_one_ends_nothing(text):
    assert verify("gsm8k", f"{text} so <answer>18</answer>", answer="18").correct
    assert envs.read_answer(f"{text} so <answer>18</answer>") == "18"

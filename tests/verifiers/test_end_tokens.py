"""Every end token of the model families ends a completion, for every task; what follows is another turn."""

import pytest

import envs
from verifiers import verify, verify_batch

ENDS = (
    "<|eot_id|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|role_end|>",
    "<|end|>",
    "</s>",
    "<|eot|>",
    "<end_of_turn>",
)


@pytest.mark.parametrize("end", ENDS)
def test_what_follows_an_end_token_is_another_turn(end):
    grid, other = "1234341221434321", "1234341221434312"
    right = [
        ("gsm8k", "18", "19", {"answer": "18"}),
        ("math500", "18", "19", {"answer": "18"}),
        ("sudoku", grid, other, {"puzzle": grid}),
        ("countdown", "1+2", "2+1", {"numbers": [1, 2], "target": 3}),
    ]
    for task, answer, wrong, reference in right:
        texts = [
            f"<answer>{answer}</answer>{end}\nuser\nnext\n<answer>{wrong}",
            f"<answer>{answer}</answer>{end}<answer>{wrong}</answer>",
            f"so <answer>{answer}{end}</answer>",
            f"#### {answer}{end}",
            f"\\boxed{{{answer}}}{end} \\boxed{{{wrong}}}",
        ]
        found = [verify(task, text, **reference) for text in texts]
        assert all(verdict.correct for verdict in found), (task, found)
        columns = {name: [value] * len(texts) for name, value in reference.items()}
        assert verify_batch(task, texts, **columns).correct.all(), task
    assert envs.read_answer(f"<answer>18</answer>{end}<answer>19</answer>") == "18"
    assert envs.read_answer(f"{end}<answer>19</answer>") is None


@pytest.mark.parametrize("text", ["<|im_start|>", "<|mdm_mask|>", "</st>", "<s>", "<|end", "<||>"])
def test_what_only_looks_like_one_ends_nothing(text):
    assert verify("gsm8k", f"{text} so <answer>18</answer>", answer="18").correct
    assert envs.read_answer(f"{text} so <answer>18</answer>") == "18"

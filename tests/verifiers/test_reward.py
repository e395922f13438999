"""`reward_function`: what a trainer of the TRL kind hands over, and what it gets back."""

import inspect
from functools import partial

import numpy as np
import pytest

from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION
from verifiers import ArgumentError, reward_function, verify
from verifiers.reward import unwrap

WRONG = "<answer>4321124334121234</answer>"


def test_variants_have_names_do_what_they_say_and_ignore_what_trl_also_sends():
    made, rows = {}, "<answer>4321\n1243\n3412\n2134</answer>"
    also = {
        "prompts": ["p"] * 3,
        "completion_ids": [[1]] * 3,
        "solution": [SOLUTION] * 3,
        "trainer_state": object(),
    }
    for options in ({}, {"partial": True}, {"mode": "strict"}, {"mode": "strict", "partial": True}):
        reward = reward_function("sudoku", **options)
        made[reward.__name__] = reward(
            completions=[RIGHT, rows, WRONG], puzzle=[PUZZLE] * 3, log_metric=print, **also
        )
    score = verify("sudoku", WRONG, puzzle=PUZZLE).score
    assert 0 < score < 1
    assert made == {
        "sudoku": [1.0, 1.0, 0.0],
        "sudoku_partial": [1.0, 1.0, score],
        "sudoku_strict": [1.0, 0.0, 0.0],
        "sudoku_strict_partial": [1.0, 0.0, score],
    }
    assert all(type(paid) is list and type(value) is float for paid in made.values() for value in paid)
    assert not inspect.iscoroutinefunction(reward)


def test_chat_messages_are_unwrapped():
    said = {"role": "assistant", "content": RIGHT}
    parts = [{"type": "text", "text": part} for part in (RIGHT[:10], RIGHT[10:])]
    tool, user = {"role": "tool", "content": "try again"}, {"role": "user", "content": WRONG}
    corrected = [{**said, "content": WRONG}, tool, {**said, "content": parts}, user]
    hostile = {"role": np.zeros(2), "content": [{"text": 3}, {"type": "image"}, None]}
    empty = {**said, "content": None}
    completions = [[said], [hostile], corrected, [empty], [], [3], None, [{"role": "x"}]]
    rewards = reward_function("sudoku")(completions=completions, puzzle=[PUZZLE] * len(completions))
    assert rewards == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert unwrap("text") == "text" and unwrap([3, "x"]) == [3, "x"]
    assert unwrap([{"content": "no role"}]) == "no role"


def test_another_column_can_hold_the_reference():
    reward = reward_function("sudoku", puzzle="question")
    assert reward(completions=[RIGHT], question=[PUZZLE]) == [1.0]
    said = r'needs question=.*reward_function\("sudoku", puzzle="your_column"\)'
    with pytest.raises(ArgumentError, match=said):
        reward(completions=[RIGHT], puzzle=[PUZZLE])
    with pytest.raises(ArgumentError, match="partial='false' should be True or False"):
        reward_function("sudoku", partial="false")


def test_rows_without_a_usable_reference_get_none(caplog):
    reward = reward_function("sudoku")
    puzzles = [PUZZLE, None, "12", PUZZLE, "13"]
    for _ in range(2):  # the log names the first row, once
        assert reward(completions=[RIGHT] * 4 + [WRONG], puzzle=puzzles) == [1.0, None, None, 1.0, None]
    (record,) = caplog.records
    assert "puzzle='12'" in record.getMessage()
    assert reward(completions=[RIGHT, WRONG], puzzle=[None, None]) == [None, None]
    math = reward_function("math", partial=True)
    rewards = math(completions=["\\boxed{6}"] * 4, answer=[6.0, "", float("nan"), "5:6"])
    assert rewards == [1.0, None, None, 0.0]


def test_the_problem_comes_from_its_column_and_never_from_the_prompts():
    texts, golds = ["\\boxed{2+3}", "\\boxed{5}", "\\boxed{(x+1)(x+2)}"], ["5", "5", "x^2+3x+2"]
    reward = partial(reward_function("math500"), completions=texts, answer=golds)
    text = "Expand $(x+1)(x+2)$."
    chat = [{"role": "system", "content": "Expand $(x+1)^2$ like this."}, {"role": "user", "content": text}]
    for others in (
        {},
        {"prompts": ["Expand on each step."] * 3},
        {"prompts": [chat] * 3},
        {"problem": [None] * 3},
    ):
        assert reward(**others) == [0.0, 1.0, 1.0]
    for problem in (text, chat):
        assert reward(problem=[problem] * 3) == [0.0, 1.0, 0.0]
    named = partial(reward_function("math500", problem="question"), completions=texts, answer=golds)
    assert named(question=[text] * 3) == [0.0, 1.0, 0.0]
    with pytest.raises(ArgumentError, match="needs question="):
        named(prompts=["Add."] * 3)
    assert reward_function("gsm8k")(completions=["#### 5"], answer=["5"], prompts=["5?"]) == [1.0]


@pytest.mark.slow
def test_two_steps_of_trls_own_trainer_are_paid_by_it(tmp_path):
    """GRPO on a tiny causal model: one token a completion, which is the answer for one problem in ten."""
    trl = pytest.importorskip("trl")
    datasets, torch, transformers = map(pytest.importorskip, ("datasets", "torch", "transformers"))
    from spg_trainer.models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"eos_token_id": 256, "pad_token_id": 256, "bos_token_id": None}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=266, **sizes, **ends))
    with torch.no_grad():  # it writes an 8, whatever it reads
        model.get_output_embeddings().weight.zero_()
        model.get_output_embeddings().weight[ord("8")] = 1.0
        model.model.norm.weight.fill_(0.0)
    right = reward_function("gsm8k")
    paid: list[list[float | None]] = []

    def watched(**given: object) -> list[float | None]:
        given["completions"] = ["#### 8"] * 2 + ["#### 9"] * (len(given["completions"]) - 2)
        paid.append(right(**given))
        return paid[-1]

    data = datasets.Dataset.from_list([{"prompt": f"{n} + {8 - n}?", "answer": "#### 8"} for n in range(8)])
    settings = {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 4,
        "max_steps": 2,
    }
    quiet = {"report_to": [], "use_cpu": True, "bf16": False, "save_strategy": "no", "logging_steps": 1}
    config = trl.GRPOConfig(output_dir=str(tmp_path), **settings, **quiet)
    parts = {"args": config, "train_dataset": data, "processing_class": tokenizer}
    trainer = trl.GRPOTrainer(model=model, reward_funcs=[watched], **parts)
    trainer.train()
    assert paid == [[1.0, 1.0, 0.0, 0.0]] * 2
    assert [row["rewards/watched/mean"] for row in trainer.state.log_history[:2]] == [0.5, 0.5]

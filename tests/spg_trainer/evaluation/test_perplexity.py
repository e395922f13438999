"""`eval --perplexity`: the ELBO of given texts against an enumeration of all ways to mask, and its standard error."""

import itertools
import json
import math
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from spg_trainer.cli import main
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.log_likelihood import Perplexity, measure_perplexity, read_texts
from spg_trainer.models import load_model
from spg_trainer.rollout.tokens import encode_prompts
from spg_trainer.runs.progress import Console
from tests.common.block_cases import PATTERNS, plain_logits, with_pattern
from tests.common.rollout_cases import make_policy
from tests.common.trainer_cases import tiny_folder

ROWS = [
    {"text": "abcd"},
    {"prompt": "say hi", "completion": "hi!"},
    {"prompt": [{"role": "user", "content": "say hi"}], "completion": "hi!"},
]


@pytest.fixture(scope="module")
def policy():
    return load_model(str(tiny_folder()), dtype="float64", device="cpu")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def enumerated(policy, prompt: list[int], wanted: list[int]) -> float:
    """The mean over k of n/k times the mean log-probability of the masked tokens, over all ways to mask k tokens."""
    n, total = len(wanted), 0.0
    for k in range(1, n + 1):
        sums = []
        for places in itertools.combinations(range(n), k):
            shown = [policy.mask_id if i in places else token for i, token in enumerate(wanted)]
            logits = policy.model(torch.tensor([prompt + shown])).logits[0, len(prompt) :]
            logps = logits.log_softmax(-1)
            sums.append(sum(float(logps[i, wanted[i]]) for i in places))
        total += n / k * np.mean(sums) / n
    return total


@torch.no_grad()
def test_short_texts_have_the_elbo_of_an_enumeration(policy, tmp_path):
    texts = read_texts(policy, write(tmp_path / "texts.jsonl", ROWS))
    assert texts[0] == ([], [ord(c) for c in "abcd"])
    also = [{"text": "abcd", "instruction": "say hi", "input": ["x"], "output": "hi!"}]
    assert read_texts(policy, write(tmp_path / "also.jsonl", also)) == texts[:1]
    prompt = encode_prompts(policy, ["say hi"])[0][0].tolist()
    chat = [{"role": "user", "content": "say hi"}, {"role": "assistant", "content": "hi!"}]
    others = [{"messages": chat}, {"instruction": "say hi", "input": "", "output": "hi!"}]
    assert read_texts(policy, write(tmp_path / "others.jsonl", others)) == [texts[1]] * 2
    assert texts[1] == texts[2] == (prompt, [*map(ord, "hi!"), policy.end_token_ids[-1]])
    found = measure_perplexity(policy, texts)
    expected = sum(enumerated(policy, *text) for text in texts) / 12
    assert found.elbo == pytest.approx(expected, abs=1e-12)
    assert (found.standard_error, found.tokens, found.texts) == (0.0, 12, 3)
    assert found.summary()["perplexity"] == pytest.approx(math.exp(-expected))


def by_blocks(
    policy, prompt: list[int], wanted: list[int], blocks: list[tuple[int, int]], behind: int = 0
) -> float:
    """The same of each block in turn: tokens before it clean, those behind it masked, of all that is seen.

    behind: masked places behind the text.
    """
    total = 0.0
    for start, stop in blocks:
        n, mean = stop - start, []
        for k in range(1, n + 1):
            sums = []
            for places in itertools.combinations(range(start, stop), k):
                hidden = {*places, *range(stop, len(wanted))}
                shown = [policy.mask_id if i in hidden else token for i, token in enumerate(wanted)]
                shown += [policy.mask_id] * behind
                logps = plain_logits(policy.model, prompt + shown, len(prompt)).log_softmax(-1)
                sums.append(sum(float(logps[len(prompt) + i, wanted[i]]) for i in places))
            mean.append(n / k * np.mean(sums))
        total += np.mean(mean)
    return total


@torch.no_grad()
@pytest.mark.parametrize(
    ("pattern", "prompt", "block_length", "blocks"),
    [
        ("plain", 0, 2, [(0, 2), (2, 4)]),
        ("plain", 3, 3, [(0, 3), (3, 4)]),
        ("plain", 2, 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ("plain", 2, 9, [(0, 4)]),
        ("full, shifted", 3, 2, [(0, 2), (2, 4)]),
        ("completion", 3, 2, [(0, 2), (2, 4)]),
        ("completion", 3, 0, [(0, 4)]),
        ("sequence", 2, 0, [(0, 2), (2, 4)]),
        ("sequence, shifted", 2, 0, [(0, 2), (2, 4)]),
        ("sequence, shifted", 3, 2, [(0, 1), (1, 3), (3, 4)]),
        ("sequence", 5, 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_by_block_short_texts_have_the_bound_of_an_enumeration(pattern, prompt, block_length, blocks):
    policy = make_policy(torch.float64)
    if pattern != "plain":
        with_pattern(policy.model, *PATTERNS[pattern])
    begun, wanted = [70, 3, 9, 120, 41][:prompt], [5, 200, 31, 77]
    found = measure_perplexity(policy, [(begun, wanted)], block_length=block_length)
    assert found.elbo == pytest.approx(by_blocks(policy, begun, wanted, blocks) / 4, abs=1e-12)
    assert found.standard_error == 0.0
    if prompt:
        found = measure_perplexity(
            policy, [(begun, wanted)], block_length=block_length, max_completion_length=7
        )
        assert found.elbo == pytest.approx(by_blocks(policy, begun, wanted, blocks, behind=3) / 4, abs=1e-12)


def test_blocks_of_one_token_are_the_likelihood_from_left_to_right(policy):
    wanted = [ord(c) for c in "from left to right"]
    chain = 0.0
    for i, token in enumerate(wanted):
        shown = wanted[:i] + [policy.mask_id] * (len(wanted) - i)
        with torch.no_grad():
            chain += float(policy.model(torch.tensor([shown])).logits[0, i].log_softmax(-1)[token])
    found = measure_perplexity(policy, [([], wanted)], block_length=1, num_masks=8)
    assert (found.elbo, found.standard_error) == (pytest.approx(chain / len(wanted), abs=1e-12), 0.0)


@pytest.mark.slow
def test_by_block_the_standard_error_is_that_of_many_repeats(policy):
    texts = [([65, 66], [ord(c) for c in "a text in blocks of ten"])]
    found = [
        measure_perplexity(policy, texts, num_masks=16, seed=seed, block_length=10) for seed in range(200)
    ]
    spread = np.std([one.elbo for one in found], ddof=1)
    told = math.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert told == pytest.approx(spread, rel=0.2), "of 200 repeats; chance moves it by 5%"
    fine = measure_perplexity(policy, texts, num_masks=8192, block_length=10)
    error = math.hypot(spread / math.sqrt(200), fine.standard_error)
    assert abs(np.mean([one.elbo for one in found]) - fine.elbo) < 4 * error


@pytest.mark.slow
def test_the_standard_error_is_that_of_many_repeats(policy):
    texts = [
        ([], [ord(c) for c in "a longer text, masked at random"]),
        ([65, 66], [ord(c) for c in "another one."]),
    ]
    found = [measure_perplexity(policy, texts, num_masks=16, seed=seed) for seed in range(200)]
    spread = np.std([one.elbo for one in found], ddof=1)
    told = math.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert told == pytest.approx(spread, rel=0.2), "of 200 repeats; chance moves it by 5%"
    fine = measure_perplexity(policy, texts, num_masks=8192)
    error = math.hypot(spread / math.sqrt(200), fine.standard_error)
    assert abs(np.mean([one.elbo for one in found]) - fine.elbo) < 4 * error


def test_no_perplexity_of_the_interval_is_below_one():
    sure = Perplexity(elbo=-0.01, standard_error=0.007, tokens=9, texts=1)
    assert sure.interval == (1.0, pytest.approx(math.exp(0.01 + 1.96 * 0.007)))
    wide = Perplexity(elbo=-3.0, standard_error=0.1, tokens=9, texts=1)
    assert wide.interval == pytest.approx((math.exp(2.804), math.exp(3.196)))


def test_the_command_counts_the_texts_that_it_has_measured(tmp_path, monkeypatch):
    shown = []

    @contextmanager
    def progress(console, total, what):
        yield lambda done: shown.append(f"{what} {done}/{total}")

    monkeypatch.setattr(Console, "progress", progress)
    words = ["--perplexity", write(tmp_path / "texts.jsonl", ROWS), "--num-masks", "8"]
    assert main(["eval", *words, "--model", str(tiny_folder()), "--device", "cpu"]) == 0
    assert shown == ["texts 1/3", "texts 2/3", "texts 3/3"]


def test_the_command_says_and_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "texts.jsonl", [*ROWS, {"text": "a text of some tokens more"}])
    words = ["eval", "--perplexity", file, "--model", str(tiny_folder()), "--device", "cpu"]
    assert main([*words, "--num-masks", "32", "--output-dir", "out"]) == 0
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "perplexity-texts.json").read_text())
    assert told["texts"] == 4 and told["num_masks"] == 32 and told["standard_error"] > 0
    assert f"ELBO {told['elbo']:.4f} nats a token" in said and f"{told['perplexity']:.4f}" in said
    low, high = map(float, re.search(r"perplexity at most \S+ \[(\S+), (\S+)\]", said).groups())
    assert 1 <= low < told["perplexity"] < high
    (tmp_path / "other").mkdir()
    again = ["eval", "--perplexity", write(tmp_path / "other/texts.jsonl", ROWS), *words[3:]]
    for _ in range(2):  # another file of this name has a file of its own, the same one time and again
        assert main([*again, "--num-masks", "32", "--output-dir", "out"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("perplexity-*")) == [
        "perplexity-texts-2.json",
        "perplexity-texts.json",
    ]
    assert json.loads((tmp_path / "out" / "perplexity-texts.json").read_text()) == told
    capsys.readouterr()
    assert main([*words, "--block-length", "4"]) == 0
    assert "with 128 masks a block of 4 tokens" in capsys.readouterr().out
    completions = write(tmp_path / "completions.jsonl", [ROWS[1], {"prompt": "b", "completion": "x" * 30}])
    taught = tmp_path / "taught"
    shutil.copytree(tiny_folder(), taught)
    (taught / "environment.json").write_text(json.dumps({"rollout": {"max_completion_length": 9}}))
    words[2], words[4] = completions, str(taught)
    elbos = []
    for more in ([], ["--max-completion-length", "40"], ["--max-completion-length", "0"]):
        assert main([*words, *more, "--output-dir", "out"]) == 0
        elbos.append(json.loads((tmp_path / "out" / "perplexity-completions.json").read_text())["elbo"])
    assert json.loads((tmp_path / "out" / "perplexity-texts.json").read_text()) == told, "a file for each"
    said = capsys.readouterr().out
    assert (
        "stand on 9 places, as the model was taught; 1 of 2 are longer and are measured at their own" in said
    )
    assert "stand on 40 places, as --max-completion-length says. With" in said and len({*elbos}) == 3
    for more, text in (
        (["--max-completion-length", "9"], "a completion has 31 tokens. Use 31 or more, or 0"),
        (["--max-completion-length", "9", "12"], "9 12: --perplexity takes one"),
        (["--max-completion-length", "2000"], "and completions stand on 2,000. With"),
        (["--temperature", "0.5"], "--temperature has no effect"),
        (["--num-masks", "12"], "Use 16"),
    ):
        assert main([*words, *more]) == 2
        assert text in capsys.readouterr().err
    assert main(["eval", "--env", "sudoku", "--num-masks", "16"]) == 2
    assert "is for --perplexity FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"content": "a"}, "line 2 has content; give it text, or prompt and completion"),
        ({"text": ""}, "line 2 has text; give it"),
        ({"prompt": ["a"], "completion": "b"}, "line 2 has prompt, completion; give it"),
        ({"text": "x" * 2000}, r"line 2 has 2,000 tokens, and the model has [\d,]+ positions"),
    ],
)
def test_a_row_that_cannot_be_measured_is_named(policy, tmp_path, row, text):
    with pytest.raises(ConfigError, match=text):
        read_texts(policy, write(tmp_path / "texts.jsonl", [{"text": "fine"}, row]))

"""--stop: a text that ends a completion as an end token does."""

import json
import re
from dataclasses import replace

import pytest
import torch

from spg_trainer import generate, train
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.tokens import decode_completions, ended, text_of
from tests.common.marks import slow_if
from tests.common.rollout_cases import LENGTHS, SAMPLING, make_policy, make_prompts, pad, streams
from tests.common.trainer_cases import small_config


@pytest.mark.parametrize(
    "more",
    slow_if([{}, {"cache": "dual"}, {"unmasking": "threshold"}], lambda more: "cache" not in more),
)
def test_a_completion_ends_with_the_token_that_completes_the_text(more):
    policy = make_policy(torch.float32)
    prompts = pad(policy, make_prompts(policy))
    sampling = replace(SAMPLING, temperature=1.0, eos_penalty=4.0, **more)

    def sample(**changes: object):
        return sample_completions(policy, *prompts, replace(sampling, **changes), streams(len(LENGTHS)))

    free = sample()
    whole = decode_completions(policy, free)
    # Two characters that stand early in a completion, so that the text goes over two tokens.
    pairs = [(found.start(), found[0]) for text in whole for found in re.finditer("[!-~]{2}", text)]
    _, stop = min(pairs)
    stopped = sample(stop=stop)
    texts = decode_completions(policy, stopped, stop)
    assert texts == [text.partition(stop)[0] for text in whole]
    has_stop = [stop in text for text in whole]
    assert any(has_stop) and not all(has_stop)
    early = 0
    for row, found in enumerate(has_stop):
        mask = stopped.completion_mask[row]
        if not found:
            assert torch.equal(mask, free.completion_mask[row])
            continue
        tokens = stopped.completion_ids[row, mask].tolist()
        assert stop in text_of(policy, tokens) and stop not in text_of(policy, tokens[:-1])
        assert (stopped.unmask_step[row, mask] >= 0).all(), "what counts was written"
        early += int((stopped.unmask_step[row] >= 0).sum() < (free.unmask_step[row] >= 0).sum())
    assert early, "blocks behind the text are not written"
    ends = [old or found for old, found in zip(ended(policy, free), has_stop, strict=True)]
    assert ended(policy, stopped) == ends


def test_generate_leaves_the_text_out_and_refuses_it_beside_a_template():
    policy = make_policy(torch.float32)
    (text,) = generate(policy, ["a"], SAMPLING)
    (cut,) = generate(policy, ["a"], replace(SAMPLING, stop=text[3]))
    assert cut == text.partition(text[3])[0]
    with pytest.raises(ConfigError, match="--stop 'x' ends a completion that is written freely"):
        generate(policy, ["a"], replace(SAMPLING, stop="x"), canvas=["b[MASK*4]"])


def test_a_training_judges_and_learns_what_stands_before_the_text(tmp_path):
    def completions(name: str, **changes: object) -> list[dict]:
        train(small_config(tmp_path / name, max_steps=1, **changes), quiet=True)
        lines = (tmp_path / name / "samples" / "step-000001.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    free = completions("free")
    stop = next(row["completion"][2] for row in free if len(row["completion"]) > 4)
    stopped = completions("stopped", stop=stop)
    for before, now in zip(free, stopped, strict=True):
        assert now["completion"] == before["completion"].partition(stop)[0]
    assert any(stop in row["completion"] for row in free)

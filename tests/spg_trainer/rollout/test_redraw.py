"""Canvases decoded by an entropy bound are those of the stock `generate`, and a row does not depend on the others."""

import copy
from dataclasses import replace

import pytest
import torch

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.rollout.collect import paths, token_records
from spg_trainer.rollout.player import generate
from spg_trainer.rollout.redraw import EntropyBound, accepted, sample_canvases
from spg_trainer.rollout.sampler import RolloutStopped, check_sampling, sample_completions, watching
from spg_trainer.rollout.tokens import text_of
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.resolve import defaults
from spg_trainer.tensors import NEVER
from tests.common.canvases import FOLDER, SIZE, VOCABULARY, changes_of_generation, open_fixture, stored

THREE = Sampling(
    max_completion_length=3 * SIZE, block_length=SIZE, diffusion_steps=18, unmasking="entropy_bound"
)


class BatchDraws:
    """The draws of `generate`: all rows at once, from torch's global generator, whether they are still decoded or not.

    `torch.multinomial` divides each probability by a draw of Exp(1) and takes the place of the largest quotient.
    """

    def __init__(self, rows):
        self.rows, self.noise = rows, None

    def uniform(self, rows):
        self.noise = None  # the next tokens are those of another step
        return torch.randint(VOCABULARY, (self.rows, SIZE))[rows]

    def tokens(self, probabilities, row):
        if self.noise is None:
            self.noise = torch.empty(self.rows * SIZE, VOCABULARY).exponential_(1).view(self.rows, SIZE, -1)
        return (probabilities / self.noise[row]).argmax(-1)


def with_generation(policy, name):
    """The policy with changes of its generation config, as the stored tokens were made, and that config."""
    model = policy.model
    model.generation_config = copy.deepcopy(model.generation_config)
    for key, value in changes_of_generation(name).items():
        setattr(model.generation_config, key, value)
    return replace(policy, end_token_ids=tuple(model.generation_config.eos_token_id))


def seeded(rows):
    return [torch.Generator().manual_seed(100 + row) for row in rows]


def test_the_tokens_are_the_stored_ones_of_generate():
    kept, policy = stored(), open_fixture()
    torch.manual_seed(11)
    rows = sample_canvases(
        policy, kept["prompt"], kept["prompt_mask"], THREE, BatchDraws(3), None, on_step=lambda _: None
    )
    width = kept["prompt"].shape[1]
    assert rows.completion_mask.sum(-1).tolist() == [24, 24, 1]  # the third row ends with its first token
    expected = kept["generate_plain"][:, width:]
    assert torch.equal(rows.completion_ids[rows.completion_mask], expected[rows.completion_mask])
    # What the model wrote behind the end stays; `generate` replaces it.
    assert not torch.equal(rows.completion_ids[2, :SIZE], expected[2, :SIZE])


@pytest.mark.parametrize("name", [pytest.param("plain", marks=pytest.mark.slow), "stops"])
def test_each_row_of_a_padded_batch_is_what_generate_writes_of_it_alone(name):
    kept, policy = stored(), with_generation(open_fixture(), name)
    rows = sample_completions(policy, kept["prompt"], kept["prompt_mask"], THREE, seeded(range(3)))
    for row in range(3):
        prompt = kept["prompt"][row][kept["prompt_mask"][row]]
        torch.manual_seed(100 + row)
        alone = policy.model.generate(input_ids=prompt[None]).sequences[0, len(prompt) :]
        written = rows.completion_mask[row]
        assert torch.equal(rows.completion_ids[row][written], alone[: written.sum()])
    if name == "stops":
        assert rows.completion_mask.sum(-1).tolist() == [5, 14, 5]
        assert (rows.unmask_step[0, SIZE:] == NEVER).all() and (rows.unmask_step[0, :SIZE] >= 0).all()
    reordered = sample_completions(
        policy, kept["prompt"][[2, 0]], kept["prompt_mask"][[2, 0]], THREE, seeded([2, 0]), rows_per_forward=1
    )
    assert torch.equal(reordered.completion_ids, rows.completion_ids[[2, 0]])
    assert (reordered.unmask_logps - rows.unmask_logps[[2, 0]]).abs().max() < 1e-3


def test_rows_that_have_stopped_leave_the_pass():
    kept, policy = stored(), with_generation(open_fixture(), "stops")
    sizes = []
    hook = policy.model.model.decoder.register_forward_hook(
        lambda module, args, kwargs, out: sizes.append(len(kwargs["decoder_input_ids"])), with_kwargs=True
    )
    sample_completions(policy, kept["prompt"], kept["prompt_mask"], THREE, seeded(range(3)))
    hook.remove()
    assert sizes[0] == 3 and sizes[-1] == 1


def test_rows_that_have_the_text_of_stop_write_no_further_canvas():
    """What is judged is what it was when all canvases were written; passes are saved."""
    kept, policy = stored(), open_fixture()
    prompts = (policy, kept["prompt"], kept["prompt_mask"])
    whole = sample_completions(*prompts, THREE, seeded(range(3)))
    # The text of the second row's first canvas, which no other row has, so that only this row may leave.
    stop = text_of(policy, whole.completion_ids[1, 3:6].tolist())
    has_stop = [
        stop in text_of(policy, ids[mask].tolist())
        for ids, mask in zip(whole.completion_ids, whole.completion_mask, strict=True)
    ]
    assert len(stop) > 1 and has_stop == [False, True, False]
    rows = sample_completions(*prompts, replace(THREE, stop=stop), seeded(range(3)))
    assert torch.equal(rows.completion_mask[[0, 2]], whole.completion_mask[[0, 2]])
    mask = rows.completion_mask
    assert torch.equal(rows.completion_ids[mask], whole.completion_ids[mask])
    assert mask[1].sum() == 6 and (rows.unmask_step[1, SIZE:] == NEVER).all()
    assert (whole.unmask_step[1, SIZE:] >= 0).all()


def test_the_path_of_a_place_is_what_it_held_after_each_step():
    kept, policy = stored(), with_generation(open_fixture(), "stops")
    policy.model.generation_config.confidence_threshold = 5.3  # some canvases are over early
    rows = sample_completions(policy, kept["prompt"], kept["prompt_mask"], THREE, seeded(range(3)))
    accepted = torch.stack([rows.accepted[:, 0] >> step & 1 for step in range(6)], 1).bool()  # (B, S, T)
    found, redrawn, made = paths(rows, SIZE), 0, []
    for row, path in enumerate(found):
        first = 0
        for start in range(0, 3 * SIZE, SIZE):
            steps = int(accepted[row, :, start : start + SIZE].any(-1).sum())
            for place in range(start, start + SIZE):
                held = {}
                for step, token in path[place]:
                    held |= dict.fromkeys(range(step, first + steps), token)
                assert sorted(held) == list(range(first, first + steps))
                expected = [
                    int(rows.canvases[row, s + 1, place]) if accepted[row, s, place] else None
                    for s in range(steps)
                ]
                expected[-1:] = [int(rows.completion_ids[row, place])] if steps else []
                assert list(held.values()) == expected
                redrawn += expected.count(None)
            first += steps
        made.append(first)
    assert redrawn > 20 and rows.passes.tolist() == made and any(steps % 6 for steps in made)
    (record, *_) = token_records(policy, rows)
    assert record["path"][0][-1] == [found[0][0][-1][0], record["tokens"][0]]
    assert any(path[-1] == [] for path in found)  # a row that ended begins no further canvas


def test_as_many_tokens_are_accepted_as_the_bound_allows():
    entropy = torch.tensor([[0.5, 0.125, 0.25, 2.0], [3.0, 2.0, 4.0, 5.0]])
    assert accepted(entropy, 0.375).tolist() == [[True, True, True, False], [False, True, False, False]]
    assert accepted(entropy, 0.25).tolist()[0] == [False, True, True, False]
    rule = EntropyBound(0.1, t_max=0.8, t_min=0.4, stability=1, confidence=0.005)
    assert [rule.temperature(step, 4) for step in range(4)] == pytest.approx([0.8, 0.7, 0.6, 0.5])


def test_a_rollout_can_be_stopped_and_keeps_what_is_finished():
    kept, policy = stored(), with_generation(open_fixture(), "stops")
    shares = []
    with (
        pytest.raises(RolloutStopped) as stopped,
        watching(shares.append, stops=lambda: len(shares) == 8),
    ):
        sample_completions(policy, kept["prompt"], kept["prompt_mask"], THREE, seeded(range(3)))
    assert stopped.value.finished == [0, 2] and 0 < shares[0] < shares[-1] < 1


def test_generate_takes_the_decoding_of_the_model():
    policy = open_fixture()
    sampling = defaults(Sampling, model=str(FOLDER))
    assert (sampling.unmasking, sampling.block_length, sampling.steps_per_block) == ("entropy_bound", SIZE, 6)
    short = replace(sampling, max_completion_length=16, diffusion_steps=12)
    texts = generate(policy, ["Hi", "Hello"], short, seed=3)
    assert texts[1:] == generate(policy, ["Who", "Hello"], short, seed=3)[1:]
    assert texts != generate(policy, ["Hi", "Hello"], short, seed=4)


def test_decoding_that_does_not_go_with_the_noise_is_refused():
    policy = open_fixture()
    with pytest.raises(ConfigError, match=r"--unmasking schedule.*no \[MASK\].*entropy_bound"):
        check_sampling(policy, replace(THREE, unmasking="schedule"))
    with pytest.raises(ConfigError, match=r"--top-k 3 says nothing with .*entropy_bound"):
        check_sampling(policy, replace(THREE, top_k=3))
    with pytest.raises(ConfigError, match=r"--block-length 20.* canvases of 8 tokens.*8.*24"):
        check_sampling(policy, replace(THREE, max_completion_length=20, block_length=20, diffusion_steps=20))
    with pytest.raises(ConfigError, match="fills no holes"):
        generate(policy, ["Hi"], THREE, canvas=["a[MASK]b"])
    policy.model.generation_config.t_max = None
    with pytest.raises(ModelError, match=r"generation_config.json does not say t_max"):
        generate(policy, ["Hi"], THREE)


def test_a_model_with_masks_does_not_redraw():
    from spg_trainer.models import new_policy

    with pytest.raises(ConfigError, match=r"entropy_bound.*hides a token by \[MASK\]"):
        check_sampling(new_policy(), THREE)

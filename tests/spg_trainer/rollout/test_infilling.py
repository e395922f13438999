"""Holes in a given text: against a sampler spelled out for one row, with every way to decode, and in `generate`."""

from dataclasses import replace

import pytest
import torch

from spg_trainer import generate
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.tokens import decode_completions, encode_templates, ended
from spg_trainer.settings.decoding import EvalSampling, Sampling
from spg_trainer.settings.rules import CACHES, REMASKING, UNMASKING
from tests.common.block_cases import PATTERNS, plain_block_sampler, with_pattern
from tests.common.marks import slow_if
from tests.common.rollout_cases import LENGTHS, make_policy, make_prompts, pad, streams

T = 24
RECORDS = frozenset({"confidence_change"})
HOLES = (
    "..ggg..g" "gggggggg" "ggg....g",  # a block that is given altogether
    "gggggggg" "ggg....." "........",  # a prefix, as long as a block and more
    "........" "........" "........",  # nothing given
    "g......." "........" ".gg.gg.g",  # a hole across blocks, which may end in the first of them
    "gggggggg" "gggggggg" "ggggggg.",  # one token
    ".g.g.g.g" "g.g.g.g." "..g..g..",
)  # fmt: skip
SAMPLING = Sampling(T, 8, 12)


def policy_of(pattern="plain"):
    policy = make_policy(torch.float64, ends=40)
    if pattern != "plain":
        with_pattern(policy.model, *PATTERNS[pattern])
    return policy


def make_canvas(policy, holes=HOLES):
    """Random tokens where `holes` has g, end tokens among them, and the mask id where it has a dot."""
    stream = torch.Generator().manual_seed(11)
    ids = torch.randint(0, policy.mask_id, (len(holes), T), generator=stream)
    is_hole = torch.tensor([[place == "." for place in row] for row in holes])
    return ids.masked_fill(is_hole, policy.mask_id)


def read_places(holes, tokens, ends):
    """Places of holes up to and including the first end token of each."""
    places, over = [], False
    for place, kind in enumerate(holes):
        over = over and kind == "."
        if kind == "." and not over:
            places.append(place)
            over = tokens[place] in ends
    return places


def check(out, canvas, policy):
    """What holds of every decoder: what is given stays and is recorded as given, all that is read was written."""
    given = canvas != policy.mask_id
    assert torch.equal(out.given, given) and torch.equal(out.canvas(policy.mask_id), canvas)
    assert torch.equal(out.completion_ids[given], canvas[given])
    assert (out.unmask_logps[given] == 0).all()
    assert (out.unmask_step[out.completion_mask] >= 0).all()
    assert not (out.completion_ids[out.completion_mask] == policy.mask_id).any()
    for row, holes in enumerate(HOLES):
        read = read_places(holes, out.completion_ids[row].tolist(), policy.end_token_ids)
        assert out.completion_mask[row].nonzero()[:, 0].tolist() == read


WAYS = {
    "greedy": SAMPLING,
    "drawn": replace(SAMPLING, temperature=1.0),
    "at random": replace(SAMPLING, temperature=0.5, remasking="random"),
    "threshold": replace(SAMPLING, unmasking="threshold", threshold=0.3),
    "factor": replace(SAMPLING, unmasking="factor", factor=1.0),
}
BLOCKWISE = replace(SAMPLING, block_length=4, diffusion_steps=12)


PATTERNS_OF_ROWS = ("plain", "sequence", "completion, shifted", "full, shifted")
PAIRS = [(pattern, way) for pattern in PATTERNS_OF_ROWS for way in WAYS]


@pytest.mark.parametrize("pattern, way", slow_if(PAIRS, lambda *pair: PAIRS.index(pair) % 2))
def test_tokens_steps_and_logps_are_those_of_a_row_decoded_alone(pattern, way):
    policy, sampling = policy_of(pattern), WAYS[way]
    caches = ["none", "window"]
    if pattern not in ("plain", "full, shifted"):
        sampling, caches = replace(sampling, block_length=4), ["none", "blocks"]
    prompts, canvas = make_prompts(policy), make_canvas(policy)
    expected = [
        plain_block_sampler(policy.model, prompt, sampling, policy.mask_id, noise, row.tolist())
        for prompt, row, noise in zip(prompts, canvas, streams(len(prompts)), strict=True)
    ]
    for cache, rows_per_forward in zip(caches, (3, 2), strict=True):
        s = replace(sampling, cache=cache, **({"window_tokens": 99} if cache == "window" else {}))
        inputs, noises = pad(policy, prompts, 1), streams(len(prompts))
        how = {"rows_per_forward": rows_per_forward, "canvas": canvas}
        if cache == "window":  # as wide as everything, it computes all columns but padding: exact
            how["rows_per_forward"] = None
        out = sample_completions(policy, *inputs, s, noises, **how)
        check(out, canvas, policy)
        for row, plain in enumerate(expected):
            read = out.completion_mask[row].nonzero()[:, 0].tolist()
            assert read == read_places(HOLES[row], plain.tokens, policy.end_token_ids)
            assert out.completion_ids[row, read].tolist() == [plain.tokens[i] for i in read]
            assert out.unmask_step[row, read].tolist() == [plain.steps[i] for i in read]
            found = out.unmask_logps[row, read].tolist()
            assert found == pytest.approx([plain.logps[i] for i in read], abs=1e-9)


# Others are refused: those unmaskings count the tokens that the model is sure of. One without a function draws anew.
RULES = [
    *(("schedule", name) for name in REMASKING),
    *((name, "low_confidence") for name, rule in [*UNMASKING.items()][1:] if rule.function),
]
DECODED = [(cache, *rule) for cache in CACHES for rule in RULES]


@pytest.mark.parametrize(
    "cache, unmasking, remasking",
    slow_if(DECODED, lambda cache, *rule: ([*CACHES].index(cache) + RULES.index((*rule,))) % 3),
)
def test_what_is_given_stays_however_is_decoded(cache, unmasking, remasking):
    policy = policy_of("sequence" if cache == "blocks" else "plain")
    more = {"window_tokens": 3} if cache == "window" else {}
    s = replace(BLOCKWISE, cache=cache, unmasking=unmasking, remasking=remasking, temperature=0.7, **more)
    prompts, canvas = make_prompts(policy), make_canvas(policy)
    out = sample_completions(policy, *pad(policy, prompts), s, streams(6), canvas=canvas, rows_per_forward=2)
    check(out, canvas, policy)


@pytest.mark.parametrize("cache", ["none", "blocks"])
def test_what_is_given_is_never_edited(cache):
    policy = policy_of("sequence" if cache == "blocks" else "plain")
    editing = EvalSampling(T, 4, 12, unmasking="dynamic", threshold=0.3, editing_threshold=0.01, cache=cache)
    prompts, canvas = make_prompts(policy), make_canvas(policy)
    out = sample_completions(policy, *pad(policy, prompts), editing, None, canvas=canvas)
    check(out, canvas, policy)
    plain = replace(editing, editing_threshold=9.0)
    unedited = sample_completions(policy, *pad(policy, prompts), plain, None, canvas=canvas)
    assert not torch.equal(unedited.completion_ids, out.completion_ids), "nothing was edited"
    for row, prompt in [*enumerate(prompts)][::3]:  # all rows of plain prompts: test_blocks.py
        alone = sample_completions(
            policy, *pad(policy, [prompt]), editing, None, canvas=canvas[row : row + 1]
        )
        assert torch.equal(alone.completion_ids[0], out.completion_ids[row])


@pytest.mark.parametrize("way", WAYS)
def test_a_canvas_of_one_hole_is_a_completion_as_ever_bit_for_bit(way):
    policy, prompts = make_policy(torch.float32), make_prompts(make_policy(torch.float32))
    inputs, empty = pad(policy, prompts), torch.full((6, T), policy.mask_id)
    plain = sample_completions(policy, *inputs, WAYS[way], streams(6), records=RECORDS)
    filled = sample_completions(policy, *inputs, WAYS[way], streams(6), records=RECORDS, canvas=empty)
    assert vars(plain).keys() == vars(filled).keys() > RECORDS
    for name, column in vars(plain).items():
        assert torch.equal(column, filled.get(name)), name


def test_no_end_token_is_drawn_where_a_completion_is_too_short():
    policy, held = policy_of(), replace(SAMPLING, temperature=1.0, min_completion_length=16)
    canvas = make_canvas(policy)
    out = sample_completions(policy, *pad(policy, make_prompts(policy)), held, streams(6), canvas=canvas)
    written = (out.unmask_step >= 0) & (torch.arange(T) < 16)
    assert not torch.isin(out.completion_ids[written], torch.tensor(policy.end_token_ids)).any()


def test_a_hole_has_an_end_of_its_own():
    given = torch.tensor([[place == "g" for place in "..g...gg..."]])
    ids = torch.tensor([[1, 9, 9, 1, 9, 1, 1, 9, 1, 1, 9]])
    read = until_end(ids, torch.tensor([9]), given)
    assert "".join("rx"[not one] for one in read[0]) == "rrxrrxxxrrr"


# Texts


@pytest.fixture(scope="module")
def policy():
    return replace(make_policy(torch.float32, ends=0), end_token_ids=(make_policy(torch.float32).pad_id,))


@pytest.mark.parametrize("length", [20, 24])
def test_generate_fills_the_holes_and_leaves_the_rest(policy, length):
    s = Sampling(length, length, length)
    texts = ["ab[MASK]cd[MASK*3]ef", "[MASK][MASK]xyz", "ab[MASK*]z", "ab[MASK*]", ""]
    found = generate(policy, ["p"] * 5, s, canvas=texts)
    canvas = encode_templates(policy, texts, length, str)
    holes = [(row == policy.mask_id).int().tolist() for row in canvas]
    assert [sum(row) for row in holes] == [4, 2, length - 4, length - 2, length]
    assert found[0].startswith("ab") and "cd" in found[0] and found[0].endswith("ef")
    assert found[1].endswith("xyz") and found[2].startswith("ab") and found[2].endswith("z")
    assert found[4] == generate(policy, ["p"], s)[0] == generate(policy, ["p"], s, canvas=[""])[0]
    assert found[4] == generate(policy, ["p"], s, canvas=[f"[MASK*{length}]"])[0]
    assert canvas[0].tolist()[10:] == [policy.end_token_ids[-1], *[policy.pad_id] * (length - 11)]
    alone, logps = generate(policy, ["p"], s, canvas=texts[:1], return_logps=True)
    assert alone == found[:1] and len(logps[0]) == 4


def test_several_answers_fill_the_holes_anew(policy):
    s = replace(Sampling(8, 8, 8), temperature=1.0)
    found = generate(policy, ["a", "b"], s, canvas=["x[MASK*5]", "[MASK*4]y"], num_return_sequences=3)
    assert all(text.startswith("x") for text in found[:3]) and all(text.endswith("y") for text in found[3:])
    assert len(set(found)) == 6


def test_text_that_spells_special_tokens_is_text(policy):
    mask = policy.tokenizer.mask_token
    canvas = encode_templates(policy, [f"{mask}[MASK]"], 40, str)
    assert (canvas == policy.mask_id).sum() == 1
    assert mask in generate(policy, ["p"], Sampling(40, 40, 40), canvas=[f"{mask}[MASK]"])[0]


def test_an_end_token_ends_its_hole_and_not_the_text():
    policy = replace(make_policy(torch.float32), end_token_ids=tuple(range(ord("a"), 250)))
    ids, mask = pad(policy, [[1, 2]] * 4)
    canvas = encode_templates(policy, ["<[MASK*6]>[MASK*4]!"] * 4, 16, str)
    s = replace(Sampling(16, 16, 16), temperature=1.0)
    out = sample_completions(policy, ids, mask, s, streams(4), canvas=canvas)
    texts, early = decode_completions(policy, out), 0
    for row, text in enumerate(texts):
        first, second = out.completion_mask[row, 1:7], out.completion_mask[row, 8:12]
        assert text[0] == "<" and text[-1] == "!" and ">" in text[1:-1]
        early += int((~first).any() and second.any())
    assert early, "another seed: a first hole should end early"
    assert ended(policy, out) == [True] * 4
    left = encode_templates(policy, ["<[MASK*]"] * 2, 16, str)
    out = sample_completions(policy, ids[:2], mask[:2], Sampling(16, 16, 16), None, canvas=left)
    ends = torch.isin(out.completion_ids, torch.tensor(policy.end_token_ids)) & out.completion_mask
    assert ended(policy, out) == ends.any(-1).tolist()


@pytest.mark.parametrize(
    ("canvas", "text"),
    [
        ("a[MASK]", r"canvas is the single string 'a\[MASK\]' for 1 prompts"),
        (["a[MASK]", "b"], "canvas is 2 texts for 1 prompts"),
        (["abc"], "canvas 0 of generate: the template has no hole; write"),
        (["a[MASK*]b[MASK*]"], r"has more than one \[MASK\*\]"),
        (["a[MASK*x]"], r"has '\[MASK\*x\]'; a hole is"),
        (["a[MASK"], r"has '\[MASK'; a hole is"),
        (["a[MASK*0]"], r"has '\[MASK\*0\]'; a hole is"),
        (["abcdef[MASK*3]"], "takes 9 tokens or more, and a completion has 8. Use --max-completion-length 9"),
        (["abcdefgh[MASK*]"], "takes 9 tokens or more, and a completion has 8"),
        (["abcdef[MASK*]g"], "takes 9 tokens or more, and a completion has 8"),
    ],
)
def test_a_canvas_that_cannot_be_filled_is_refused(policy, canvas, text):
    with pytest.raises(ConfigError, match=text):
        generate(policy, ["p"], Sampling(8, 8, 8), canvas=canvas)


def test_a_canvas_of_another_shape_is_refused(policy):
    inputs = pad(policy, [[1, 2]] * len(LENGTHS))
    with pytest.raises(ConfigError, match=r"the shape \(6, 24\). Its shape should be \(6, 8\)"):
        sample_completions(policy, *inputs, Sampling(8, 8, 8), None, canvas=make_canvas(policy))

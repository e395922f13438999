"""Stable-DiffCoder: Llama's `model_type` on the Hub, and what its own code computed and wrote with small weights."""

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.models import load_model, save_model
from spg_trainer.models.forward import base_model
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.decoding import Sampling
from tests.common.family_cases import cases, family_folder


@pytest.fixture
def folder(published, tmp_path):
    return family_folder(published, "stable_diffcoder", tmp_path / "hub")


def test_logits_are_those_of_its_own_code(published, folder):
    policy = load_model(folder, device="cpu")
    model = base_model(policy.model)
    assert model.pattern == Pattern(4) and model.shift == 0
    assert policy.mask_id == 5 and policy.end_token_ids == (2,)
    compared = 0
    for case, given in cases(published, "stable_diffcoder").items():
        if "logits" in given:
            with torch.no_grad():
                logits = policy.model(given["input_ids"]).logits
            torch.testing.assert_close(logits, given["logits"], rtol=1e-4, atol=1e-5, msg=case)
            compared += 1
    assert compared == 4


def test_it_writes_what_its_own_code_writes(published, folder):
    """Also behind prompts that end inside a block."""
    policy, compared = load_model(folder, device="cpu"), 0
    for case, given in cases(published, "stable_diffcoder").items():
        if "written" in given:
            ids = given["input_ids"]
            sampling = Sampling(16, 4, int(given["steps"]))
            rows = sample_completions(policy, ids, torch.ones_like(ids, dtype=torch.bool), sampling, None)
            assert torch.equal(rows.completion_ids, given["written"]), case
            compared += 1
    assert compared == 3


def test_what_is_saved_is_opened_by_the_auto_classes_under_a_name_of_its_own(folder, tmp_path):
    save_model(load_model(folder, device="cpu"), tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert settings["model_type"] == "stable_diffcoder"
    opened = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved")
    assert opened.model.pattern == Pattern(4)
    assert load_model(tmp_path / "saved", device="cpu").mask_id == 5

"""`merge` writes the model that is the adapter on its base; `push` sends a run's model and card to a local Hub."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

import envs
from spg_trainer import cli, load_model
from spg_trainer.export import how_trained, without_folders
from spg_trainer.models import open_policy, save_model, tiny_tokenizer
from spg_trainer.models.forward import trainable_parameters
from spg_trainer.runs.files import write_folder
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.recorded import model_environment, shown_settings
from spg_trainer.training.loop import train
from tests.common.family_cases import UNTRAINED, untrained
from tests.common.marks import slow_if
from tests.common.model_cases import edit, hub_folder, some_ids
from tests.common.report_cases import write_run
from tests.common.trainer_cases import ENV, LORA, save_adapter, small_config, snapshot, tiny_folder

IDS = some_ids(3, 12)
REPO = "ada/sudoku-spg"
PUSH = ("--repo", REPO)


def refused(capsys, *words):
    """What a command says that ends in an error."""
    assert cli.main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def adapter(tmp_path):
    """An adapter with an effect, on a base of the Hub's shape."""
    hub_folder(tmp_path / "base", embedding_size=272, vocab_size=272, mask_token_id=258, eos_token_id=256)
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    policy = load_model(str(tmp_path / "base"), device="cpu", lora_r=2, lora_alpha=3)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    save_model(policy, tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_merged_model_has_the_logits_of_the_adapter_on_its_base(adapter, tmp_path, capsys):
    assert cli.main(["merge", str(adapter.parent)]) == 0
    merged = adapter.parent / "merged"
    assert capsys.readouterr().out == f"{merged}\n"
    expected = logits(load_model(str(adapter), device="cpu").model)
    plain = logits(load_model(str(tmp_path / "base"), device="cpu").model)
    assert (expected - plain).abs().max() > 0.1
    for model in (AutoModelForMaskedLM.from_pretrained(merged), load_model(str(merged), device="cpu").model):
        torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)


def test_the_merged_tensors_bear_the_names_of_the_base(adapter, tmp_path, capsys):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "whole"), "--dtype", "bfloat16"]) == 0
    base, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "whole"))
    assert base.keys() == whole.keys()
    assert {tensor.dtype for tensor in whole.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["model_type"] == "llada"
    capsys.readouterr()
    before = snapshot(tmp_path)
    assert "--output" in refused(capsys, "merge", adapter, "-o", tmp_path / "base")
    assert "--force" in refused(capsys, "merge", adapter, "-o", tmp_path / "whole")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    before = snapshot(tmp_path)
    said = refused(capsys, "merge", adapter, "-o", tmp_path / "mine", "--force")
    assert "Choose a folder that is new or empty" in said, "it holds no model that could be replaced"
    assert snapshot(tmp_path) == before
    again = ["merge", str(adapter), "-o", str(tmp_path / "whole"), "--dtype", "float32", "--force"]
    assert cli.main(again) == 0
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}


@pytest.mark.parametrize("name", slow_if(UNTRAINED, lambda name: name not in ("sdar", "llada2", "illada")))
def test_every_family_is_merged_as_peft_merges_it(name, tmp_path):
    """Layer by layer, a mixture's experts included."""
    folder, experts = untrained(name), "num_experts_per_tok" in UNTRAINED[name][1]
    policy = load_model(str(folder), device="cpu", lora_r=2, lora_experts=experts)
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter, weight in policy.model.named_parameters():
            if ".lora_B." in parameter:
                weight.copy_(torch.randn(weight.shape, generator=stream))
    save_model(policy, tmp_path / "adapter")
    assert cli.main(["merge", str(tmp_path / "adapter"), "-o", str(tmp_path / "whole")]) == 0
    expected = load_model(str(tmp_path / "adapter"), dtype="float32", device="cpu").model.merge_and_unload()
    found, plain = (load_model(str(place), device="cpu").model for place in (tmp_path / "whole", folder))
    moved = 0
    for (name, value), (same, other) in zip(
        found.state_dict().items(), expected.state_dict().items(), strict=True
    ):
        assert name == same and torch.equal(value, other), name
        moved += not torch.equal(value, plain.state_dict()[name])
    assert moved >= 4 * found.config.num_hidden_layers


WHOLE = {
    "embedding and head": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "norms": {"modules_to_save": ["input_layernorm"]},
    "rows of the embedding": {"trainable_token_indices": [262, 263]},
    "a head with an adapter": {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["embed_tokens"]},
}
"""Adapters of peft that are more than low-rank: {what they have: its settings}."""


def save_peft(folder, base, **settings):
    """An adapter made by peft itself, all of it moved; returns the logits of its model."""
    model = AutoModelForMaskedLM.from_pretrained(base)
    model = get_peft_model(model, LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], **settings}))
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.02 * torch.randn(weight.shape, generator=stream)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return logits(model.eval())


@pytest.mark.parametrize("settings", WHOLE.values(), ids=[*WHOLE])
def test_what_an_adapter_has_whole_is_merged_and_is_its_reference(settings, tmp_path):
    expected = save_peft(tmp_path / "adapter", tiny_folder(), **settings)
    assert cli.main(["merge", str(tmp_path / "adapter"), "-o", str(tmp_path / "whole")]) == 0
    merged = load_model(str(tmp_path / "whole"), device="cpu").model
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    config = ModelConfig(model=str(tmp_path / "adapter"), device="cpu")
    policy = open_policy(config, env=ENV, seed=0, reference=True)
    with torch.no_grad():
        for weight in trainable_parameters(policy.model).values():
            weight += 0.1
    assert not torch.allclose(logits(policy.model), expected, atol=0.1)
    with policy.reference() as reference:
        model = reference.model
        torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)


def test_a_tokenizer_with_added_tokens_beside_an_adapter_opens(tmp_path, capsys):
    """With embeddings for them, if the adapter has these; else without them, which is said."""
    base = tiny_folder()
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    tokenizer.add_tokens(["<tool>", "</tool>"])
    save_peft(tmp_path / "plain", base)
    tokenizer.save_pretrained(tmp_path / "plain")
    policy = load_model(str(tmp_path / "plain"), device="cpu")
    assert len(policy.tokenizer) == size and f"has {size + 2} tokens" in policy.note
    model = AutoModelForMaskedLM.from_pretrained(base)
    model.resize_token_embeddings(size + 2)
    settings = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(model, settings)
    model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    policy = load_model(str(tmp_path / "whole"), device="cpu")
    assert len(policy.tokenizer) == size + 2 and not policy.note
    assert policy.encode("<tool>") == [size]
    ids = torch.tensor([[65, size, 66, size + 1]])
    with torch.no_grad():
        assert torch.equal(policy.model(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_what_no_file_can_hold_is_refused_before_a_folder_is_made(tmp_path, capsys):
    tied = AutoModelForMaskedLM.from_pretrained(tiny_folder()).config
    tied.tie_word_embeddings = True
    AutoModelForMaskedLM.from_config(tied).save_pretrained(tmp_path / "tied")
    tiny_tokenizer().save_pretrained(tmp_path / "tied")
    for number, changes in enumerate(
        (
            {"modules_to_save": ["embed_tokens"]},
            {"target_modules": ["q_proj", "embed_tokens"]},
            {"target_modules": ["q_proj", "lm_head"]},
            {"trainable_token_indices": [262, 263]},
            {"trainable_token_indices": {"lm_head": [262]}},
        )
    ):
        adapter = tmp_path / f"adapter-{number}"
        save_peft(adapter, tmp_path / "tied", **changes)
        capsys.readouterr()
        assert "embedding and head in one" in refused(capsys, "merge", adapter), changes
        assert not (tmp_path / "merged").exists()
    save_peft(tmp_path / "biases", untrained("dream"), bias="lora_only")
    capsys.readouterr()
    assert "merge_and_unload" in refused(capsys, "merge", tmp_path / "biases")
    assert not (tmp_path / "merged").exists()


def test_a_base_that_cannot_be_merged_is_named(adapter, tmp_path, capsys):
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "weights.safetensors")
    said = refused(capsys, "merge", adapter)
    assert str(tmp_path / "base") in said and "there is no model*.safetensors" in said
    assert not (adapter.parent / "merged").exists()


def test_an_adapter_whose_base_has_changed_is_neither_merged_nor_measured(tmp_path, capsys):
    base, run = shutil.copytree(tiny_folder(), tmp_path / "base"), tmp_path / "run"
    train(small_config(run, model=base, **LORA, max_steps=1, eval_steps=0, eval_problems=0), quiet=True)
    commands = ["merge", run], ["eval", "--model", run, "--num-problems", "2", "--device", "cpu"]
    for target in (base, run / "model"):
        assert "is what is merged" in refused(capsys, *commands[0], "-o", target, "--force")
    tensors = load_file(base / "model.safetensors")
    save_file({name: value / 2 for name, value in tensors.items()}, base / "model.safetensors")
    for command in commands:
        assert f"its base {base} has changed since the adapter was trained" in refused(capsys, *command)
    shutil.rmtree(base)
    shutil.copytree(tiny_folder(), base)
    assert [cli.main([*map(str, command)]) for command in commands] == [0, 0]


def test_the_merged_model_keeps_its_task_and_whole_weights_are_refused(tmp_path, capsys):
    adapter = save_adapter(tmp_path / "adapter")
    assert cli.main(["merge", str(adapter), "--output", str(tmp_path / "whole")]) == 0
    assert model_environment(str(tmp_path / "whole")) == {"env": ENV, "preset": "tiny", "dtype": "float32"}
    capsys.readouterr()
    assert "Give a run" in refused(capsys, "merge")
    assert "--lora-r" in refused(capsys, "merge", tiny_folder())


class Hub(BaseHTTPRequestHandler):
    """What `create_repo`, `model_info` and `create_commit` ask for; keeps what it was sent."""

    def do_HEAD(self):
        self.answer({})

    def do_GET(self):
        self.answer({"id": REPO, "private": self.server.private, "siblings": [], "tags": []})

    def do_POST(self):
        body = self.body()
        self.server.asked.append((self.path, self.headers["Authorization"]))
        if self.server.status != 200:
            return self.answer({"error": "Forbidden: this token reads only"}, self.server.status)
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{self.server.url}/{REPO}", "name": REPO})
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self.answer({"files": modes})
        if self.path == "/api/validate-yaml":  # the front matter of the card
            return self.answer({"errors": [], "warnings": []})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.answer({"commitUrl": f"{self.server.url}/{REPO}/commit/1", "commitOid": "1"})

    def body(self):
        """What was sent, in one piece or in chunks."""
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.asked, server.created, server.files, server.status, server.private = [], [], {}, 200, False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name, value in {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path):
    """A finished run of Sudoku; its model is a stand-in, as nothing opens it here."""
    return with_model(write_run(tmp_path / "run"))


def with_model(folder, name="model", config="{}", **recorded):
    files = {"config.json": config, "model.safetensors": "weights", "README.md": "not this one"}
    record = {"env": "sudoku", "base_model": "/home/ada/models/tiny-sudoku", **recorded}
    files["environment.json"] = json.dumps(record)

    def write(aside):
        for file, text in files.items():
            (aside / file).write_text(text)

    write_folder(folder / name, write)
    return folder


def test_the_model_goes_up_with_its_card_in_one_commit(hub, run, capsys):
    before = snapshot(run)
    assert cli.main(["push", str(run), *PUSH]) == 0
    assert capsys.readouterr().out == f"{hub.url}/{REPO}\n"
    names = {"README.md", "curve.png", "config.json", "model.safetensors", "environment.json"}
    assert set(hub.files) == names
    assert hub.files["model.safetensors"] == b"weights"
    assert hub.files["curve.png"].startswith(b"\x89PNG")
    assert b"not this one" not in hub.files["README.md"]
    assert {token for _, token in hub.asked} == {"Bearer hf_test"}
    assert sum("/commit/" in path for path, _ in hub.asked) == 1
    assert snapshot(run) == before


def test_no_folder_of_this_machine_goes_up(hub, tmp_path):
    places = {"env_args": {"source": "/home/ada/puzzles.csv"}, "pairs": "/home/ada/pairs.jsonl"}
    places["env"] = "/home/ada/task.py:my/T-v0"
    run = write_run(tmp_path / "run", algorithm="./mine/own.py:Own", **places)
    with_model(run, env=places["env"], env_args=places["env_args"])
    assert cli.main(["push", str(run), *PUSH]) == 0
    sent = b"".join(hub.files.values())
    assert b"/home/ada" not in sent and b"./mine" not in sent and str(run).encode() not in sent
    card = hub.files["README.md"].decode()
    assert "`own.py:Own` on `task.py:my/T-v0` (source=puzzles.csv)" in card and "pairs: pairs.jsonl" in card
    record = json.loads(hub.files["environment.json"])
    assert record == {
        "env": "task.py:my/T-v0",
        "base_model": "tiny-sudoku",
        "env_args": {"source": "puzzles.csv"},
    }


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("/home/ada/my data/puzzles.csv", "puzzles.csv"),
        ("~/task.py:my/T-v0", "task.py:my/T-v0"),
        ("../tasks/task.py:my/T-v0", "task.py:my/T-v0"),
        ("C:\\data\\a.csv", "a.csv"),
        ({"a": ["/b/c", 1.5], "d": None}, {"a": ["c", 1.5], "d": None}),
        ("GSAI-ML/LLaDA-8B", "GSAI-ML/LLaDA-8B"),
        ("spg/Sudoku-v0", "spg/Sudoku-v0"),
    ],
)
def test_settings_are_told_without_the_folders_of_this_machine(setting, shown):
    assert without_folders(setting) == shown


def test_the_card_holds_task_algorithm_settings_and_evaluations_and_needs_no_hub(run, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: 1 / 0)
    monkeypatch.setattr(envs.files.hub, "why_offline", lambda: 1 / 0)
    before = snapshot(run / "model")
    assert cli.main(["push", str(run), *PUSH, "--dry-run"]) == 0
    assert snapshot(run / "model") == before
    place = run / "card" / "README.md"
    said = capsys.readouterr().out.splitlines()
    sent = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in said[:-1]}
    assert {"README.md", "curve.png", "environment.json"} <= sent.keys() and "COMPLETE" not in sent
    assert sent["README.md"] == place.stat().st_size and sent["curve.png"] > 0
    in_model = {path.name for path in (run / "model").iterdir()} - {"COMPLETE"}
    assert in_model <= sent.keys() and said[-1] == f"{sum(sent.values()):>15,}  bytes would be sent to {REPO}"
    card = ModelCard.load(place)
    assert card.data.library_name == "transformers" and "llada" in card.data.tags
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_value) == ("sudoku", 0.875)
    text = card.text
    assert "lora_r" in text and "hidden_size" not in text, "the size of a new model, which this is not"
    assert (
        shown_settings(Config(model=ModelConfig(model="new", hidden_size=64)))["model"]["hidden_size"] == 64
    )
    assert "`spg` on `sudoku` for 4 steps, seed 0." in text and "These weights are step 2, by a rule." in text
    for name in ("before", "after"):
        f = json.loads((run / "eval" / f"{name}.json").read_text())
        assert (
            f"| {name} training | {f['correct']:.3f} | {f['low']:.3f} to {f['high']:.3f} | {f['n']} |" in text
        )
    settings = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert settings["env"] == "sudoku" and settings["max_steps"] == 4
    assert f'from_pretrained("{REPO}")' in text and f"eval --model {REPO} --env sudoku" in text


def test_the_card_is_tagged_with_the_family_of_the_model(tmp_path, capsys):
    run = with_model(write_run(tmp_path / "run"), config='{"model_type": "Dream"}')
    assert cli.main(["push", str(run), *PUSH, "--dry-run"]) == 0
    tags = ModelCard.load(run / "card" / "README.md").data.tags
    assert "dream" in tags and "llada" not in tags


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "trained by reinforcement learning with `spg` on `sudoku`"),
        (
            {"source": "pairs", "pairs": "/home/ada/pairs.jsonl"},
            "trained with `spg` on pairs of `pairs.jsonl`",
        ),
        ({"source": "demonstrations", "data": "a.jsonl"}, "trained with `spg` on the texts of `a.jsonl`"),
        (
            {"source": "demonstrations"},
            "trained with `spg` on demonstrations of `sudoku` (right=1; `right` is its own solution)",
        ),
        (
            {"source": "demonstrations", "mix": {"right": 0.3, "short": 0.7}},
            "trained with `spg` on demonstrations of `sudoku` (right=0.3 short=0.7; `right` is its own solution)",
        ),
    ],
)
def test_the_card_says_from_what_a_model_has_learned(settings, said):
    assert how_trained(Config(**settings)) == said


@pytest.mark.parametrize("private", [True, False])
def test_private_never_goes_into_a_public_repository(hub, run, capsys, private):
    hub.private = private
    assert cli.main(["push", str(run), *PUSH, "--private"]) == (0 if private else 2)
    assert hub.created[0]["visibility"] == "private"
    assert bool(hub.files) is private
    assert ("Choose another --repo" in capsys.readouterr().err) is not private


def test_what_is_missing_is_said_before_anything_is_sent(hub, run, tmp_path, capsys, monkeypatch):
    assert "NAME/ID" in refused(capsys, "push", run)
    assert "--repo a/b/c" in refused(capsys, "push", run, "--repo", "a/b/c")
    assert "Give NAME/ID" in refused(capsys, "push", run, "--repo", "ada/my model", "--dry-run")
    assert f"Give a run folder, e.g. {run}." in refused(capsys, "push", tmp_path, *PUSH)
    assert "--resume" in refused(capsys, "push", write_run(tmp_path / "half", finished=False), *PUSH)
    assert f"python -m spg_trainer merge {run}" in refused(capsys, "push", run, *PUSH, "--merged")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.get_token", lambda: None)
        assert "hf auth login" in refused(capsys, "push", run, *PUSH)
    assert hub.asked == []
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "--dry-run" in refused(capsys, "push", run, *PUSH)


def test_what_the_hub_refuses_is_said(hub, run, capsys):
    hub.status = 403
    assert f"The Hub refused --repo {REPO}: " in refused(capsys, "push", run, *PUSH)


def test_an_adapter_on_a_folder_is_merged_first(hub, tmp_path, capsys):
    run = write_run(tmp_path / "run")
    write_folder(run / "model", save_adapter)
    assert f"python -m spg_trainer merge {run}" in refused(capsys, "push", run, *PUSH)
    with_model(run, "merged")
    assert cli.main(["push", str(run), *PUSH, "--merged"]) == 0
    assert hub.files["model.safetensors"] == b"weights"


def test_an_adapter_on_a_model_of_the_hub_names_it(hub, tmp_path):
    run = write_run(tmp_path / "run")

    def write(aside):
        edit(save_adapter(aside) / "adapter_config.json", base_model_name_or_path="org/base")

    write_folder(run / "model", write)
    assert cli.main(["push", str(run), *PUSH]) == 0
    card = ModelCard(hub.files["README.md"].decode())
    assert (card.data.library_name, card.data.base_model) == ("peft", "org/base")
    assert f'from_pretrained("{REPO}")' in card.text

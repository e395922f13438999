"""Checkpoints: bit-equal restore, and no kill, full disk or torn file that loses the last complete one."""

import errno
import json
import logging
import os
import re
import resource
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from spg_trainer.errors import CheckpointError
from spg_trainer.models import load as models
from spg_trainer.models.lora import add_lora
from spg_trainer.models.tiny import new_tiny, tiny_tokenizer
from spg_trainer.runs import checkpoint, files
from tests.common.trainer_cases import flip_last_bit

STATE = {"step": 0, "updates": 3, "seconds": 1.25}


def tiny_policy(seed: int = 0, lora_r: int = 0) -> models.Policy:
    model, tokenizer = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24, seed=seed), tiny_tokenizer()
    if lora_r:
        model = add_lora(model, r=lora_r, alpha=lora_r, dropout=0.0, seed=seed, base="tiny")
    end = tokenizer.eos_token_id
    return models.Policy(model, tokenizer, tokenizer.mask_token_id, end, (end,), "tiny")


def adam(policy: models.Policy) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad], lr=1e-2)


def train(policy: models.Policy, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def weights(policy: models.Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.fixture
def fake_model(monkeypatch):
    """Saving without transformers: two small files, so that each can be torn."""

    def save_weights(policy: SimpleNamespace, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(policy.content)
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(models, "save_weights", save_weights)
    return SimpleNamespace(content=b"weights")


def save_policy(run: Path, step: int, policy, optimizer, keep: int = 2, state: dict | None = None) -> Path:
    content = optimizer if isinstance(optimizer, dict) else optimizer.state_dict()
    options = {"state": state or {"updates": 3}, "environment": {"env": "sudoku"}, "keep": keep}
    return checkpoint.save(run, step, policy, content, **options)


def save(run: Path, step: int, policy, keep: int = 2, average: int = 3) -> Path:
    optimizer = {"state": {0: {"exp_avg": torch.ones(average)}}, "param_groups": []}
    return save_policy(run, step, policy, optimizer, keep, STATE)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_files_have_the_mode_that_the_umask_leaves(tmp_path):
    def write(folder):
        safetensors.torch.save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "model.safetensors").chmod(0o600)

    before = os.umask(0o027)
    try:
        files.write_folder(tmp_path / "model", write)
    finally:
        os.umask(before)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("lora_r", [0, 2])
def test_a_restored_run_goes_on_bit_equal(tmp_path, lora_r):
    policy = tiny_policy(lora_r=lora_r)
    optimizer = adam(policy)
    train(policy, optimizer, 3, seed=0)
    folder = save_policy(tmp_path, 3, policy, optimizer)
    saved = weights(policy)
    train(policy, optimizer, 2, seed=1)

    # LoRA leaves the base alone, and a run loads the same base again.
    other = tiny_policy(seed=0 if lora_r else 5, lora_r=lora_r)
    parameters = list(other.model.parameters())
    fresh = adam(other)
    train(other, fresh, 1, seed=9)
    before = torch.get_rng_state()
    state = checkpoint.load(folder, other, fresh)
    assert torch.equal(torch.get_rng_state(), before)
    assert state == {"step": 3, "updates": 3}
    assert all(new is old for new, old in zip(other.model.parameters(), parameters, strict=True))
    assert_equal(weights(other), saved)

    train(other, fresh, 2, seed=1)
    assert_equal(weights(other), weights(policy))
    for mine, theirs in zip(fresh.state.values(), optimizer.state.values(), strict=True):
        assert_equal(mine, theirs)


def test_a_bfloat16_model_comes_back_bit_equal_and_draws_no_progress_bar(tmp_path, capfd):
    policy, other = tiny_policy(0), tiny_policy(1)
    policy.model.bfloat16()
    other.model.bfloat16()
    folder = save_policy(tmp_path, 1, policy, adam(policy))
    checkpoint.load(folder, other, adam(other))
    assert capfd.readouterr().err == ""
    assert_equal(weights(other), weights(policy))
    assert {p.dtype for p in other.model.parameters()} == {torch.bfloat16}


def test_an_adapter_of_another_rank_is_refused(tmp_path):
    folder = save_policy(tmp_path, 1, policy := tiny_policy(lora_r=2), adam(policy))
    with pytest.raises(CheckpointError, match=f"{folder}.*--lora-r"):
        checkpoint.load(folder, other := tiny_policy(lora_r=3), adam(other))


def test_retention_keeps_the_newest_and_what_is_not_ours(tmp_path, fake_model):
    for name in (".step-000010.tmp", ".step-000010.deleted", ".mine.tmp", ".cache.deleted"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    for step in (10, 20, 30, 40):
        save(tmp_path, step, fake_model, keep=2)
    assert names(tmp_path) == [".cache.deleted", ".mine.tmp", "step-000030", "step-000040"]


@pytest.mark.parametrize(
    ("keep", "left"),
    [(None, [20, 40]), (2, [20, 30, 40])],
)
def test_a_run_of_large_checkpoints_keeps_the_newest_and_of_the_best_the_weights(
    tmp_path, monkeypatch, keep, left
):
    monkeypatch.setattr(checkpoint, "LARGE", 1000)
    policy = tiny_policy()
    options = {"state": {}, "environment": {"env": "sudoku"}, "keep": keep, "needed": lambda kept: {20}}
    for step in (10, 20, 30, 40):
        checkpoint.save(tmp_path, step, policy, adam(policy).state_dict(), **options)
    assert names(tmp_path) == [f"step-0000{step}" for step in left]
    best = checkpoint.folder_of_step(tmp_path, 20)
    assert files.incomplete(best) is None and not (best / "training.pt").exists()
    assert all((checkpoint.folder_of_step(tmp_path, step) / "training.pt").is_file() for step in left[1:])
    other = tiny_policy()
    assert checkpoint.load(best, other)["step"] == 20  # as model/ is written
    with pytest.raises(CheckpointError, match=r"weights alone.*model"):
        checkpoint.load(best, other, adam(other))


def test_a_run_of_small_checkpoints_keeps_two_and_the_best_whole(tmp_path, fake_model):
    for step in (10, 20, 30, 40):
        optimizer = {"state": {}, "param_groups": []}
        options = {"state": STATE, "environment": {}, "needed": lambda kept: {10}}
        checkpoint.save(tmp_path, step, fake_model, optimizer, **options)
    assert names(tmp_path) == ["step-000010", "step-000030", "step-000040"]
    assert (checkpoint.folder_of_step(tmp_path, 10) / "training.pt").is_file()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "COMPLETE").unlink(), "COMPLETE"),
        (lambda folder: (folder / "COMPLETE").write_text("{"), "COMPLETE"),
        (lambda folder: (folder / "training.pt").unlink(), "training.pt"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer/tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"wei"), "model.safetensors.*3 bytes.*7"),
    ],
)
def test_a_torn_checkpoint_counts_neither_for_resume_nor_for_retention(
    tmp_path, fake_model, caplog, damage, named
):
    assert checkpoint.latest_complete(tmp_path) is None
    for step in (10, 20):
        folder = save(tmp_path, step, fake_model)
        assert files.incomplete(folder) is None
    damage(folder)
    with pytest.raises(CheckpointError, match=f"step-000020.*{named}"):
        checkpoint.require_complete(folder)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.latest_complete(tmp_path) == tmp_path / "checkpoints" / "step-000010"
    assert re.search(f"step-000020.*{named}.*passed over", caplog.text)
    save(tmp_path, 30, fake_model, keep=2)
    assert names(tmp_path) == ["step-000010", "step-000020", "step-000030"]
    for number in (10, 30):
        shutil.rmtree(tmp_path / "checkpoints" / f"step-0000{number}")
    assert checkpoint.latest_complete(tmp_path) is None


@pytest.mark.parametrize("part", [2**28, 3], ids=["one part", "many parts"])
def test_bytes_that_have_changed_since_are_found_and_the_checkpoint_before_is_named(
    tmp_path, fake_model, monkeypatch, part
):
    monkeypatch.setattr(files, "PART", part)
    for step in (10, 20, 30):
        folder = save(tmp_path, step, fake_model, keep=3)
    for name in ("model.safetensors", "training.pt", "state.json", "tokenizer/tokenizer.json"):
        checkpoint.refuse_damaged(folder)
        flip_last_bit(folder / name)
        with pytest.raises(
            CheckpointError, match=rf"step-000030 .*damaged file {name}.*--resume \S*step-000020"
        ):
            checkpoint.refuse_damaged(folder)
        flip_last_bit(folder / name)

    def failing(path: Path, start: int) -> str:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_crc32", failing)
        assert "README.md (it cannot be read: Input/output error)" in files.damaged(folder)
    flip_last_bit(folder / "training.pt")
    files.delete_parts(folder, ("training.pt",))
    assert files.damaged(folder) is None
    (tmp_path / "checkpoints" / "step-000020" / "training.pt").unlink()
    flip_last_bit(tmp_path / "checkpoints" / "step-000010" / "model.safetensors")
    flip_last_bit(folder / "state.json")
    with pytest.raises(
        CheckpointError, match=r"state\.json.*Put back.*begin a new run with another --output-dir"
    ):
        checkpoint.refuse_damaged(folder)


def test_a_checkpoint_of_a_version_without_checksums_is_taken_by_its_sizes(tmp_path, fake_model):
    folder = save(tmp_path, 10, fake_model)
    sizes = json.loads((folder / "COMPLETE").read_text())["files"]
    (folder / "COMPLETE").write_text(json.dumps({"files": sizes}))
    flip_last_bit(folder / "model.safetensors")
    checkpoint.refuse_damaged(folder)
    (folder / "model.safetensors").write_bytes(b"wei")
    assert "3 bytes instead of 7" in files.damaged(folder)


class KilledError(BaseException):
    """Stands for kill -9 in one process: nothing after it runs, not even clean-up."""


def half(name: str, args: tuple) -> None:
    """What an operation leaves that is killed half-way; a rename and a sync are all or nothing."""
    if name == "write_text":
        args[0].write_bytes(args[1].encode()[: len(args[1]) // 2])
    if name == "save":
        args[1].write_bytes(b"PK")
    if name == "rmtree" and args[0].is_dir():
        for path in sorted(args[0].rglob("*.*"))[:2]:
            path.unlink(missing_ok=True) if path.is_file() else None


def test_a_kill_at_any_file_operation_leaves_a_complete_checkpoint(tmp_path, fake_model, monkeypatch):
    """Stops the second save in its k-th operation, for every k, and saves again as a resumed run would."""
    operations = [(os, "replace"), (shutil, "rmtree"), (files, "sync"), (torch, "save")]
    originals = {place: getattr(*place) for place in [*operations, (Path, "write_text")]}
    kills = 0
    for limit in range(1, 100):
        run = tmp_path / str(limit)
        save(run, 10, fake_model, keep=1)
        (run / "metrics.jsonl").write_text("{}\n")
        left = [limit]

        def counted(name, original, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    half(name, args)
                if left[0] <= 0:
                    raise KilledError
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for (module, name), original in originals.items():
                patch.setattr(module, name, counted(name, original))
            try:
                save(run, 20, fake_model, keep=1)
            except KilledError:
                kills += 1
            finished = left[0] > 0
        newest = checkpoint.latest_complete(run)
        assert newest is not None and newest.name in ("step-000010", "step-000020"), limit
        visible = [path for path in (run / "checkpoints").iterdir() if not path.name.startswith(".")]
        assert all(files.incomplete(path) is None for path in visible), limit
        save(run, 20, fake_model, keep=1)
        save(run, 30, fake_model, keep=1)
        assert names(run) == ["step-000030"], limit
        if finished:
            break
    else:
        pytest.fail("the save never ran to its end")
    assert kills > 12


def test_a_full_disk_names_the_path_and_spares_what_was_saved(tmp_path, fake_model):
    save(tmp_path, 10, fake_model)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the kernel then refuses as a full disk does
    try:
        for content, average in ((bytes(50_000), 3), (b"weights", 10_000)):
            fake_model.content = content
            with warnings.catch_warnings(), pytest.raises(CheckpointError) as caught:
                warnings.simplefilter("ignore")
                save(tmp_path, 20, fake_model, average=average)
            assert re.search(r"Cannot write .*step-000020: .*resume", str(caught.value))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-000010"]
    save(tmp_path, 20, fake_model)
    assert names(tmp_path) == ["step-000010", "step-000020"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "b" / "checkpoints" / "step-000010"))):
        save(tmp_path / "b", 10, fake_model)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 832 vs 722"),
        SafetensorError(
            'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No" }'
        ),
    ],
    ids=["a text", "torch", "safetensors"],
)
def test_whoever_notices_it_a_full_disk_is_called_so(error, tmp_path):
    with pytest.raises(CheckpointError, match=rf"Cannot write {tmp_path}: disk full\. What was saved"):
        with files.writing(tmp_path, RuntimeError, SafetensorError):
            raise error


def test_saving_a_step_twice_changes_nothing(tmp_path, fake_model):
    first = save(tmp_path, 10, fake_model)
    before = (first / "model.safetensors").stat().st_mtime_ns
    fake_model.content = b"other"
    assert save(tmp_path, 10, fake_model) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    (first / "COMPLETE").unlink()
    save(tmp_path, 10, fake_model)
    assert (first / "model.safetensors").read_bytes() == b"other"


def test_only_the_main_process_writes(tmp_path, fake_model, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert save(tmp_path, 10, fake_model) == tmp_path / "checkpoints" / "step-000010"
    checkpoint.export(tmp_path / "model", fake_model, {})
    assert list(tmp_path.iterdir()) == []


def test_export_replaces_a_model_whole(tmp_path, fake_model, monkeypatch):
    target = tmp_path / "model"
    checkpoint.export(target, fake_model, {"env": "sudoku"})
    assert json.loads((target / "environment.json").read_text()) == {"env": "sudoku"}
    fake_model.content = b"better"
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", lambda path: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(CheckpointError, match="Input/output error"):
            checkpoint.export(target, fake_model, {})
    assert (target / "model.safetensors").read_bytes() == b"weights"
    checkpoint.export(target, fake_model, {})
    assert (target / "model.safetensors").read_bytes() == b"better"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_going_on_from_an_older_step_sets_later_checkpoints_aside(tmp_path, fake_model):
    for step in (10, 20, 30):
        save(tmp_path, step, fake_model, keep=3)
    (tmp_path / "checkpoints" / "step-000030" / "COMPLETE").unlink()
    shelf = tmp_path / "checkpoints" / "superseded"
    checkpoint.set_aside_after(tmp_path, 10)
    assert names(tmp_path) == ["step-000010", "superseded"]
    save(tmp_path, 20, fake_model, keep=1)
    checkpoint.set_aside_after(tmp_path, 10)
    assert all(files.incomplete(shelf / name) is None for name in ("step-000020", "step-000020-2"))


def test_resume_takes_a_run_or_a_checkpoint(tmp_path, fake_model):
    for step in (10, 20):
        save(tmp_path, step, fake_model)
    old = tmp_path / "checkpoints" / "step-000010"
    assert checkpoint.find_checkpoint(tmp_path) == (tmp_path, tmp_path / "checkpoints" / "step-000020")
    assert checkpoint.find_checkpoint(old) == (tmp_path, old)
    checkpoint.set_aside_after(tmp_path, 10)
    moved = old.with_name("superseded") / "step-000020"
    assert checkpoint.find_checkpoint(moved) == (tmp_path, moved)
    (old / "COMPLETE").unlink()
    with pytest.raises(CheckpointError, match="COMPLETE"):
        checkpoint.find_checkpoint(old)
    with pytest.raises(CheckpointError, match=r"absent: .*auto"):
        checkpoint.find_checkpoint(tmp_path / "absent")


def test_the_readme_of_a_model_says_how_to_open_it_and_peft_only_for_an_adapter():
    whole, adapter = checkpoint.how_to_open(), checkpoint.how_to_open(base="GSAI-ML/LLaDA-8B-Instruct")
    assert whole.startswith("A masked diffusion language model") and "PeftModel" not in whole
    assert "`GSAI-ML/LLaDA-8B-Instruct`" in adapter and "from peft import PeftModel" in adapter

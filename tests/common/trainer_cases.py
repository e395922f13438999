"""A task, an untrained model, an algorithm that keeps what it was given and small settings for the trainer's tests."""

import atexit
import functools
import json
import os
import shutil
import string
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from safetensors.torch import load_file

import envs
from spg_trainer.algorithms import CoupledAlgorithm, Loss, Metric
from spg_trainer.algorithms.spg import SPG
from spg_trainer.models import load_model, new_tiny, save_model, tiny_tokenizer
from spg_trainer.models.load import no_progress_bars
from spg_trainer.settings.configs import BatchConfig, Config, EvalConfig, OptimizerConfig, OutputConfig
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.training.loop import train
from spg_trainer.training.plan import Plan, settle
from spg_trainer.training.run import Run
from spg_trainer.training.setup import open_run

HERE = Path(__file__).resolve().parents[2]
SESSION = "SPG_TEST_SESSION"
"""The environment variable with the folder that all processes of a test session share; `conftest.py` makes it."""
ENV = "tests.common.trainer_cases:test/Letters-v0"
PROBLEMS = 8


class Letters(envs.TextEnv):
    """Write letters, many of them: an untrained model earns something between nothing and everything."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 0.5, "letters": 1.0}
    task = "letters"

    def __init__(self, split: str = "train", dull: str = "", size: int = PROBLEMS) -> None:
        """dull: problems whose completions all earn 0, e.g. "0,3"."""
        self.part, self.size = split, size
        self.dull = {int(index) for index in dull.split(",") if index}

    def __len__(self) -> int:
        return self.size

    def problem(self, index: int) -> envs.Problem:
        self.mark("problem")
        words = "letters " * (1 + index % 3)
        return envs.Problem(f"{self.part} {words}{index}", {"wanted": 0.3}, metadata={"index": index})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        self.mark("score")
        if problem.metadata["index"] in self.dull:
            return envs.Score({"correct": 0.0, "letters": 0.0}, "dull")
        share = sum(c.isascii() and c.isalpha() for c in completion) / max(1, len(completion))
        correct = float(share > problem.reference["wanted"])
        reason = "ok" if correct else "wrong"
        return envs.Score({"correct": correct, "letters": share}, reason, completion[:1] or None)

    def mark(self, moment: str) -> None:
        """Tells a watching test what a training process is doing."""
        folder = os.environ.get("LETTERS_MARKS")
        if folder and self.part == "train":
            (Path(folder) / moment).write_text(str(time.monotonic()))


envs.register("test/Letters-v0", Letters)


class Rounded(Letters):
    """All completions earn the same three parts, added up in the order of their first letter."""

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        orders = (0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1)
        return envs.Score({"correct": 0.0, "letters": orders[zlib.crc32(completion.encode()) % 2]}, "ok")


envs.register("test/Rounded-v0", Rounded)


@dataclass(frozen=True)
class Probe(SPG):
    """SPG with importance ratios, so that old and reference logps matter; keeps what it was shown."""

    needs: ClassVar[frozenset[str]] = frozenset({"old"})
    seen: ClassVar[list[dict[str, Any]]] = []

    def loss(self, logps, masks, batch) -> Loss:
        """The surrogate of PPO without a clip, on masked tokens."""
        if "masks_at_once" in batch:  # and not the rows by which a run sees at its start what a loss reads
            self.seen.append({"logps": logps.detach(), "masks": masks, "batch": batch})
        ratio = (logps - batch.old_logps).exp() * masks.scored
        terms = -batch.advantages.to(logps)[:, None, None] * ratio
        return Loss(terms.sum() / batch.totals["completions"], {})


@dataclass(frozen=True)
class Whole(SPG):
    """SPG that asks for whole groups, all of them active."""

    masking: str = "random"
    compares: ClassVar[str] = "group"

    def active(self, advantages):
        return torch.ones_like(advantages, dtype=torch.bool)


@dataclass(frozen=True)
class ReferenceProbe(Probe):
    """The same, and asks for reference logps too."""

    needs: ClassVar[frozenset[str]] = frozenset({"old", "reference"})


@dataclass(frozen=True)
class SelfNormalised(CoupledAlgorithm):
    """Policy gradient on ELBOs whose clipped ratios are divided by their sum over the whole update (StableDRL)."""

    masking: str = "random"
    epsilon: float = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"old"})

    def coupled_loss(self, episodes) -> Loss:
        log_ratio = (episodes.bounds.detach() - episodes.old_bounds) / episodes.length
        ratio = log_ratio.exp().clamp(1 - self.epsilon, 1 + self.epsilon)
        loss = -(ratio * episodes.advantages * episodes.bounds).sum() / ratio.sum()
        return Loss(loss, {"ratio/mean": Metric(ratio.sum(), "scored_completions")})


PUBLISHED = ("spg", "diffu_grpo", "wd1", "unigrpo", "gdpo", "bgpo", "espo", "justgrpo", "vrpo")
PUBLISHED += (
    "agrpo",
    "d2_stepmerge",
    "cj_grpo",
    "forkgrpo",
    "slim_rl",
    "tracerl",
    "coupled_grpo",
    "stabledrl",
    "maxrl",
)
PUBLISHED += ("rspo", "mapg")
PUBLISHED += ("spg_eubo",)
PROBE = "tests.common.trainer_cases:Probe"
SELF_NORMALISED = "tests.common.trainer_cases:SelfNormalised"
REFERENCE_PROBE = "tests.common.trainer_cases:ReferenceProbe"


def save_tiny(
    folder: Path, end: float = 2.0, letters: str = string.ascii_lowercase, letter: float = 1.5, **sizes
) -> Path:
    """An untrained model that writes unequal lengths, letters and other things, in a folder for `--model`.

    end, letter: log-odds of each end token, and of each of `letters`, against any other token. sizes: as for
    `new_tiny`.
    """
    model = new_tiny(**{"hidden_size": 16, "layers": 1, "heads": 2, "ffn": 24, "max_length": 128, **sizes})
    return save_writing(model, folder, end, letters, letter)


def save_writing(
    model: Any, folder: Path, end: float = 2.0, letters: str = string.ascii_lowercase, letter: float = 1.5
) -> Path:
    """A model with the embedded tokenizer's vocabulary, made to write as `save_tiny` says."""
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)  # or every masked position would see almost the same
        # At a masked position the last state is near the direction of the mask's embedding.
        mask = model.get_input_embeddings().weight[tokenizer.mask_token_id]
        direction = mask / mask.norm() / mask.numel() ** 0.5
        head = model.get_output_embeddings().weight
        for token in (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")):
            head[token] += end * direction
        for token in tokenizer.convert_tokens_to_ids(list(letters)):
            head[token] += letter * direction
    with no_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "environment.json").write_text(json.dumps({"env": ENV, "preset": "tiny"}))
    return folder


def session_folder(prefix: str) -> Path:
    """A temporary folder that goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def made_once(name: str, make: Callable[[Path], Any]) -> Path:
    """A folder that `make` fills, once for all processes of the test session; those that come meanwhile wait."""
    if SESSION not in os.environ:  # no session: a helper was started by hand
        os.environ[SESSION] = str(session_folder("tests-"))
    folder = Path(os.environ[SESSION]) / name
    made = folder.with_suffix(".made")
    if not made.is_file():
        with FileLock(folder.with_suffix(".lock")):
            if not made.is_file():
                make(folder)
                made.touch()
    return folder


def tiny_folder() -> Path:
    """One such folder for the whole test session, and for the processes it starts."""
    return made_once("tiny", save_tiny)


def save_adapter(folder: Path, dropout: float = 0.05) -> Path:
    """An adapter of rank 2 and alpha 3 on the model of `tiny_folder` that changes what it says."""
    policy = load_model(str(tiny_folder()), device="cpu", lora_r=2, lora_alpha=3, lora_dropout=dropout)
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(torch.randn(weight.shape, generator=stream))
    save_model(policy, folder)
    (folder / "environment.json").write_text(json.dumps({"env": ENV, "preset": "tiny"}))
    return folder


def start(settings: Config | Plan, *, quiet: bool = False) -> Run:
    """The opened run of settings, or of a plan."""
    return open_run(settings if isinstance(settings, Plan) else settle(settings), quiet=quiet)


def small_config(output: Path | None, *, model: Path | None = None, **changes: Any) -> Config:
    """4 problems x 4 generations of 10 tokens, 3 steps; `changes` by field name, whichever part holds it."""
    config = Config(
        env=ENV,
        algorithm_args={"masking": "random", "p_mask_prompt": 0.1, "eubo_beta": 1.0},
        max_steps=3,
        model=ModelConfig(model=str(model or tiny_folder()), device="cpu"),
        rollout=Sampling(10, 5, 6, 1.0),
        batch=BatchConfig(prompts_per_step=4, num_generations=4, per_device_batch_size=8),
        optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.01, max_grad_norm=1.0),
        eval=EvalConfig(eval_problems=4, validation_problems=4),
        output=OutputConfig(sample_steps=1, report=False),
    )
    return change(config, output_dir=output and str(output), **changes)


def change(config: Any, **changes: Any) -> Any:
    """The settings with some fields changed, wherever they are nested."""
    for name, value in changes.items():
        if hasattr(config, name) and is_dataclass(value) == is_dataclass(getattr(config, name)):
            config = replace(config, **{name: value})
            continue
        part = next(part for part, group in vars(config).items() if name in getattr(group, "__dict__", {}))
        config = replace(config, **{part: replace(getattr(config, part), **{name: value})})
    return config


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    """The tensors of a saved model or adapter."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def adam_state(checkpoint: Path) -> list[Any]:
    """Every tensor of a checkpoint's optimizer, in order."""
    state = torch.load(checkpoint / "training.pt", weights_only=True)["optimizer"]["state"]
    return [value for _, entry in sorted(state.items()) for _, value in sorted(entry.items())]


def same_weights(left: Path, right: Path) -> bool:
    """Whether two model folders hold bit-equal tensors."""
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def flip_last_bit(file: Path) -> None:
    """Damages a file as a failing disk may, without a change of its size."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def step(folder: Path, number: int) -> Path:
    """A run's checkpoint."""
    return folder / "checkpoints" / f"step-{number:06d}"


def saved_steps(folder: Path) -> list[int]:
    """The steps of a run's checkpoints."""
    return sorted(int(path.name[5:]) for path in folder.glob("checkpoints/step-*"))


def steps_of(folder: Path) -> list[int]:
    """The steps of a run's rows."""
    return [row["step"] for row in rows(folder / "metrics.jsonl")]


def snapshot(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder, and what it holds."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EVALUATION = Sampling(10, 5, 6, 1.0)
"""How the small settings decode, with noise."""
LORA = {"lora_r": 2, "lora_alpha": 4}


@functools.cache
def finished_run() -> tuple[Path, dict[str, Any]]:
    """A run of three steps that kept all its checkpoints, and its summary; made once a session, read only."""
    folder = session_folder("finished-") / "run"
    return folder, train(small_config(folder, save_steps=1, keep=9, eval_steps=2), quiet=True)


def assert_equal_runs(folder: Path, expected: Path) -> None:
    """Metrics, samples and evaluations byte for byte; weights and Adam's state bit for bit; timings complete."""
    for name in ("metrics.jsonl", "samples", "eval"):
        places = [expected / name] if (expected / name).is_file() else sorted((expected / name).iterdir())
        assert places
        for place in places:
            assert (folder / place.relative_to(expected)).read_bytes() == place.read_bytes(), place.name
    assert same_weights(folder / "model", expected / "model")
    last = len(rows(expected / "metrics.jsonl"))
    states = [adam_state(step(place, last)) for place in (folder, expected)]
    assert states[0] and all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert same_weights(step(folder, last), step(expected, last))
    assert [row["step"] for row in rows(folder / "timings.jsonl")] == list(range(1, last + 1))
    summaries = [json.loads((place / "summary.json").read_text()) for place in (folder, expected)]
    for key in ("steps", "updates", "eval_before", "eval_after", "gain", "seed", "versions"):
        assert summaries[0][key] == summaries[1][key], key


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess that finds the same packages and the model of `tiny_folder`."""
    tiny_folder()  # here, as the second of several processes writes no model
    paths = [str(HERE), *(p for p in sys.path if p and p != str(HERE))]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONFAULTHANDLER": "1",  # where a crash in native code was
        **more,
    }

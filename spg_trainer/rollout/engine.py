"""Samples a training's completions on SGLang, whose plugin (`sglang_plugin.py`) samples as this trainer does.

The rows have the columns of a rollout of our own (`canvas.py`), and `engine_log_ratio`. Each step begins with
`serving`, which gives the engine the present weights under a version of their own; an answer by other weights is an
error.
"""

import base64
import ctypes
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.distributed import decide_on_main, raising_on_all
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.likelihood.logps import path_logps
from spg_trainer.models import Policy
from spg_trainer.models.forward import base_model, head_weight
from spg_trainer.models.weight_files import base_weights, by_layer, save_whole
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.player import NoiseKey, Player, Prompts
from spg_trainer.rollout.sglang_plugin import LOGP, NAME, STEP, TOKENS
from spg_trainer.rollout.tokens import ending_at_stop
from spg_trainer.rollout.unmasking import unmask_counts
from spg_trainer.seeding import derive
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Decoding, Sampling
from spg_trainer.settings.rules import UNMASKING
from spg_trainer.tensors import NEVER, Rows

FAMILIES = ("llada2_moe", "sdar", "sdar_moe")
"""The `model_type` of models whose blocks SGLang decodes."""
LAUNCH = (sys.executable, "-m", "sglang.launch_server")
FLAGS = ("--dllm-algorithm", NAME, "--dllm-fdfo")
"""The flags that any engine of a training needs."""
MEMORY_SHARE = "0.4"
"""The share of a GPU that an engine beside the training takes for weights and keys, while it samples."""
OPENER = build_opener(ProxyHandler({}))
"""Reaches an engine directly: a proxy of the environment is for other addresses."""
REPLAYED_AT_ONCE = 8
"""On a CPU, so many completions at once are replayed for their log-probabilities."""


def check_engine(config: Config, algorithm: Algorithm, model_type: str, pattern: Pattern) -> None:
    """Raises ConfigError for a `--rollout-engine` that does not go with the other settings or with the model.

    model_type, pattern: of the model.
    """
    engine, rollout = config.rollout_engine, config.rollout
    name, _, url = (engine or "").partition(":")

    def refuse(is_wrong: object, message: str) -> None:
        if is_wrong:
            raise ConfigError(f"$rollout_engine={engine}: {message}")

    refuse(name != "sglang" or engine == "sglang:", "use sglang, or sglang:http://HOST:PORT.")
    refuse(url and not url.startswith(("http://", "https://")), "the address should be http://HOST:PORT.")
    refuse(not config.samples, f"with $source={config.source} nothing is sampled. Leave it out.")
    refuse(
        model_type not in FAMILIES or pattern.is_full,
        f"a model of the type {model_type} is sampled by the trainer alone: engines serve {', '.join(FAMILIES)}, whose "
        "finished blocks never change. Where all tokens see each other, no keys can be kept. Leave it out.",
    )
    refuse(
        rollout.block_length != pattern.block_size,
        f"an engine decodes the {pattern.block_size} tokens of a block of the model's attention at once. Use "
        f"$block_length={pattern.block_size}.",
    )
    known = [name for name, rule in UNMASKING.items() if rule.on_engine]
    refuse(rollout.unmasking not in known, f"$unmasking={rollout.unmasking}: use one of {', '.join(known)}.")
    of_own_sampler = "remasking fallback top_p top_k eos_penalty min_completion_length editing_threshold"
    for setting in of_own_sampler.split():
        value = getattr(rollout, setting)
        refuse(
            value != getattr(Decoding, setting),
            f"the engine's sampler has no ${setting}={value}. Leave it out.",
        )
    refuse(
        algorithm.records,
        f"$algorithm={config.algorithm} learns from {', '.join(sorted(algorithm.records))}, which only the trainer's "
        "own sampler records. Leave one of them out.",
    )
    for setting, is_set in (("shard", config.model.is_divided), ("load_4bit", config.model.load_4bit)):
        refuse(is_set, f"with ${setting} no process has whole weights to send. Leave one of them out.")
    refuse(
        not url and not config.is_for_other_machines and find_spec("sglang") is None,
        "SGLang is not installed beside the trainer. Version 0.5.23 asks for another version of transformers, so "
        "start it in an environment of its own and name it: $rollout_engine=sglang:http://HOST:PORT.",
    )


class Engine:
    """An engine and its connection; nothing is started or sent before the first step."""

    def __init__(self, config: Config, folder: Path) -> None:
        """folder: of the run, where weights stand while a running engine reads them. It must see the same path."""
        _, _, url = (config.rollout_engine or "").partition(":")
        self.url, self.is_own, self.folder = url.rstrip("/"), not url, folder.resolve()
        self.timeout = 60 * config.timeout_minutes
        self.most_rows = config.batch.prompts_per_step * config.batch.num_generations
        self.process: subprocess.Popen[bytes] | None = None
        self.version = ""
        """Names the weights that the engine should have."""

    def require(self) -> None:
        """Raises ConfigError if nothing answers at the address of an engine that runs already."""
        if not self.is_own and not self._is_up():
            raise ConfigError(
                f"$rollout_engine=sglang:{self.url}: nothing answers at {self.url}/health. Start the engine first, and "
                "wait until it has loaded its model; or correct the address."
            )

    @contextmanager
    def serving(self, policy: Policy, version: str) -> Iterator[None]:
        """Inside, the engine samples with the policy's weights; all processes must enter together.

        version: tells these weights from all others, the same in all processes. Raises TrainingError if the engine
            fails.
        """
        self.version = version
        if self.is_own:
            with raising_on_all():
                self._send_tensors(policy) if self.process else self._start(policy)
        else:
            decide_on_main(lambda: self._send_files(policy))
        yield
        if self.is_own:  # its memory is for the updates now
            with raising_on_all():
                self._post("release_memory_occupation", {})

    def sample(self, player: Player, prompts: Prompts, keys: Sequence[NoiseKey]) -> Rows:
        """As `Player.sample`, on the engine; call it inside `serving`.

        A last block that `max_completion_length` cuts is decoded whole and then cut, as the published samplers do.
        Raises TrainingError if the engine fails.
        """
        policy, sampling = player.policy, player.sampling
        prompt_ids, prompt_mask = (values.to(policy.device) for values in prompts)
        rows_of_ids = [ids[mask].tolist() for ids, mask in zip(prompt_ids, prompt_mask, strict=True)]
        counts = [1]
        if sampling.unmasking_rule.follows_schedule:
            counts = unmask_counts(sampling.block_length, sampling.steps_per_block)
        params = {
            "spg_temperature": sampling.temperature,
            "spg_counts": counts,
            "spg_threshold": sampling.threshold if "threshold" in sampling.unmasking_rule.reads else None,
            "spg_most": sampling.max_tokens_per_step,
            "spg_block_length": sampling.block_length,
            "spg_mask_id": policy.mask_id,
        }
        per_row = [
            {
                "max_new_tokens": sampling.max_completion_length,
                "stop_token_ids": list(policy.end_token_ids),
                "custom_params": {**params, "spg_seed": derive(player.seed, *key)},
            }
            for key in keys
        ]
        answers = self._post("generate", {"input_ids": rows_of_ids, "sampling_params": per_row})
        if not isinstance(answers, list) or len(answers) != len(rows_of_ids):
            raise self._failed(f"gave no list of {len(rows_of_ids)} completions")
        vocabulary = len(head_weight(policy.model))
        paths = [
            self._path(answer, len(ids), sampling, policy.end_token_ids, vocabulary)
            for answer, ids in zip(answers, rows_of_ids, strict=True)
        ]
        rows = rows_of_paths(policy, (prompt_ids, prompt_mask), paths, sampling.max_completion_length)
        policy.model.eval()
        # All that was written counts here, also behind the end.
        written = rows.with_columns(completion_mask=rows.unmask_step >= 0)
        parts = torch.arange(len(rows), device=policy.device).split(
            player.rows_per_forward or REPLAYED_AT_ONCE
        )

        def logps_at(temperature: float) -> Tensor:
            return torch.cat([path_logps(policy, written.select(part), temperature) for part in parts])

        unmask_logps = drawn_logps = logps_at(1.0)
        if sampling.temperature not in (0, 1):
            drawn_logps = logps_at(sampling.temperature)
        # A block that was cut was decoded beside tokens that are gone, so its log-probabilities say nothing here.
        size, length = sampling.block_length, sampling.max_completion_length
        prompt = prompt_mask.sum(-1, keepdim=True)
        end_of_block = ((prompt + torch.arange(length, device=prompt.device)) // size + 1) * size
        is_compared = rows.completion_mask & (end_of_block <= prompt + length)
        is_compared &= (
            sampling.temperature > 0
        )  # at 0 nothing is left to chance, so that all tokens are certain
        log_ratio = (drawn_logps - rows.unmask_logps.to(drawn_logps)).masked_fill(~is_compared, 0.0)
        rows = rows.with_columns(unmask_logps=unmask_logps, engine_log_ratio=log_ratio)
        return ending_at_stop(policy, rows, sampling.stop)

    def _path(
        self, answer: Any, prompt_length: int, sampling: Sampling, ends: Collection[int], vocabulary: int
    ) -> list[tuple[int, int, float]]:
        """(token, step, log-probability as drawn) of the tokens of a completion, up to T; steps count over it.

        ends: the tokens that end a completion. vocabulary: how many tokens the model has.
        """
        meta = answer.get("meta_info", {}) if isinstance(answer, dict) else {}
        reason = meta.get("finish_reason") or {}
        if reason.get("type") == "abort":
            raise self._failed(f"refused a completion: {reason.get('message')}")
        if meta.get("weight_version") != self.version:
            raise self._failed(
                f"answered with the weights {meta.get('weight_version')!r}, not with those that this step has sent, "
                f"{self.version!r}. Another training may use it"
            )
        columns = [meta.get(key) for key in (TOKENS, STEP, LOGP)]
        if not all(columns) or len({len(column) for column in columns}) != 1:
            raise self._failed(
                f"returns no {STEP}: it runs without the plugin of spg-trainer, or without {' '.join(FLAGS)}. Install "
                "spg-trainer where the engine runs"
            )
        if unknown := [token for token in columns[0] if not 0 <= token < vocabulary]:
            raise self._failed(
                f"wrote the token {unknown[0]}, and the model has {vocabulary:,}: it serves another model"
            )
        if any(logp is None or not math.isfinite(logp) for logp in columns[-1]):
            raise self._failed("returned log-probabilities that are not finite: its logits overflow")
        path, block, offset, passes = [], prompt_length // sampling.block_length, 0, 0
        for place, (token, step, logp) in enumerate(zip(*columns, strict=True)):
            if (prompt_length + place) // sampling.block_length > block:
                block, offset, passes = block + 1, offset + passes, 0
            passes = max(passes, step + 1)
            path.append((token, offset + step, logp))
        if len(path) < sampling.max_completion_length and not any(token in ends for token, _, _ in path):
            raise self._failed(
                f"ended a completion after {len(path)} of {sampling.max_completion_length} tokens, and with none of "
                f"the end tokens {sorted(ends)}: its context is too short (--context-length), or it stops at others"
            )
        return path[: sampling.max_completion_length]

    def _send_files(self, policy: Policy) -> None:
        """Gives a running engine the weights in a folder, which is removed again."""
        with TemporaryDirectory(prefix=".engine-", dir=self.folder) as place:
            write_weights(policy, Path(place))
            self._post("update_weights_from_disk", {"model_path": place, "weight_version": self.version})

    def _send_tensors(self, policy: Policy) -> None:
        """Gives our own engine the weights where they are on the GPU, a layer at a time; it copies them."""
        from transformers.core_model_loading import revert_weight_conversion

        from spg_trainer.models.lora import merged_weights

        base = base_model(policy.model)
        self._post("resume_memory_occupation", {})
        self._post("begin_weight_update", {})
        weights, layers = merged_weights(policy.model), by_layer(base_weights(base))
        for number, layer in enumerate(layers, 1):
            tensors = revert_weight_conversion(base, dict(next(weights) for _ in layer))
            file = io.BytesIO()
            ForkingPickler(file).dump(list(tensors.items()))
            message = {
                "serialized_named_tensors": [base64.b64encode(file.getvalue()).decode()],
                "weight_version": self.version,
                "flush_cache": number == len(layers),
            }
            self._post("update_weights_from_tensor", message)
        self._post("end_weight_update", {})

    def _start(self, policy: Policy) -> None:
        """Starts our own engine from the present weights, and waits until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        log = self.folder / f"engine-{os.getpid()}.log"
        with TemporaryDirectory(prefix=".engine-", dir=self.folder) as place, log.open("wb") as output:
            model, blocks = Path(place), Path(place) / "blocks.yaml"
            write_weights(policy, model)
            policy.tokenizer.save_pretrained(place)
            blocks.write_text(
                f"block_size: {base_model(policy.model).pattern.block_size}\n", encoding="utf-8"
            )
            flags = {
                "--model-path": place,
                "--port": port,
                "--weight-version": self.version,
                "--dllm-algorithm-config": blocks,
                "--dtype": str(policy.model.dtype).removeprefix("torch."),
                "--base-gpu-id": policy.device.index or 0,
                "--mem-fraction-static": MEMORY_SHARE,
                "--max-running-requests": self.most_rows,
            }
            words = [
                *LAUNCH,
                *FLAGS,
                "--enable-memory-saver",
                *(str(w) for pair in flags.items() for w in pair),
            ]
            # Of a launcher's variables, such as RANK, the engine would take itself for a part of this training.
            launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
            self.process = subprocess.Popen(
                words,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name not in launched},
                preexec_fn=die_with_parent,
            )
            weakref.finalize(self, end_process, self.process)
            until = time.monotonic() + self.timeout
            while not self._is_up():
                if self.process.poll() is not None or time.monotonic() > until:
                    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                    raise self._failed(f"did not start ({log}): {lines[-1] if lines else 'it wrote nothing'}")
                time.sleep(1)

    def _is_up(self) -> bool:
        try:
            with OPENER.open(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except (OSError, HTTPException):
            return False

    def _post(self, route: str, message: dict[str, Any]) -> Any:
        """The engine's answer. Raises TrainingError if it refuses, has died, or is silent for `timeout` seconds."""
        request = Request(
            f"{self.url}/{route}", json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        try:
            with OPENER.open(request, timeout=self.timeout) as answer:
                body = answer.read()
            return json.loads(body) if body else None
        except HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            raise self._failed(f"refused {route}: {said or error}") from error
        except TimeoutError as error:
            minutes = self.timeout / 60
            raise self._failed(
                f"has not answered {route} for {minutes:g} minutes ($timeout_minutes)"
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            raise self._failed(f"died or cannot be reached ({route}: {error})") from error

    def _failed(self, what: str) -> TrainingError:
        return TrainingError(
            f"The rollout engine at {self.url} {what}. No step is lost: start the engine again, and continue with "
            f"$resume={self.folder}."
        )


def rows_of_paths(
    policy: Policy,
    encoded: tuple[Tensor, Tensor],
    paths: Sequence[Sequence[tuple[int, int, float]]],
    length: int,
) -> Rows:
    """The rows of a rollout, as `Canvas.rollouts` returns them without a cache; T is `length`.

    An engine writes a block to its end, and our own sampler stops when an end token stands behind no mask: what was
    written after that step is left out here. encoded: ids and mask of the prompts, (B, L) each. paths: (token, step,
    log-probability) of each token.
    """
    prompt_ids, prompt_mask = encoded
    shape = (len(paths), length)
    ids = prompt_ids.new_full(shape, policy.mask_id)
    step = torch.full_like(ids, NEVER)
    logps = torch.zeros(shape, dtype=torch.float64, device=ids.device)
    for row, path in enumerate(paths):
        for column, values in zip((ids, step, logps), zip(*path, strict=True), strict=True):
            column[row, : len(path)] = torch.tensor(values).to(column)
    ends = torch.tensor(policy.end_token_ids, device=ids.device)
    # The step that wrote the last token up to each place; the row ended with the least of these at an end token.
    last = step.cummax(-1).values
    never = torch.iinfo(step.dtype).max
    ended = last.masked_fill(~torch.isin(ids, ends), never).amin(-1, keepdim=True)
    later = step > ended
    ids = ids.masked_fill(later, policy.mask_id)
    return Rows(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=ids,
        completion_mask=until_end(ids, ends),
        unmask_step=step.masked_fill(later, NEVER),
        unmask_logps=logps.masked_fill(later, 0.0),
    )


@dataclass(frozen=True, kw_only=True)
class EnginePlayer(Player):
    """A player whose completions an engine writes; it samples inside `serving`."""

    engine: Engine

    def serving(self, step: int) -> AbstractContextManager[None]:
        """Inside, the engine has the policy's present weights, as for `Engine.serving`."""
        version = decide_on_main(lambda: f"{self.seed}-{step}-{uuid4().hex}")
        return self.engine.serving(self.policy, version)

    def sample(self, prompts: Prompts, keys: Sequence[NoiseKey], template_ids: Tensor | None = None) -> Rows:
        """As `Engine.sample`; raises ConfigError for templates (B, T), which an engine cannot fill in."""
        if template_ids is not None:
            raise ConfigError(
                "$rollout_engine: the task gives a part of its completions (completion_template), which an engine "
                "cannot fill in. Leave out $rollout_engine."
            )
        return self.engine.sample(self, prompts, keys)


def write_weights(policy: Policy, folder: Path) -> None:
    """Writes the present weights, with adapters merged into them, as `save_pretrained` does, without a tokenizer."""
    from spg_trainer.models.lora import merged_weights

    base = base_model(policy.model)
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(base.config, dtype=base.dtype)
    save_whole(model, ((name, weight.cpu()) for name, weight in merged_weights(policy.model)), folder)


def die_with_parent() -> None:
    """Has Linux end the calling process when its parent ends, even by a SIGKILL, so that it leaves no GPU taken."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Ends an engine with the processes that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

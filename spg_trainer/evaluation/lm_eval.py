"""Runs lm-evaluation-harness's tasks on a masked diffusion model, with our sampler: `--model spg_llada`.

lm-eval 0.4 looks up models in a table of its own. Importing this module adds `spg_llada` to that table. So lm-eval's
command line is run as `python -m spg_trainer lm-eval`, and its Python functions only need this import.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import lm_eval.models  # noqa: F401  its own models: it would not look for them once ours is in the table
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.evaluation.evaluate import BATCH
from spg_trainer.evaluation.log_likelihood import elbo_of_ids, is_greedy
from spg_trainer.models import load_model
from spg_trainer.rollout import tokens
from spg_trainer.rollout.long_prompts import SKIP, Room, first_of
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.sampler import check_sampling
from spg_trainer.rollout.unmasking import check_own_rules
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Decoding, EvalSampling, Sampling, steps_at_rate
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.weights import canvases_of, resolve_model

logger = logging.getLogger(__name__)


@register_model("spg_llada")
class SpgLLaDA(LM):
    """A masked diffusion model as lm-eval sees one.

    Args (lm-eval's `--model_args`; `device` and `batch_size` are flags of its own):
        pretrained: what `load_model` opens.
        env: the task whose recipe gives lengths and steps; unset = the task in the model's environment.json, and for a
            model without this file the defaults of `Sampling`.
        max_completion_length, block_length, diffusion_steps: as the flags of training; unset = as the recipe of `env`
            has them, with its tokens per step.
        seed: of the noise if a task samples, and of the masks of log-likelihoods.
        num_masks: masked copies of a text whose log-likelihood is asked for; 128 as in LLaDA's paper.
        dtype, revision: as the flags of training.
        decoding: further flags of training by name (remasking, cache, unmasking, threshold, ...); none = exact
            decoding.
        overlong: for contexts that leave no room for a completion. "error" refuses them before anything is decoded.
            "skip" answers them with an empty text, which counts as wrong: the harness cannot leave a document out.
        batch_size: requests decoded at once on a GPU; auto = 256. On a CPU, as many as fit into its cache.

    Raises ConfigError for lengths that do not divide, ModelError as `load_model`.
    """

    def __init__(
        self,
        pretrained: str = "tiny",
        *,
        env: str | None = None,
        max_completion_length: int | None = None,
        block_length: int | None = None,
        diffusion_steps: int | None = None,
        seed: int = 0,
        num_masks: int = 128,
        dtype: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | str = "auto",
        attention_block: int | None = None,
        mask_token_id: int | None = None,
        overlong: str = "error",
        **decoding: Any,
    ) -> None:
        super().__init__()
        if overlong not in ("error", SKIP):
            raise ConfigError(f"--model_args overlong={overlong}: use error or skip.")
        self.overlong = overlong
        source = resolve_model(pretrained, env)
        folder = str(source.adapter or source.base)
        recorded = model_environment(folder)
        env = env or recorded.get("env")
        # A model that writes canvases says itself how long they are and how they are decoded.
        recipe = defaults(Config, env, folder).rollout if env or canvases_of(folder) else Sampling()
        length = max_completion_length or recipe.max_completion_length
        block = block_length or recipe.block_length
        known = [f.name for f in fields(Decoding)]
        for name in set(decoding) - set(known):
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"--model_args {name}={decoding[name]}: no such argument. {hint}Use {', '.join(known)}."
            )
        if recipe.unmasking_rule.redraws:
            decoding = {"unmasking": recipe.unmasking, **decoding}
        steps = diffusion_steps or steps_at_rate(recipe.tokens_per_step)
        self.sampling = EvalSampling.of(length, block, steps, **decoding)
        check_own_rules(self.sampling)
        policy = load_model(
            pretrained,
            env=env,
            dtype=dtype or recorded.get("dtype", "auto"),
            device=device or "auto",
            revision=revision,
            attention_block=attention_block,
            mask_token_id=mask_token_id,
        )
        self.policy = policy.ending_with(recorded.get("ends", "any"))
        check_sampling(self.policy, self.sampling)
        self.seed, self.num_masks, self._device = seed, int(num_masks), policy.device
        if self.num_masks < 1:
            raise ConfigError(f"--model_args num_masks={num_masks}: use 1 or more, e.g. 128.")
        automatic = policy.device.type == "cpu" or str(batch_size).startswith("auto")
        self.batch_size = BATCH if automatic else int(batch_size)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The completion of each request, cut at its stop strings.

        A context is taken as it is: in the model's chat format with --apply_chat_template, else as plain text. Noise is
        keyed by document and repeat, as `evaluate` keys it by problem and generation. A task's max_gen_toks is not
        used: a diffusion model writes something else if it has more tokens to fill.
        """
        length = self.sampling.max_completion_length
        arguments = [request.args for request in requests]
        contexts = [context for context, _ in arguments]
        gen_kwargs = [normalize_gen_kwargs(kwargs, length) for _, kwargs in arguments]
        for max_gen_toks in sorted({kwargs["max_gen_toks"] for kwargs in gen_kwargs} - {length}):
            text = "max_gen_toks=%d of the task has no effect: max_completion_length=%d in --model_args has."
            logger.warning(text, max_gen_toks, length)
        unanswered = self._too_long(requests)
        repeats: Counter[tuple[str | None, int | None]] = Counter()
        keys = []
        for request in requests:
            document = (request.task_name, request.doc_id)
            keys.append(("eval", request.doc_id, repeats[document]))
            repeats[document] += 1
        temperatures = [float(kwargs.get("temperature", 0.0)) for kwargs in gen_kwargs]
        texts = [""] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="spg_llada") as bar:
            bar.update(len(unanswered))
            to_answer = [i for i in range(len(requests)) if i not in unanswered]
            for batch in batches(to_answer, temperatures, self.batch_size):
                prompts = tokens.encode_texts(self.policy, [contexts[i] for i in batch])
                sampling = replace(self.sampling, temperature=temperatures[batch[0]])
                noise_keys = [keys[i] for i in batch]
                rollouts = Player(self.policy, sampling, self.seed).sample(prompts, noise_keys)
                for i, text in zip(
                    batch, tokens.decode_completions(self.policy, rollouts, sampling.stop), strict=True
                ):
                    think_end_token = None  # with one, the harness would cut off what stands before it
                    texts[i] = postprocess_generated_text(text, gen_kwargs[i]["until"], think_end_token)
                    self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
                bar.update(len(batch))
        return texts

    def _too_long(self, requests: Sequence[Instance]) -> set[int]:
        """The numbers of the requests whose contexts are too long, which overlong="skip" skips.

        Raises ConfigError if there are any and overlong is "error".
        """
        room = Room(self.policy, self.sampling.max_completion_length)
        too_long: set[int] = set()
        tokens_of: dict[str, int] = {}
        for number, request in enumerate(requests):
            context, *_ = request.args
            (ids,) = tokens.encode_plain(self.policy, [context])
            if len(ids) > room.prompt:
                too_long.add(number)
                tokens_of[f"{request.task_name}, document {request.doc_id}"] = len(ids)
        if not too_long:
            return set()
        text = (
            f"{len(too_long):,} of {len(requests):,} contexts are too long for the model: {first_of(tokens_of)}. "
            f"{room.limits}"
        )
        if self.overlong == SKIP:
            logger.warning("%s They are answered with an empty text, which counts as wrong.", text)
            return too_long
        leave_out = (
            "leave documents out with the harness's own --samples, or add overlong=skip to --model_args, which "
            "answers them with an empty text."
        )
        left = self.policy.room(max(tokens_of.values()))
        if left > 0:
            remedies = f"Lower max_completion_length in --model_args to {left:,} or less, {leave_out}"
        else:
            remedies = f"{leave_out[0].upper()}{leave_out[1:]}"
        raise ConfigError(f"{text} {remedies}")

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The ELBO of each continuation by `num_masks` masked copies, and whether greedy decoding would write it.

        The ELBO of a text that can be masked in at most `num_masks` ways is exact. The draw of masks is keyed by the
        seed and the text, so a choice has the same masks at any place in a list of choices.
        """
        answers = []
        for request in tqdm(requests, disable=disable_tqdm, desc="spg_llada"):
            context, continuation = request.args
            prompt, wanted = (tokens.encode_plain(self.policy, [text])[0] for text in (context, continuation))
            elbo = self._elbo(prompt, wanted)
            answer = elbo, is_greedy(self.policy, prompt, wanted)
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
            answers.append(answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The ELBO of each whole text; a text longer than the model's positions is the sum over its parts."""
        size, answers = self.policy.model.config.max_position_embeddings, []
        for request in tqdm(requests, disable=disable_tqdm, desc="spg_llada"):
            text, *_ = request.args
            (ids,) = tokens.encode_plain(self.policy, [text])
            parts = [ids[start : start + size] for start in range(0, len(ids), size)]
            answers.append(sum(self._elbo([], part) for part in parts))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answers[-1])
        return answers

    def _elbo(self, prompt: list[int], wanted: list[int]) -> float:
        """The ELBO of the tokens `wanted` after the prompt, in nats; 0 if there are none.

        Raises ConfigError for a model that hides a token by a random one.
        """
        if self.policy.noise == "uniform":
            raise ConfigError(
                "A log-likelihood is measured of models that hide a token by [MASK], and this one hides it by a random "
                "token. Leave out tasks that rank choices, such as hellaswag, and take those that are generated."
            )
        if not wanted:
            return 0.0
        limit = self.policy.model.config.max_position_embeddings
        prompt = prompt[max(0, len(prompt) + len(wanted) - limit) :]  # the end of a context that is too long
        rng = numpy_generator(self.seed, "log-likelihood", *wanted)
        return elbo_of_ids(self.policy, prompt, wanted, rng, num_masks=self.num_masks)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation in the model's format. Without `add_generation_prompt`, the last message is the beginning of
        what the model is to complete."""
        if add_generation_prompt:
            messages, beginning = chat_history, ""
        else:
            messages, beginning = chat_history[:-1], chat_history[-1]["content"]
        return (
            tokens.chat_text(self.policy, messages, tokens.special_tokens(self.policy).values()) + beginning
        )

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template that --apply_chat_template applies, for lm-eval's records."""
        if not chat_template:
            return ""
        return self.policy.tokenizer.chat_template or ""

    @property
    def tokenizer_name(self) -> str:
        """The model's folder or id, which tells its entries in lm-eval's caches from those of other models."""
        return self.policy.source

    def get_model_info(self) -> dict[str, Any]:
        """How completions were made, for lm-eval's results."""
        return {
            "spg_llada": {
                **vars(self.sampling),
                "num_masks": self.num_masks,
                "dtype": str(self.policy.model.dtype),
            }
        }


def batches(indices: Sequence[int], temperatures: Sequence[float], size: int) -> Iterable[list[int]]:
    """Yields the numbers of requests, `indices`, in batches of at most `size`; a batch has a single temperature.

    temperatures: of all requests.
    """
    for temperature in dict.fromkeys(temperatures):
        same_temperature = [i for i in indices if temperatures[i] == temperature]
        for start in range(0, len(same_temperature), size):
            yield same_temperature[start : start + size]

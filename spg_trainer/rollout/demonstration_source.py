"""The source of completions with `--source demonstrations`: right solutions, and habits (typical wrong ones)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.distributed import raising_on_all
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import deal_rows
from spg_trainer.rollout.demonstrations import draw_demonstration, write_habit
from spg_trainer.rollout.lines import is_file
from spg_trainer.rollout.room import IN_A_ROW, SKIP, Room, TooLong, name_of
from spg_trainer.rollout.scored import given_rows
from spg_trainer.rollout.tokens import completion_rows, encode_prompts, pad_completions
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import Rows

if TYPE_CHECKING:
    from envs import Problem, TextEnv


class Demonstrations:
    """Gives --prompts-per-step demonstrations a step, drawn by `draw_demonstrations`; each of them counts as right."""

    env, pools = None, None
    """Only a source that samples has an environment and pools of problems."""

    def __init__(
        self,
        train: "TextEnv",
        held_out: "TextEnv",
        policy: Policy,
        config: Config,
        mix: Mapping[str, float],
        notice: str = "",
    ) -> None:
        """train: the split that is learned. held_out: the split on which a validation measures the loss.

        mix: {`right` or a habit: its share}; the shares sum to 1.
        """
        self.train, self.held_out, self.policy, self.config, self.mix = train, held_out, policy, config, mix
        self.spec_name, self.notice = train.spec_name, notice

    def collect(self, step: int | str) -> Rows:
        """This process's share of the demonstrations of a step: one group, sorted by the lengths of their prompts.

        So a micro-batch has prompts of similar length. All processes get about as many demonstrations, of about the
        same lengths. The whole canvas is learned: padding after a completion's end counts like any other token.

        step: its number, or "validation" for the demonstrations whose loss a validation measures; these are always the
        same. Raises ConfigError for a demonstration that is too long, unless such ones are skipped.
        """
        env, count = self.train, self.config.batch.prompts_per_step
        if step == "validation":
            env, count = self.held_out, self.config.eval.validation_problems or len(self.held_out)
        room = Room(self.policy, self.config.rollout.max_completion_length)
        with raising_on_all():
            drawn = draw_fitting(room, env, self.mix, self.config, step, count)
            index, problems, texts = (list(column) for column in zip(*drawn, strict=True))
            prefixes = [problem.completion_prefix for problem in problems]
            prompt_ids, prompt_mask = encode_prompts(self.policy, [p.prompt for p in problems], prefixes)
            rows = completion_rows(self.policy, texts)
        # The demonstration with the k-th shortest prompt is episode k. `deal_rows` returns this process's episodes.
        lengths = prompt_mask.sum(-1).cpu()
        shortest_first = lengths.argsort(stable=True)
        episode = torch.tensor(deal_rows(lengths[shortest_first].tolist()), dtype=torch.long)
        row_indices, zeros = shortest_first[episode], torch.zeros_like(episode)
        chosen, device = row_indices.tolist(), self.policy.device
        completion_ids = pad_completions(self.policy, [rows[row] for row in chosen], room.length).to(device)
        drawn_rows = Rows(
            problem=torch.tensor(index)[row_indices],
            generation=episode,
            turn=zeros,
            episode=episode,
            group=zeros,
            problems=[problems[row] for row in chosen],
            completions=[texts[row] for row in chosen],
            prompt_ids=prompt_ids[row_indices.to(device)],
            prompt_mask=prompt_mask[row_indices.to(device)],
            completion_ids=completion_ids,
            completion_mask=torch.ones_like(completion_ids, dtype=torch.bool),
            unmask_step=torch.zeros_like(completion_ids),
            unmask_logps=torch.zeros(completion_ids.shape, device=device),
        )
        return given_rows(drawn_rows.trim(), np.ones(len(chosen)), reason=["given"] * len(chosen))

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """A prompt and its demonstration for a terminal."""
        return f"{problem.prompt}\n{turns[0]}"


def check_lengths(room: Room, splits: "Sequence[TextEnv]", mix: Mapping[str, float], config: Config) -> str:
    """A note on the problems and texts that are skipped as too long; "" if there are none.

    Prompts are measured in all splits that are not streams. Completions are all measured for a user's file; for any
    other task, which may have to play a game for each of them, only those of the first step. Raises ConfigError for a
    text that is too long and may not be skipped (--overlong).
    """
    too_long = TooLong(room)
    learned_names = {name for name, share in mix.items() if share}  # `right` and habits
    for env in splits:
        too_long.add_split(env)
        for part in [*env.parts.values()] or [env]:
            if not is_file(part):
                continue
            texts: list[tuple[int, str]] = []
            for index in range(len(part)):
                problem = envs.problem.read_problem(part, index)
                for name in {"right", *part.habits(problem.copy())} & learned_names:
                    written = envs.scoring.as_turns(write_habit(part, problem, name))
                    texts += [(index, text) for text in written]
            too_long.completions += len(texts)
            long = room.long_completions(texts)
            too_long.long_completions |= {name_of(part, index): tokens for index, tokens in long.items()}
    note = too_long.note(config.overlong, source=splits[0].spec_name)
    # Raises ConfigError if a demonstration of the first step is too long.
    draw_fitting(room, splits[0], mix, config, step=0, count=config.batch.prompts_per_step)
    return note


def draw_fitting(
    room: Room, env: "TextEnv", mix: Mapping[str, float], config: Config, step: int | str, count: int
) -> "list[tuple[int, Problem, str]]":
    """`count` demonstrations, as `draw_demonstrations` draws them: (index, problem, completion) of each.

    A demonstration that is too long raises ConfigError. With --overlong skip, the demonstration of the next problem of
    the split takes its place.
    """
    drawn = [draw_demonstration(env, mix, config.seed, step, row) for row in range(count)]
    for distance in range(1, IN_A_ROW + 1):
        long_prompts = room.long_prompts({row: problem for row, (_, problem, _) in enumerate(drawn)})
        long_texts = room.long_completions([(row, text) for row, (*_, text) in enumerate(drawn)])
        long = sorted(long_prompts.keys() | long_texts.keys())
        if not long:
            return drawn
        first = long[0]
        index, _, _ = drawn[first]
        name = name_of(env, index)  # also for the error after the loop
        if config.overlong != SKIP:
            prompt_tokens = long_prompts.get(first, 0)  # 0 = the prompt is not too long, and is not refused
            room.refuse_first(env, [index], [prompt_tokens])
            tokens = long_texts[first]
            raise ConfigError(
                f"{env.spec_name}: the completion of {name} has {tokens:,} tokens with its end token, more "
                f"than {room.length:,}. Use $max_completion_length={tokens} or more, or train on the others with "
                "$overlong=skip."
            )
        for row in long:
            drawn[row] = draw_demonstration(env, mix, config.seed, step, row, past=distance)
    raise ConfigError(
        f"{env.spec_name}: {IN_A_ROW:,} problems in a row, up to {name}, are too long for the model or for "
        f"$max_completion_length={room.length:,}. Raise it, or use shorter problems."
    )

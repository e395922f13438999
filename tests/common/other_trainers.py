"""Runs in another Python and imports nothing of ours: packages of others as clients of our servers.

python other_trainers.py KIND ADDRESS FILE: does what KIND says with the JSON in FILE, and writes the result there.
"""

import asyncio
import importlib.util
import json
import logging
import sys
import types
from pathlib import Path


def play(address, jobs):
    """OpenEnv's own client plays episodes: [task, split, index, completions] -> what each reset and step gave."""
    try:
        from openenv import GenericEnvClient
    except ImportError:
        from openenv.core import GenericEnvClient
    sessions, played = {}, []
    for task, split, index, completions in jobs:
        if task not in sessions:
            sessions[task] = GenericEnvClient(base_url=f"{address}/{task}").sync()
            sessions[task].connect()
        env = sessions[task]
        results = [env.reset(split=split, index=index)]
        for completion in completions:
            results.append(env.step({"completion": completion}))
            if results[-1].done:
                break
        assert env.state()["step_count"] == len(results) - 1
        played.append([[result.observation, result.reward, result.done] for result in results])
    for env in sessions.values():
        env.close()
    return played


def train(address, settings):
    """Two GRPO steps of TRL on a tiny causal model against a served task; [index, completion, reward] of all."""
    import torch
    from datasets import Dataset
    from openenv import GenericEnvClient
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer
    from trl.chat_template_utils import qwen3_chat_template

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: i for i, letter in enumerate([*letters, "<|im_start|>", "<|im_end|>", "<|endoftext|>"])}
    inside = Tokenizer(models.BPE(vocab=words, merges=[]))
    inside.pre_tokenizer, inside.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    inside.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inside, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = qwen3_chat_template
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, **sizes))

    class Served:
        def __init__(self):
            self._client = GenericEnvClient(base_url=f"{address}/{settings['task']}").sync()
            self._client.connect()

        def reset(self, index, **row):
            self._index = index
            return self._client.reset(split="train", index=index).observation["prompt"]

        def _earned(self, completion):
            return self._client.step({"completion": completion}).reward

    seen = []

    def earned(completions, environments, **columns):
        texts = [completion[-1]["content"] if completion else "" for completion in completions]
        texts = [
            settings["right"].get(str(env._index), text)
            for env, text in zip(environments, texts, strict=True)
        ]
        rewards = [env._earned(text) for env, text in zip(environments, texts, strict=True)]
        played = zip(environments, texts, rewards, strict=True)
        seen.extend([env._index, text, reward] for env, text, reward in played)
        return rewards

    rows = [{"prompt": [{"role": "user", "content": "Solve: "}], "index": i} for i in settings["indices"]]
    quiet = {"report_to": [], "use_cpu": True, "bf16": False, "save_strategy": "no", "logging_steps": 1}
    args = {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 2,
    }
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=[earned],
        environment_factory=Served,
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(output_dir=settings["folder"], **args, **quiet),
    )
    trainer.train()
    return {"seen": seen, "mean": [row["rewards/earned/mean"] for row in trainer.state.log_history[:2]]}


def verifiers(address, settings):
    """The taskset `openenv` of the other package named `verifiers` plays our server; a scripted agent is the model."""
    from verifiers.v1.tasksets.openenv.taskset import OpenEnvConfig, OpenEnvEnv, OpenEnvTaskset

    import verifiers as package

    assert not hasattr(package, "__spg_trainer__")
    rewards = []
    for index, completion in settings["completions"]:
        reset = {"split": "train", "index": index}
        config = OpenEnvConfig(id="openenv", base_url=f"{address}/{settings['task']}", resets=[reset])
        (task,) = OpenEnvTaskset(config).load()
        read, recorded = [], {}

        class Interaction:
            trace = types.SimpleNamespace(record_reward=recorded.__setitem__, stop=print)

            def __init__(self, read, completion):
                self.read, self.completion = read, completion

            async def __aenter__(self):
                return self

            async def __aexit__(self, *error):
                return None

            async def turn(self, text):
                self.read.append(json.loads(text)["observation"]["prompt"])
                return types.SimpleNamespace(terminated=False, last_reply=self.completion)

        one = Interaction(read, completion)
        player = types.SimpleNamespace(interaction=lambda _, one=one: one)
        asyncio.run(OpenEnvEnv.run(None, task, types.SimpleNamespace(player=player)))
        rewards.append([read[0], recorded["openenv_reward"]])
    return rewards


def openrlhf(address, settings):
    """OpenRLHF's own function asks its remote reward; its module needs no GPU, unlike the package that holds it."""
    quiet = types.ModuleType("openrlhf.utils.logging_utils")
    quiet.init_logger = logging.getLogger
    sys.modules["openrlhf.utils.logging_utils"] = quiet
    spec = importlib.util.spec_from_file_location("agent", settings["agent"])
    agent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)

    async def ask():
        executor = agent.SingleTurnAgentExecutor([f"{address}/openrlhf/{settings['source']}"])
        calls = [executor._fetch_rewards_via_http([q], [p], [label]) for q, p, label in settings["rows"]]
        return await asyncio.gather(*calls)

    return asyncio.run(ask())


def nemo_gym(address, rows):
    """NeMo-Gym's client asks us as its agent asks a resources server; its models check request and answer."""
    del sys.argv[1:]  # it reads a configuration from the command line
    from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse
    from nemo_gym.config_types import AggregateMetrics
    from nemo_gym.openai_utils import NeMoGymResponse
    from nemo_gym.server_utils import BaseServerConfig, ServerClient, get_response_json, raise_for_status
    from omegaconf import OmegaConf
    from pydantic import ConfigDict

    class Request(BaseVerifyRequest):
        model_config = ConfigDict(extra="allow")

    class Answer(BaseVerifyResponse):
        model_config = ConfigDict(extra="allow")

    host, _, port = address.removeprefix("http://").partition(":")
    here = {"host": host, "port": int(port)}
    servers = OmegaConf.create({"judge": {"resources_servers": {"judge": here}}})
    client = ServerClient(head_server_config=BaseServerConfig(host=host, port=1), global_config_dict=servers)

    async def asked(path, body):
        response = await client.post(server_name="judge", url_path=path, json=body)
        await raise_for_status(response)
        return await get_response_json(response)

    async def ask():
        found = []
        for row in rows:
            text = {"type": "output_text", "text": row.pop("completion"), "annotations": []}
            message = {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [text],
            }
            response = NeMoGymResponse(
                id="r",
                created_at=0,
                model="m",
                object="response",
                output=[message],
                parallel_tool_calls=True,
                tool_choice="auto",
                tools=[],
            )
            request = Request.model_validate({**row, "response": response.model_dump()})
            await asked("/seed_session", request.model_dump())
            found.append(Answer.model_validate(await asked("/verify", request.model_dump())).model_dump())
        metrics = await asked("/aggregate_metrics", {"verify_responses": found})
        return {
            "rewards": [answer["reward"] for answer in found],
            "extracted": [answer["extracted_answer"] for answer in found],
            "mean": AggregateMetrics.model_validate(metrics).key_metrics["mean/reward"],
        }

    return asyncio.run(ask())


if __name__ == "__main__":
    kind, address, file = sys.argv[1:]
    result = globals()[kind](address, json.loads(Path(file).read_text()))
    Path(file).write_text(json.dumps(result))

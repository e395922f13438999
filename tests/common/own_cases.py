"""A task of a user's own, as the text of its file."""

TASK = """
import envs


class Mine(envs.TextEnv):
    reward_weights = {"correct": 1.0}

    def __init__(self, split="train"):
        self.split = split

    def __len__(self):
        return 8

    def problem(self, index):
        return envs.Problem(f"{self.split} {index}", {})

    def score(self, problem, completion):
        return {"correct": float("e" in completion)}


envs.register("test/Own%s-v0", Mine)
"""

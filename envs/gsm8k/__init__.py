"""GSM8K: grade-school word problems with one number as the answer."""

from envs.gsm8k.env import GSM8K

__all__ = ["GSM8K"]

"""Every error the trainer raises on purpose: what is wrong, the value seen, what would be right, the next step."""

from collections.abc import Iterable


class SpgError(Exception):
    """Base of all errors raised by `spg_trainer`; the command line prints its text alone and exits with 2.

    A message names a setting as `$block_length=0` or `$block_length` (`settings/naming.py`). The text of the error
    shows it as Python has it, `block_length=0`; the command line shows it as it is typed, `--block-length 0`.
    """

    def __str__(self) -> str:
        from spg_trainer.settings.naming import in_keywords

        return in_keywords(self.written())

    def written(self) -> str:
        """The message as it was written, with a `$` before each setting."""
        return super().__str__()


class ConfigError(SpgError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class ModelError(SpgError, ValueError):
    """A model folder, hub id or tokenizer that cannot be used."""


class CheckpointError(SpgError, RuntimeError):
    """A run folder or checkpoint that cannot be read, written or continued."""


class TrainingError(SpgError, RuntimeError):
    """A run that must stop: gradients stay non-finite, or the environment fails too often."""


class ScoringFailed(TrainingError):
    """A task whose code could not score too many completions; whoever ends the run notes how it goes on."""

    def __init__(self, what: str, traceback: str = "") -> None:
        super().__init__(what, traceback)
        self.go_on = ""
        """The flags that continue the run; "" = there is none to continue."""

    def written(self) -> str:
        what, traceback = self.args
        shown = f"The environment raised\n{traceback.rstrip()}\n" if traceback else ""
        then = f"continue with {self.go_on}" if self.go_on else "start again"
        return f"{shown}{what} Fix the environment, then {then}."


class ProcessLost(TrainingError):
    """Another process of the run has not answered in time."""


def written(error: BaseException) -> str:
    """The text of an error for another message, in which its settings are named as there."""
    return error.written() if isinstance(error, SpgError) else str(error)


def first_line(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    return (written(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def plural(n: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    from spg_trainer.settings.packages import verifiers

    return verifiers.errors.plural(n, noun)


def did_you_mean(word: object, known: Iterable[str], shown_as: str = "'{}'") -> str:
    """`Did you mean 'sudoku'? ` for the known name nearest to `word`; empty if none is near."""
    from spg_trainer.settings.packages import verifiers

    return verifiers.errors.did_you_mean(word, known, shown_as)

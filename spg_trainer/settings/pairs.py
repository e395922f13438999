"""Puts the sha256 of the file of --pairs into the settings, so that a resumed run has the pairs that it began with."""

import hashlib
from dataclasses import replace

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config


def settle_pairs(config: Config) -> Config:
    """The settings with the sha256 of the file of --pairs.

    Raises ConfigError if the settings already have another one, or if the file cannot be read.
    """
    if config.pairs is None:
        return config
    try:
        with open(config.pairs, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"--pairs {config.pairs}: {error.strerror}. Give a file's path.") from error
    if config.pairs_sha256 not in (None, digest):
        raise ConfigError(
            f"--pairs {config.pairs}: its sha256 is {digest}, these settings were made with {config.pairs_sha256}. "
            "Restore the file, or start a new run with another --output-dir."
        )
    return replace(config, pairs_sha256=digest)

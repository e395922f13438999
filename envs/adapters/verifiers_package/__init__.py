"""`verifiers:NAME`: tasks of Prime Intellect's package `verifiers`, which has the same name as our package."""

from envs.adapters.verifiers_package.env import VerifiersPackage, class_of

__all__ = ["VerifiersPackage", "class_of"]

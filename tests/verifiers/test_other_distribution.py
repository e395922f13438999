"""Names of the other distribution called `verifiers` are refused in one line; all others as Python has it."""

import pytest

import verifiers


@pytest.mark.parametrize("name", ["Rubric", "SingleTurnEnv", "load_environment"])
def test_what_the_other_distribution_has_says_whose_package_this_is(name):
    with pytest.raises(
        ImportError, match=rf"verifiers\.{name} is of another distribution .*pip install verifiers"
    ):
        exec_import(name)


def exec_import(name: str) -> object:
    """`from verifiers import NAME`."""
    return getattr(__import__("verifiers", fromlist=[name]), name)


def test_an_unknown_name_is_an_attribute_error_and_known_ones_are_there():
    assert not hasattr(verifiers, "nonsense") and callable(verifiers.reward_function)
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from verifiers import nonsense  # noqa: F401

"""Every error is one sentence, with options or parameters by their names."""

from __future__ import annotations

import inspect
import pickle

import pytest

from auris import errors
from auris.errors import AurisError

KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)
]


def test_messages_name_parameters_in_python_and_options_on_the_command_line() -> None:
    error = errors.UsageError(
        "It is long", "it is 2", "choose --chunk-seconds, or -- as - it -- is"
    )
    assert error.sentence.endswith("choose --chunk-seconds, or -- as - it -- is.")
    assert str(error).endswith("choose chunk_seconds, or -- as - it -- is.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_has_the_rule_the_value_and_the_remedy(kind: type[AurisError]) -> None:
    error = kind("The rule", "it is broken", "mend it")
    assert str(error) == "The rule, but it is broken: mend it."
    assert (error.rule, error.actual, error.remedy) == ("The rule", "it is broken", "mend it")
    assert kind.exit_code == (
        2
        if issubclass(kind, (errors.UsageError, errors.LanguageError, errors.UnsupportedOption))
        else 1
    )
    assert kind.__doc__
    spanned = kind("The rule", "it is broken", "mend it", "choose --start")
    assert str(spanned) == "The rule, but it is broken: mend it, or choose start."
    assert str(spanned.without_span()) == str(error)
    assert str(pickle.loads(pickle.dumps(spanned))) == str(spanned)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))

"""The best values first: the order of sorting all of them, with fewer computed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auris.decoding.best_first import best_first

SCORES = st.floats(-10, 0) | st.sampled_from([-1.0, -2.0])


@given(st.lists(st.tuples(SCORES, st.floats(0, 5) | st.just(float("inf"))), max_size=20))
def test_the_order_is_that_of_sorting(values: list[tuple[float, float]]) -> None:
    limited = [(score + slack, (number,)) for number, (score, slack) in enumerate(values)]
    limited.sort(reverse=True)
    ordered = best_first(limited, lambda key: key[0], lambda number: values[number][0])
    assert list(ordered) == sorted(range(len(values)), key=lambda one: (-values[one][0], one))


def test_values_below_the_best_ones_are_not_computed() -> None:
    computed: list[int] = []

    def evaluated(key: tuple[int]) -> int:
        computed.append(key[0])
        return key[0]

    limited = [(-float(number), (number,)) for number in range(10)]
    ordered = best_first(limited, evaluated, lambda number: -number - 0.5)
    assert [next(ordered), next(ordered)] == [0, 1]
    assert computed == [0, 1]

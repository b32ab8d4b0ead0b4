import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdistill.commands.ranges import parse_values
from fourdistill.errors import InputError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (None, None),
        ("0.25", [0.25]),
        ("-0.5, 0,1e-1", [-0.5, 0, 0.1]),
        ("-0.5:0.5:3", [-0.5, 0, 0.5]),
        ("0:315:8", [45.0 * i for i in range(8)]),
        ("7:9:1", [7]),
    ],
)
def test_values_lists_and_ranges(text, values):
    assert parse_values("--time", text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left", "--time: expected a number, a list a,b,c or a range from:to:count, got 'left'"),
        ("", "got ''"),
        ("0:1", "got '0:1'"),
        ("0:1:2:3", "got '0:1:2:3'"),
        ("0:1:2.5", "got '0:1:2.5'"),
        ("0:nan:3", "got '0:nan:3'"),
        ("inf", "got 'inf'"),
        ("0:1:0", "--time: expected a count from 1 to 1000, got 0"),
        ("0:1:1000000000", "expected a count from 1 to 1000"),
    ],
)
def test_nonsense_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_values("--time", text)


@given(st.text(max_size=12))
def test_any_text_is_numbers_or_an_input_error(text):
    try:
        values = parse_values("--time", text)
    except InputError:
        return
    assert values and all(abs(value) < float("inf") for value in values)

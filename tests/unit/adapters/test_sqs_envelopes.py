"""SNS's envelope: what is in it comes out, and an odd one does no harm."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sfumato.adapters.sqs.envelopes import open_envelope

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_what_is_in_snss_envelope_comes_out(text: str, attributes: dict[str, str]) -> None:
    envelope = {
        "Type": "Notification",
        "MessageId": "m",
        "Message": text,
        "Timestamp": "2026-11-21T08:00:00.500Z",
        "MessageAttributes": {
            name: {"Type": "String", "Value": value} for name, value in attributes.items()
        },
    }
    opened = open_envelope(json.dumps(envelope), {})
    assert (opened.text, opened.attributes, opened.id) == (text, attributes, "m")
    assert opened.sent_at == 1_795_248_000.5


@given(_JSON, _JSON)
def test_odd_envelopes_do_no_harm(identity: Any, moment: Any) -> None:
    envelope = {"Type": "Notification", "Message": "m", "MessageId": identity, "Timestamp": moment}
    opened = open_envelope(json.dumps(envelope), {})
    assert opened.id is None or opened.id == identity
    assert opened.sent_at is None or 0 <= opened.sent_at < 10**10


@given(_JSON.map(json.dumps) | st.text())
def test_what_is_in_no_envelope_stays_as_it_is(text: str) -> None:
    assert open_envelope(text, {"a": "b"}).text == text

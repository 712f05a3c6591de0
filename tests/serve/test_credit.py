"""The credit of /v1/stream counts over the connection, not over a row."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("websockets")

from .test_stream import line


def test_units_of_a_row_that_has_ended_take_from_the_credit_of_the_next(server: Any) -> None:
    with line(server) as client:
        client.say("open", prompt="def", max_tokens=8, credit=64)
        assert client.hear()["type"] == "opened"
        sent = 0
        while client.hear()["type"] == "unit":
            sent += 1
        assert sent >= 2
        client.say("open", prompt="def", max_tokens=40, credit=sent)
        assert client.hear()["type"] == "opened"
        while server.served.service.stats().running:  # the engine has made all of it
            time.sleep(0.01)
        for _ in range(3):  # what is refused shows that no unit has come meanwhile
            client.say("open", prompt="x")
            assert client.hear()["error"]["code"] == "row_under_way"
        client.say("ack", number=0)
        assert client.hear()["number"] == sent
        client.say("ack", number=sent)
        assert client.take()["type"] == "ended"

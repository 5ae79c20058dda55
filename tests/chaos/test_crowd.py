"""What a client of several topics takes down as wrong, block by block."""

import collections
import random
import types

import pytest

from crowd import Listener, Planned

MARKER = "aaaaaaaaaaaaa"


def a_crowd():
    return types.SimpleNamespace(ports={"A": {"": 0, "b": 0}}, counts=collections.Counter(), places={},
                                 markers={}, durable={}, is_settling=False)


def listener(shared=None, number=0, tenant=""):
    """Of o.00 and o.01, and of broadcasts. An odd number asks for with_topic."""
    keys = [tenant + name for name in ("o.00", "o.01", "*")]
    new = Listener(shared or a_crowd(), Planned(number, keys, "steady", ["o.*", "o.00"]),
                   random.Random(1))
    new.record.add("open", 0.0, "A", None)
    return new


def block(data, count=1, topic=None):
    data = f'"{data} 7 99999999999 2 xx"'
    if topic is not None:
        data = f'{{"topic":"{topic}","data":{data}}}'
    return f"id: 0.{MARKER}.{count}\nevent: message\ndata: {data}".encode()


def wrong(client, *blocks):
    for one in blocks:
        client._on_block(1.0, one)  # pylint: disable=protected-access
    return [item[2] for item in client.record.items if item[0] == "bad"]


def test_what_is_right():
    client = listener()
    assert wrong(client, block("o.00", 1), block("*", 2), block("o.01", 5)) == []
    assert client.record.items[-1][3] == {"o.00": [7, 7], "*": [7, 7], "o.01": [7, 7]}
    assert wrong(listener(number=1), block("o.00", 1, "o.00"), block("*", 2, "*")) == []
    assert wrong(listener(number=1, tenant="b/"), block("b/o.00", 1, "o.00")) == []


@pytest.mark.parametrize("tenant, data", [("", "o.02"), ("", "t00"), ("", "b/o.00"), ("", "b/*"),
                                          ("b/", "o.00"), ("b/", "*")])
def test_what_it_did_not_ask_for(tenant, data):
    """Least of all what is another tenant's."""
    assert len(wrong(listener(tenant=tenant), block(data))) == 1


def test_an_event_says_its_topic_if_that_was_asked():
    assert len(wrong(listener(), block("o.00", 1, "o.00"))) == 1
    assert len(wrong(listener(number=1), block("o.00"))) == 1
    assert len(wrong(listener(number=1), block("o.00", 1, "o.01"))) == 1


def test_one_order_for_everybody():
    assert len(wrong(listener(), block("o.00", 2), block("o.01", 1))) == 1
    assert len(wrong(listener(), block("o.00", 2), block("o.00", 2))) >= 1
    shared = a_crowd()
    assert wrong(listener(shared), block("o.00", 1), block("o.01", 2)) == []
    assert len(wrong(listener(shared), block("o.01", 1))) == 1

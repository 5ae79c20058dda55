"""npm libraries, curl, Python's requests: the clients that are no browsers."""

import pytest

from cases import *  # pylint: disable=wildcard-import,unused-wildcard-import
from clients import Curl, Library, Requests
from scenario import DURABLE, live_through

FETCH_EVENT_SOURCE = "@microsoft/fetch-event-source"
NPM = ["eventsource3", "eventsource4", "eventsource5", "eventsource-parser", FETCH_EVENT_SOURCE]


@pytest.fixture(scope="module")
def lived(cluster, modules):
    yield from live_through(cluster, [Curl(), Requests()] + [Library(name, modules) for name in NPM])


@pytest.fixture(params=[*NPM, "curl", "requests"])
def records(request, lived):
    """records(stream): what this client was handed."""
    all_records = lived.records_of(request.param)
    return without_heartbeats(all_records) if request.param == FETCH_EVENT_SOURCE else all_records


def without_heartbeats(all_records):
    """This one library makes an empty event of a blank line after a mere comment. Only user streams
    have that, because their other clients look for a heartbeat in a block of its own."""
    def records(stream):
        return [record for record in all_records(stream)
                if stream not in DURABLE or (record.type, record.data) != ("message", "")]
    return records

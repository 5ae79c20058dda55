"""Chromium, Firefox and WebKit: their own EventSource on the streams of one page."""

import pytest

from cases import *  # pylint: disable=wildcard-import,unused-wildcard-import
from clients import BROWSERS, Browser
from scenario import live_through


@pytest.fixture(scope="module")
def lived(cluster):
    yield from live_through(cluster, [Browser(name) for name in BROWSERS])


@pytest.fixture(params=BROWSERS)
def records(request, lived):
    """records(stream): what this browser was handed."""
    return lived.records_of(request.param)

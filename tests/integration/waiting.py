"""Waiting for a condition, instead of sleeping and hoping."""

import time


def wait_for(condition, what, seconds=5):
    """The first true result of condition(); fails when there is none in that time."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.03)

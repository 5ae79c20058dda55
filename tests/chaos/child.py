"""A process of ours that works until it is told to hand over, and the pipe to it. It dies with its
parent."""

import ctypes
import multiprocessing
import os
import signal
import time
import traceback

PR_SET_PDEATHSIG = 1


class Child:
    def __init__(self, name, work):
        """work(pipe) runs in the child; what it returns is the result."""
        self.name = name
        self.pipe, theirs = multiprocessing.Pipe()
        self._child = multiprocessing.get_context("fork").Process(
            target=self._run, args=(work, theirs), daemon=True)
        self._child.start()
        theirs.close()

    def _run(self, work, pipe):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.pipe.close()
        try:
            pipe.send(("result", work(pipe)))
        except BaseException:  # whatever it was, the other side has to hear it
            pipe.send(("failed", traceback.format_exc()))
        os._exit(0)

    def tell(self, *command):
        self.pipe.send(command)

    def hear(self, seconds):
        """The next message; None if none came in time."""
        if not self.pipe.poll(max(0, seconds)):
            return None
        message = self.pipe.recv()
        if message[0] == "failed":
            raise RuntimeError(f"{self.name} failed:\n{message[1]}")
        return message

    def result(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            message = self.hear(deadline - time.monotonic())
            if message is None:
                raise RuntimeError(f"{self.name} did not hand over within {seconds} s")
            if message[0] == "result":
                return message[1]

    def end(self):
        self._child.kill()
        self._child.join(5)
        self.pipe.close()

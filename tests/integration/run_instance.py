"""An instance of `make run`, as the tests see it: started, read, signalled, and looked for in /proc.

Whoever wants one calls start(); nothing here knows pytest."""

import contextlib
import os
import pathlib
import queue
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("BIN") or str(ROOT / "build" / "release")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def new_run():
    """A directory that the database server's user can enter, unlike pytest's own."""
    directory = tempfile.mkdtemp(prefix="pgsse-test-")
    os.chmod(directory, 0o755)
    return pathlib.Path(directory)


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def processes(word):
    """{pid: command line} of the processes that carry word in command line, environment or cwd."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            cwd = os.fsencode(os.readlink(entry / "cwd"))
            text = command + b"\0" + (entry / "environ").read_bytes() + b"\0" + cwd
        except OSError:
            continue
        if os.fsencode(word) in text and command:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def kill_processes(run):
    """All that carry RUN: also those that others start meanwhile, or that died with their parent."""
    def killed():
        found = processes(str(run))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found
    wait_for(killed, 10, "no process is left")


class Instance:
    def __init__(self, run, port, process):
        self.run = pathlib.Path(run)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self.lines = []
        self._queue = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def read_until(self, word, seconds=30):
        """Reads output up to the line that contains word, and returns that line."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {word!r} within {seconds} s in {self.lines}") from None
            if line is None:
                raise AssertionError(f"ended without {word!r}: {self.lines}")
            self.lines.append(line)
            if word in line:
                return line

    def await_ready(self):
        return self.read_until("pgsse ready: ")

    def end(self, seconds=30):
        """Waits for the end; returns (exit status, the whole output). One that does not come is
        brought about, so that nothing is left for the next test, and fails this one."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            left = processes(str(self.run))
            self.kill()
            raise AssertionError(f"not stopped within {seconds} s: {left}") from None
        self._reader.join(5)
        while not self._queue.empty():
            line = self._queue.get()
            if line is not None:
                self.lines.append(line)
        return status, "\n".join(self.lines)

    def stop(self, sig=signal.SIGINT):
        """Like a terminal's Ctrl-C: the signal reaches the whole process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sig)
        return self.end()

    def kill(self):
        """At once, with all its programs, whatever state they are in."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        kill_processes(self.run)

    def env(self):
        """What a script gets that sources RUN/env."""
        output = subprocess.run(
            ["env", "-i", "sh", "-c", f"set -a; . {shlex.quote(str(self.run / 'env'))}; env -0"],
            check=True, capture_output=True).stdout
        pairs = (entry.split(b"=", 1) for entry in output.split(b"\0") if entry)
        return {key.decode(): value.decode() for key, value in pairs}

    def pid(self, name):
        """The pid of run, lighttpd, broker or postgres, as tools/run wrote it."""
        return int((self.run / "pids" / name).read_text().split()[0])

    def handler_pids(self, name):
        return sorted(pid for pid, command in processes(str(self.run)).items()
                      if f"pgsse-{name}.fcgi" in command)

    def sockets(self):
        return sorted(str(path) for path in self.run.rglob("*") if path.is_socket())


def _as_from_a_terminal():
    """Where the tests are a script's background job SIGINT is ignored, and no shell can change that
    for itself: an instance would never hear of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(run, port=None, make=False, descriptors=None, **env):
    """Starts one. make=True runs `make run`; otherwise tools/run, whose exit status make hides.
    descriptors: the limit that it finds."""
    port = port or free_port()
    if make:
        command = ["make", "--no-print-directory", "run", f"PORT={port}", f"RUN={run}"]
    else:
        command = ["setpriv", "--pdeathsig", "TERM", str(ROOT / "tools" / "run")]
    if descriptors:
        command = ["prlimit", f"--nofile={descriptors}:{descriptors}", *command]
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("DATABASE_URL", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment.update(PORT=str(port), RUN=str(run), BIN=BIN)
    environment.update({key: str(value) for key, value in env.items()})
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True, preexec_fn=_as_from_a_terminal)
    return Instance(run, port, process)

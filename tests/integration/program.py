"""A process that a test starts: its words go to a file, it dies with the test run, and it has to
end well: with the status that is expected of it, and without a word from a sanitizer."""

import ctypes
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("PGSSE_BUILD", "build/release")).resolve()
BROKER = BUILD / "pgsse-broker"
STREAM = BUILD / "pgsse-stream.fcgi"
PUBLISH = BUILD / "pgsse-publish.fcgi"

READY_SECONDS = 3
STOP_SECONDS = 10
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def tool(name):
    """The path of a program of the system, also where sbin is not in PATH."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path, f"{name} is not installed"
    return path


def environment(**extra):
    """What a program of ours is started with: nothing of the caller's own settings."""
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8",
           "ASAN_OPTIONS": "detect_leaks=1:exitcode=99:detect_stack_use_after_return=1",
           "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99"}
    env.update({key: str(value) for key, value in extra.items()})
    return env


def _in_child(user, death_signal):
    """What is done between fork and exec: another user, then death with the parent."""
    entry = pwd.getpwnam(user) if user else None

    def prepare():
        if entry:
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)

    return prepare


class Program:
    def __init__(self, name, argv, log, env=None, stdin=None, user=None,
                 death_signal=signal.SIGKILL, cwd=None):
        self.name = name
        self.log_path = pathlib.Path(log)
        self.expected = {0}  # exit statuses that are no complaint
        with open(self.log_path, "ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in argv], env=env if env is not None else environment(),
                stdin=stdin if stdin is not None else subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=_in_child(user, death_signal), cwd=cwd)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def send_signal(self, number):
        """A signal that the program itself answers is sent when it is ready for it."""
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._await_readiness()
        if self.is_running():
            os.kill(self.pid, number)

    def wait(self, status=0, seconds=STOP_SECONDS):
        """Waits for the end, which has to have that exit status."""
        self.expected = {status}
        try:
            got = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds} s\n{self.log()}") from None
        assert got == status, f"{self.name} ended with {got}, not {status}\n{self.log()}"

    def _await_readiness(self):
        """Until it has taken SIGTERM over, which it does last of the signals. Before that a signal
        just ends it: a program starts slowly on a busy machine, or under a sanitizer."""
        deadline = time.monotonic() + READY_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
                fields = dict(line.split(":", 1) for line in status)
            blocked = int(fields["SigBlk"], 16)
            caught = int(fields["SigCgt"], 16)
            terminate = 1 << (signal.SIGTERM - 1)
            is_forking = blocked & 1 << (signal.SIGUSR1 - 1)  # libc's fork blocks them all for a moment
            if caught & terminate or blocked & terminate and not is_forking:
                return
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM, seconds=STOP_SECONDS):
        self.send_signal(number)
        self.wait(0, seconds)

    def kill(self):
        """kill -9, on purpose."""
        self.expected = {-signal.SIGKILL}
        self.process.kill()
        self.process.wait()

    def end(self):
        """For clearing away: ends it and returns its complaints."""
        complaints = []
        try:
            self.send_signal(signal.SIGTERM)
            status = self.process.wait(STOP_SECONDS)
            if status not in self.expected:
                complaints.append(f"{self.name} ended with {status}")
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            complaints.append(f"{self.name} did not stop within {STOP_SECONDS} s")
        return complaints + self.sanitizer_complaints()

    def sanitizer_complaints(self):
        text = self.log()
        return [f"{self.name}: {word!r} in its log"
                for word in ("Sanitizer", "runtime error") if word in text]

    # --- what /proc tells --------------------------------------------------------------------

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def settled_fd_count(self):
        """When what has just ended is closed, too: two looks that agree."""
        count = -1
        while count != self.fd_count():
            count = self.fd_count()
            time.sleep(0.03)
        return count

    def memory_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError(f"{self.name} has no memory")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(argv, env=None, seconds=20):
    """Runs a program to its end; (exit status, stdout, stderr)."""
    done = subprocess.run([str(word) for word in argv], env=env or environment(), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds,
                          preexec_fn=_in_child(None, signal.SIGKILL))
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def is_sanitized():
    """Is it a build for finding faults, and so slower and larger?"""
    return b"__asan_init" in BROKER.read_bytes()

"""npm packages, pinned in a lock file, installed once into a directory of build/."""

import contextlib
import fcntl
import filecmp
import shutil
import subprocess


@contextlib.contextmanager
def installed(source, target):
    """The packages of source/package-lock.json are in target/node_modules; only one at a time gets
    here, so that a caller can copy what is his into target."""
    target.mkdir(parents=True, exist_ok=True)
    with open(target / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = target / "node_modules" / "installed-lock.json"
        wanted = source / "package-lock.json"
        if not done.exists() or not filecmp.cmp(done, wanted, shallow=False):
            shutil.copy(source / "package.json", target)
            shutil.copy(wanted, target)
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                           check=True, timeout=300, stdin=subprocess.DEVNULL)
            shutil.copy(wanted, done)
        yield target

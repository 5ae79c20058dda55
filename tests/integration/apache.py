"""Apache with mod_fcgid, in the directory of a deployment: what is tested is the file of deploy/ as
it is shipped, with its values defined and the few things around it that a Debian brings."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket

import program
from program import Program
from waiting import wait_for

CONF = program.ROOT / "deploy" / "apache-mod_fcgid.conf"
MODULES = pathlib.Path("/usr/lib/apache2/modules")
USER = "www-data"  # as whom it serves when root starts it, as on any Debian

HTTPD_CONF = """\
ServerRoot {directory}
ServerName localhost
PidFile {directory}/httpd.pid
ErrorLog {log}
LogLevel info
Listen 127.0.0.1:{port}
{modules}
TypesConfig /dev/null
AddType text/html .html
FcgidIPCDir {directory}/ipc
FcgidProcessTableFile {directory}/processes
{user}
{defines}
Include {conf}
# Five seconds there, which no test has the time for.
GracefulShutdownTimeout 1
"""

# The sanitizers' options, which the shipped file does not know, and then the program itself.
STARTER = """\
#!/bin/sh
export ASAN_OPTIONS='{ASAN_OPTIONS}' UBSAN_OPTIONS='{UBSAN_OPTIONS}'
exec {binary}
"""

EXIT = re.compile(r"mod_fcgid: process \S+/([\w.-]+)\((\d+)\) exit\(([^)]*)\), (.*)")
WELL = "terminated by calling exit(), return code: 0"


def settings():
    """What the broker needs to let handlers in that run as another user than itself."""
    return {"handler_users": USER, "socket_mode": "0666"} if os.geteuid() == 0 else {}


class Apache(Program):
    """Takes a deployment whose broker runs, and becomes its web server."""

    def __init__(self, deployment, conf=CONF, more_modules=(), **values):
        """conf: another file than the shipped one."""
        self.directory = deployment.path("apache")
        self.directory.mkdir()
        self.programs = self.directory / "programs"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = deployment.port = probe.getsockname()[1]
        self._put_programs(deployment)
        url_file = self.directory / "database_url"
        url_file.write_text(deployment.database_url)
        log = deployment.path("apache.log")
        httpd_conf = self.directory / "httpd.conf"
        httpd_conf.write_text(self._conf(log, conf, more_modules, {
            "PGSSE_PORT": self.port, "PGSSE_WEB_DIR": program.ROOT / "web",
            "PGSSE_BIN_DIR": self.directory, "PGSSE_SOCKET_DIR": deployment.directory,
            "PGSSE_DATABASE_URL_FILE": url_file, **values}))
        super().__init__("apache2", [program.tool("apache2"), "-f", httpd_conf, "-DFOREGROUND",
                                     "-k", "start"], log,
                         death_signal=signal.SIGTERM)  # whoever kills it leaves its children
        deployment.programs.append(self)
        wait_for(self._answers, lambda: f"apache answers\n{self.log()}")

    def _put_programs(self, deployment):
        """Where Apache's user can reach them; what is no matter of mod_fcgid's is in their
        configuration file, as the shipped file says."""
        self.programs.mkdir()
        for binary in (program.STREAM, program.PUBLISH):
            shutil.copy(binary, self.programs)
            starter = self.directory / binary.name
            starter.write_text(STARTER.format(binary=self.programs / binary.name,
                                              **program.environment()))
            starter.chmod(0o755)
        own = settings()
        (self.programs / "pgsse.conf").write_text("".join(
            f"{key} = {value}\n" for key, value in deployment.settings.items() if key not in own))

    def _conf(self, log, conf, more_modules, values):
        modules = ["mpm_event", "authz_core", "alias", "dir", "mime", "headers", "fcgid", *more_modules]
        return HTTPD_CONF.format(
            directory=self.directory, log=log, port=self.port, conf=conf,
            modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so"
                              for name in modules),
            user=f"User {USER}\nGroup {USER}" if os.geteuid() == 0 else "",
            defines="\n".join(f'Define {name} "{value}"' for name, value in values.items()))

    def _answers(self):
        assert self.is_running(), self.log()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    # --- its handlers ------------------------------------------------------------------------

    def handlers(self, name="pgsse-"):
        """The pids of the handler processes that there are."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                binary = pathlib.Path(os.readlink(entry / "exe"))
                if binary.parent == self.programs and binary.name.startswith(name):
                    found.append(int(entry.name))
        return sorted(found)

    def process_manager(self):
        """The process of mod_fcgid's that starts the handlers."""
        return int(re.findall(r"mod_fcgid: Process manager (\d+) started", self.log())[-1])

    # --- ends --------------------------------------------------------------------------------

    def _left(self):
        """The pids of its own processes and of its handlers; Apache's do not die with their parent."""
        found = self.handlers()
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.directory).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return sorted(set(found))

    def end(self):
        complaints = super().end()
        complaints += [f"{name}({pid}) ended ({why}): {how}"
                       for name, pid, why, how in EXIT.findall(self.log()) if how != WELL]
        left = self._left()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return complaints + [f"processes are left: {left}"] * bool(left)

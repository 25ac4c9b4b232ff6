"""The files of /etc that an engine supplies, over the image's own: hostname, hosts and resolv.conf.

They are mounted from the sandbox's scratch directory; the image's files below them stay as they are.
"""

import os
from contextlib import suppress

from tracestrip.observer.job import Job

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
"""As Docker writes it."""

_NO_NAME_SERVER = "# no name server: there is a loopback interface only\n"


def write_supplied_files(job: Job) -> dict[bytes, bytes]:
    """Write them into the scratch directory: path inside the sandbox to path on the host. Raises OSError."""
    contents = {"/etc/hostname": f"{job.hostname}\n", "/etc/hosts": _hosts(job), "/etc/resolv.conf": _name_servers(job)}
    files = {}
    for inside, content in contents.items():
        path = os.path.join(job.scratch, os.path.basename(inside))
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        os.chmod(path, 0o644)
        files[inside.encode()] = os.fsencode(path)
    return files


def _hosts(job: Job) -> str:
    match job.network:
        case "host":
            return _own("/etc/hosts") or _HOSTS
        case "none":
            return _HOSTS
        case _:  # where Docker has the container's address
            return f"{_HOSTS}127.0.0.1\t{job.hostname}\n"


def _name_servers(job: Job) -> str:
    return _own("/etc/resolv.conf") if job.network == "host" else _NO_NAME_SERVER


def _own(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
    return ""

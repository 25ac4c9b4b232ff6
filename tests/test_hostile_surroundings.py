"""Images and targets that are out to harm the host: what they bring along, name and do while a sandbox is made and used."""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command, fails
from tests.images import image_archive

Prepare = Callable[[Path], None]


@pytest.fixture
def strip(tracestrip: Command, tmp_path: Path, compiled: Callable[..., Path]) -> Command:
    """Strips an image that *prepare* adds to. Its only program opens the files that it is told to."""

    def run(config: dict, prepare: Prepare | None = None, *options: object, command: str = "/bin/touch") -> object:
        archive = image_archive(tmp_path / "image.tar", compiled("touch", "-static"), config, prepare=prepare)
        output = f"docker-archive:{tmp_path}/out.tar"
        return tracestrip("run", f"docker-archive:{archive}", "-e", command, "-o", output, *options)

    return run


@pytest.mark.parametrize("target", ["/", "../../..", "/proc/sys/kernel", "/proc/1/root", "/sys/kernel", "v", "/etc/passwd"])
def test_volume_that_leads_to_no_place_is_refused(strip: Command, target: str) -> None:
    """Else the host's root would lie under it, or a part of /proc without its mask."""
    finished = strip({"Volumes": {"/v": {}}}, lambda root: (root / "v").symlink_to(target))
    fails(finished, 3, "/v")


@pytest.mark.parametrize("option", ["--tmpfs=/v", "--mount=type=bind,src=/tmp,dst=/v"])
def test_mount_point_that_leads_to_no_place_is_refused(strip: Command, option: str) -> None:
    fails(strip({}, lambda root: (root / "v").symlink_to("/"), option), 2, "/v")


@pytest.mark.parametrize("config", [{}, {"Volumes": {"/v/deep": {}}}])
def test_nothing_is_made_outside_of_the_image(strip: Command, config: dict, tmp_path: Path) -> None:
    """A loop of symlinks, behind which ".." could be taken for another directory's."""
    evil = tmp_path / "evil"
    evil.mkdir()

    def prepare(root: Path) -> None:
        (root / "loop").symlink_to("loop")
        (root / "evil").symlink_to(f"../..{evil}")
        for name, path in (("v", root / "v"), ("etc", root / "other-etc")):
            path.symlink_to(f"loop/../evil/{name}")
        if not config:
            (root / "etc").rename(root / "etc-of-before")
            (root / "other-etc").rename(root / "etc")

    fails(strip(config, prepare), 3, "/v/deep" if config else "/etc/")
    assert list(evil.iterdir()) == []


@pytest.mark.parametrize("config", [{}, {"WorkingDir": "/" + "/".join(["d"] * 500)}, {"WorkingDir": "/c0"}])
def test_long_chains_break_nothing(strip: Command, config: dict, tmp_path: Path) -> None:
    """And no module of the image's is imported, nor source file looked for, while pid 1 has all rights."""

    def prepare(root: Path) -> None:
        for number in range(1500):
            (root / f"c{number}").symlink_to(f"/c{number + 1}")
        if not config:
            (root / "etc/hosts").symlink_to("/c0")

    finished = strip(config, prepare)
    assert "Traceback" not in finished.stderr
    assert "internal" not in finished.stderr
    if "/c0" in config.get("WorkingDir", "/c0"):
        fails(finished, 4 if config else 3, "/c0" if config else "/etc/hosts")


@pytest.mark.parametrize("kind", ["directory", "fifo", "names", "zero", "bytes"])
def test_file_of_the_image_is_not_taken_for_one_of_ours(strip: Command, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "tracestrip-victim"
    victim.mkdir()

    def prepare(root: Path) -> None:
        for name in ("cgroups", "image.cgroups", ".cgroups"):
            place = root / name
            match kind:
                case "directory":
                    place.mkdir()
                case "fifo":
                    os.mkfifo(place)
                case "names":
                    place.write_text(f"{victim}\n")
                case "zero":
                    place.symlink_to("/dev/zero")
                case _:
                    place.write_bytes(b"\xff\xfe/tracestrip-\n")

    finished = strip({}, prepare)
    assert finished.code == 0, finished.stderr
    assert victim.exists()


@pytest.mark.parametrize("user", ["4294967295", "2147483648", "0:4294967295", "9999999999", "33:2147483648"])
def test_user_out_of_range_is_refused(strip: Command, user: str) -> None:
    """-1 means "leave it" to setresuid(2): such a target would be root."""
    fails(strip({"User": user}), 4, user.partition(":")[0])


def test_huge_list_of_users_is_refused(strip: Command) -> None:
    fails(strip({}, lambda root: (root / "etc/passwd").write_bytes(b":\n" * (3 << 20))), 4, "/etc/passwd")


def test_nameless_variable_of_the_image_is_left_out(strip: Command) -> None:
    assert strip({"Env": ["=x", "A=b"]}).code == 0


def test_hosts_file_that_leads_to_a_device_is_refused(strip: Command) -> None:
    def prepare(root: Path) -> None:
        (root / "etc/hosts").symlink_to("/dev/null")

    fails(strip({}, prepare), 3, "/etc/hosts")


@pytest.mark.parametrize("executed", [False, True])
def test_program_with_absurd_headers(strip: Command, executed: bool) -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 1 << 63, 0, 0, 64, 56, 60000, 0, 0, 0)

    def prepare(root: Path) -> None:
        (root / "bin/odd").write_bytes(header.ljust(5000, b"\0"))
        (root / "bin/odd").chmod(0o755)

    finished = strip({}, prepare, command="/bin/odd" if executed else "/bin/touch /bin/odd")
    assert finished.code == (4 if executed else 0), finished.stderr
    assert "internal" not in finished.stderr


FLOOD = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("begun", flush=True)
while True:
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX):
        try:
            os.kill(1, number)
        except OSError:
            pass
"""
STOP = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    os.kill(-1, signal.SIGSTOP)
"""


def test_flood_of_signals_to_pid_1_delays_no_end(tracestrip: Command, tmp_path: Path) -> None:
    (tmp_path / "flood.py").write_text(FLOOD)
    options = ("--wait", "0.3", "--probe", "true", "--stop-timeout", "0.5", "-o", f"docker-archive:{tmp_path}/out.tar")
    finished = tracestrip("run", "dir:/", "-e", f"/usr/bin/env python3 {tmp_path}/flood.py", *options)
    assert finished.code == 0, finished.stderr
    assert finished.seconds < 15


def test_target_that_stops_all_others_delays_no_end(tracestrip: Command, tmp_path: Path) -> None:
    (tmp_path / "stop.py").write_text(STOP)
    options = ("--wait", "0.3", "--exec", "/bin/ls", "--probe-timeout", "1", "--stop-timeout", "0.5")
    output = f"docker-archive:{tmp_path}/out.tar"
    finished = tracestrip("run", "dir:/", "-e", f"/usr/bin/env python3 {tmp_path}/stop.py", *options, "-o", output)
    assert finished.code in (4, 5)
    assert finished.seconds < 25


WATCH = """
import os, time
end = time.monotonic() + 4
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                if open(f"/proc/{pid}/comm").read() == "tracestrip-init\\n":
                    program = os.readlink(f"/proc/{pid}/exe")
                    if "python" in program:
                        open("/log/said", "a").write(program)
            except OSError:
                pass
"""


def test_command_that_is_not_executed_yet_is_out_of_reach(tracestrip: Command, tmp_path: Path) -> None:
    """It is the host's program still, which a target could change through /proc/PID/exe (CVE-2019-5736)."""
    log = tmp_path / "log"
    log.mkdir()
    (log / "watch.py").write_text(WATCH)
    several = [word for _ in range(30) for word in ("--exec", "/bin/true")]
    finished = tracestrip(
        "run", "dir:/", "-e", "/usr/bin/env python3 /log/watch.py", "--wait", "0.5", *several,
        "--mount", f"type=bind,src={log},dst=/log", "-o", f"docker-archive:{tmp_path}/out.tar",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert not (log / "said").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), 0xA80425FB), (("--cap-add", "SYS_PTRACE"), 0xA80425FB | 1 << 19), (("--cap-drop", "ALL"), 0xE3)],
)
def test_pid_1_is_no_more_than_a_target(
    tracestrip: Command, tmp_path: Path, options: tuple[str, ...], expected: int
) -> None:
    """A target with SYS_PTRACE can write into its memory."""
    place = tmp_path / "log"
    place.mkdir()
    place.chmod(stat.S_IRWXU | stat.S_IRWXO)
    finished = tracestrip(
        "run", "dir:/", "-e", "/bin/cp /proc/1/status /log/said", "--no-verify", *options,
        "--mount", f"type=bind,src={place},dst=/log", "-o", f"docker-archive:{tmp_path}/out.tar",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    status = dict(line.split(":\t") for line in (place / "said").read_text().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == expected
    assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "2")


def test_endless_answer_to_a_probe_fills_nothing(tracestrip: Command, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    finished = tracestrip(
        "run", "dir:/", "-e", "/bin/sleep 100", "--wait", "0", "--probe", "timeout 1 yes; echo last; exit 3",
        "--probe-timeout", "0.5", "-o", f"docker-archive:{tmp_path}/out.tar", TMPDIR=str(scratch),
    )  # fmt: skip
    fails(finished, 5, "probe")
    assert finished.peak_memory < 100 << 20


@pytest.mark.parametrize("place", ["relative", "with space\nand newline"])
def test_temporary_directory_of_any_name(
    tracestrip: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path)
    directory = place if place == "relative" else str(tmp_path / place)
    finished = tracestrip("run", "dir:/", "-e", "/bin/true", "-o", f"docker-archive:{tmp_path}/out.tar", TMPDIR=directory)
    assert finished.code == 0, finished.stderr

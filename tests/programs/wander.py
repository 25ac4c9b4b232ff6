"""wander.py SEED DIRECTORY COUNT: random moves in a tree. To stdout: the paths that it opened, with the files' own names."""

import os
import random
import sys
from contextlib import suppress

chance = random.Random(int(sys.argv[1]))
top = sys.argv[2]


def name() -> str:
    """Of something that may be there: relative, absolute, through /proc or a descriptor; with dots and slashes."""
    path = "/".join(chance.choice(["a", "b", "c", "d", "e", "..", "."]) for _ in range(chance.randint(1, 5)))
    starts = ["", "", top + "/", "/proc/self/cwd/", f"/proc/self/root{top}/", f"/dev/fd/{chance.choice(directories)}/"]
    path = chance.choice(starts) + path + chance.choice(["", "", "", "/"])
    return path.replace("/", "//", 1) if chance.random() < 0.1 else path


def look() -> None:
    flags = os.O_RDONLY | chance.choice([0, 0, os.O_NOFOLLOW])
    directory, path = chance.choice([None, *directories]), name()
    here, names = os.getcwd(), {one: os.readlink(f"/proc/self/fd/{one}") for one in directories}
    if any(known.endswith(" (deleted)") for known in names.values()):
        return  # ".." still leads up from there, without a name
    base = here if directory is None else names[directory]
    file = os.open(path, flags, dir_fd=directory)
    opened.add((os.path.join(base, path), os.readlink(f"/proc/self/fd/{file}")))
    os.close(file)


def keep_directory() -> None:
    directories.append(os.open(name(), os.O_RDONLY | os.O_DIRECTORY))
    if len(directories) > 5:
        os.close(directories.pop(0))


moves = [
    look, look, look, look, look, look, keep_directory,
    lambda: os.mkdir(name()),
    lambda: os.rmdir(name()),
    lambda: os.symlink(name(), name()),
    lambda: os.rename(name(), name()),
    lambda: os.link(name(), name(), follow_symlinks=chance.random() < 0.5),
    lambda: os.unlink(name()),
    lambda: os.chdir(name()),
    lambda: os.close(os.open(name(), os.O_CREAT | os.O_WRONLY)),
]  # fmt: skip
os.chdir(top)
directories = [os.open(top, os.O_RDONLY)]
opened: set[tuple[str, str]] = set()
for _ in range(int(sys.argv[3])):
    with suppress(OSError):
        chance.choice(moves)()
sys.stdout.write("\n".join("\t".join(pair) for pair in opened))

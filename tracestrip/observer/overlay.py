"""The sandbox's root: the image's layers, read-only, below a directory for what the run writes.

The mounts are made in a private mount namespace: with its last process they are gone. What was written lies in the
sandbox's scratch directory, as an engine has it on a disk: it counts neither as memory nor against a limit of it.
"""

import errno
import os
import stat
from contextlib import suppress

from tracestrip.observer import linux
from tracestrip.observer.job import Job
from tracestrip.observer.wire import raw


def assemble_root(job: Job) -> bytes:
    """Mount the image's layers under a throw-away upper layer; the path of the root on the host. Raises OSError."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(b"none", b"/", b"", linux.MS_REC | linux.MS_PRIVATE)
    scratch = os.fsencode(job.scratch)
    root = scratch + b"/root"
    os.mkdir(root)
    _mount_overlay(scratch + b"/image", job.layers, root)
    for index, (inside, outside) in enumerate(job.submounts):
        with suppress(FileNotFoundError):  # the host has unmounted it meanwhile
            _mount_overlay(scratch + b"/submount%d" % index, (outside,), root + raw(inside))
    return root


def _mount_overlay(work: bytes, layers: tuple[str, ...], target: bytes) -> None:
    """An overlay of *layers*, topmost first, writable through directories in *work*.

    A directory of a layer is not renamed, as is usual for engines: else its files would have a name that no layer has.
    fsync(2) is spared, since nothing of it is read again (`volatile`, Linux 5.10).
    """
    os.mkdir(work)
    try:
        if any(work.startswith(raw(layer).rstrip(b"/") + b"/") for layer in layers):
            raise OSError(errno.EINVAL, "a layer that holds its own upper layer cannot be read")  # a host's own root
        _mount_layers(work, layers, target)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, f"overlayfs: {error.strerror}") from error
        # Not every file system can hold an upper layer, an overlay as in a container cannot: memory does.
        linux.mount(b"tmpfs", work, b"tmpfs", 0, b"mode=0700")
        try:
            _mount_layers(work, layers, target)
        except OSError as again:
            raise OSError(again.errno, f"overlayfs: {again.strerror}") from again


def _mount_layers(work: bytes, layers: tuple[str, ...], target: bytes) -> None:
    """The mount data must fit a page, so that the layers are named by short symlinks, relative to *work*: 500 of them
    (the kernel's limit) take 2 KB.
    """
    for name in (b"/upper", b"/work"):
        os.mkdir(work + name)
    for index, layer in enumerate(layers):
        os.symlink(raw(layer), work + b"/%d" % index)
    top = os.lstat(raw(layers[0]))
    os.chown(work + b"/upper", top.st_uid, top.st_gid)
    os.chmod(work + b"/upper", stat.S_IMODE(top.st_mode))
    lower = b":".join(b"%d" % index for index in range(len(layers)))
    os.chdir(work)
    try:
        options = b"lowerdir=" + lower + b",upperdir=upper,workdir=work,redirect_dir=off,volatile"
        linux.mount(b"overlay", target, b"overlay", 0, options)
    finally:
        os.chdir("/")

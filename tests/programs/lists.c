/* lists TOP: reads the entries of TOP's directories, each by another call, and of what is no directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static char entries[4096];
static int opened(const char *name) { return open(name, O_RDONLY | O_DIRECTORY); }
static int fails(int call, int descriptor) {
    /* An inode number may be too large for the older calls. */
    return syscall(call, descriptor, entries, sizeof entries) < 0 && errno != EOVERFLOW;
}
int main(int count, char **words) {
    if (chdir(words[1])) return 1;
    if (fails(SYS_getdents, opened("link"))) return 2;
    if (fails(SYS_getdents64, opened("getdents64"))) return 3;
#ifdef SYS_readdir
    if (fails(SYS_readdir, opened("readdir"))) return 4;
#endif
    if (fchdir(opened("opened")) || chdir("..")) return 5;
    if (mkdir("before", 0700)) return 6; /* overlayfs moves no directory of a lower layer */
    int moved = opened("before");
    if (rename("before", "after") || fails(SYS_getdents64, moved)) return 7;
    int deleted = opened("deleted");
    if (rmdir("deleted") || !fails(SYS_getdents64, deleted) || errno != ENOENT) return 8;
    int ends[2];
    if (pipe(ends) || !fails(SYS_getdents64, ends[0]) || errno != ENOTDIR) return 9;
    if (!fails(SYS_getdents64, AT_FDCWD) || errno != EBADF) return 10;
    if (!fails(SYS_getdents64, -1) || errno != EBADF) return 11;
    if (!fails(SYS_getdents64, 1000000) || errno != EBADF) return 12;
    return 0;
}

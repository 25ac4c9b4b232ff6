/* bound: with mounts of its own, opens files of /data/from by names below /data/to. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>
int main(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) return 1;
    if (mount("/data/from", "/data/to", 0, MS_BIND, 0)) return 2;
    if (open("/data/to/absolute", O_RDONLY) < 0) return 3;
    int deep = open("/data/to/deep", O_RDONLY | O_DIRECTORY);
    if (openat(deep, "descriptor", O_RDONLY) < 0) return 4;
    return chdir("/data/to/deep") || open("relative", O_RDONLY) < 0;
}

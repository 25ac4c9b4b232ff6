/* thread-views DIRECTORY: one thread has a working directory and a root of its own; the main thread ends before it. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
static char **names;
static void *other(void *unused) {
    if (unshare(CLONE_FS) || chdir(names[1]) || chdir("own")) exit(1);
    usleep(100000);
    if (open("file", O_RDONLY) < 0) exit(2);
    if (chroot(".") || open("/file", O_RDONLY) < 0 || open("/link", O_RDONLY) < 0) exit(3);
    exit(0);
}
int main(int count, char **arguments) {
    names = arguments;
    pthread_t thread;
    pthread_create(&thread, 0, other, 0);
    if (chdir(names[1]) || open("file", O_RDONLY) < 0) return 4;
    pthread_exit(0);
}

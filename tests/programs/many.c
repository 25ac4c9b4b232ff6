/* many DIRECTORY VFORKED SPAWNED: 2,000 processes alive at once, then 2,000 threads, each opens a file of its own. */
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
enum { COUNT = 2000 };
static const char *top;
static pthread_barrier_t all;
static void touch(const char *kind, long number) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s%ld", top, kind, number);
    if (open(path, O_RDONLY | O_CLOEXEC) < 0) exit(9);
}
static void *thread(void *number) {
    pthread_barrier_wait(&all);
    touch("thread", (long)number);
    return 0;
}
int main(int count, char **names) {
    top = names[1];
    int go[2];
    if (pipe(go)) return 3;
    for (long i = 0; i < COUNT; i++) {
        pid_t child = fork();
        if (child < 0) return 4;
        if (!child) {
            char byte;
            close(go[1]);
            if (read(go[0], &byte, 1)) _exit(5);  /* until all are there */
            touch("fork", i);
            _exit(0);
        }
    }
    close(go[1]);
    int status;
    while (wait(&status) > 0) if (status) return 6;
    static pthread_t threads[COUNT];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_barrier_init(&all, 0, COUNT);
    for (long i = 0; i < COUNT; i++) if (pthread_create(&threads[i], &small, thread, (void *)i)) return 2;
    for (long i = 0; i < COUNT; i++) pthread_join(threads[i], 0);
    pid_t child = vfork();
    if (!child) { execl("/bin/cat", "cat", names[2], (char *)0); _exit(1); }
    waitpid(child, 0, 0);
    char *arguments[] = {"cat", names[3], 0};
    posix_spawn(&child, "/bin/cat", 0, 0, arguments, 0);
    waitpid(child, 0, 0);
    return 0;
}

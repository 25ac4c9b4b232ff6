/* opens COUNT [NAMES]: opens and closes /dev/null COUNT times; with NAMES, the names n0, n1, … in turn, in /tmp/names. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **arguments) {
    long times = atol(arguments[1]), names = count > 2 ? atol(arguments[2]) : 0;
    char name[64] = "/dev/null";
    if (names) mkdir("/tmp/names", 0755);
    for (long i = 0; i < times; i++) {
        if (names) snprintf(name, sizeof name, "/tmp/names/n%ld", i % names);
        int file = open(name, O_RDONLY | (names ? O_CREAT : 0), 0644);
        if (file < 0) return 1;
        close(file);
    }
    return 0;
}

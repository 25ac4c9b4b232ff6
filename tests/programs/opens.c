/* opens COUNT [NAMES]: opens and closes /dev/null COUNT times; with NAMES, opens and checks the names n0, n1, …
   in /tmp/names in turn, each time at another address. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **arguments) {
    long times = atol(arguments[1]), names = count > 2 ? atol(arguments[2]) : 0;
    static char space[1 << 20];
    char *name = space;
    strcpy(name, "/dev/null");
    if (names) mkdir("/tmp/names", 0755);
    for (long i = 0; i < times; i++) {
        if (names) snprintf(name = space + i * 32 % sizeof space, 32, "/tmp/names/n%ld", i % names);
        int file = open(name, O_RDONLY | (names ? O_CREAT : 0), 0644);
        if (file < 0) return 1;
        close(file);
        if (names && access(name, R_OK)) return 2;
    }
    return 0;
}

/* calls COUNT: system calls that name no file. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **arguments) {
    static char page[4096];
    int ends[2];
    if (pipe(ends)) return 1;
    for (long i = atol(arguments[1]) / 4; i > 0; i--) {
        syscall(SYS_getppid);
        if (write(ends[1], page, sizeof page) < 0 || read(ends[0], page, sizeof page) < 0) return 2;
        lseek(0, 0, SEEK_CUR);
    }
    return 0;
}

/* old-open FILE: opens it by int 0x80, the calls of 32-bit programs, which takes its name from below 4 GiB. */
#include <string.h>
int main(int count, char **names) {
    static char path[256];
    long result;
    strncpy(path, names[1], sizeof path - 1);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(path), "c"(0), "d"(0) : "memory");
    return result < 0;
}

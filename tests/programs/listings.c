/* listings COUNT: reads the entries of a directory so many times. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **words) {
    static char entries[4096];
    int directory = open("/usr", O_RDONLY | O_DIRECTORY);
    for (int left = atoi(words[1]); left; left--) {
        if (syscall(SYS_getdents64, directory, entries, sizeof entries) < 0) return 1;
        lseek(directory, 0, SEEK_SET);
    }
    return 0;
}

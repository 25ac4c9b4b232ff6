#include <fcntl.h>
#include <unistd.h>
int main(int count, char **names) {
    if (chdir(names[1])) return 1;
    for (int i = 0; i < 2; i++) {
        unlink("current");
        if (symlink(i ? "b" : "a", "current")) return 2;
        if (open("current", O_RDONLY) < 0) return 3;
        if (chdir(i ? "y" : "x")) return 4;
        if (open("/proc/self/cwd/file", O_RDONLY) < 0) return 5;
        if (chdir("..")) return 6;
    }
    return 0;
}

/* places DIRECTORY: names through /proc, symlinks made during the run, moved files and directories, long and odd names. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static void must(int result, int line) { if (result < 0) { fprintf(stderr, "line %d\n", line); exit(1); } }
#define MUST(call) must(call, __LINE__)
int main(int count, char **names) {
    char path[4200], to[4200];
    MUST(chdir(names[1]));
    /* links of /proc, by number, by self, by thread-self, and through other symlinks */
    int file, top;
    MUST(file = open("one", O_RDONLY)); MUST(top = open("directory", O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/fd/%d/two", top); MUST(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/%d/fd/%d/three", getpid(), top); MUST(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/dev/fd/%d/four", top); MUST(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/fd/%d", top); MUST(symlink(path, "through")); MUST(open("through/five", O_RDONLY));
    snprintf(path, sizeof path, "/proc/thread-self/cwd/six"); MUST(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/root%s/seven", names[1]); MUST(open(path, O_RDONLY));
    MUST(chdir("directory")); MUST(open("/proc/self/cwd/same", O_RDONLY));
    MUST(chdir("../other")); MUST(open("/proc/self/cwd/same", O_RDONLY)); MUST(chdir(".."));
    pid_t child = fork();
    if (!child) { MUST(chdir("other")); MUST(pause()); }
    usleep(100000);
    snprintf(path, sizeof path, "/proc/%d/cwd/eight", child); MUST(open(path, O_RDONLY));
    kill(child, 9); waitpid(child, 0, 0);
    /* a symlink made now that leads to one of the image */
    MUST(symlink("lasting-link", "made-link")); MUST(open("made-link", O_RDONLY));
    /* a directory that becomes a symlink after it was looked up */
    MUST(mkdir("turns", 0755)); MUST(close(open("turns/file", O_CREAT | O_WRONLY, 0644))); MUST(open("turns/file", O_RDONLY));
    MUST(unlink("turns/file")); MUST(rmdir("turns")); MUST(symlink("turned", "turns")); MUST(open("turns/file", O_RDONLY));
    MUST(rename("turns", "gone")); MUST(mkdir("turns", 0755));
    /* a symlink that is replaced by a hard link of another symlink */
    MUST(open("first-link", O_RDONLY)); MUST(unlink("first-link")); MUST(link("second-link", "first-link"));
    MUST(open("first-link", O_RDONLY));
    /* files that get another name, and are used by it */
    MUST(rename("renamed", "new-name")); MUST(open("new-name", O_RDONLY));
    MUST(link("linked", "second-name")); MUST(unlink("linked")); MUST(open("second-name", O_RDONLY));
    /* a directory of the image can't be renamed in an overlay, as in an engine's: programs copy */
    if (!rename("moved-directory", "elsewhere")) return 2;
    /* a name across two pages, and one of 4,095 bytes */
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(open(strcpy(pages + 4096 - 6, "across-pages"), O_RDONLY));
    strcpy(path, names[1]);
    while (strlen(path) + 10 < 4095) strcat(path, "/././/");
    while (strlen(path) + 4 < 4095) strcat(path, "/");
    strcat(path, "long"); if (strlen(path) != 4095) return 3;
    MUST(open(path, O_RDONLY));
    /* up and down, over a symlink whose parent is elsewhere */
    MUST(open("directory/../other/../nine", O_RDONLY)); MUST(open("far/../beside-far", O_RDONLY));
    MUST(open("./directory/.", O_RDONLY));
    /* a tmpfs, and what lies below it */
    MUST(close(open("/dev/shm/made", O_CREAT | O_WRONLY, 0644))); MUST(symlink(realpath("ten", to), "/dev/shm/link"));
    MUST(open("/dev/shm/link", O_RDONLY));
    return 0;
}

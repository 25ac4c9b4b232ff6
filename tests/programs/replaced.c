/* replaced: opens files of /data, then gives them another name or other content, or removes them; or the other way round. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define MUST(call) if ((call) < 0) { perror(#call); exit(1); }
int main(void) {
    MUST(chdir("/data"));
    MUST(open("renamed", O_RDONLY)); MUST(rename("renamed", "renamed-now")); MUST(open("renamed-now", O_RDONLY));
    MUST(open("deleted", O_RDONLY)); MUST(unlink("deleted"));
    MUST(open("directory/deleted", O_RDONLY)); MUST(unlink("directory/deleted")); MUST(rmdir("directory"));
    MUST(rename("moved", "moved-now")); MUST(open("moved-now", O_RDONLY));
    MUST(link("linked", "linked-now")); MUST(unlink("linked")); MUST(open("linked-now", O_RDONLY));
    int file;  /* as editors write configurations */
    MUST(open("replaced", O_RDONLY)); MUST(file = open("replaced.new", O_CREAT | O_WRONLY, 0600)); MUST(write(file, "new", 3));
    MUST(rename("replaced.new", "replaced")); MUST(open("replaced", O_RDONLY));
    MUST(open("truncated", O_RDWR | O_TRUNC));
    return 0;
}

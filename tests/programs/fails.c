/* fails HOW [MEGABYTES]: writes many lines, then megabytes, and ends as HOW says: fault, abort, killed, or its exit code. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **arguments) {
    static char block[1000000];
    for (int i = 0; i < 10000; i++) printf("line %d\n", i);
    memset(block, '.', sizeof block);
    for (int i = count > 2 ? atoi(arguments[2]) : 0; i > 0; i--) fwrite(block, sizeof block, 1, stdout);
    fflush(stdout);
    fprintf(stderr, "\nthe last words\n");
    if (!strcmp(arguments[1], "fault")) *(volatile int *)8 = 1;
    if (!strcmp(arguments[1], "abort")) abort();
    if (!strcmp(arguments[1], "killed")) kill(getpid(), SIGKILL);
    return atoi(arguments[1]);
}

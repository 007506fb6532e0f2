// SPDX-License-Identifier: Apache-2.0
// command.c - the command line in tests.
#include "cli/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

char test_folder[64];
const char *test_cli;
char printed[65536];

int make_folder(void **state) {
    (void)state;
    test_cli = getenv("EMLX_CLI");
    if (test_cli == NULL) test_cli = "build/emlx";
    snprintf(test_folder, sizeof test_folder, "/tmp/emlx-cli-test-XXXXXX");
    return mkdtemp(test_folder) == NULL;
}

int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", test_folder);
    return system(command);
}

const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    return path;
}

void run_command(int expected, const char *program, const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && '%s' 2>&1 %s", test_folder, program, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t size = fread(printed, 1, sizeof printed - 1, pipe);
    printed[size] = '\0';
    int status = pclose(pipe);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != expected)
        fail_msg("%s %s: status %d, %d expected: %s", program, arguments, status, expected,
                 printed);
}

void emlx(int expected, const char *arguments) { run_command(expected, test_cli, arguments); }

void assert_prints(const char *text) {
    if (strstr(printed, text) == NULL) fail_msg("'%s' lacks '%s'", printed, text);
}

void assert_line(const char *text) {
    assert_prints(text);
    if (strchr(printed, '\n') != printed + strlen(printed) - 1)
        fail_msg("'%s' is not one line", printed);
}

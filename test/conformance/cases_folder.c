// SPDX-License-Identifier: Apache-2.0
// cases_folder.c - unpacks the recorded cases of test/conformance into a folder of their own.
#include "conformance/cases_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char cases_folder[64];

int cases_unpack(void **state) {
    (void)state;
    char command[128];
    strcpy(cases_folder, "/tmp/emlx-cases-XXXXXX");
    if (mkdtemp(cases_folder) == NULL) return -1;
    snprintf(command, sizeof command, "scripts/conformance %s", cases_folder);
    return system(command);
}

int cases_remove(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", cases_folder);
    return system(command);
}

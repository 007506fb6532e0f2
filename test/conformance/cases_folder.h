// SPDX-License-Identifier: Apache-2.0
// cases_folder.h - the recorded cases, unpacked for a group of tests.
#ifndef EMLX_TEST_CASES_FOLDER_H
#define EMLX_TEST_CASES_FOLDER_H

// Valid between these two, which are set-up and teardown of a cmocka group. Tests run in the root
// of the repository.
extern char cases_folder[];
int cases_unpack(void **state);
int cases_remove(void **state);

#endif

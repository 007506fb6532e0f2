// SPDX-License-Identifier: Apache-2.0
// format.h - what the writer and the reader of program files share. docs/program-format.md is the
// description.
#ifndef EMLX_FILES_FORMAT_H
#define EMLX_FILES_FORMAT_H

#define FORMAT_VERSION 1

#endif

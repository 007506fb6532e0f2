// SPDX-License-Identifier: Apache-2.0
// zip.h - ZIP_LOW(n, x, y) and ZIP_HIGH(n, x, y): the elements of the lower and of the higher
// halves of two registers of n, each of x followed by that of y.
#ifndef EMLX_CPU_PRODUCT_ZIP_H
#define EMLX_CPU_PRODUCT_ZIP_H

#define ZIPPED_LOW_2 0, 2
#define ZIPPED_HIGH_2 1, 3
#define ZIPPED_LOW_4 0, 4, 1, 5
#define ZIPPED_HIGH_4 2, 6, 3, 7
#define ZIPPED_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define ZIPPED_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define ZIPPED_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIPPED_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define ZIP_(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#define ZIP_JOIN(a, n) a##n
#define ZIP_LOW(n, x, y) ZIP_(x, y, ZIP_JOIN(ZIPPED_LOW_, n))
#define ZIP_HIGH(n, x, y) ZIP_(x, y, ZIP_JOIN(ZIPPED_HIGH_, n))

#endif

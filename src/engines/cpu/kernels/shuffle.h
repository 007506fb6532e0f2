// SPDX-License-Identifier: Apache-2.0
// shuffle.h - elements of registers in another order, n being the elements of one:
// ZIP_LOW(n, x, y), ZIP_HIGH(n, x, y): the elements of the lower and of the higher halves of two,
// each of x followed by that of y.
// PICK_EVEN(n, x, y), PICK_ODD(n, x, y): every second element of two, those of x first.
// PICK_APART(n, x, y): the same of two that overlap: the first element of y is the last of x.
// REVERSE(n, x): from the last to the first.
#ifndef EMLX_CPU_KERNELS_SHUFFLE_H
#define EMLX_CPU_KERNELS_SHUFFLE_H

#define ZIPPED_LOW_2 0, 2
#define ZIPPED_HIGH_2 1, 3
#define ZIPPED_LOW_4 0, 4, 1, 5
#define ZIPPED_HIGH_4 2, 6, 3, 7
#define ZIPPED_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define ZIPPED_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define ZIPPED_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIPPED_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define PICKED_EVEN_2 0, 2
#define PICKED_ODD_2 1, 3
#define PICKED_EVEN_4 0, 2, 4, 6
#define PICKED_ODD_4 1, 3, 5, 7
#define PICKED_EVEN_8 PICKED_EVEN_4, 8, 10, 12, 14
#define PICKED_ODD_8 PICKED_ODD_4, 9, 11, 13, 15
#define PICKED_EVEN_16 PICKED_EVEN_8, 16, 18, 20, 22, 24, 26, 28, 30
#define PICKED_ODD_16 PICKED_ODD_8, 17, 19, 21, 23, 25, 27, 29, 31
#define PICKED_APART_2 0, 3
#define PICKED_APART_4 0, 2, 5, 7
#define PICKED_APART_8 0, 2, 4, 6, 9, 11, 13, 15
#define PICKED_APART_16 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#define REVERSED_2 1, 0
#define REVERSED_4 3, 2, REVERSED_2
#define REVERSED_8 7, 6, 5, 4, REVERSED_4
#define REVERSED_16 15, 14, 13, 12, 11, 10, 9, 8, REVERSED_8
#define SHUFFLE_(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#define SHUFFLE_JOIN(a, n) a##n
#define ZIP_LOW(n, x, y) SHUFFLE_(x, y, SHUFFLE_JOIN(ZIPPED_LOW_, n))
#define ZIP_HIGH(n, x, y) SHUFFLE_(x, y, SHUFFLE_JOIN(ZIPPED_HIGH_, n))
#define PICK_EVEN(n, x, y) SHUFFLE_(x, y, SHUFFLE_JOIN(PICKED_EVEN_, n))
#define PICK_ODD(n, x, y) SHUFFLE_(x, y, SHUFFLE_JOIN(PICKED_ODD_, n))
#define PICK_APART(n, x, y) SHUFFLE_(x, y, SHUFFLE_JOIN(PICKED_APART_, n))
#define REVERSE(n, x) SHUFFLE_(x, x, SHUFFLE_JOIN(REVERSED_, n))

#endif

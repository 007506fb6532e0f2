// SPDX-License-Identifier: Apache-2.0
// kernels.h - the CUDA sources of this folder, embedded as text by the Makefile.
#ifndef EMLX_CUDA_KERNELS_H
#define EMLX_CUDA_KERNELS_H

// XX(file, part): in the order in which a program needs them.
#define CUDA_SOURCE_MAP(XX)                                                                        \
    XX(core, PART_CORE)                                                                            \
    XX(short, PART_SHORT)                                                                          \
    XX(scalars, PART_SCALARS)                                                                      \
    XX(complex, PART_COMPLEX)                                                                      \
    XX(folds, PART_FOLDS)                                                                          \
    XX(sort, PART_SORT)                                                                            \
    XX(scan, PART_SCAN)                                                                            \
    XX(scatter, PART_SCATTER)                                                                      \
    XX(dot, PART_DOT)                                                                              \
    XX(linalg, PART_LINALG)                                                                        \
    XX(fft, PART_FFT)                                                                              \
    XX(radix, PART_RADIX)                                                                          \
    XX(copies, PART_COPIES)                                                                        \
    XX(attention, PART_ATTENTION)                                                                  \
    XX(packed, PART_PACKED)                                                                        \
    XX(factors, PART_FACTORS)                                                                      \
    XX(depthwise, PART_DEPTHWISE)                                                                  \
    XX(bytes, PART_BYTES)                                                                          \
    XX(panels, PART_PANELS)

#define XX(file, part) extern const char cuda_source_##file[];
CUDA_SOURCE_MAP(XX)
#undef XX

#endif

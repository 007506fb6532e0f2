// SPDX-License-Identifier: Apache-2.0
// dnn.h - cuDNN by its graphs: a convolution is described once, and its plan then run many times.
// Functions give the library's result, 0 for success, where they say no other.
#ifndef EMLX_CUDA_DNN_H
#define EMLX_CUDA_DNN_H

#include "emlx.h"
#include "engines/cuda/driver/driver.h"

typedef struct dnn_handle_st *dnn_handle;
typedef struct dnn_descriptor_st *dnn_descriptor;

enum { DNN_RANK_MOST = 5, DNN_SPATIAL_MOST = 3 };

// [batch, channels, spatial...] or, of a filter, [filters, channels of a group, spatial...], and
// the steps between elements. `alignment` of its first one, in bytes.
typedef struct dnn_tensor {
    int64_t dims[DNN_RANK_MOST], strides[DNN_RANK_MOST], alignment;
} dnn_tensor;

// What a convolution is made of.
enum { DNN_IMAGE, DNN_FILTER, DNN_RESULTS, DNN_TENSORS };
// Which of them is computed: the results, or as in its gradients one of the others.
typedef enum dnn_way { DNN_FORWARD, DNN_OF_IMAGE, DNN_OF_FILTER } dnn_way;

typedef struct dnn_convolution {
    dnn_way way;
    emlx_type type;
    bool tf32; // f32 may be rounded for tensor cores
    int rank;  // 4 or 5
    dnn_tensor tensors[DNN_TENSORS];
    int64_t strides[DNN_SPATIAL_MOST], dilations[DNN_SPATIAL_MOST];
    int64_t low[DNN_SPATIAL_MOST], high[DNN_SPATIAL_MOST]; // padding before and behind
} dnn_convolution;

// A way to compute one, with all that it refers to.
enum { DNN_MADE_MOST = 16 };
typedef struct dnn_plan {
    dnn_descriptor made[DNN_MADE_MOST];
    int count;
    dnn_descriptor plan;
    int64_t workspace; // bytes
    bool compiled;     // for this convolution, not one of those that come with the library
} dnn_plan;

// Whether there is the library; later calls give the same answer.
emlx_status dnn_open(emlx_error *err);
void dnn_describe(char *text, size_t size);
int dnn_create(dnn_handle *handle);
void dnn_destroy(dnn_handle handle);

bool dnn_knows(emlx_type type);
// The first of the library's plans by its own estimate that gives the same bits each time and
// rounds no operands beyond what is allowed: `plan` of it is NULL where there is none. Those that
// the library compiles are kept on disk, for devices of the same architecture.
void dnn_plan_make(dnn_handle handle, int architecture, const dnn_convolution *convolution,
                   dnn_plan *out);
// The same for a device that is not there, by the library's description of it.
void dnn_plan_rehearse(const char *device, const dnn_convolution *convolution, dnn_plan *out);
void dnn_plan_clear(dnn_plan *plan);
// Queues it, with the addresses of the three.
int dnn_plan_run(dnn_handle handle, cuda_stream stream, const dnn_plan *plan,
                 const cuda_address at[DNN_TENSORS], cuda_address workspace);

#endif

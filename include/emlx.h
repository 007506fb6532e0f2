// SPDX-License-Identifier: Apache-2.0
// emlx.h - the public interface of libemlx: tensors, the op table, programs.
//
// Conventions, true of every function unless its comment says otherwise:
// - A function that can fail returns an emlx_status (0 is success) and takes an emlx_error last,
//   which may be NULL. Outputs are written only on success.
// - Pointers must not be NULL, but for those to no items (of a count of 0): a function that can
// fail
//   then does so with EMLX_INVALID, another one gives nothing (0, NULL, false, "?").
// - Arguments are borrowed. An out-parameter gives the caller one reference, which the matching
//   `_release` ends, and `_retain` makes one more. Releasing or retaining NULL does nothing. Using
//   what has been released or taken over is undefined, as is releasing twice.
// - All functions may be called from any thread. Devices, tensors, functions, programs and archives
//   are immutable and may be shared between threads; a block and a waiting run belong to one thread
//   at a time.
// - What the library does not have at the moment it waits for, but where a comment says otherwise.
// - Any function that can fail may fail with EMLX_OUT_OF_MEMORY; the comments give the other codes.
// - No child process, no signal handler. A child made by fork() may not use the library before it
//   calls exec(): threads do not come along.
#ifndef EMLX_H
#define EMLX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define EMLX_API
#else
#define EMLX_API __attribute__((visibility("default")))
#endif

#define EMLX_VERSION "0.1.0"

// Highest number of axes of a tensor.
#define EMLX_MAX_RANK 16
// Highest number of results of an op.
#define EMLX_MAX_RESULTS 3

// Status codes --------------------------------------------------------------------------------

// XX(NAME, text)
#define EMLX_STATUS_MAP(XX)                                                                        \
    XX(OK, "success")                                                                              \
    XX(INVALID, "invalid argument")                                                                \
    XX(UNSUPPORTED, "not supported")                                                               \
    XX(OUT_OF_MEMORY, "out of memory")                                                             \
    XX(OUT_OF_BOUNDS, "index out of bounds")                                                       \
    XX(ARITHMETIC, "bad argument in arithmetic")                                                   \
    XX(SINGULAR, "can't solve for singular matrix")                                                \
    XX(IO, "input or output failed")                                                               \
    XX(FORMAT, "malformed file")                                                                   \
    XX(CANCELLED, "cancelled")                                                                     \
    XX(LOST, "the device has failed")                                                              \
    XX(INTERNAL, "internal error")

typedef enum emlx_status {
#define XX(name, text) EMLX_##name,
    EMLX_STATUS_MAP(XX)
#undef XX
} emlx_status;

// What is wrong with the numbers that an op was given, where they are what it fails for.
// XX(name, NAME)
#define EMLX_FAULT_MAP(XX)                                                                         \
    XX(none, NONE)           /* it fails for something else */                                     \
    XX(index, INDEX)         /* outside of the array */                                            \
    XX(division, DIVISION)   /* of an integer by zero */                                           \
    XX(shift, SHIFT)         /* by a negative number */                                            \
    XX(complex, COMPLEX)     /* where a real number is wanted */                                   \
    XX(singular, SINGULAR)   /* a matrix */                                                        \
    XX(iteration, ITERATION) /* it did not converge */

typedef enum emlx_fault {
#define XX(name, NAME) EMLX_FAULT_##NAME,
    EMLX_FAULT_MAP(XX)
#undef XX
} emlx_fault;

// A failure's code and one line of text, which names the op, the values received and what would
// have been accepted. A fixed buffer, so that running out of memory can be reported as well. With a
// fault, what is wrong is said from message[cause] on, behind the names of where it happened.
typedef struct emlx_error {
    emlx_status code;
    char message[488];
    emlx_fault fault;
    uint32_t cause;
} emlx_error;

// The general text of a code, valid forever; never NULL.
EMLX_API const char *emlx_status_text(emlx_status status);

// The version of the library that is loaded, which may differ from EMLX_VERSION of the header.
EMLX_API const char *emlx_version(void);

// Lets threads that the library starts from now on give way to others of the process: their nice
// value is higher by `steps`, 0 to 19, where the system has one for each thread (Linux). For hosts
// whose own threads must not wait for computation; to be called before the first device is opened.
// The environment variable EMLX_NICE overrides it.
EMLX_API void emlx_threads_yield(int steps);

// Types and shapes ----------------------------------------------------------------------------

// XX(name, NAME, bits, class): every element type of Nx. Sub-byte elements take one byte each in
// memory. There is no boolean type: predicates are u8 holding 0 or 1.
#define EMLX_TYPE_MAP(XX)                                                                          \
    XX(u2, U2, 2, UNSIGNED)                                                                        \
    XX(u4, U4, 4, UNSIGNED)                                                                        \
    XX(u8, U8, 8, UNSIGNED)                                                                        \
    XX(u16, U16, 16, UNSIGNED)                                                                     \
    XX(u32, U32, 32, UNSIGNED)                                                                     \
    XX(u64, U64, 64, UNSIGNED)                                                                     \
    XX(s2, S2, 2, SIGNED)                                                                          \
    XX(s4, S4, 4, SIGNED)                                                                          \
    XX(s8, S8, 8, SIGNED)                                                                          \
    XX(s16, S16, 16, SIGNED)                                                                       \
    XX(s32, S32, 32, SIGNED)                                                                       \
    XX(s64, S64, 64, SIGNED)                                                                       \
    XX(f8, F8, 8, FLOAT)                                                                           \
    XX(f8_e4m3fn, F8_E4M3FN, 8, FLOAT)                                                             \
    XX(bf16, BF16, 16, FLOAT)                                                                      \
    XX(f16, F16, 16, FLOAT)                                                                        \
    XX(f32, F32, 32, FLOAT)                                                                        \
    XX(f64, F64, 64, FLOAT)                                                                        \
    XX(c64, C64, 64, COMPLEX)                                                                      \
    XX(c128, C128, 128, COMPLEX)

typedef enum emlx_type {
#define XX(name, NAME, bits, class) EMLX_##NAME,
    EMLX_TYPE_MAP(XX)
#undef XX
        EMLX_TYPE_COUNT,
    // Asks an op for the type that Nx gives its result.
    EMLX_TYPE_DEFAULT = EMLX_TYPE_COUNT
} emlx_type;

// "f32" and so on; "?" for a value that is no type.
EMLX_API const char *emlx_type_name(emlx_type type);
// The type of that name. Fails with EMLX_INVALID when there is none.
EMLX_API emlx_status emlx_type_parse(const char *name, emlx_type *type, emlx_error *err);
// Bits of an element as Nx counts them (2 for u2), and bytes it takes in memory (1 for u2); 0 for a
// value that is no type.
EMLX_API size_t emlx_type_bits(emlx_type type);
EMLX_API size_t emlx_type_size(emlx_type type);

// Axis lengths, outermost first. Elements are stored densely in row-major order.
typedef struct emlx_shape {
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK];
} emlx_shape;

// Makes a shape. Fails with EMLX_INVALID on a negative length, more than EMLX_MAX_RANK axes, or
// when the number of elements times 16 bytes does not fit in 63 bits.
EMLX_API emlx_status emlx_shape_make(const int64_t *dims, size_t rank, emlx_shape *shape,
                                     emlx_error *err);
// Number of elements of a shape made as above: 1 for rank 0.
EMLX_API int64_t emlx_shape_count(const emlx_shape *shape);

// One number of any class, as the value of a constant.
typedef enum emlx_number_kind {
    EMLX_NUMBER_SIGNED,
    EMLX_NUMBER_UNSIGNED,
    EMLX_NUMBER_REAL,
    EMLX_NUMBER_COMPLEX
} emlx_number_kind;

typedef struct emlx_number {
    emlx_number_kind kind;
    union {
        int64_t s;
        uint64_t u;
        double f[2]; // real and imaginary part
    } as;
} emlx_number;

// Devices -------------------------------------------------------------------------------------

// A device runs plans and owns the memory of the tensors placed on it.
typedef struct emlx_device emlx_device;

// Opens a device by name: "cpu", "cuda:1"; of an engine with several devices "cuda" is the first.
// Opening it again gives the same device; it is open until as many releases. Its tensors, blocks,
// functions, programs, queues and runs must be released before the last one, which waits for the
// device's threads to end. Fails with EMLX_UNSUPPORTED for one that this build or machine has not
// got, naming those it has.
EMLX_API emlx_status emlx_device_open(const char *name, emlx_device **device, emlx_error *err);
// Returns the device, which is open for one more release.
EMLX_API emlx_device *emlx_device_retain(emlx_device *device);
EMLX_API void emlx_device_release(emlx_device *device);
// Valid forever.
EMLX_API const char *emlx_device_name(const emlx_device *device);
// One line on what the device is and how it computes: kernel level, threads, libraries. It is cut
// to `size` bytes, its final zero included.
EMLX_API void emlx_device_describe(const emlx_device *device, char *text, size_t size);
// Opens a device anew, while everybody keeps it. A kernel that faults leaves a GPU in a state in
// which all calls fail with EMLX_LOST, those that wait and those that come, until this is called.
// What its tensors held is lost: using one that was there before fails with EMLX_LOST, computing
// one anew from data that is given again does not. Waits for calls that are at the device. Devices
// that cannot fail so are left as they are. Where a driver gives the process no access any more, as
// NVIDIA's may after a fault, this fails with EMLX_LOST, and other devices are all that is left.
EMLX_API emlx_status emlx_device_reset(emlx_device *device, emlx_error *err);
// Names of the devices that can be opened here, valid forever; NULL past the last.
EMLX_API const char *emlx_device_available(size_t index);
// Names of the engines that have no device here, valid forever, with one sentence in `why` on what
// is missing, cut to `size` bytes; NULL past the last.
EMLX_API const char *emlx_engine_missing(size_t index, char *why, size_t size);

// Whether the host can read the device's memory, so that emlx_tensor_data gives its tensors' data.
EMLX_API bool emlx_device_host_memory(const emlx_device *device);
// What a device's engine cannot compute the host does in its place, between two pieces of its work.
// How many nodes of each op that were so far; false past the last. The name is valid forever.
EMLX_API bool emlx_device_handover(const emlx_device *device, size_t index, const char **op,
                                   uint64_t *count);
// Whether that is an error instead: EMLX_UNSUPPORTED, naming op and type. At first it is not.
EMLX_API void emlx_refuse_handovers(bool refuse);

// Records what a device does as a frame capture of Metal's, into a file that should end in
// .gputrace, until it is stopped. Waits for work that was queued before. Fails with
// EMLX_UNSUPPORTED on a device that is not Metal's, and with EMLX_INTERNAL and what MLX says where
// Metal refuses, as it does unless MTL_CAPTURE_ENABLED=1 was in the environment when the process
// started.
EMLX_API emlx_status emlx_device_capture_start(emlx_device *device, const char *path,
                                               emlx_error *err);
EMLX_API emlx_status emlx_device_capture_stop(emlx_device *device, emlx_error *err);

// Events ----------------------------------------------------------------------------------------

// What the library tells whoever wants to know:
typedef enum emlx_event_kind {
    EMLX_EVENT_COMPILED,    // a computation was planned: `count` kernels, or nodes
    EMLX_EVENT_EVALUATED,   // `count` results of an evaluation or a program were computed or, where
                            // the device works on by itself, queued
    EMLX_EVENT_HANDED_OVER, // the host computed `count` nodes of `op` in place of the device
    EMLX_EVENT_MEMORY, // tensors have come to hold `bytes`, an eighth and 64 MB more than any time
                       // before; or `refused` bytes more were too many
    EMLX_EVENT_EVICTED // `count` plans were dropped, as more are kept already than may be
} emlx_event_kind;

typedef struct emlx_event {
    size_t size; // of this structure, as the library knows it
    emlx_event_kind kind;
    const char *device; // its name, or NULL; like `op` only valid during the call
    const char *op;     // or NULL
    uint64_t count, bytes, refused;
    uint64_t nanoseconds; // that it took, where that is known, else 0
} emlx_event;

// Called on the thread on which it happens, by several threads at a time. It must be quick, must
// not wait, and must not call the library.
typedef void (*emlx_observer)(void *context, const emlx_event *event);
// In place of the observer before, which is not called any more once this returns. NULL: nobody.
// May not be called by an observer.
EMLX_API void emlx_observe(emlx_observer observer, void *context);

// Memory ----------------------------------------------------------------------------------------

// Bytes of host memory held by tensors, as they are rounded up, and by large structures and scratch
// memory of work that is going on; the highest that was ever; bytes kept for reuse; and the limit
// on what is held and kept together (0: none). All of it is of the whole process.
typedef struct emlx_memory {
    uint64_t active;
    uint64_t peak;
    uint64_t cached;
    uint64_t limit;
} emlx_memory;

EMLX_API void emlx_memory_info(emlx_memory *info);
// Returns the previous limit. An allocation past the limit fails with EMLX_OUT_OF_MEMORY.
EMLX_API uint64_t emlx_memory_set_limit(uint64_t bytes);
// Upper bound of the bytes kept for reuse; returns the previous bound.
EMLX_API uint64_t emlx_memory_set_cache_limit(uint64_t bytes);
// Gives what is kept for reuse back to the system.
EMLX_API void emlx_memory_clear_cache(void);
// The peak becomes what is held now.
EMLX_API void emlx_memory_reset_peak(void);
// Bytes held in host memory and in that of all devices that are open. Does not wait: of devices
// that are just being opened or closed it may not know.
EMLX_API uint64_t emlx_memory_held(void);
// As the functions above of the memory of a device. One whose tensors lie in host memory, and NULL,
// have that of the process.
EMLX_API void emlx_device_memory_info(const emlx_device *device, emlx_memory *info);
EMLX_API uint64_t emlx_device_memory_set_limit(emlx_device *device, uint64_t bytes);
EMLX_API uint64_t emlx_device_memory_set_cache_limit(emlx_device *device, uint64_t bytes);
EMLX_API void emlx_device_memory_clear_cache(emlx_device *device);
EMLX_API void emlx_device_memory_reset_peak(emlx_device *device);

// Tensors -------------------------------------------------------------------------------------

// An immutable array: type, shape, device, and either its data or the pending computation of it.
typedef struct emlx_tensor emlx_tensor;

// Copies `size` bytes of dense row-major data, which must be exactly the shape's; `data` may be
// NULL when that is none. Elements of 2 and 4 bits must be in their range, which is not checked.
// Fails with EMLX_INVALID.
EMLX_API emlx_status emlx_tensor_from_data(emlx_device *device, emlx_type type,
                                           const emlx_shape *shape, const void *data, size_t size,
                                           emlx_tensor **out, emlx_error *err);
// As above, without a copy where the device can read that memory and it is aligned to its
// element: then `release(context)` is called when the last use ends, on any thread, and the data
// must not change before. In every other case, failure included, it is called before this returns.
EMLX_API emlx_status emlx_tensor_from_memory(emlx_device *device, emlx_type type,
                                             const emlx_shape *shape, const void *data, size_t size,
                                             void (*release)(void *context), void *context,
                                             emlx_tensor **out, emlx_error *err);

// Memory of a device that the host does not read, by address: for other libraries in this process,
// and by handles for other processes. Devices without it fail with EMLX_UNSUPPORTED.
//
// Where the tensor's data is: it is computed, and written when this returns, and stays there while
// the tensor is held and nobody changes it.
EMLX_API emlx_status emlx_tensor_address(emlx_tensor *tensor, uint64_t *address, emlx_error *err);
// A tensor over dense data at an address of the device, which has to be written. It is read there,
// and must neither change nor go away before what is computed from the tensor has been read.
EMLX_API emlx_status emlx_tensor_from_address(emlx_device *device, emlx_type type,
                                              const emlx_shape *shape, uint64_t address,
                                              emlx_tensor **out, emlx_error *err);
// A handle by which another process opens the tensor's data: at most EMLX_HANDLE_MAX bytes, of
// which *size tells the number. On CUDA the driver's handle of 64 bytes, and behind it the offset,
// as 8 bytes of the machine's order, where it is not 0. The tensor has to be held for as long as
// others use it.
#define EMLX_HANDLE_MAX 128
EMLX_API emlx_status emlx_tensor_export(emlx_tensor *tensor, void *handle, size_t *size,
                                        emlx_error *err);
// A tensor over what another process has exported; it must not change. Fails in the process that
// exported it.
EMLX_API emlx_status emlx_tensor_import(emlx_device *device, emlx_type type,
                                        const emlx_shape *shape, const void *handle, size_t size,
                                        emlx_tensor **out, emlx_error *err);

// Returns the tensor.
EMLX_API emlx_tensor *emlx_tensor_retain(emlx_tensor *tensor);
EMLX_API void emlx_tensor_release(emlx_tensor *tensor);
EMLX_API emlx_type emlx_tensor_type(const emlx_tensor *tensor);
// Shape and device are valid while the tensor is held.
EMLX_API const emlx_shape *emlx_tensor_shape(const emlx_tensor *tensor);
EMLX_API emlx_device *emlx_tensor_device(const emlx_tensor *tensor);
// Bytes of its dense data.
EMLX_API size_t emlx_tensor_bytes(const emlx_tensor *tensor);
// The same tensor on another device: computed, and copied there, from device to device where one
// engine has both; without a copy where the other one can use the memory as it is. Waits for that.
// On its own device that is one more reference on the tensor, computed or not. Fails as emlx_eval
// does.
EMLX_API emlx_status emlx_tensor_copy(emlx_tensor *tensor, emlx_device *device, emlx_tensor **out,
                                      emlx_error *err);
// Whether the data is there, so that reading it does not wait.
EMLX_API bool emlx_tensor_ready(const emlx_tensor *tensor);
// Number of pending computations on the longest path below: 0 when ready or being computed.
EMLX_API uint32_t emlx_tensor_depth(const emlx_tensor *tensor);
// Bytes of data that a pending computation keeps alive, as they were when the tensor was made; what
// is reached in several ways counts each time. 0 when ready.
EMLX_API size_t emlx_tensor_pinned(const emlx_tensor *tensor);

// Computes tensors of one device together and waits for them. On failure they stay as they were and
// may be evaluated again; the error names the op that caused it. Fails with EMLX_INVALID when they
// are on several devices, and with EMLX_OUT_OF_BOUNDS, EMLX_ARITHMETIC or EMLX_SINGULAR where the
// elements of an operand are wrong.
EMLX_API emlx_status emlx_eval(emlx_tensor *const *tensors, size_t count, emlx_error *err);
// A flag that ends work early with EMLX_CANCELLED. Zeroed at first; raised at any time, on any
// thread. Work looks at it between kernels, in long ones as well, and in loops at each turn.
typedef struct emlx_cancel {
    int raised;
} emlx_cancel;
// May be called at any time from any thread, also while work that has the flag is going on.
EMLX_API void emlx_cancel_raise(emlx_cancel *cancel);

// Work given to one queue is done in that order, one piece after another.
typedef struct emlx_queue emlx_queue;
EMLX_API emlx_status emlx_queue_new(emlx_device *device, emlx_queue **out, emlx_error *err);
// NULL for NULL.
EMLX_API emlx_device *emlx_queue_device(const emlx_queue *queue);
// Work in the queue is still done.
EMLX_API void emlx_queue_release(emlx_queue *queue);
// Calls `done(context)` when all that was given to the queue before is done. If it fails, `done` is
// never called.
EMLX_API emlx_status emlx_queue_sync(emlx_queue *queue, void (*done)(void *context), void *context,
                                     emlx_error *err);

// As emlx_eval, but only where it surely takes some microseconds; *done says whether it was.
EMLX_API emlx_status emlx_eval_brief(emlx_tensor *const *tensors, size_t count, bool *done,
                                     emlx_error *err);

// How work is done in the background. All fields may be NULL, and so may a pointer to this.
typedef struct emlx_work {
    emlx_cancel *cancel; // stays valid until the work's end has been reported
    emlx_queue *queue;   // of the same device; without one, work is done side by side
    bool here; // done within the call, on its thread: for brief runs, on which see emlx_run_brief
    const bool *given; // of emlx_program_start: as that of emlx_program_run_given; copied
} emlx_work;

// Called once, on one of the library's threads; `err` is valid during the call only.
typedef void (*emlx_done)(void *context, emlx_status status, const emlx_error *err);
// Queues the same work and returns; it holds the tensors until then. If this fails, with
// EMLX_INVALID for no tensors at all, `done` (may be NULL) is never called.
EMLX_API emlx_status emlx_eval_async(emlx_tensor *const *tensors, size_t count,
                                     const emlx_work *work, emlx_done done, void *context,
                                     emlx_error *err);
// Evaluates, waits, and copies `size` bytes from byte `offset` of the dense data. Fails with
// EMLX_INVALID past its end, and as emlx_eval does.
EMLX_API emlx_status emlx_tensor_read(emlx_tensor *tensor, size_t offset, void *data, size_t size,
                                      emlx_error *err);
// Evaluates, waits, and gives the address of the data, which may be read while the tensor is held.
// Fails with EMLX_UNSUPPORTED on a device whose memory the host cannot read, and as emlx_eval does.
EMLX_API emlx_status emlx_tensor_data(emlx_tensor *tensor, const void **data, emlx_error *err);

// The op table --------------------------------------------------------------------------------

// A row of the table, valid forever.
typedef struct emlx_op emlx_op;

typedef enum emlx_attr_kind {
    EMLX_ATTR_INT,    // value.s
    EMLX_ATTR_INTS,   // a list of integers
    EMLX_ATTR_BOOL,   // value.s is 0 or 1
    EMLX_ATTR_NUMBER, // value
    EMLX_ATTR_TEXT,   // one of a few names
    EMLX_ATTR_FUNCTION
} emlx_attr_kind;

typedef struct emlx_function emlx_function;

// A named attribute of an op call. Only the fields of its kind are read.
typedef struct emlx_attr {
    const char *name;
    emlx_attr_kind kind;
    emlx_number value;
    const int64_t *ints;
    size_t count;
    const char *text;
    emlx_function *function;
} emlx_attr;

// The ops in the table's order; NULL past the last.
EMLX_API const emlx_op *emlx_op_at(size_t index);
// NULL when there is no such op.
EMLX_API const emlx_op *emlx_op_find(const char *name);
// Nx's name, valid forever.
EMLX_API const char *emlx_op_name(const emlx_op *op);
// Fewest and most operands; `most` is SIZE_MAX for any number.
EMLX_API void emlx_op_operands(const emlx_op *op, size_t *fewest, size_t *most);
// How many results the op has: 1 for nearly all of them.
EMLX_API size_t emlx_op_results(const emlx_op *op);
// The op's attributes in order; false past the last.
EMLX_API bool emlx_op_attr(const emlx_op *op, size_t index, const char **name, emlx_attr_kind *kind,
                           bool *required);

// Applies an op to tensors: checks them and appends to the graph, computing nothing.
// `device` is used when there are no operands; otherwise it may be NULL, and all must live on one
// device. `type` is the result's type or EMLX_TYPE_DEFAULT, which it must be for an op of several
// results; `out` has room for all of them. What operands, attributes and results are is what Nx's
// function of that name says. Fails with EMLX_INVALID when there is no op (NULL), an operand is
// missing (NULL), or anything does not fit; with EMLX_UNSUPPORTED for what is not done yet; and
// with EMLX_OUT_OF_BOUNDS or EMLX_ARITHMETIC where an operand is known already and its elements are
// wrong.
EMLX_API emlx_status emlx_apply(const emlx_op *op, emlx_device *device,
                                emlx_tensor *const *operands, size_t operand_count,
                                const emlx_attr *attrs, size_t attr_count, emlx_type type,
                                emlx_tensor **out, emlx_error *err);

// Programs ------------------------------------------------------------------------------------

// A block is a program under construction: inputs, op calls in order, control flow, outputs. Its
// values are numbered from 0 in the order they are made. A block sees its own values only;
// the blocks of `cond` and `while` get what they need as inputs. Building fails with EMLX_INVALID
// where something does not fit, or the block is part of another one; the block is then as it was.
typedef struct emlx_block emlx_block;

// An input or an output.
typedef struct emlx_port {
    const char *name;
    emlx_type type;
    emlx_shape shape;
} emlx_port;

EMLX_API emlx_status emlx_block_new(emlx_block **out, emlx_error *err);
EMLX_API void emlx_block_release(emlx_block *block);
// `name` has 1 to 255 bytes of UTF-8 without control characters, is no other input's, and is not
// another one's position. It may be NULL: then the input is called by its position.
EMLX_API emlx_status emlx_block_input(emlx_block *block, const char *name, emlx_type type,
                                      const emlx_shape *shape, uint32_t *value, emlx_error *err);
// A value known now; the tensor is evaluated when the program is compiled.
EMLX_API emlx_status emlx_block_tensor(emlx_block *block, emlx_tensor *tensor, uint32_t *value,
                                       emlx_error *err);
// The op's results become the values from `*value` on.
EMLX_API emlx_status emlx_block_apply(emlx_block *block, const emlx_op *op,
                                      const uint32_t *operands, size_t operand_count,
                                      const emlx_attr *attrs, size_t attr_count, emlx_type type,
                                      uint32_t *value, emlx_error *err);
// Runs the first branch whose predicate (a scalar of any type) is not zero, else the last.
// `branch_count` is `predicate_count` + 1. A predicate is the only output of its block, which runs
// when it is reached. Every block takes all `operands` as its inputs; all branches have the same
// outputs, which become the values from `*first` on. Takes the blocks over on success.
EMLX_API emlx_status emlx_block_cond(emlx_block *block, emlx_block *const *predicates,
                                     size_t predicate_count, emlx_block *const *branches,
                                     size_t branch_count, const uint32_t *operands,
                                     size_t operand_count, uint32_t *first, emlx_error *err);
// Repeats `body` while `condition` gives a scalar that is not zero. Both take the state; `body`
// gives the next one, of the same types and shapes. The last state becomes the values from
// `*first` on. Takes the blocks over on success.
EMLX_API emlx_status emlx_block_while(emlx_block *block, emlx_block *condition, emlx_block *body,
                                      const uint32_t *state, size_t state_count, uint32_t *first,
                                      emlx_error *err);
// Stops a run there for its host: it gets the values of `operands` and gives results of these types
// and shapes (the ports' names mean nothing), which become the values from `*first` on. `number`
// tells it which call that is. Calls are made in the order they were added, whether or not anything
// depends on them. See emlx_program_start.
EMLX_API emlx_status emlx_block_call(emlx_block *block, uint32_t number, const uint32_t *operands,
                                     size_t operand_count, const emlx_port *results,
                                     size_t result_count, uint32_t *first, emlx_error *err);
// A value may be several outputs. Names are as for inputs.
EMLX_API emlx_status emlx_block_output(emlx_block *block, const char *name, uint32_t value,
                                       emlx_error *err);
// A function, as ops like `reduce` take one, from a block with one output (else EMLX_INVALID).
// Takes the block over, on failure too.
EMLX_API emlx_status emlx_function_new(emlx_block *block, emlx_function **out, emlx_error *err);
EMLX_API emlx_function *emlx_function_retain(emlx_function *function);
EMLX_API void emlx_function_release(emlx_function *function);
// Type (`type` may be NULL) and shape of a value, the latter valid while the block is; NULL when
// there is no such value.
EMLX_API const emlx_shape *emlx_block_shape(const emlx_block *block, uint32_t value,
                                            emlx_type *type);

typedef struct emlx_program emlx_program;

// Plans a block for a device. Takes the block over, on failure too, but for one that is part of
// another: that fails with EMLX_INVALID.
EMLX_API emlx_status emlx_program_compile(emlx_block *block, emlx_device *device,
                                          emlx_program **out, emlx_error *err);
EMLX_API emlx_program *emlx_program_retain(emlx_program *program);
EMLX_API void emlx_program_release(emlx_program *program);

EMLX_API size_t emlx_program_input_count(const emlx_program *program);
EMLX_API size_t emlx_program_output_count(const emlx_program *program);
// Valid while the program is held; NULL past the last.
EMLX_API const emlx_port *emlx_program_input(const emlx_program *program, size_t index);
EMLX_API const emlx_port *emlx_program_output(const emlx_program *program, size_t index);
// Kernels in all plans of the program, and the ops it was made of.
EMLX_API size_t emlx_program_kernel_count(const emlx_program *program);
EMLX_API size_t emlx_program_op_count(const emlx_program *program);

// Runs a program and waits. `inputs` are matched by position and must have the inputs' types and
// shapes (else EMLX_INVALID, naming the input); pending ones are computed first. Fills `outputs`,
// each a reference of the caller's; `output_count` must be the program's. A program may be run by
// several threads at once. Fails with EMLX_UNSUPPORTED for a program with calls, and as emlx_eval
// does.
EMLX_API emlx_status emlx_program_run(emlx_program *program, emlx_tensor *const *inputs,
                                      size_t input_count, emlx_tensor **outputs,
                                      size_t output_count, emlx_error *err);
// The same, and takes over the caller's references on those inputs for which `given` (NULL: none),
// an array as long as `inputs`, is true: also where it fails, but for NULL arguments. Where nobody
// else holds such a tensor the run may write results over its data, as a step does that changes a
// few rows of a large state; else it is copied as ever. So a caller that hands a step's results
// over to the next one needs memory for one state, and no time to copy it.
EMLX_API emlx_status emlx_program_run_given(emlx_program *program, emlx_tensor *const *inputs,
                                            const bool *given, size_t input_count,
                                            emlx_tensor **outputs, size_t output_count,
                                            emlx_error *err);
// A run that waits for the results of a call. It holds no thread.
typedef struct emlx_run emlx_run;

// Where a run has stopped. The tensors are the callee's references, in an array that is valid
// during the callback only, as is `err`.
typedef struct emlx_stop {
    emlx_status status;    // other than EMLX_OK: the run has failed
    emlx_run *run;         // at a call: the callee's; NULL at the end
    uint32_t call;         // its number
    emlx_tensor **tensors; // operands of the call, or outputs of the program
    size_t count;
    const emlx_error *err;
} emlx_stop;
// Called on one of the library's threads, or with emlx_work.here on the caller's.
typedef void (*emlx_stopped)(void *context, const emlx_stop *stop);

// Queues a run and returns; `stopped` is called once, when it comes to a call or ends. If this
// fails, as emlx_program_run does for wrong inputs, it is never called.
EMLX_API emlx_status emlx_program_start(emlx_program *program, emlx_tensor *const *inputs,
                                        size_t input_count, const emlx_work *work,
                                        emlx_stopped stopped, void *context, emlx_error *err);
// Gives a run the results of the call where it stopped, of the types and shapes that the call was
// made with (else EMLX_INVALID), and queues the rest of it. On success the run is taken over, and
// `stopped` is called once more; on failure the run still waits.
EMLX_API emlx_status emlx_run_resume(emlx_run *run, emlx_tensor *const *results,
                                     size_t result_count, const emlx_work *work,
                                     emlx_stopped stopped, void *context, emlx_error *err);
// Whether a run, or the rest of one, surely takes some microseconds only, so that handing it to
// another thread would take longer than itself. Computes inputs that are pending, where that is
// brief.
EMLX_API bool emlx_program_brief(const emlx_program *program, emlx_tensor *const *inputs,
                                 size_t input_count);
EMLX_API bool emlx_run_brief(const emlx_run *run, emlx_tensor *const *results, size_t result_count);
// Gives up a run that waits.
EMLX_API void emlx_run_release(emlx_run *run);

// Writes a block as a program file (docs/program-format.md). The block is unchanged. A file that is
// there is replaced once all is written, and keeps its mode and owner. A device, a pipe, what a
// link leads to, a file with other names, and one that cannot be replaced are written to in place.
// Fails with EMLX_IO, and with EMLX_UNSUPPORTED for a block with calls to the host.
EMLX_API emlx_status emlx_block_save(const emlx_block *block, const char *path, emlx_error *err);
// Reads a program file into a block, or straight into a compiled program. Every part of the file
// is checked; a wrong one fails with EMLX_FORMAT, naming it, and what cannot be read with EMLX_IO.
EMLX_API emlx_status emlx_block_load(const char *path, emlx_device *device, emlx_block **out,
                                     emlx_error *err);
EMLX_API emlx_status emlx_program_load(const char *path, emlx_device *device, emlx_program **out,
                                       emlx_error *err);

// Archives ------------------------------------------------------------------------------------

// Named arrays, and texts about them: a safetensors file (a program file is one as well), the index
// of several (model.safetensors.index.json, which names files beside it), or a GGUF file of version
// 2 or 3.
typedef struct emlx_archive emlx_archive;

// One array as it is stored. All of it is valid while the archive is held.
typedef struct emlx_entry {
    const char *name;
    const char *format;  // what the file calls its elements: "BF16", "Q4_K"
    emlx_type type;      // of the tensor that it becomes; EMLX_TYPE_COUNT where there is none
    emlx_shape shape;    // of its values; of rank -1 where they have more axes than a tensor
    size_t block_values; // how many values are packed together along the last axis, mostly 1, and
    size_t block_bytes;  // the bytes that they take; 0 and 0 for a format that is not known
    uint64_t bytes;      // of all of it
} emlx_entry;

// Checks every part of the file's header; a wrong one fails with EMLX_FORMAT, and what cannot be
// read with EMLX_IO. Large data is not read but mapped into memory: opening a file of any size
// takes little time, and its pages are those of the system's cache, read when they are used. A file
// that is mapped should be replaced (by a rename), never written to in its place. When it has
// become shorter, work with its tensors fails with EMLX_IO; cutting it while such work goes on ends
// the process.
EMLX_API emlx_status emlx_archive_open(const char *path, emlx_archive **out, emlx_error *err);
EMLX_API void emlx_archive_release(emlx_archive *archive);
// What the file is: "safetensors" or "GGUF".
EMLX_API const char *emlx_archive_format(const emlx_archive *archive);
// The arrays in the order of their names; NULL past the last.
EMLX_API const emlx_entry *emlx_archive_entry(const emlx_archive *archive, size_t index);
// The key of a text among the metadata, and the text of that key, both valid while the archive is
// held; NULL without one. Numbers of a GGUF file are texts as well; its lists are left out.
EMLX_API const char *emlx_archive_key(const emlx_archive *archive, size_t index);
EMLX_API const char *emlx_archive_text(const emlx_archive *archive, const char *key);
// An array as a tensor of `type`, which must be stored as docs/program-format.md says, or with
// EMLX_TYPE_DEFAULT as what its entry says: packed blocks become u8, with the bytes of a row along
// the last axis. Without a copy where the device reads the host's memory and the data is aligned to
// its element. The tensor may outlive the archive. Fails with EMLX_FORMAT when there is no such
// array or it is stored as another type.
EMLX_API emlx_status emlx_archive_tensor(const emlx_archive *archive, const char *name,
                                         emlx_type type, emlx_device *device, emlx_tensor **out,
                                         emlx_error *err);

// Array files ---------------------------------------------------------------------------------

// Reads and writes NumPy's .npy format: versions 1 to 3, both byte orders and both orders of axes
// are read. Types NumPy lacks are written as docs/program-format.md says. Saving evaluates the
// tensor, and treats what is at the path as emlx_block_save does. Fails with EMLX_IO, EMLX_FORMAT
// for a wrong file, EMLX_UNSUPPORTED for elements that no type here can hold, and as emlx_eval
// does.
EMLX_API emlx_status emlx_npy_load(const char *path, emlx_device *device, emlx_tensor **out,
                                   emlx_error *err);
EMLX_API emlx_status emlx_npy_save(const char *path, emlx_tensor *tensor, emlx_error *err);

#ifdef __cplusplus
}
#endif

#endif

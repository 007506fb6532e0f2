// SPDX-License-Identifier: Apache-2.0
// file_test.c - program files: what is saved comes back, and no wrong file does harm.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/files.h"
#include "memory/memory.h"
#include "program/programs.h"

static const float literal_data[3] = {10, 20, 30};
static const float x_data[6] = {1, 2, -3, 4, 1, -2};

static uint8_t *saved_bytes(size_t *size) {
    uint8_t *data = malloc(1 << 20);
    assert_non_null(data);
    *size = read_bytes(data, 1 << 20);
    return data;
}

// A file of this header and that many bytes of data.
static void write_header(const char *header, size_t data) {
    uint8_t bytes[8192] = {0};
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    write_bytes(bytes, 8 + length + data);
}

// A file of this program, given as JSON with ' in place of ", and one array t0 of f32{2}.
static void write_program(const char *program) {
    char text[4096], header[6000];
    size_t used = 0;
    for (const char *c = program; *c != '\0'; c++) {
        if (*c == '\'') text[used++] = '\\';
        text[used++] = *c == '\'' ? '"' : *c;
    }
    text[used] = '\0';
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"emlx\":\"%s\"},"
             "\"t0\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
             text);
    write_header(header, 8);
}

// Round trips ------------------------------------------------------------------------------------

static void save_sample(emlx_device *device) {
    emlx_error err;
    emlx_tensor *literal = tensor_f32(device, literal_data, 1, 3);
    emlx_block *b = sample_block(literal);
    assert_ok(emlx_block_save(b, test_path, &err), err);
    emlx_block_release(b);
    emlx_tensor_release(literal);
}

static void the_sample_comes_back(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program;
    save_sample(device);
    assert_ok(emlx_program_load(test_path, device, &program, &err), err);
    assert_string_equal(emlx_program_input(program, 0)->name, "x");
    assert_string_equal(emlx_program_output(program, 5)->name, "exp");
    for (int32_t n = 0; n < 4; n++) assert_sample(program, device, x_data, n, literal_data);
    emlx_program_release(program);
    emlx_device_release(device);
}

// Saving what was loaded gives the same bytes.
static void files_are_stable(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b;
    size_t before, after;
    save_sample(device);
    uint8_t *first = saved_bytes(&before);
    assert_ok(emlx_block_load(test_path, device, &b, &err), err);
    assert_ok(emlx_block_save(b, test_path, &err), err);
    emlx_block_release(b);
    uint8_t *second = saved_bytes(&after);
    assert_int_equal(before, after);
    assert_memory_equal(first, second, before);
    free(first);
    free(second);
    emlx_device_release(device);
}

typedef struct number_case {
    emlx_number number;
    emlx_type type;
} number_case;

static void constant(emlx_block *b, const number_case *c) {
    emlx_error err;
    uint32_t value;
    emlx_attr attrs[] = {{.name = "shape", .kind = EMLX_ATTR_INTS},
                         {.name = "value", .kind = EMLX_ATTR_NUMBER, .value = c->number}};
    assert_ok(
        emlx_block_apply(b, emlx_op_find("constant"), NULL, 0, attrs, 2, c->type, &value, &err),
        err);
    assert_ok(emlx_block_output(b, NULL, value, &err), err);
}

// Ends the block. It has no inputs.
static void save_and_run(emlx_block *b, emlx_device *device, emlx_tensor **outputs, size_t count) {
    emlx_error err;
    emlx_program *program;
    assert_ok(emlx_block_save(b, test_path, &err), err);
    emlx_block_release(b);
    assert_ok(emlx_program_load(test_path, device, &program, &err), err);
    assert_ok(emlx_program_run(program, NULL, 0, outputs, count, &err), err);
    emlx_program_release(program);
}

static void numbers_are_exact(void **state) {
    (void)state;
    static const number_case cases[] = {
        {{EMLX_NUMBER_SIGNED, {.s = INT64_MIN}}, EMLX_S64},
        {{EMLX_NUMBER_SIGNED, {.s = INT64_MAX}}, EMLX_S64},
        {{EMLX_NUMBER_UNSIGNED, {.u = UINT64_MAX}}, EMLX_U64},
        {{EMLX_NUMBER_UNSIGNED, {.u = 0}}, EMLX_U64},
        {{EMLX_NUMBER_REAL, {.f = {0.1}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {-0.0}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {4.9406564584124654e-324}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {1.7976931348623157e308}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {3}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {INFINITY}}}, EMLX_F64},
        {{EMLX_NUMBER_REAL, {.f = {-INFINITY}}}, EMLX_F64},
    };
    enum { COUNT = sizeof cases / sizeof *cases };
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block();
    for (size_t i = 0; i < COUNT; i++) constant(b, &cases[i]);
    constant(b, &(number_case){{EMLX_NUMBER_REAL, {.f = {NAN}}}, EMLX_F64});
    emlx_tensor *outputs[COUNT + 1];
    save_and_run(b, device, outputs, COUNT + 1);
    for (size_t i = 0; i <= COUNT; i++) {
        uint8_t data[8];
        assert_ok(emlx_tensor_read(outputs[i], 0, data, sizeof data, &err), err);
        double real;
        memcpy(&real, data, 8);
        if (i < COUNT)
            assert_memory_equal(data, &cases[i].number.as, 8);
        else
            assert_true(isnan(real));
        emlx_tensor_release(outputs[i]);
    }
    emlx_device_release(device);
}

// Literals of every type, with the bytes they had, and each aligned to its element.
static void literals_of_every_type(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_block *b = new_block();
    emlx_shape shape = {.rank = 1, .dims = {3}};
    static const uint8_t bytes[48] = {1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1};
    for (int type = 0; type < EMLX_TYPE_COUNT; type++) {
        emlx_tensor *literal;
        uint32_t value;
        assert_ok(emlx_tensor_from_data(device, (emlx_type)type, &shape, bytes,
                                        3 * emlx_type_size((emlx_type)type), &literal, &err),
                  err);
        assert_ok(emlx_block_tensor(b, literal, &value, &err), err);
        output(b, NULL, value);
        emlx_tensor_release(literal);
    }
    emlx_tensor *outputs[EMLX_TYPE_COUNT];
    save_and_run(b, device, outputs, EMLX_TYPE_COUNT);
    for (int type = 0; type < EMLX_TYPE_COUNT; type++) {
        const void *data;
        assert_int_equal(emlx_tensor_type(outputs[type]), type);
        assert_ok(emlx_tensor_data(outputs[type], &data, &err), err);
        assert_memory_equal(data, bytes, 3 * emlx_type_size((emlx_type)type));
        emlx_tensor_release(outputs[type]);
    }
    emlx_device_release(device);
}

// Wrong files ------------------------------------------------------------------------------------

static void missing_files_are_named(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    emlx_program *program;
    emlx_block *b = new_block();
    assert_error(emlx_program_load("/nowhere/x.safetensors", device, &program, &err), EMLX_IO, err,
                 "/nowhere/x.safetensors: cannot open: No such file");
    char folder[1100];
    memset(folder, 'd', sizeof folder);
    for (size_t i = 0; i < sizeof folder; i += 100) folder[i] = '/';
    static const char name[] = "/x.safetensors";
    memcpy(folder + sizeof folder - sizeof name, name, sizeof name);
    assert_error(emlx_program_load(folder, device, &program, &err), EMLX_IO, err,
                 "dd/x.safetensors: cannot open: No such file");
    assert_error(emlx_program_load("/tmp", device, &program, &err), EMLX_IO, err,
                 "not a regular file");
    assert_error(emlx_block_save(b, "/nowhere/x.safetensors", &err), EMLX_IO, err,
                 "/nowhere/x.safetensors: cannot write");
    emlx_block_release(b);
    emlx_device_release(device);
}

typedef struct wrong_case {
    const char *text;
    const char *message;
} wrong_case;

static void wrong_containers_are_refused(void **state) {
    (void)state;
    static const wrong_case cases[] = {
        {"", "not JSON"},
        {"[]", "not a JSON object"},
        {"{\"a\":1,\"a\":1}", "not JSON"},
        {"{}", "no program"},
        {"{\"__metadata__\":[]}", "__metadata__"},
        {"{\"__metadata__\":{\"emlx\":5}}", "not a text"},
        {"{\"a\":1}", "array \"a\": it is not an object"},
        {"{\"a\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,0]}}", "no dtype"},
        {"{\"a\":{\"dtype\":\"F3\",\"shape\":[],\"data_offsets\":[0,1]}}", "need 1 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4611686018427387904,8,0],\"data_offsets\":[0,1]}}",
         "needs 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,0]}}", "not a count"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", "not a range"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", "span 1 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", "no data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "need 1 bytes"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904,8],"
         "\"data_offsets\":[0,1]}}",
         "span 1 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", "gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         "overlap"},
    };
    emlx_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_header(cases[i].text, 0);
        assert_error(load_program(&err), EMLX_FORMAT, err, cases[i].message);
    }
    static const struct {
        uint8_t bytes[16];
        const char *message;
    } others[] = {
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "it is not a safetensors file"},
        {{100}, "the header has 100 bytes, of which 8 are there"},
        {{0x93, 'N', 'U', 'M', 'P', 'Y', 1}, "it is a .npy file, which holds one array, and not"},
        {{'P', 'K', 3, 4, 20, 0, 0, 0}, "it is a zip archive"},
        {"{\"version\": 1}", "it is a JSON text"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        write_bytes(others[i].bytes, sizeof others[i].bytes);
        assert_error(load_program(&err), EMLX_FORMAT, err, others[i].message);
    }
}

// Arrays that no tensor can be do not keep others from being read; asking for them says why.
static void other_arrays_may_be_there(void **state) {
    (void)state;
    emlx_error err;
    emlx_archive *archive;
    emlx_tensor *t;
    emlx_device *device = cpu();
    write_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                 "\"b\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[8,10]},"
                 "\"c\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"
                 "\"data_offsets\":[10,12]}}",
                 12);
    assert_ok(emlx_archive_open(test_path, &archive, &err), err);
    assert_ok(emlx_archive_tensor(archive, "a", EMLX_F32, device, &t, &err), err);
    emlx_tensor_release(t);
    assert_error(emlx_archive_tensor(archive, "b", EMLX_U8, device, &t, &err), EMLX_FORMAT, err,
                 "array \"b\": its dtype \"F4\" is unknown");
    assert_error(emlx_archive_tensor(archive, "c", EMLX_U8, device, &t, &err), EMLX_FORMAT, err,
                 "array \"c\": it has 19 axes, 16 at most expected");
    emlx_archive_release(archive);
    emlx_device_release(device);
}

#define MAIN(inputs, code, outputs)                                                                \
    "{'version':1,'main':{'inputs':[" inputs "],'code':[" code "],'outputs':[" outputs "]}}"
#define X "{'name':'x','type':'f32','shape':[2]}"
#define ADD(operands, rest) "{'op':'add','operands':[" operands "],'type':'f32'" rest "}"
#define IDENTITY "{'inputs':[" X "],'code':[],'outputs':[{'name':'0','value':0}]}"

static void wrong_programs_are_refused(void **state) {
    (void)state;
    static const wrong_case cases[] = {
        {"5", "not JSON"},
        {"{}", "no version"},
        {"{'version':2,'main':{}}", "version 2 of the format, 1 expected"},
        {"{'version':1,'main':{},'extra':1}", "unknown member \"extra\""},
        {"{'version':1}", "not an object"},
        {"{'version':1,'main':{}}", "\"inputs\" is missing"},
        {MAIN("{'name':'x','type':'f33','shape':[]}", "", ""), "f33"},
        {MAIN("{'name':'x','type':'f32','shape':[-2]}", "", ""), "input 0"},
        {MAIN("{'name':'x','type':'f32','shape':[1.5]}", "", ""), "not an integer"},
        {MAIN("{'name':'x','type':'f32'}", "", ""), "\"shape\" is missing"},
        {MAIN(X "," X, "", ""), "both named \"x\""},
        {MAIN(X, "{}", ""), "neither op, tensor, cond nor while"},
        {MAIN(X, "7", ""), "instruction 0"},
        {MAIN(X, "{'op':'frobnicate','operands':[],'type':'f32'}", ""), "op \"frobnicate\""},
        {MAIN(X, ADD("0,1", ""), ""), "add: operand 1 is value 1"},
        {MAIN(X, ADD("0,-1", ""), ""), "add: a value is not given by its number"},
        {MAIN(X, ADD("0,4294967296", ""), ""), "not given by its number"},
        {MAIN(X, ADD("0", ""), ""), "add"},
        {MAIN(X, ADD("0,0", ",'attrs':{'axis':1}"), ""), "unknown attribute \"axis\""},
        {MAIN(X, ADD("0,0", ",'more':1"), ""), "unknown member \"more\""},
        {MAIN(X, "{'op':'reshape','operands':[0],'type':'f32','attrs':{'shape':[2,'a']}}", ""),
         "attribute shape: item 1 is not an integer"},
        {MAIN(X, "{'op':'reshape','operands':[0],'type':'f32','attrs':{'shape':2}}", ""),
         "attribute shape: not a list"},
        {MAIN(X, "{'op':'reshape','operands':[0],'type':'f32'}", ""), "shape is missing"},
        {MAIN(X, "{'tensor':'t1','type':'f32'}", ""), "no array \"t1\""},
        {MAIN(X, "{'tensor':'__metadata__','type':'f32'}", ""), "no array"},
        {MAIN(X, "{'tensor':'t0','type':'s32'}", ""), "F32, I32 expected for s32"},
        {MAIN(X, "{'tensor':'t0','type':'f32','shape':[2]}", ""), "unknown member \"shape\""},
        {MAIN(X, "", "{'name':'y','value':1}"), "output 0 is value 1"},
        {MAIN(X, "", "{'name':'y','value':'x'}"), "not given by its number"},
        {MAIN(X, "{'while':{'condition':" IDENTITY ",'body':" IDENTITY "},'operands':[0]}", ""),
         "while: block 0 decides"},
        {MAIN(X, "{'cond':{'predicates':[],'branches':[]},'operands':[0]}", ""),
         "0 predicates and 0 branches"},
        {MAIN(X, "{'cond':{'predicates':[" IDENTITY "],'branches':[{}]},'operands':[0]}", ""),
         "branch 0: \"inputs\" is missing"},
    };
    emlx_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_program(cases[i].text);
        assert_error(load_program(&err), EMLX_FORMAT, err, cases[i].message);
        assert_non_null(strstr(err.message, test_path));
    }
    write_program(
        MAIN(X, "{'tensor':'t0','type':'f32'}," ADD("0,1", ""), "{'name':'y','value':2}"));
    assert_ok(load_program(&err), err);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    emlx_error err;
    enum { DEPTH = 500, ROOM = 1 << 20 };
    char *text = malloc(ROOM);
    size_t used = 0;
    const char *open = "{\\\"inputs\\\":[],\\\"code\\\":[{\\\"while\\\":{\\\"condition\\\":";
    used += (size_t)sprintf(text, "{\"__metadata__\":{\"emlx\":\"{\\\"version\\\":1,\\\"main\\\":");
    for (int i = 0; i < DEPTH; i++) used += (size_t)sprintf(text + used, "%s", open);
    used += (size_t)sprintf(text + used, "{}");
    for (int i = 0; i < DEPTH; i++)
        used += (size_t)sprintf(text + used,
                                ",\\\"body\\\":{}},\\\"operands\\\":[]}],\\\"outputs\\\":[]}");
    used += (size_t)sprintf(text + used, "}\"}}");
    uint8_t *bytes = calloc(1, used + 8);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)used >> (8 * i));
    memcpy(bytes + 8, text, used);
    write_bytes(bytes, used + 8);
    assert_error(load_program(&err), EMLX_FORMAT, err, "condition: ");
    free(text);
    free(bytes);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    size_t size;
    save_sample(device);
    uint8_t *data = saved_bytes(&size);
    for (size_t length = 0; length < size; length++) {
        assert_int_equal(truncate(test_path, 0), 0);
        write_bytes(data, length);
        assert_int_equal(load_program(&err), EMLX_FORMAT);
        assert_int_equal(err.code, EMLX_FORMAT);
    }
    free(data);
    emlx_device_release(device);
}

// A flipped bit may give another valid program, but never harm.
static void every_flipped_bit_is_survived(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *device = cpu();
    size_t size;
    save_sample(device);
    uint8_t *data = saved_bytes(&size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(data, size);
        emlx_status status = load_program(&err);
        if (status != EMLX_OK && status != EMLX_FORMAT && status != EMLX_UNSUPPORTED &&
            status != EMLX_OUT_OF_MEMORY)
            fail_msg("bit %zu: status %d, %s", bit, (int)status, err.message);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(data);
    emlx_device_release(device);
}

// A save or load that runs out of memory loses nothing and leaves no file behind.
static void no_allocation_of_a_load_may_fail_unnoticed(void **state) {
    (void)state;
    emlx_error err;
    emlx_status status = EMLX_OUT_OF_MEMORY;
    emlx_device *device = cpu();
    save_sample(device);
    emlx_device_release(device);
    size_t held = mem_held();
    for (size_t n = 1; status != EMLX_OK && n < 5000; n++) {
        emlx_block *b = NULL;
        device = cpu();
        mem_fail_from(n);
        status = emlx_block_load(test_path, device, &b, &err);
        if (status == EMLX_OK) status = emlx_block_save(b, test_path, &err);
        mem_fail_from(0);
        if (b != NULL) emlx_block_release(b);
        emlx_device_release(device);
        if (status != EMLX_OK && status != EMLX_OUT_OF_MEMORY)
            fail_msg("allocation %zu: %s", n, err.message);
        if (mem_held() != held) fail_msg("allocation %zu: memory was lost", n);
    }
    assert_int_equal(status, EMLX_OK);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "%s.%ld.0.part", test_path, (long)getpid());
    assert_int_not_equal(access(pattern, F_OK), 0);
}

static void save_one(const char *path) {
    emlx_error err;
    emlx_block *b = new_block();
    output(b, NULL, input(b, "x", EMLX_F32, 0));
    assert_ok(emlx_block_save(b, path, &err), err);
    emlx_block_release(b);
}

// A link stays one, and a device is not replaced by a file.
static void what_is_no_file_is_written_to(void **state) {
    (void)state;
    static uint8_t data[4096];
    char link[128];
    struct stat info;
    snprintf(link, sizeof link, "%s.link", test_path);
    write_bytes("old", 3);
    assert_int_equal(symlink(test_path, link), 0);
    save_one(link);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_true(read_bytes(data, sizeof data) > 8);
    unlink(link);
    assert_int_equal(symlink("/dev/null", link), 0);
    save_one(link);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    unlink(link);
    emlx_error err;
    emlx_block *b = new_block();
    assert_int_equal(symlink("/dev/full", link), 0);
    if (access("/dev/full", W_OK) == 0)
        assert_error(emlx_block_save(b, link, &err), EMLX_IO, err, "No space left");
    assert_error(emlx_block_save(b, "/tmp", &err), EMLX_IO, err, "cannot write: Is a directory");
    emlx_block_release(b);
    unlink(link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_comes_back),
        cmocka_unit_test(files_are_stable),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(literals_of_every_type),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(wrong_containers_are_refused),
        cmocka_unit_test(other_arrays_may_be_there),
        cmocka_unit_test(wrong_programs_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(no_allocation_of_a_load_may_fail_unnoticed),
        cmocka_unit_test(what_is_no_file_is_written_to),
    };
    return RUN_WITH_FILE("files/file", tests);
}

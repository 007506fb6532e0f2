// SPDX-License-Identifier: Apache-2.0
// cases.c - reads a folder of recorded cases and checks the form of all that is in it.
#include "cases.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "files/attrs.h"

#define MANIFEST "MANIFEST"
#define KEY "conformance"
#define VERSION 1

static emlx_status no_memory_for_cases(emlx_error *err) {
    return cases_error(err, EMLX_OUT_OF_MEMORY, "no memory for the cases");
}

// Puts what an error is about in front of it.
static emlx_status about(emlx_error *err, const char *name, const char *what, size_t index) {
    emlx_error inner = *err;
    return what == NULL ? cases_error(err, inner.code, "%.80s: %.400s", name, inner.message)
                        : cases_error(err, inner.code, "%.80s: %s %zu: %.380s", name, what, index,
                                      inner.message);
}

// Whole files ------------------------------------------------------------------------------------

// CRC-32 as zlib and gzip compute it, a nibble at a time.
static uint32_t add_crc(uint32_t crc, const uint8_t *data, size_t size) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc = table[(crc ^ data[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ data[i] >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static emlx_status check_crc(const char *path, uint32_t sum, uint64_t size, emlx_error *err) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return cases_error(err, EMLX_IO, "cannot open");
    static uint8_t chunk[65536];
    uint32_t crc = 0;
    uint64_t total = 0;
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0; total += got)
        crc = add_crc(crc, chunk, got);
    bool failed = ferror(file);
    fclose(file);
    if (failed) return cases_error(err, EMLX_IO, "cannot read");
    if (total != size)
        return cases_error(err, EMLX_FORMAT,
                           "it has %" PRIu64 " bytes, the " MANIFEST " says %" PRIu64, total, size);
    if (crc != sum)
        return cases_error(err, EMLX_FORMAT,
                           "its sum is %08" PRIx32 ", the " MANIFEST " says %08" PRIx32, crc, sum);
    return EMLX_OK;
}

// One case ---------------------------------------------------------------------------------------

static emlx_status check_arrays(const json_t *list, const char *what, emlx_error *err) {
    if (!json_is_array(list)) return cases_error(err, EMLX_FORMAT, "\"%s\" is not a list", what);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        const char *type = json_string_value(json_array_get(pair, 1));
        emlx_type parsed;
        if (json_string_value(json_array_get(pair, 0)) == NULL || type == NULL)
            return cases_error(err, EMLX_FORMAT, "item %zu of \"%s\" is not an array and a type", i,
                               what);
        if (emlx_type_parse(type, &parsed, err) != EMLX_OK) return EMLX_FORMAT;
    }
    return EMLX_OK;
}

static emlx_status read_op_case(recorded_case *c, emlx_error *err) {
    const char *name = json_string_value(json_object_get(c->json, "op"));
    const char *type = json_string_value(json_object_get(c->json, "type"));
    json_attrs attrs;
    if (name == NULL) return cases_error(err, EMLX_FORMAT, "it has no \"op\"");
    c->op = emlx_op_find(name);
    c->title = name;
    if (c->op == NULL) return cases_error(err, EMLX_FORMAT, "unknown op \"%.60s\"", name);
    if (type != NULL && emlx_type_parse(type, &c->type, err) != EMLX_OK) return EMLX_FORMAT;
    emlx_status status =
        json_attrs_read(c->op, json_object_get(c->json, "attrs"), NULL, NULL, &attrs, err);
    if (status == EMLX_OK) json_attrs_free(&attrs);
    return status;
}

static emlx_status check_program(const recorded_case *c, emlx_error *err) {
    size_t inputs = json_array_size(json_object_get(c->json, "inputs"));
    size_t outputs = json_array_size(json_object_get(c->json, "outputs"));
    if (inputs == emlx_program_input_count(c->file->program) &&
        (outputs == emlx_program_output_count(c->file->program) || c->fails != EMLX_OK))
        return EMLX_OK;
    return cases_error(err, EMLX_FORMAT, "%zu inputs and %zu outputs do not fit the program",
                       inputs, outputs);
}

static emlx_status read_fails(recorded_case *c, emlx_error *err) {
    static const char *const names[] = {
        [EMLX_INVALID] = "invalid",
        [EMLX_OUT_OF_BOUNDS] = "out_of_bounds",
        [EMLX_ARITHMETIC] = "arithmetic",
    };
    const json_t *fails = json_object_get(c->json, "fails");
    if (fails == NULL) return EMLX_OK;
    const char *text = json_string_value(fails);
    for (size_t i = 0; text != NULL && i < sizeof names / sizeof *names; i++)
        if (names[i] != NULL && strcmp(names[i], text) == 0) c->fails = (emlx_status)i;
    if (c->fails != EMLX_OK) return EMLX_OK;
    return cases_error(err, EMLX_FORMAT, "\"fails\" is no error that a case can expect");
}

static emlx_status read_covers(recorded_case *c, emlx_error *err) {
    const json_t *covers = json_object_get(c->json, "covers");
    const char *name = json_string_value(covers);
    c->covers = covers == NULL ? c->op : name == NULL ? NULL : emlx_op_find(name);
    if (covers == NULL || c->covers != NULL) return EMLX_OK;
    return cases_error(err, EMLX_FORMAT, "\"covers\" is not the name of an op");
}

// Cases are counted under the first input's type, or that of the result.
static emlx_type coverage_type(const recorded_case *c) {
    const json_t *first = json_array_get(json_object_get(c->json, "inputs"), 0);
    const char *name = json_string_value(json_array_get(first, 1));
    emlx_type type = c->type;
    if (name != NULL) emlx_type_parse(name, &type, NULL);
    return type;
}

static emlx_status read_case(recorded_case *c, const char *tolerances, emlx_error *err) {
    const char *name = json_string_value(json_object_get(c->json, "class"));
    c->tolerance = name == NULL ? NULL : tolerance_find(tolerances, name);
    if (c->tolerance == NULL)
        return cases_error(err, EMLX_FORMAT, "its class of tolerance is missing or unknown");
    emlx_status status = check_arrays(json_object_get(c->json, "inputs"), "inputs", err);
    if (status == EMLX_OK)
        status = check_arrays(json_object_get(c->json, "outputs"), "outputs", err);
    if (status == EMLX_OK) status = read_fails(c, err);
    if (status == EMLX_OK)
        status = c->file->program != NULL ? check_program(c, err) : read_op_case(c, err);
    if (status == EMLX_OK) status = read_covers(c, err);
    c->coverage = coverage_type(c);
    return status;
}

// One file ---------------------------------------------------------------------------------------

static emlx_status read_document(case_file *file, emlx_error *err) {
    const char *text = emlx_archive_text(file->archive, KEY);
    if (text == NULL) return cases_error(err, EMLX_FORMAT, "it has no text \"" KEY "\"");
    json_error_t problem;
    file->document = json_loads(text, JSON_REJECT_DUPLICATES, &problem);
    if (file->document == NULL)
        return cases_error(err, EMLX_FORMAT, "\"" KEY "\" is not JSON: %.120s", problem.text);
    if (json_integer_value(json_object_get(file->document, "version")) != VERSION)
        return cases_error(err, EMLX_FORMAT, "\"" KEY "\" is not of version %d", VERSION);
    if (!json_is_array(json_object_get(file->document, "cases")))
        return cases_error(err, EMLX_FORMAT, "\"" KEY "\" has no list of cases");
    return EMLX_OK;
}

static emlx_status add_cases(case_set *set, case_file *file, emlx_error *err) {
    const json_t *list = json_object_get(file->document, "cases");
    size_t count = json_array_size(list);
    recorded_case *items = realloc(set->items, (set->count + count + 1) * sizeof *items);
    if (items == NULL) return no_memory_for_cases(err);
    set->items = items;
    for (size_t i = 0; i < count; i++) {
        recorded_case *c = &items[set->count];
        *c = (recorded_case){.file = file,
                             .index = i,
                             .json = json_array_get(list, i),
                             .title = file->name,
                             .type = EMLX_TYPE_DEFAULT};
        if (read_case(c, set->tolerances, err) != EMLX_OK) return about(err, file->name, "case", i);
        set->count++;
    }
    return EMLX_OK;
}

static emlx_status open_file(case_set *set, const char *path, case_file *file, emlx_error *err) {
    emlx_status status = emlx_archive_open(path, &file->archive, err);
    if (status == EMLX_OK && emlx_archive_text(file->archive, "emlx") != NULL)
        status = emlx_program_load(path, set->device, &file->program, err);
    if (status != EMLX_OK) return status;
    status = read_document(file, err);
    return status == EMLX_OK ? add_cases(set, file, err) : about(err, file->name, NULL, 0);
}

// The folder -------------------------------------------------------------------------------------

// A line of the manifest: sum, size, name.
typedef struct manifest_line {
    uint32_t sum;
    uint64_t size;
    char name[256];
} manifest_line;

static emlx_status parse_line(const char *text, manifest_line *out, emlx_error *err) {
    int used = 0;
    if (sscanf(text, "%8" SCNx32 " %" SCNu64 " %255[A-Za-z0-9_.-]%n", &out->sum, &out->size,
               out->name, &used) == 3 &&
        strcmp(text + used, "\n") == 0)
        return EMLX_OK;
    return cases_error(err, EMLX_FORMAT, MANIFEST ": \"%.*s\" is not a sum, a size and a name",
                       (int)strcspn(text, "\n"), text);
}

static emlx_status load_line(const char *folder, const manifest_line *line, case_set *set,
                             emlx_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, line->name);
    case_file *file = &set->files[set->file_count++];
    *file = (case_file){.name = strdup(line->name)};
    if (file->name == NULL) return no_memory_for_cases(err);
    if (check_crc(path, line->sum, line->size, err) != EMLX_OK)
        return about(err, file->name, NULL, 0);
    return open_file(set, path, file, err);
}

// Files keep their places, which the cases point to.
static emlx_status make_file_room(FILE *manifest, case_set *set, emlx_error *err) {
    size_t lines = 0;
    for (int c; (c = getc(manifest)) != EOF;) lines += c == '\n';
    rewind(manifest);
    set->files = calloc(lines + 1, sizeof *set->files);
    return set->files == NULL ? no_memory_for_cases(err) : EMLX_OK;
}

static emlx_status load_lines(const char *folder, const char *only, FILE *manifest, case_set *set,
                              emlx_error *err) {
    char text[512];
    emlx_status status = make_file_room(manifest, set, err);
    while (status == EMLX_OK && fgets(text, sizeof text, manifest) != NULL) {
        manifest_line line;
        status = parse_line(text, &line, err);
        if (status == EMLX_OK && strstr(line.name, only) != NULL)
            status = load_line(folder, &line, set, err);
    }
    if (status == EMLX_OK && set->count == 0)
        return cases_error(err, EMLX_FORMAT, "%.200s: no cases%s%.60s", folder,
                           *only ? " in files named like " : "", only);
    return status;
}

emlx_status cases_load(const char *folder, const char *only, emlx_device *device, bool strict,
                       case_set *out, emlx_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/" MANIFEST, folder);
    FILE *manifest = fopen(path, "r");
    if (manifest == NULL)
        return cases_error(err, EMLX_IO,
                           "%.200s: no " MANIFEST " here; scripts/conformance unpacks the cases",
                           folder);
    *out = (case_set){.device = device, .tolerances = strict ? "" : emlx_device_name(device)};
    emlx_status status = load_lines(folder, only, manifest, out, err);
    fclose(manifest);
    if (status != EMLX_OK) cases_clear(out);
    return status;
}

void cases_clear(case_set *set) {
    for (size_t i = 0; i < set->file_count; i++) {
        free(set->files[i].name);
        json_decref(set->files[i].document);
        emlx_program_release(set->files[i].program);
        emlx_archive_release(set->files[i].archive);
    }
    free(set->files);
    free(set->items);
    *set = (case_set){0};
}

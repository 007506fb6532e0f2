// SPDX-License-Identifier: Apache-2.0
// ops.c - `emlx ops`: the op table, one line an op, for people and for generators.
#include "cli.h"

static const char *const kind_names[] = {
    [EMLX_ATTR_INT] = "int",       [EMLX_ATTR_INTS] = "ints", [EMLX_ATTR_BOOL] = "bool",
    [EMLX_ATTR_NUMBER] = "number", [EMLX_ATTR_TEXT] = "text", [EMLX_ATTR_FUNCTION] = "function",
};

static void print_op(const emlx_op *op) {
    size_t fewest, most;
    emlx_op_operands(op, &fewest, &most);
    printf("%s %zu ", emlx_op_name(op), fewest);
    if (most == SIZE_MAX)
        printf("*");
    else
        printf("%zu", most);
    const char *name;
    emlx_attr_kind kind;
    bool required;
    for (size_t i = 0; emlx_op_attr(op, i, &name, &kind, &required); i++)
        printf(" %s:%s%s", name, kind_names[kind], required ? "" : "?");
    putchar('\n');
}

int cli_ops(int argc, char **argv) {
    if (argc > 1) return cli_usage("no arguments expected, got %s", argv[1]);
    const emlx_op *op;
    for (size_t i = 0; (op = emlx_op_at(i)) != NULL; i++) print_op(op);
    return CLI_OK;
}

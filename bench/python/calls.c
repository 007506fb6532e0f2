// SPDX-License-Identifier: Apache-2.0
// calls.c - a tensor and a call of a program as Python's own types, so that a benchmark's rows are
// the library's time and not that of calling by descriptions. bench/emlx.py builds it.
//
// It is not linked to the library: the functions come as addresses, so that two builds of it can be
// beside each other in one process.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
// It comes first.
#include <structmember.h>

#include "emlx.h"

enum { MOST = 4096 }; // inputs and results of a program

typedef void (*release_fn)(emlx_tensor *);
typedef emlx_status (*run_fn)(emlx_program *, emlx_tensor *const *, size_t, emlx_tensor **, size_t,
                              emlx_error *);

// Tensors ----------------------------------------------------------------------------------------

typedef struct handle {
    PyObject_HEAD emlx_tensor *tensor;
    release_fn release;
} handle;

static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    unsigned long long tensor, release;
    (void)names;
    if (!PyArg_ParseTuple(args, "KK", &tensor, &release)) return NULL;
    handle *h = (handle *)type->tp_alloc(type, 0);
    if (h == NULL) return NULL;
    h->tensor = (emlx_tensor *)(uintptr_t)tensor;
    h->release = (release_fn)(uintptr_t)release;
    return (PyObject *)h;
}

static void handle_dealloc(PyObject *self) {
    handle *h = (handle *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (h->tensor != NULL) h->release(h->tensor);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef handle_members[] = {
    {"address", T_ULONGLONG, offsetof(handle, tensor), 0, "of the tensor; 0: of none"},
    {NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_new, (void *)handle_new},
    {Py_tp_dealloc, (void *)handle_dealloc},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "calls.Handle",
    .basicsize = sizeof(handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = handle_slots,
};

// Programs ---------------------------------------------------------------------------------------

typedef struct caller {
    PyObject_HEAD emlx_program *program;
    run_fn run;
    release_fn release;
    PyTypeObject *type; // of results: a handle, or made from it
    Py_ssize_t results;
} caller;

static PyObject *caller_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    unsigned long long program, run, release;
    PyTypeObject *result;
    Py_ssize_t results;
    (void)names;
    if (!PyArg_ParseTuple(args, "KnKKO!", &program, &results, &run, &release, &PyType_Type,
                          &result))
        return NULL;
    if (results < 0 || results > MOST)
        return PyErr_Format(PyExc_ValueError, "%zd results, at most %d", results, MOST);
    caller *c = (caller *)type->tp_alloc(type, 0);
    if (c == NULL) return NULL;
    c->program = (emlx_program *)(uintptr_t)program;
    c->run = (run_fn)(uintptr_t)run;
    c->release = (release_fn)(uintptr_t)release;
    c->type = (PyTypeObject *)Py_NewRef(result);
    c->results = results;
    return (PyObject *)c;
}

static void caller_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((caller *)self)->type);
    type->tp_free(self);
    Py_DECREF(type);
}

// A list of handles, which take the tensors over.
static PyObject *list_results(const caller *c, emlx_tensor **tensors) {
    PyObject *list = PyList_New(c->results);
    Py_ssize_t done = 0;
    for (; list != NULL && done < c->results; done++) {
        handle *h = (handle *)c->type->tp_alloc(c->type, 0);
        if (h == NULL) break;
        h->tensor = tensors[done];
        h->release = c->release;
        PyList_SET_ITEM(list, done, (PyObject *)h);
    }
    if (list != NULL && done == c->results) return list;
    for (; done < c->results; done++) c->release(tensors[done]);
    Py_XDECREF(list);
    return NULL;
}

static PyObject *caller_call(PyObject *self, PyObject *args, PyObject *names) {
    const caller *c = (caller *)self;
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    emlx_tensor *inputs[MOST], *results[MOST];
    emlx_status status;
    emlx_error err;
    if (names != NULL || count > MOST)
        return PyErr_Format(PyExc_TypeError, "at most %d tensors", MOST);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(args, i);
        if (!PyObject_TypeCheck(item, c->type))
            return PyErr_Format(PyExc_TypeError, "a tensor expected, not %R", item);
        inputs[i] = ((handle *)item)->tensor;
    }
    Py_BEGIN_ALLOW_THREADS;
    status = c->run(c->program, inputs, (size_t)count, results, (size_t)c->results, &err);
    Py_END_ALLOW_THREADS;
    if (status != EMLX_OK)
        return PyErr_Format(PyExc_RuntimeError, "emlx_program_run: %s", err.message);
    return list_results(c, results);
}

static PyType_Slot caller_slots[] = {
    {Py_tp_new, (void *)caller_new},
    {Py_tp_dealloc, (void *)caller_dealloc},
    {Py_tp_call, (void *)caller_call},
    {0, NULL},
};

static PyType_Spec caller_spec = {
    .name = "calls.Caller",
    .basicsize = sizeof(caller),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = caller_slots,
};

// The module -------------------------------------------------------------------------------------

static bool add_type(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    bool added = type != NULL && PyModule_AddType(module, (PyTypeObject *)type) == 0;
    Py_XDECREF(type);
    return added;
}

PyMODINIT_FUNC PyInit_calls(void) {
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "calls", .m_size = -1};
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_type(module, &handle_spec) && add_type(module, &caller_spec))
        return module;
    Py_XDECREF(module);
    return NULL;
}

// SPDX-License-Identifier: Apache-2.0
// check.h - what must hold of every plan, looked at once more after it is made.
#ifndef EMLX_PLAN_KERNELS_CHECK_H
#define EMLX_PLAN_KERNELS_CHECK_H

#include "plan/plan.h"

// Whether plans are to be checked: in builds with EMLX_CHECK_PLANS defined, and where the
// environment has that variable.
bool plan_checking(void);

// EMLX_INTERNAL, with a message that names kernel and value, where
// - a kernel reads a value that is not complete before it runs, or has ended;
// - a kernel overwrites a buffer that it reads elsewhere, or that is read later;
// - a value is never written, written after it was read, or ends without a reader.
emlx_status plan_check(const emlx_plan *plan, emlx_error *err);

#endif

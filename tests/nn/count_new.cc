// SPDX-License-Identifier: Apache-2.0
// This program too counts its calls of operator new.
#include "ebb/tests/autograd/count_new.cc"

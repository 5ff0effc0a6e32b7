// What the kernel tests ask of every launch, besides no error: no bank conflict, and numbers at most twice as
// far from the truth as a plain implementation's (the rule of test/numbers.ts).
#pragma once

#include <string>
#include <vector>

#include "core/dtype.h"
#include "ops/ops.h"
#include "simulator/check.h"

namespace fsv::test {

/// Those of check.h; accesses are counted where lanes run in order.
std::vector<sim::Options> schedules();

/// No error, and no access to shared memory that takes longer than its bytes need.
bool sound(const sim::Report& report, const std::string& what);

/// T: float, Bf16 or uint8_t.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what);

/// At most twice the error of `plain`, at the worst element and on the whole. T: float or Bf16.
template <class T>
bool accurate(const std::vector<T>& out, const std::vector<double>& truth, const std::vector<float>& plain,
              const std::string& what);

double activate(Activation kind, double x);

}  // namespace fsv::test

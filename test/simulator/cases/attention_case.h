// One attention problem of the kernel tests: random operands, the result in fp64, and that of a plain
// implementation (f32 arithmetic, probabilities and result in the operands' type). Operands are chosen so
// that mistakes at the edges cannot hide: real scores are far below zero, so a key of zeros that is attended
// to outweighs them all, and keys and values behind a sample's length are NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "cuda/kernels/attention.cuh"
#include "simulator/cases/harness.h"

namespace fsv::test {

inline float round_bf16(float x) { return to_float(to_bf16(x)); }

struct AttentionCase {
  int batch = 1, heads = 1, queries = 1, keys = 1, dim = 64;
  std::vector<int32_t> lengths = {};  ///< of every sample; empty: no lengths
  bool bias = false;
  bool hidden = false;  ///< parts of the bias, and all of it for query 0 and key block 0, are -infinity
  float strength = 1;   ///< factor on the scale

  std::string text() const;
  float scale() const { return strength / std::sqrt(static_cast<float>(dim)); }
  int length(int b) const { return lengths.empty() ? keys : std::clamp(lengths[b], 0, keys); }
  size_t row(int b, int n, int h, int count) const {
    return ((static_cast<size_t>(b) * count + n) * heads + h) * dim;
  }
};

/// Operands as floats that T has exactly, and the results to compare with.
template <class T>
struct AttentionData {
  static constexpr bool kBf16 = sizeof(T) == 2;
  AttentionCase c;
  std::vector<float> q, k, v, bias;
  std::vector<double> truth;
  std::vector<float> plain;

  static float stored(float x) { return kBf16 ? round_bf16(x) : x; }

  explicit AttentionData(const AttentionCase& a, unsigned seed = 1);

  template <class Real>
  void attend(std::vector<Real>& out, bool rounded) const;

  static std::vector<T> store(const std::vector<float>& values);

  /// Queries first .. first + count of sample b, as a problem of their own.
  AttentionData part(int b, int first, int count) const;
  template <class X>
  std::vector<X> rows(const std::vector<X>& from, int b, int first, int count) const {
    return slice(from, c.row(b, first, 0, c.queries), c.row(b, first + count, 0, c.queries));
  }

 private:
  AttentionData() = default;
  template <class X>
  static std::vector<X> slice(const std::vector<X>& from, size_t begin, size_t end) {
    return {from.begin() + begin, from.begin() + end};
  }
};

/// The operands and the result in the simulated device's memory.
template <class T>
struct AttentionMemory {
  AttentionCase c;
  sim::Global<T> q, k, v, out;
  sim::Global<float> bias;
  sim::Global<int32_t> lengths;

  explicit AttentionMemory(const AttentionData<T>& data);

  cuda::kernels::AttentionProblem problem(int queries_of_tile);
  std::vector<T> result() { return {out.ptr(), out.ptr() + out.size()}; }

  /// The launch was sound, its numbers are right, and it read no more than `passes` times every tile of
  /// queries with all keys and values, and wrote every result once.
  bool check(const sim::Report& report, const AttentionData<T>& data, int queries_of_tile,
             const std::string& what, uint64_t passes = 1);
};

extern template struct AttentionData<Bf16>;
extern template struct AttentionData<float>;
extern template struct AttentionMemory<Bf16>;
extern template struct AttentionMemory<float>;

/// run(data, options) under all schedules, which must give the same bits.
template <class T, class Run>
void check_schedules(const AttentionCase& c, const Run& run) {
  const AttentionData<T> data(c);
  std::vector<T> first;
  for (const sim::Options& options : schedules()) {
    const std::vector<T> out = run(data, options);
    if (first.empty()) first = out;
    same_bits(out, first, c.text() + " " + sim::check::name_of(options));
  }
}

/// A query's bits depend neither on the other queries nor on the other samples.
template <class T, class Run>
void check_parts(const AttentionCase& c, const Run& run) {
  const AttentionData<T> data(c);
  const sim::Options options = schedules().front();
  const std::vector<T> all = run(data, options);
  for (int b = 0; b < c.batch; b++)
    for (const int first : {0, c.queries / 2}) {
      const int count = c.queries - first;
      same_bits(run(data.part(b, first, count), options), data.rows(all, b, first, count),
                c.text() + " in parts");
    }
}

}  // namespace fsv::test

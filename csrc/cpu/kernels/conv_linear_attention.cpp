// One head of ReLU linear attention: a first pass over the tokens sums relu(k)^T [v 1], a second multiplies
// relu(q) with it. Both take a few tokens at a time, widened to f32 and padded to whole vectors.
#include "cpu/kernels/conv.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr int kRows = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 8 : 4;  // of a block of sums in registers

/// rows[n][0 .. width) = the part of a token that begins `offset` elements behind its q, zeros from head_dim
/// on.
template <class T, bool Relu>
void widen_tokens(const LinearAttentionTask& task, int64_t first, int64_t count, int64_t offset,
                  float* rows) {
  const int64_t width = linear_attention_width(task.head_dim);
  for (int64_t n = 0; n < count; n++, rows += width) {
    const T* from = static_cast<const T*>(task.qkv) + (first + n) * task.token_stride + offset;
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t left = task.head_dim - c;
      const Floats x = left > 0 ? load_some(from + c, left) : Floats{};
      store(rows + c, Relu ? relu(x) : x);
    }
  }
}

/// to[r][0 .. kLanes) += sum over n of a[n * a_step + r * a_row] * b[n * width ..], R rows of `to` and
/// `width` apart.
template <int R>
static inline void accumulate(const float* a, int64_t a_step, int64_t a_row, const float* b, int64_t width,
                              int64_t count, float* to) {
  Floats sums[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) sums[r] = load(to + r * width);
  for (int64_t n = 0; n < count; n++) {
    const Floats x = load(b + n * width);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) sums[r] = fma(set(a[n * a_step + r * a_row]), x, sums[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) store(to + r * width, sums[r]);
}

/// The same for any number of rows and all vectors of `width`.
void accumulate_all(const float* a, int64_t a_step, int64_t a_row, const float* b, int64_t width,
                    int64_t count, float* to, int64_t rows) {
  for (int64_t c = 0; c < width; c += kLanes) {
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      accumulate<kRows>(a + r * a_row, a_step, a_row, b + c, width, count, to + r * width + c);
    for (; r < rows; r++)
      accumulate<1>(a + r * a_row, a_step, a_row, b + c, width, count, to + r * width + c);
  }
}

template <class T>
void attend(const LinearAttentionTask& task) {
  const int64_t d = task.head_dim, width = linear_attention_width(d);
  float* const products = task.scratch;      // [d][width], sum of relu(k)^T v
  float* const keys = products + d * width;  // [width], sum of relu(k)
  float* const left = keys + width;          // q or k of some tokens
  float* const right = left + kLinearAttentionTokens * width;
  float* const sums = right + kLinearAttentionTokens * width;
  std::memset(products, 0, static_cast<size_t>((d + 1) * width) * sizeof(float));
  for (int64_t first = 0; first < task.tokens; first += kLinearAttentionTokens) {
    const int64_t count =
        task.tokens - first < kLinearAttentionTokens ? task.tokens - first : kLinearAttentionTokens;
    widen_tokens<T, true>(task, first, count, d, left);
    widen_tokens<T, false>(task, first, count, 2 * d, right);
    accumulate_all(left, width, 1, right, width, count, products, d);
    for (int64_t n = 0; n < count; n++)
      for (int64_t c = 0; c < width; c += kLanes)
        store(keys + c, load(keys + c) + load(left + n * width + c));
  }
  for (int64_t first = 0; first < task.tokens; first += kLinearAttentionTokens) {
    const int64_t count =
        task.tokens - first < kLinearAttentionTokens ? task.tokens - first : kLinearAttentionTokens;
    widen_tokens<T, true>(task, first, count, 0, left);
    std::memset(sums, 0, static_cast<size_t>(count * width) * sizeof(float));
    accumulate_all(left, 1, width, products, width, d, sums, count);
    for (int64_t n = 0; n < count; n++) {
      Floats dot = {};
      for (int64_t c = 0; c < width; c += kLanes) dot = fma(load(left + n * width + c), load(keys + c), dot);
      const float divisor = sum(dot) + task.eps;
      T* out = static_cast<T*>(task.out) + (first + n) * task.out_stride;
      for (int64_t c = 0; c < d; c += kLanes)
        store_some(out + c, load(sums + n * width + c) / divisor, d - c < kLanes ? d - c : kLanes);
    }
  }
}

}  // namespace

void linear_attention(const LinearAttentionTask& task) {
  with_stored(task.dtype, [&](auto element) { attend<decltype(element)>(task); });
}

}  // namespace fsv::cpu::FSV_ISA

// Attention of a block of queries over all keys of one head: the loop over key blocks with a running softmax
// (Milakov and Gimelshein, arXiv 1805.02867; tiled as in FlashAttention, arXiv 2205.14135). Keys are the
// packed panels of gemm.h with W = K [Nk, D]; values are panels with W^T = V, that is [D / 32][Nk2][32] with
// pairs of keys side by side for bf16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/ops.h"

namespace fsv::cpu {

/// Keys of a block of the running softmax. A panel of keys begins at a multiple of it, whatever the task.
inline constexpr int64_t kKeyBlock = 256;

/// out [rows, D] = softmax(q k^T * scale + bias) v for `rows` queries of one head. No keys give zeros.
struct AttentionTask {
  DType dtype = DType::f32;  ///< of q, k, v and out
  const void* q = nullptr;
  int64_t q_stride = 0;  ///< bytes
  const void* keys = nullptr;
  const void* values = nullptr;
  int64_t value_panel_stride = 0;  ///< bytes
  int64_t rows = 0, key_count = 0, head_dim = 0;
  const float* bias = nullptr;  ///< [rows, key_count], bias_stride elements apart
  int64_t bias_stride = 0;
  float scale = 1;
  void* out = nullptr;
  int64_t out_stride = 0;   ///< bytes
  void* scratch = nullptr;  ///< scratch_bytes(dtype, head_dim), 64-byte aligned
};

/// Rows `first` .. `first + count` (first a multiple of 32) of V [Nk, D] into value panels.
struct PackValuesTask {
  DType dtype = DType::f32;
  const void* values = nullptr;  ///< row 0
  int64_t row_stride = 0;        ///< bytes
  int64_t first = 0, count = 0, head_dim = 0;
  void* panels = nullptr;
  int64_t panel_stride = 0;  ///< bytes
};

struct AttentionKernels {
  /// Queries of a task, at most.
  int64_t row_block;
  size_t (*scratch_bytes)(DType dtype, int64_t head_dim);
  void (*pack_values)(const PackValuesTask&);
  void (*attend)(const AttentionTask&);
};

}  // namespace fsv::cpu

// The plan of attention on a GPU: which kernel takes which shape, and that nothing but what all samples share
// decides it.
#include "cuda/launch/attention_plan.h"

#include "check.h"

using namespace fsv;
using namespace fsv::cuda;
using Kernel = AttentionPlan::Kernel;

namespace {

struct Size {
  int64_t batch = 1, queries = 1, keys = 1, heads = 1, dim = 128;
  DType dtype = DType::bf16;
  bool bias = false;
  float scale = 0.1f;
};

AttentionPlan plan(const Size& s, bool hopper) {
  static char data[16];
  AttentionArgs args;
  args.q = TensorView({s.dtype, {s.batch, s.queries, s.heads, s.dim}}, data);
  args.k = args.v = TensorView({s.dtype, {s.batch, s.keys, s.heads, s.dim}}, data);
  if (s.bias) args.bias = TensorView({DType::f32, {s.heads, s.queries, s.keys}}, data);
  args.scale = s.scale;
  return plan_attention(args, hopper);
}

void every_shape_has_a_kernel() {
  CHECK(plan({.queries = 0}, true).kernel == Kernel::nothing);
  CHECK(plan({.dim = 0}, true).kernel == Kernel::nothing);
  CHECK(plan({.keys = 0}, true).kernel == Kernel::zeros);
  for (const int64_t dim : {8, 40, 64, 72, 80, 128}) {
    const AttentionPlan p = plan({.queries = 100, .keys = 300, .dim = dim}, true);
    CHECK(p.kernel == Kernel::sm90 && p.columns >= dim && p.columns < dim + 64);
    CHECK(plan({.dim = dim}, false).kernel == Kernel::sm80);
  }
  CHECK(plan({.dim = 64, .bias = true}, true).kernel == Kernel::sm90);
  CHECK(plan({.dim = 72, .bias = true}, true).kernel == Kernel::sm80);
  CHECK(plan({.scale = -1}, true).kernel == Kernel::sm80);
  CHECK(plan({.scale = 0}, true).kernel == Kernel::sm80);
  CHECK(plan({.dim = 136}, true).kernel == Kernel::sm80);
  CHECK(plan({.dim = 256}, true).columns == 256);
  CHECK(plan({.dim = 264}, true).kernel == Kernel::f32);
  CHECK(plan({.dim = 100}, true).kernel == Kernel::f32);
  CHECK(plan({.dtype = DType::f32}, true).kernel == Kernel::f32);
  CHECK(plan({.queries = int64_t{1} << 31, .dim = 8}, true).kernel == Kernel::f32);
  CHECK(plan({.keys = int64_t{1} << 31, .dim = 8}, false).kernel == Kernel::f32);
}

void samples_and_queries_decide_nothing() {
  for (const int64_t keys : {1, 77, 257, 512, 1024, 5000, 10240})
    for (const int64_t dim : {32, 128, 256}) {
      const AttentionPlan one = plan({.keys = keys, .dim = dim}, true);
      const AttentionPlan many = plan({.batch = 7, .queries = 3000, .keys = keys, .dim = dim}, true);
      CHECK(one.kernel == many.kernel && one.columns == many.columns && one.key_block == many.key_block);
    }
}

/// Of the keys that are computed with, few are none; and larger blocks where they cost nothing.
void blocks_are_full() {
  for (int64_t keys = 1000; keys < 12000; keys += 37) {
    const int64_t block = key_block_sm90(keys), computed = (keys + block - 1) / block * block;
    CHECK(computed < keys * 1.10);
  }
  CHECK(key_block_sm90(1) == 128 && key_block_sm90(128) == 128 && key_block_sm90(4096) == 128);
  CHECK(key_block_sm90(160) == 160 && key_block_sm90(257) == 160 && key_block_sm90(10240) == 160);
}

}  // namespace

int main() {
  every_shape_has_a_kernel();
  samples_and_queries_decide_nothing();
  blocks_are_full();
  return check::finish();
}

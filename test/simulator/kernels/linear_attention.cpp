// The kernels of ReLU linear attention in the simulator.
#include "cuda/kernels/linear_attention.cuh"

#include <algorithm>
#include <random>

#include "simulator/cases/harness.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

struct Case {
  int frames, tokens, heads, dim;
  int chunk = 128;
  float shift = 0;  ///< of q, k and v

  std::string text() const {
    return "[" + std::to_string(frames) + ", " + std::to_string(tokens) + ", " + std::to_string(heads) +
           " x 3 x " + std::to_string(dim) + "]";
  }
};

template <class T, class Real>
std::vector<Real> attend(const Case& c, const std::vector<T>& qkv, float eps) {
  std::vector<Real> out(size_t(c.frames) * c.tokens * c.heads * c.dim);
  for (int f = 0; f < c.frames; f++)
    for (int h = 0; h < c.heads; h++) {
      const auto at = [&](int token, int part, int d) {
        return Real(to_float(qkv[(((size_t(f) * c.tokens + token) * c.heads + h) * 3 + part) * c.dim + d]));
      };
      const auto relu = [](Real x) { return std::max(x, Real(0)); };
      std::vector<Real> sums(size_t(c.dim) * (c.dim + 1));
      for (int n = 0; n < c.tokens; n++)
        for (int i = 0; i < c.dim; i++)
          for (int j = 0; j <= c.dim; j++)
            sums[size_t(i) * (c.dim + 1) + j] += relu(at(n, 1, i)) * (j < c.dim ? at(n, 2, j) : Real(1));
      for (int n = 0; n < c.tokens; n++)
        for (int j = 0; j < c.dim; j++) {
          Real over = 0, under = 0;
          for (int i = 0; i < c.dim; i++) {
            over += relu(at(n, 0, i)) * sums[size_t(i) * (c.dim + 1) + j];
            under += relu(at(n, 0, i)) * sums[size_t(i) * (c.dim + 1) + c.dim];
          }
          out[((size_t(f) * c.tokens + n) * c.heads + h) * c.dim + j] = over / (under + eps);
        }
    }
  return out;
}

template <class T>
void run(const Case& c, unsigned grid) {
  constexpr float kEps = 1e-15f;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<T> qkv(size_t(c.frames) * c.tokens * c.heads * 3 * c.dim);
  for (T& x : qkv) x = from_float<T>(normal(random) + c.shift);
  const std::vector<double> truth = attend<T, double>(c, qkv, kEps);
  std::vector<float> plain = attend<T, float>(c, qkv, kEps);
  for (float& x : plain) x = to_float(from_float<T>(x));

  LinearAttentionProblem problem;
  problem.frames = c.frames, problem.tokens = c.tokens, problem.heads = c.heads, problem.dim = c.dim;
  problem.chunk = c.chunk, problem.eps = kEps;
  for (const sim::Options& options : schedules()) {
    sim::Global<T> from(qkv), out(truth.size());
    sim::Global<float> sums(size_t(c.frames * c.heads * problem.chunks() * problem.sums()));
    const std::string what = c.text() + " " + sim::check::name_of(options);
    if (!sound(sim::launch({grid, 1, 1}, {LinearAttentionSums::kThreads, 1, 1}, {1, 1, 1},
                           LinearAttentionSums::kSharedBytes, options,
                           [&] { linear_attention_sums<T>(from.ptr(), sums.ptr(), problem); }),
               what))
      continue;
    if (sound(sim::launch({grid, 1, 1}, {LinearAttentionApply::kThreads, 1, 1}, {1, 1, 1},
                          LinearAttentionApply::kSharedBytes, options,
                          [&] { linear_attention_apply<T>(from.ptr(), sums.ptr(), out.ptr(), problem); }),
              what))
      accurate(std::vector<T>(out.ptr(), out.ptr() + out.size()), truth, plain, what);
  }
}

}  // namespace

int main() {
  run<float>({.frames = 1, .tokens = 1, .heads = 1, .dim = 1}, 1);
  run<Bf16>({.frames = 2, .tokens = 65, .heads = 2, .dim = 17}, 3);
  run<float>({.frames = 1, .tokens = 300, .heads = 1, .dim = 32}, 2);
  run<Bf16>({.frames = 1, .tokens = 600, .heads = 2, .dim = 32, .chunk = 250}, 2);
  run<float>({.frames = 2, .tokens = 130, .heads = 1, .dim = 70}, 4);
  run<float>({.frames = 1, .tokens = 20, .heads = 1, .dim = 8, .shift = -10}, 1);
  return sim::check::finish("linear_attention");
}

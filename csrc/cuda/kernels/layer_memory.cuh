// Layer memory (paper eq. 6-8) in two kernels: `route` gives every token its weights, a softmax over all
// states, and a mix reads each state once and writes the norm of the weighted sum (post_mix) or the weighted
// sum of the norms (pre_mix). The states are all that costs: 10 KB a token and state at width 5120.
#pragma once

#include "cuda/kernels/norm.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

struct RouteTask {
  const void* input;   ///< [tokens, channels]
  const void* router;  ///< [count, channels]
  const float* bias;   ///< [count] or null
  float* weights;      ///< [tokens, count]
  int64_t tokens, channels;
  int count;
};

/// Softmax over the states of one token, by a warp: a lane has the logits of states `lane` and `lane + 32`.
FSV_DEVICE void write_softmax(const RouteTask& task, int64_t token, float low, float high) {
  const int lane = ptx::lane_id();
  const bool has_low = lane < task.count, has_high = lane + 32 < task.count;
  low = has_low ? low + (task.bias ? ptx::ldg(task.bias + lane) : 0.0f) : -INFINITY;
  high = has_high ? high + (task.bias ? ptx::ldg(task.bias + lane + 32) : 0.0f) : -INFINITY;
  float largest = fmaxf(low, high);
  for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, ptx::shfl_xor(largest, mask));
  low = expf(low - largest), high = expf(high - largest);
  float total = low + high;
  for (int mask = 16; mask > 0; mask /= 2) total += ptx::shfl_xor(total, mask);
  if (token >= task.tokens) return;
  float* weights = task.weights + token * task.count;
  if (has_low) ptx::stg(weights + lane, low / total);
  if (has_high) ptx::stg(weights + lane + 32, high / total);
}

inline constexpr int kRouteThreads = 256;
inline constexpr int kRouteStates = 4;  ///< router rows that a warp multiplies at a time

/// For f32, and for whatever mma cannot take: a warp a token.
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(kRouteThreads, 2) route(RouteTask task) {
  const int64_t step = int64_t{gridDim.x} * (kRouteThreads / 32);
  for (int64_t token = (int64_t{blockIdx.x} * kRouteThreads + threadIdx.x) / 32; token < task.tokens;
       token += step) {
    const T* x = static_cast<const T*>(task.input) + token * task.channels;
    float low = 0, high = 0;
    FSV_ROLLED
    for (int first = 0; first < task.count; first += kRouteStates) {
      float logits[kRouteStates] = {};
      for (int64_t c = ptx::lane_id() * N; c < task.channels; c += 32 * N) {
        float v[N], r[N];
        load(x + c, v);
        FSV_UNROLL
        for (int s = 0; s < kRouteStates; s++) {
          if (first + s >= task.count) continue;
          load(static_cast<const T*>(task.router) + (first + s) * task.channels + c, r);
          FSV_UNROLL
          for (int n = 0; n < N; n++) logits[s] = fmaf(v[n], r[n], logits[s]);
        }
      }
      FSV_UNROLL
      for (int s = 0; s < kRouteStates; s++) {
        for (int mask = 16; mask > 0; mask /= 2) logits[s] += ptx::shfl_xor(logits[s], mask);
        if ((first + s) % 32 == ptx::lane_id()) (first + s < 32 ? low : high) = logits[s];
      }
    }
    write_softmax(task, token, low, high);
  }
}

inline constexpr int kRouteTokens = 32;             ///< of a block of route_mma
inline constexpr int kLogitPitch = kMaxStates + 8;  ///< words: four tokens' eight states are on all banks
inline constexpr int kRouteShared = kRouteTokens * kLogitPitch * 4;
inline constexpr int kRouteChannels = 32;  ///< that a warp multiplies at a time

/// For bf16: logits of 32 tokens against up to 64 states with mma.sync, the warps taking turns along the
/// channels. A lane loads 16 bytes, 8 neighbouring channels, of a token and of a state alike, and gives two
/// neighbours a time to mma where that wants channels 2q and 2q + 8: a dot product does not mind the order as
/// long as both sides agree on it, and nothing has to pass through shared memory.
FSV_KERNEL void FSV_BOUNDS(kRouteThreads, 2) route_mma(RouteTask task) {
  using Words = Pack<uint32_t, 4>;
  constexpr int kWarps = kRouteThreads / 32, kTiles = kMaxStates / 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = ptx::lane_id(), group = lane / 4,
            quad = lane % 4;
  const auto* input = static_cast<const Bf16*>(task.input);
  const auto* router = static_cast<const Bf16*>(task.router);
  const int64_t blocks = (task.tokens + kRouteTokens - 1) / kRouteTokens;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t first = block * kRouteTokens;
    float logits[2][kTiles][4] = {};
    FSV_ROLLED
    for (int64_t k = warp * kRouteChannels; k < task.channels; k += kWarps * kRouteChannels) {
      const int64_t c = k + quad * 8;
      const auto row = [&](const Bf16* from, int64_t index, int64_t rows) {
        if (index >= rows || c >= task.channels) return Words{};
        return ptx::ldg(reinterpret_cast<const Words*>(from + index * task.channels + c));
      };
      Words x[2][2];
      FSV_UNROLL
      for (int i = 0; i < 4; i++) x[i / 2][i % 2] = row(input, first + i * 8 + group, task.tokens);
      FSV_UNROLL
      for (int tile = 0; tile < kTiles; tile++) {
        if (tile * 8 >= task.count) continue;
        const Words r = row(router, tile * 8 + group, task.count);
        FSV_UNROLL
        for (int half = 0; half < 4; half += 2) {
          const uint32_t b[2] = {r.elements[half], r.elements[half + 1]};
          FSV_UNROLL
          for (int m = 0; m < 2; m++) {
            const uint32_t a[4] = {x[m][0].elements[half], x[m][1].elements[half], x[m][0].elements[half + 1],
                                   x[m][1].elements[half + 1]};
            ptx::mma_m16n8k16_bf16(logits[m][tile], a, b);
          }
        }
      }
    }
    // The warps' parts are added in their order.
    const auto place = [&](int token, int state) {
      return ptx::smem_base() + static_cast<uint32_t>(token * kLogitPitch + state) * 4;
    };
    FSV_ROLLED
    for (int turn = 0; turn < kWarps; turn++) {
      if (turn == warp) {
        FSV_UNROLL
        for (int i = 0; i < 2 * kTiles * 2; i++) {
          const int m = i / (kTiles * 2), tile = i / 2 % kTiles, half = i % 2;
          if (tile * 8 >= task.count) continue;
          const uint32_t at = place(m * 16 + half * 8 + group, tile * 8 + quad * 2);
          const float* mine = logits[m][tile] + half * 2;
          const float2 before = turn == 0 ? float2{} : ptx::lds<float2>(at);
          ptx::sts(at, float2{before.x + mine[0], before.y + mine[1]});
        }
      }
      ptx::syncthreads();
    }
    for (int token = warp; token < kRouteTokens; token += kWarps) {
      const float low = lane < task.count ? ptx::lds<float>(place(token, lane)) : 0;
      const float high = lane + 32 < task.count ? ptx::lds<float>(place(token, lane + 32)) : 0;
      write_softmax(task, first + token, low, high);
    }
    ptx::syncthreads();
  }
}

struct MixTask {
  const void* states[kMaxStates];  ///< each [tokens, channels]
  const float* weights;            ///< [tokens, count]
  const float *scale, *shift;      ///< [samples, channels] or null
  void* out;
  float* out_scales;  ///< of an out of fp8: [tokens, ceil(channels / kScaleGroup)]
  int64_t tokens, tokens_a_sample, channels;
  int count, team;
  float eps;
};

/// Packs of a row that a thread keeps in registers, and the most threads of a row.
template <int N>
inline constexpr int kMixHeld = N == 1 ? 4 : 16 / N;
inline constexpr int kMixThreads = 320;
/// Blocks on a multiprocessor, at least. For cards newer than Hopper ptxas wants more registers than two
/// leave.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
inline constexpr int kMixBlocks = 1;
#else
inline constexpr int kMixBlocks = 2;
#endif
inline constexpr int kMixAtOnce = 4;  ///< states that a thread has loads of under way
inline constexpr int kMixStates = 2;  ///< states whose norms are taken together
/// Behind the sums of the rows: mean and factor of every state, for the packs of a row that no register
/// holds.
inline constexpr int kMixShared = kRowShared + kMaxStates * 8;

template <int N>
FSV_DEVICE void modulate(const MixTask& task, int64_t token, int64_t c, float (&v)[N]) {
  const int64_t sample = token / task.tokens_a_sample * task.channels;
  combine_with(v, task.scale, sample + c, [](float a, float b) { return a * (1.0f + b); });
  combine_with(v, task.shift, sample + c, [](float a, float b) { return a + b; });
}

/// Stores a token's row after finish(c, values) and modulation.
template <class Y, int N, class Values, class Finish>
FSV_DEVICE void store_token(const MixTask& task, int64_t token, Values& row, const Finish& finish) {
  const int64_t groups = (task.channels + kScaleGroup - 1) / kScaleGroup;
  store_row<Y, N>(row, static_cast<Y*>(task.out) + token * task.channels, task.out_scales + token * groups,
                  [&](int64_t c, float(&v)[N]) {
                    finish(v);
                    modulate(task, token, c, v);
                  });
}

/// LN(sum_i w_i X_i) (1 + scale) + shift.
template <class T, class Y, int N>
FSV_KERNEL void FSV_BOUNDS(kMixThreads, kMixBlocks) mix_then_norm(MixTask task) {
  Team team(task.team);
  team.each_row(task.tokens, [&](int64_t token, bool present) {
    const float* weights = task.weights + token * task.count;
    const auto mixture = [&](int64_t c) {
      Pack<float, N> sum = {};
      FSV_ROLLED
      for (int first = 0; first < task.count; first += kMixAtOnce) {
        Pack<T, N> x[kMixAtOnce];  // as stored: as many as can be under way
        FSV_UNROLL
        for (int s = 0; s < kMixAtOnce; s++)
          if (first + s < task.count)
            x[s] = load_pack<N>(static_cast<const T*>(task.states[first + s]) + token * task.channels + c);
        FSV_UNROLL
        for (int s = 0; s < kMixAtOnce; s++) {
          if (first + s >= task.count) continue;
          const float weight = ptx::ldg(weights + first + s);
          float v[N];
          widen(x[s], v);
          FSV_UNROLL
          for (int n = 0; n < N; n++) sum.elements[n] = fmaf(weight, v[n], sum.elements[n]);
        }
      }
      return sum;
    };
    Row<N, kMixHeld<N>, decltype(mixture)> row(team, present ? task.channels : 0, mixture);
    const float size = static_cast<float>(task.channels);
    const float mean = team.sum(row.sum()) / size;
    const float factor = 1.0f / sqrtf(team.sum(row.squares(mean)) / size + task.eps);
    store_token<Y, N>(task, token, row, [&](float(&v)[N]) {
      FSV_UNROLL
      for (int n = 0; n < N; n++) v[n] = (v[n] - mean) * factor;
    });
  });
}

/// (sum_i w_i LN(X_i)) (1 + scale) + shift.
template <class T, class Y, int N>
FSV_KERNEL void FSV_BOUNDS(kMixThreads, kMixBlocks) norm_then_mix(MixTask task) {
  const float size = static_cast<float>(task.channels);
  const uint32_t norms = ptx::smem_base() + kRowShared;
  Team team(task.team);
  const bool longer =
      task.channels > int64_t{team.size()} * kMixHeld<N> * N;  // than registers: the team is the block
  team.each_row(task.tokens, [&](int64_t token, bool present) {
    const auto source_of = [&](int i) {
      const T* x = static_cast<const T*>(task.states[i]) + token * task.channels;
      return [x](int64_t c) { return load_pack<N>(x + c); };
    };
    using StateRow = Row<N, kMixHeld<N>, decltype(source_of(0))>;
    const auto row_of = [&](int i) {
      const bool there = present && i < task.count;
      return StateRow(team, there ? task.channels : 0, source_of(there ? i : 0));
    };
    Pack<float, N> mixed[kMixHeld<N>] = {};
    FSV_ROLLED
    for (int first = 0; first < task.count; first += kMixStates) {
      StateRow rows[kMixStates] = {row_of(first), row_of(first + 1)};
      float means[kMixStates], squares[kMixStates];
      FSV_UNROLL
      for (int s = 0; s < kMixStates; s++) means[s] = rows[s].sum();
      team.sum(means);
      FSV_UNROLL
      for (int s = 0; s < kMixStates; s++) squares[s] = rows[s].squares(means[s] /= size);
      team.sum(squares);
      FSV_UNROLL
      for (int s = 0; s < kMixStates; s++) {
        if (!present || first + s >= task.count) continue;
        const float weight = ptx::ldg(task.weights + token * task.count + first + s);
        const float factor = weight / sqrtf(squares[s] / size + task.eps);
        rows[s].add_held(means[s], factor, mixed);
        if (!longer || team.rank() > 0) continue;  // whoever still reads those of the last token met above
        ptx::sts(norms + static_cast<uint32_t>(first + s) * 8, means[s]);
        ptx::sts(norms + static_cast<uint32_t>(first + s) * 8 + 4, factor);
      }
    }
    if (longer) ptx::syncthreads();
    const auto mixture = [&](int64_t c) {
      Pack<float, N> sum = {};
      FSV_ROLLED
      for (int i = 0; i < task.count; i++) {
        const float mean = ptx::lds<float>(norms + static_cast<uint32_t>(i) * 8);
        const float factor = ptx::lds<float>(norms + static_cast<uint32_t>(i) * 8 + 4);
        float x[N];
        load(static_cast<const T*>(task.states[i]) + token * task.channels + c, x);
        FSV_UNROLL
        for (int n = 0; n < N; n++) sum.elements[n] = fmaf(x[n] - mean, factor, sum.elements[n]);
      }
      return sum;
    };
    Row<N, kMixHeld<N>, decltype(mixture)> row(team, present ? task.channels : 0, mixture, mixed);
    store_token<Y, N>(task, token, row, [](float(&)[N]) {});
  });
}

}  // namespace fsv::cuda::kernels

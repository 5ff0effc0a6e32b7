// Rows of channels shared by threads: who has which part, sums over all of it, and the row's values in
// registers, so that a norm reads memory once.
#pragma once

#include <utility>

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/scale.cuh"

namespace fsv::cuda::kernels {

/// The most threads of a block of rows, and what its sums take of shared memory.
inline constexpr int kRowThreads = 320;
inline constexpr int kMostSums = 2;
inline constexpr int kSumHalf = kRowThreads / 32 * kMostSums * 4;
inline constexpr int kRowShared = 2 * kSumHalf;

/// The threads that share a row: a power of two of a warp, or all warps of the block.
class Team {
 public:
  FSV_DEVICE explicit Team(int size)
      : size_(size), rank_(static_cast<int>(size > 32 ? threadIdx.x : threadIdx.x % size)) {}

  FSV_DEVICE int size() const { return size_; }
  FSV_DEVICE int rank() const { return rank_; }

  /// body(row, present) for the rows of this team; as often in all threads of the block, which then meet in
  /// sums, and without `present` where there is no row left.
  template <class Body>
  FSV_DEVICE void each_row(int64_t rows, const Body& body) const {
    const int teams = size_ > 32 ? 1 : static_cast<int>(blockDim.x) / size_;
    const int mine = size_ > 32 ? 0 : static_cast<int>(threadIdx.x) / size_;
    FSV_ROLLED
    for (int64_t first = int64_t{blockIdx.x} * teams; first < rows; first += int64_t{gridDim.x} * teams)
      body(first + mine, first + mine < rows);
  }

  /// Every value summed over the team, in an order that depends on its size alone.
  template <int K>
  FSV_DEVICE void sum(float (&values)[K]) {
    reduce(values, [](float a, float b) { return a + b; });
  }
  FSV_DEVICE float sum(float value) {
    float values[1] = {value};
    sum(values);
    return values[0];
  }
  FSV_DEVICE float largest(float value) {
    float values[1] = {value};
    reduce(values, [](float a, float b) { return fmaxf(a, b); });
    return values[0];
  }

 private:
  template <int K, class Op>
  FSV_DEVICE void reduce(float (&values)[K], const Op& op) {
    static_assert(K <= kMostSums);
    for (int mask = (size_ < 32 ? size_ : 32) / 2; mask > 0; mask /= 2) {
      FSV_UNROLL
      for (int k = 0; k < K; k++) values[k] = op(values[k], ptx::shfl_xor(values[k], mask));
    }
    if (size_ <= 32) return;
    const uint32_t scratch = ptx::smem_base() + half_;
    half_ ^= kSumHalf;  // a thread that is late may still read this result when another writes the next
    if (rank_ % 32 == 0) {
      FSV_UNROLL
      for (int k = 0; k < K; k++)
        ptx::sts(scratch + static_cast<uint32_t>(rank_ / 32 * K + k) * 4, values[k]);
    }
    ptx::syncthreads();
    FSV_UNROLL
    for (int k = 0; k < K; k++) values[k] = ptx::lds<float>(scratch + static_cast<uint32_t>(k) * 4);
    FSV_ROLLED
    for (int warp = 1; warp < size_ / 32; warp++) {
      FSV_UNROLL
      for (int k = 0; k < K; k++)
        values[k] = op(values[k], ptx::lds<float>(scratch + static_cast<uint32_t>(warp * K + k) * 4));
    }
  }

  int size_, rank_;
  uint32_t half_ = 0;
};

/// The packs of a row that belong to one thread: rank, rank + size, and so on. `source(c)` gives the N
/// channels from c on. The first kHeld packs are asked for once and stay in registers, as narrow as they
/// came: what is under way to registers is what hides the memory's latency. Of a row that is longer than the
/// team can hold, the others are asked for again by every pass.
template <int N, int kHeld, class Source>
class Row {
 public:
  using Held = decltype(std::declval<Source>()(int64_t{0}));

  FSV_DEVICE Row(const Team& team, int64_t channels, const Source& source)
      : first_(int64_t{team.rank()} * N),
        step_(int64_t{team.size()} * N),
        channels_(channels),
        source_(source) {
    each_held([&](int64_t c, Held& held) { held = source_(c); });
  }
  /// With what it holds already at hand.
  FSV_DEVICE Row(const Team& team, int64_t channels, const Source& source, const Held (&held)[kHeld])
      : Row(team, 0, source) {
    channels_ = channels;
    FSV_UNROLL
    for (int h = 0; h < kHeld; h++) held_[h] = held[h];
  }

  /// body(c, values) for every pack.
  template <class Body>
  FSV_DEVICE void each(const Body& body) {
    const auto widely = [&](int64_t c, const Held& held) {
      float values[N];
      widen(held, values);
      body(c, values);
    };
    each_held(widely);
    FSV_ROLLED
    for (int64_t c = first_ + kHeld * step_; c < channels_; c += step_) widely(c, source_(c));
  }

  /// body(c, values, present) for every pack in step: as often in all threads that share the row, or a warp
  /// with its team, so that they may meet in shuffles. Packs that are not there are zeros.
  template <class Body>
  FSV_DEVICE void each_in_step(const Body& body) {
    FSV_UNROLL
    for (int h = 0; h < kHeld; h++) {
      const int64_t c = first_ + h * step_;
      float values[N] = {};
      if (c < channels_) widen(held_[h], values);
      body(c, values, c < channels_);
    }
    FSV_ROLLED
    for (int64_t start = kHeld * step_; start < channels_; start += step_) {
      const int64_t c = first_ + start;
      float values[N] = {};
      if (c < channels_) widen(source_(c), values);
      body(c, values, c < channels_);
    }
  }

  FSV_DEVICE float sum() {
    float total = 0;
    each([&](int64_t, const float(&v)[N]) {
      FSV_UNROLL
      for (int n = 0; n < N; n++) total += v[n];
    });
    return total;
  }

  /// Of (v - mean)^2.
  FSV_DEVICE float squares(float mean) {
    float total = 0;
    each([&](int64_t, const float(&v)[N]) {
      FSV_UNROLL
      for (int n = 0; n < N; n++) {
        const float d = v[n] - mean;
        total = fmaf(d, d, total);
      }
    });
    return total;
  }

  /// sums[h] += factor * (what is held - mean).
  FSV_DEVICE void add_held(float mean, float factor, Pack<float, N> (&sums)[kHeld]) const {
    FSV_UNROLL
    for (int h = 0; h < kHeld; h++) {
      if (first_ + h * step_ >= channels_) continue;
      float values[N];
      widen(held_[h], values);
      FSV_UNROLL
      for (int n = 0; n < N; n++) sums[h].elements[n] = fmaf(values[n] - mean, factor, sums[h].elements[n]);
    }
  }

 private:
  template <class Body>
  FSV_DEVICE void each_held(const Body& body) {
    FSV_UNROLL
    for (int h = 0; h < kHeld; h++)
      if (first_ + h * step_ < channels_) body(first_ + h * step_, held_[h]);
  }

  int64_t first_, step_, channels_;
  Source source_;
  Held held_[kHeld];
};

/// Lanes whose packs of N make one group of channels with a scale. A team that stores fp8 is no smaller.
template <int N>
inline constexpr int kScaleLanes = kScaleGroup / N;

/// Stores a row after finish(c, values) of every pack, its elements at `out` and, of fp8, the groups' scales
/// at `scales`.
template <class Y, int N, class Values, class Finish>
FSV_DEVICE void store_row(Values& row, Y* out, float* scales, const Finish& finish) {
  if constexpr (!std::is_same_v<Y, F8e4m3>) {
    row.each([&](int64_t c, float(&v)[N]) {
      finish(c, v);
      store(out + c, v);
    });
  } else {
    row.each_in_step([&](int64_t c, float(&v)[N], bool present) {
      if (present) finish(c, v);
      float largest = 0;
      FSV_UNROLL
      for (int n = 0; n < N; n++) largest = fmaxf(largest, fabsf(v[n]));
      const float scale = fp8_scale(largest_of_lanes<kScaleLanes<N>>(largest)), inverse = 1.0f / scale;
      if (!present) return;
      if (c % kScaleGroup == 0) ptx::stg(scales + c / kScaleGroup, scale);
      FSV_UNROLL
      for (int n = 0; n < N; n++) v[n] *= inverse;
      store(out + c, v);
    });
  }
}

}  // namespace fsv::cuda::kernels

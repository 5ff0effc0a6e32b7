// Statistics of group_norm: mean and squared deviations of every group in pieces of a sample, then the pieces
// merged in their order. What is a piece follows from the shape alone, so a sample's bits do too.
#pragma once

#include "cuda/kernels/pack.cuh"

namespace fsv::cuda::kernels {

inline constexpr int kStatsThreads = 256;
inline constexpr int kStatsHeld = 8;  ///< packs that a thread keeps in registers

/// Mean and sum of squared deviations.
struct alignas(8) Spread {
  float mean, squares;
};

/// A sample [rows, channels] is cut into `pieces` of rows and `tiles` of channels, one block each. A tile is
/// several whole groups, or, of a group wider than a tile, a part. So a slot, the channels of a tile that are
/// of one group, is what statistics are of: `slots` a tile.
struct GroupStatsTask {
  const void* x;
  Spread* stats;  ///< [samples, pieces, groups * parts]
  int64_t rows, rows_a_piece, pieces, channels;
  int groups, parts;  ///< parts of a group: 1, or slots is 1
  int width;          ///< channels of a slot; the last part of a group may have fewer
  int slots, tiles;
};

/// First channel of slot `index` of a sample.
FSV_HOST_DEVICE int64_t slot_start(const GroupStatsTask& task, int index) {
  const int64_t group = task.channels / task.groups;
  return index / task.parts * group + int64_t{index % task.parts} * task.width;
}
FSV_HOST_DEVICE int slot_width(const GroupStatsTask& task, int index) {
  const int64_t group = task.channels / task.groups, left = group - int64_t{index % task.parts} * task.width;
  return static_cast<int>(left < task.width ? left : task.width);
}

/// Chan, Golub and LeVeque's way to merge the statistics of two sets.
template <class Real>
FSV_HOST_DEVICE void merge(Real& count, Real& mean, Real& squares, Real other_count, Real other_mean,
                           Real other_squares) {
  if (other_count == 0) return;
  const Real total = count + other_count, distance = other_mean - mean;
  mean += distance * (other_count / total);
  squares += other_squares + distance * distance * count * (other_count / total);
  count = total;
}

/// How the threads of a block share a tile of slots x width channels in packs, and where their sums meet.
/// Lanes of a tile are threads that have the same columns and rows of their own. A thread adds up its columns
/// of a slot in registers first, so a slot has a sum from each of up to `sharers` threads of every lane.
/// Lanes are `pitch` words apart, which is `sharers` modulo the banks: the sums of a slot, lane by lane, lie
/// on one bank after the other, and so do those that the threads of narrow slots put there.
struct StatsLayout {
  int columns, lanes, sharers, pitch;

  FSV_HOST_DEVICE StatsLayout(int slots, int width, int pack)
      : columns(slots * width / pack), lanes(kStatsThreads / columns) {
    const int even = width & -width, common = even < pack ? even : pack;  // a power of two, as packs are
    sharers = (width + pack - common + pack - 1) / pack;
    pitch = sharers + ((slots - 1) * sharers + 31) / 32 * 32;
  }
  FSV_HOST_DEVICE int words() const { return (lanes * pitch + 1) / 2 * 2; }
};

/// Shared memory: the sums, then the running statistics of the slots and their means.
constexpr int stats_shared(int words_of_sums, int slots) { return (words_of_sums + 3 * slots) * 4; }

template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(kStatsThreads, 2) group_stats(GroupStatsTask task) {
  const int tile = static_cast<int>(blockIdx.y), first_slot = tile * task.slots;
  const int all_slots = task.groups * task.parts;
  const int slots = all_slots - first_slot < task.slots ? all_slots - first_slot : task.slots;
  const int64_t start = slot_start(task, first_slot);
  const int width = slots == 1 ? slot_width(task, first_slot) : task.width;
  const StatsLayout layout(slots, width, N);
  const int lanes = layout.lanes, lane = static_cast<int>(threadIdx.x) / layout.columns;
  const int column_of_lane = static_cast<int>(threadIdx.x) - lane * layout.columns, c = column_of_lane * N;
  const bool busy = lane < lanes;
  const uint32_t sums = ptx::smem_base(), running = sums + static_cast<uint32_t>(layout.words()) * 4;
  const uint32_t means = running + static_cast<uint32_t>(slots) * 8;
  const auto sum_of = [&](int lane, int slot, int sharer) {
    return sums + static_cast<uint32_t>(lane * layout.pitch + slot * layout.sharers + sharer) * 4;
  };

  int slot[N];
  FSV_UNROLL
  for (int n = 0; n < N; n++) slot[n] = busy ? (c + n) / width : 0;
  const auto put_sums = [&](const float(&values)[N]) {
    if (!busy) return;
    float sum = 0;
    FSV_UNROLL
    for (int n = 0; n < N; n++) {
      sum += values[n];
      if (n < N - 1 && slot[n + 1 < N ? n + 1 : n] == slot[n]) continue;
      ptx::sts(sum_of(lane, slot[n], column_of_lane - slot[n] * width / N), sum);
      sum = 0;
    }
  };
  // body(slot, the sum over its columns of all lanes), a slot to a warp.
  const auto each_slot = [&](const auto& body) {
    for (int s = static_cast<int>(threadIdx.x) / 32; s < slots; s += kStatsThreads / 32) {
      const int sharers = ((s + 1) * width - 1) / N + 1 - s * width / N;
      float total = 0;
      for (int i = ptx::lane_id(); i < lanes * layout.sharers; i += 32) {
        const int from = i / layout.sharers, sharer = i - from * layout.sharers;
        if (sharer < sharers) total += ptx::lds<float>(sum_of(from, s, sharer));
      }
      for (int mask = 16; mask > 0; mask /= 2) total += ptx::shfl_xor(total, mask);
      body(s, total);
    }
  };

  const int64_t sample = blockIdx.x / task.pieces, piece = blockIdx.x - sample * task.pieces;
  const int64_t begin = piece * task.rows_a_piece;
  const int64_t end = begin + task.rows_a_piece < task.rows ? begin + task.rows_a_piece : task.rows;
  const T* x = static_cast<const T*>(task.x) + sample * task.rows * task.channels + start + c;
  FSV_ROLLED
  for (int64_t row = begin; row < end; row += int64_t{lanes} * kStatsHeld) {
    const int64_t left = end - row, most = int64_t{lanes} * kStatsHeld;
    const float size = static_cast<float>((left < most ? left : most) * width);
    Pack<T, N> held[kStatsHeld];  // as stored: half the registers for bf16
    float column[N] = {};
    FSV_UNROLL
    for (int h = 0; h < kStatsHeld; h++) {
      const int64_t r = row + int64_t{h} * lanes + lane;
      if (busy && r < end) held[h] = load_pack<N>(x + r * task.channels);
    }
    FSV_UNROLL
    for (int h = 0; h < kStatsHeld; h++) {
      if (!busy || row + int64_t{h} * lanes + lane >= end) continue;
      float v[N];
      widen(held[h], v);
      FSV_UNROLL
      for (int n = 0; n < N; n++) column[n] += v[n];
    }
    put_sums(column);
    ptx::syncthreads();
    each_slot([&](int s, float total) {
      if (ptx::lane_id() == 0) ptx::sts(means + static_cast<uint32_t>(s) * 4, total / size);
    });
    ptx::syncthreads();

    float mean[N];
    FSV_UNROLL
    for (int n = 0; n < N; n++) {
      const bool known = n > 0 && slot[n > 0 ? n - 1 : 0] == slot[n];
      mean[n] = known ? mean[n > 0 ? n - 1 : 0] : ptx::lds<float>(means + static_cast<uint32_t>(slot[n]) * 4);
      column[n] = 0;
    }
    FSV_UNROLL
    for (int h = 0; h < kStatsHeld; h++) {
      if (!busy || row + int64_t{h} * lanes + lane >= end) continue;
      float v[N];
      widen(held[h], v);
      FSV_UNROLL
      for (int n = 0; n < N; n++) {
        const float d = v[n] - mean[n];
        column[n] = fmaf(d, d, column[n]);
      }
    }
    put_sums(column);
    ptx::syncthreads();
    each_slot([&](int s, float total) {
      if (ptx::lane_id() != 0) return;
      const uint32_t at = running + static_cast<uint32_t>(s) * 8;
      float before = static_cast<float>((row - begin) * width);
      Spread now = {};
      if (row > begin) now = ptx::lds<Spread>(at);
      merge(before, now.mean, now.squares, size, ptx::lds<float>(means + static_cast<uint32_t>(s) * 4),
            total);
      ptx::sts(at, now);
    });
    ptx::syncthreads();
  }
  for (int s = static_cast<int>(threadIdx.x); s < slots; s += kStatsThreads) {
    ptx::stg(task.stats + (int64_t{blockIdx.x} * all_slots + first_slot + s),
             ptx::lds<Spread>(running + static_cast<uint32_t>(s) * 8));
  }
}

struct GroupMergeTask {
  GroupStatsTask stats;
  const float* weight;  ///< [channels] or null
  float *mean, *scale;  ///< [samples, channels], as affine wants them
  int64_t samples;
  float eps;
};

/// A warp a group of a sample.
FSV_KERNEL void FSV_BOUNDS(kStatsThreads, 2) group_merge(GroupMergeTask task) {
  const GroupStatsTask& of = task.stats;
  const int64_t step = int64_t{gridDim.x} * (kStatsThreads / 32), all = task.samples * of.groups;
  const int64_t entries = of.pieces * of.parts, group_width = of.channels / of.groups;
  for (int64_t i = (int64_t{blockIdx.x} * kStatsThreads + threadIdx.x) / 32; i < all; i += step) {
    const int64_t sample = i / of.groups, group = i - sample * of.groups;
    double count = 0, mean = 0, squares = 0;
    FSV_ROLLED
    for (int64_t entry = ptx::lane_id(); entry < entries; entry += 32) {
      const int64_t piece = entry / of.parts, slot = group * of.parts + (entry - piece * of.parts);
      const int64_t left = of.rows - piece * of.rows_a_piece;
      const int64_t rows = left < of.rows_a_piece ? left : of.rows_a_piece;
      const Spread spread = ptx::ldg(of.stats + ((sample * of.pieces + piece) * of.groups * of.parts + slot));
      merge<double>(count, mean, squares, static_cast<double>(rows * slot_width(of, static_cast<int>(slot))),
                    spread.mean, spread.squares);
    }
    for (int delta = 16; delta > 0; delta /= 2) {
      const double other_count = ptx::shfl_xor(count, delta), other_mean = ptx::shfl_xor(mean, delta),
                   other_squares = ptx::shfl_xor(squares, delta);
      merge(count, mean, squares, other_count, other_mean, other_squares);
    }
    mean = ptx::shfl(mean, 0), squares = ptx::shfl(squares, 0), count = ptx::shfl(count, 0);
    const double factor = 1 / sqrt(squares / count + static_cast<double>(task.eps));
    for (int64_t c = ptx::lane_id(); c < group_width; c += 32) {
      const int64_t channel = group * group_width + c;
      const double weight = task.weight ? static_cast<double>(ptx::ldg(task.weight + channel)) : 1.0;
      ptx::stg(task.mean + sample * of.channels + channel, static_cast<float>(mean));
      ptx::stg(task.scale + sample * of.channels + channel, static_cast<float>(factor * weight));
    }
  }
}

}  // namespace fsv::cuda::kernels

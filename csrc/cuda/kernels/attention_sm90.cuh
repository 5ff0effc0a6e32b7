// Attention on Hopper, bf16, heads of at most 128 (a tile of 64 or 128 columns; TMA gives zeros for columns
// that a smaller head lacks). The design is FlashAttention-3's (arXiv 2407.08608): one thread loads by TMA,
// two warpgroups of 64 queries each compute. In a warpgroup the scores of block j are on the tensor cores
// together with the probabilities of block j - 1 times its values, and then the softmax of block j runs under
// the latter; and the two warpgroups take turns, so that one's softmax runs under the other's products.
// Probabilities never leave registers.
//
// A tile's result takes the place of its queries in shared memory, from where TMA stores it. There are two
// such places, so the next tile's queries arrive while this one is computed.
#pragma once

#include "cuda/kernels/attention.cuh"

namespace fsv::cuda::kernels {

template <int kHeadDim, int kKeyBlock, bool kWithBias>
struct AttentionSm90 {
  static constexpr int kDim = kHeadDim;
  static constexpr int kKeys = kKeyBlock;
  static constexpr bool kBias = kWithBias;
  static constexpr int kGroupQueries = 64;  ///< of a warpgroup
  static constexpr int kQueries = 2 * kGroupQueries;
  static constexpr int kThreads = 3 * 128;
  static constexpr int kStages = 2;
  static_assert(kDim % 64 == 0 && kDim <= 128, "a head is one or two panels of 64 columns");
  static_assert(kKeys % 16 == 0 && kKeys <= 256, "probabilities enter the second product 16 keys at a time");

  // A tile of any operand is panels of 64 columns: rows of 128 bytes, swizzled as TMA and wgmma have it.
  static constexpr int kPanels = kDim / 64;
  static constexpr uint32_t kQueryPanel = kQueries * 128, kGroupPanel = kGroupQueries * 128;
  static constexpr uint32_t kKeyPanel = kKeys * 128;
  static constexpr uint32_t kQueryBytes = kPanels * kQueryPanel, kKeyBytes = kPanels * kKeyPanel;
  static constexpr uint32_t kBarriers = 6 * kStages + 1;
  static constexpr uint32_t kSharedBytes = 1024 + kStages * (kQueryBytes + 2 * kKeyBytes) + 8 * kBarriers;
};

/// Named barriers: `turn` of a warpgroup to issue its products, and its own meeting point.
inline constexpr int kTurnBarrier = 1, kGroupBarrier = 3;

/// Where things lie in shared memory. A ring of kStages places: use number n is of place n % kStages.
template <class Tile>
struct AttentionSm90Memory {
  uint32_t base = ptx::align_up(ptx::smem_base(), 1024);

  enum Ring { kQuery, kKey, kValue };
  static constexpr uint32_t kEnd = Tile::kStages * (Tile::kQueryBytes + 2 * Tile::kKeyBytes);

  FSV_DEVICE uint32_t queries(uint32_t n) const { return base + place(n) * Tile::kQueryBytes; }
  FSV_DEVICE uint32_t keys(uint32_t n) const {
    return base + Tile::kStages * Tile::kQueryBytes + place(n) * Tile::kKeyBytes;
  }
  FSV_DEVICE uint32_t values(uint32_t n) const { return keys(n) + Tile::kStages * Tile::kKeyBytes; }
  FSV_DEVICE uint32_t full(Ring ring, uint32_t n) const {
    return base + kEnd + 8 * (2 * Tile::kStages * ring + place(n));
  }
  FSV_DEVICE uint32_t empty(Ring ring, uint32_t n) const { return full(ring, n) + 8 * Tile::kStages; }
  FSV_DEVICE uint32_t landed() const { return base + kEnd + 8 * (Tile::kBarriers - 1); }

  static FSV_DEVICE uint32_t place(uint32_t n) { return n % Tile::kStages; }
  static FSV_DEVICE uint32_t parity(uint32_t n) { return n / Tile::kStages % 2; }

  FSV_DEVICE void wait_full(Ring ring, uint32_t n) const { ptx::mbar_wait(full(ring, n), parity(n)); }
  FSV_DEVICE void wait_empty(Ring ring, uint32_t n) const { ptx::mbar_wait(empty(ring, n), parity(n) ^ 1); }

  FSV_DEVICE void init() const {
    for (uint32_t n = 0; n < Tile::kStages; n++)
      for (Ring ring : {kQuery, kKey, kValue}) {
        ptx::mbar_init(full(ring, n), 1);
        ptx::mbar_init(empty(ring, n), 2);  // one arrival of each warpgroup
      }
    ptx::mbar_init(landed(), 1);
    ptx::fence_mbar_init();
  }
};

/// Blocks of keys of a sample. At least one, so that a sample without keys takes the same way as all others:
/// every score masked, every value zero.
template <class Tile>
FSV_DEVICE int key_blocks(int length) {
  return length > Tile::kKeys ? (length + Tile::kKeys - 1) / Tile::kKeys : 1;
}

/// Keys of the sample in its last block.
template <class Tile>
FSV_DEVICE int last_keys(int length) {
  return length - (key_blocks<Tile>(length) - 1) * Tile::kKeys;
}

/// Values of keys beyond a sample's length may be anything, NaN included, and zero times that must not count:
/// the block that has such rows is cleared there before it is announced. (Beyond the tensor TMA gives zeros.)
template <class Tile>
FSV_DEVICE bool must_clear(const AttentionProblem& problem, int length) {
  return length < problem.keys && last_keys<Tile>(length) < Tile::kKeys;
}

// ------------------------------------------------------------------------------------- the warps that load

/// kRows rows of a head, one box a panel of 64 columns.
template <int kPanels, uint32_t kPanelBytes>
FSV_DEVICE void load_panels(uint32_t to, const ptx::TensorMap* map, uint32_t barrier, int row, int head,
                            int sample) {
  FSV_UNROLL
  for (int p = 0; p < kPanels; p++)
    ptx::tma_load_4d(to + p * kPanelBytes, map, barrier, 64 * p, head, row, sample);
}

/// One thread: with a warp in its place, a lane that lags two phases of a barrier would wait for ever.
template <class Tile>
FSV_DEVICE void attention_load(const AttentionSm90Memory<Tile>& memory, const ptx::TensorMap* query_map,
                               const ptx::TensorMap* key_map, const ptx::TensorMap* value_map,
                               const AttentionProblem& problem) {
  using Memory = AttentionSm90Memory<Tile>;
  for (const ptx::TensorMap* map : {query_map, key_map, value_map}) ptx::tma_prefetch_desc(map);
  uint32_t tiles = 0, blocks = 0;
  for (int index = blockIdx.x; index < problem.tiles; index += gridDim.x, tiles++) {
    const AttentionTile<int> tile(problem, index, Tile::kQueries);
    const int length = static_cast<int>(key_length(problem, tile.sample));
    const int count = key_blocks<Tile>(length);
    // In the order in which they are needed: the keys of a block, then the values of the one before it.
    for (int j = 0; j <= count; j++) {
      if (j < count) {
        const uint32_t n = blocks + j;
        memory.wait_empty(Memory::kKey, n);
        ptx::mbar_arrive_expect_tx(memory.full(Memory::kKey, n), Tile::kKeyBytes);
        load_panels<Tile::kPanels, Tile::kKeyPanel>(memory.keys(n), key_map, memory.full(Memory::kKey, n),
                                                    j * Tile::kKeys, tile.head, tile.sample);
      }
      if (j == 0) {
        memory.wait_empty(Memory::kQuery, tiles);
        const uint32_t full = memory.full(Memory::kQuery, tiles);
        ptx::mbar_arrive_expect_tx(full, Tile::kQueryBytes);
        for (int group = 0; group < 2; group++)
          load_panels<Tile::kPanels, Tile::kQueryPanel>(
              memory.queries(tiles) + group * Tile::kGroupPanel, query_map, full,
              tile.first_query + group * Tile::kGroupQueries, tile.head, tile.sample);
      } else {
        const uint32_t n = blocks + j - 1;
        const bool clear = j == count && must_clear<Tile>(problem, length);
        const uint32_t landed = clear ? memory.landed() : memory.full(Memory::kValue, n);
        memory.wait_empty(Memory::kValue, n);
        ptx::mbar_arrive_expect_tx(landed, Tile::kKeyBytes);
        load_panels<Tile::kPanels, Tile::kKeyPanel>(memory.values(n), value_map, landed,
                                                    (j - 1) * Tile::kKeys, tile.head, tile.sample);
        if (clear) memory.wait_full(Memory::kValue, n);  // then `landed` is free again
      }
    }
    blocks += count;
  }
}

/// The warp that clears the last block of values of a tile, where that must be.
template <class Tile>
FSV_DEVICE void attention_clear(const AttentionSm90Memory<Tile>& memory, const AttentionProblem& problem) {
  using Memory = AttentionSm90Memory<Tile>;
  uint32_t blocks = 0, cleared = 0;
  for (int index = blockIdx.x; index < problem.tiles; index += gridDim.x) {
    const AttentionTile<int> tile(problem, index, Tile::kQueries);
    const int length = static_cast<int>(key_length(problem, tile.sample));
    blocks += key_blocks<Tile>(length);
    if (!must_clear<Tile>(problem, length)) continue;
    ptx::mbar_wait(memory.landed(), cleared++ % 2);
    for (int p = 0; p < Tile::kPanels; p++)
      for (uint32_t at = last_keys<Tile>(length) * 128 + ptx::lane_id() * 16; at < Tile::kKeyPanel;
           at += 32 * 16)
        ptx::sts(memory.values(blocks - 1) + p * Tile::kKeyPanel + at, uint4{});
    ptx::fence_proxy_async();
    ptx::syncwarp();
    if (ptx::lane_id() == 0) ptx::mbar_arrive(memory.full(Memory::kValue, blocks - 1));
  }
}

// --------------------------------------------------------------------------------- the computing warpgroups

/// s = q k^T, 64 queries by kKeys keys: both operands as they came, rows along the reduction.
template <class Tile>
FSV_DEVICE void issue_scores(float (&s)[Tile::kKeys / 2], uint32_t queries, uint32_t keys) {
  const uint64_t q = ptx::gmma_desc(queries, 16, 1024, ptx::SW_128);
  const uint64_t k = ptx::gmma_desc(keys, 16, 1024, ptx::SW_128);
  ptx::wgmma_fence();
  FSV_UNROLL
  for (int i = 0; i < Tile::kDim / 16; i++)
    ptx::wgmma_bf16<Tile::kKeys>(s, q + ((i / 4 * Tile::kQueryPanel + i % 4 * 32) >> 4),
                                 k + ((i / 4 * Tile::kKeyPanel + i % 4 * 32) >> 4), i != 0);
  ptx::wgmma_commit();
}

/// o = p v, or o += p v: the reduction runs over the rows of v, which wgmma transposes as it reads.
template <class Tile>
FSV_DEVICE void issue_values(float (&o)[Tile::kDim / 2], const uint32_t (&p)[Tile::kKeys / 16][4],
                             uint32_t values, bool add) {
  const uint64_t v = ptx::gmma_desc(values, Tile::kKeyPanel, 1024, ptx::SW_128);
  ptx::wgmma_fence();
  FSV_UNROLL
  for (int i = 0; i < Tile::kKeys / 16; i++)
    ptx::wgmma_bf16_rs<Tile::kDim, ptx::MN_MAJOR>(o, p[i], v + (i * 2048 >> 4), add || i != 0);
  ptx::wgmma_commit();
}

/// The finished rows of a warpgroup to where its queries were, and from there to memory.
template <class Tile>
FSV_DEVICE void store_result(const float (&o)[Tile::kDim / 2], uint32_t place, const ptx::TensorMap* map,
                             int group, int row, int head, int sample, int queries) {
  const int lane = ptx::lane_id(), thread = threadIdx.x % 128;
  const uint32_t to = place + (thread / 32 * 16 + lane % 16) * 128;
  FSV_UNROLL
  for (int j = 0; j < Tile::kDim / 16; j++) {
    uint32_t r[4];
    pack_columns(r, o, j);
    ptx::stmatrix_x4(ptx::swizzle(ptx::SW_128, to + j / 4 * Tile::kQueryPanel + j % 4 * 32 + lane / 16 * 16),
                     r[0], r[1], r[2], r[3]);
  }
  ptx::fence_proxy_async();
  ptx::bar_sync(kGroupBarrier + group, 128);
  if (thread == 0 && row < queries) {
    FSV_UNROLL
    for (int p = 0; p < Tile::kPanels; p++)
      ptx::tma_store_4d(map, place + p * Tile::kQueryPanel, 64 * p, head, row, sample);
    ptx::bulk_commit();
  }
}

template <class Tile>
FSV_DEVICE void attention_compute(const AttentionSm90Memory<Tile>& memory, const ptx::TensorMap* out_map,
                                  const AttentionProblem& problem) {
  using Memory = AttentionSm90Memory<Tile>;
  const int group = threadIdx.x / 128 - 1, warp = threadIdx.x % 128 / 32;
  const bool leader = threadIdx.x % 128 == 0;
  const float scale = Tile::kBias ? 1.0f : problem.scale * kLog2E;
  const auto release = [&](typename Memory::Ring ring, uint32_t n) {
    if (leader) ptx::mbar_arrive(memory.empty(ring, n));
  };
  float o[Tile::kDim / 2], s[Tile::kKeys / 2];
  uint32_t p[Tile::kKeys / 16][4];
  uint32_t tiles = 0, n = 0;  // n: block of keys

  if (leader) ptx::tma_prefetch_desc(out_map);
  if (group == 1) ptx::bar_arrive(kTurnBarrier, 256);  // the first turn is the first group's
  for (int index = blockIdx.x; index < problem.tiles; index += gridDim.x, tiles++) {
    const AttentionTile<int> tile(problem, index, Tile::kQueries);
    const int row = tile.first_query + group * Tile::kGroupQueries;
    const int length = static_cast<int>(key_length(problem, tile.sample));
    const int count = key_blocks<Tile>(length);
    const uint32_t queries = memory.queries(tiles) + group * Tile::kGroupPanel;
    RowSoftmax softmax;
    float keep[2];
    const auto soften = [&](int j) {
      if constexpr (Tile::kBias)
        scale_and_bias(s, problem, tile.head, row + warp * 16, int64_t{j} * Tile::kKeys);
      if (j == count - 1) mask_columns(s, length - j * Tile::kKeys);
      softmax.step(s, scale, keep);
    };

    memory.wait_full(Memory::kQuery, tiles);
    memory.wait_full(Memory::kKey, n);
    issue_scores<Tile>(s, queries, memory.keys(n));
    ptx::wgmma_wait<0>(s);
    release(Memory::kKey, n);
    soften(0);
    FSV_UNROLL
    for (int i = 0; i < Tile::kKeys / 16; i++) pack_columns(p[i], s, i);
    if (leader && tiles > 0) {  // by now the previous result has left its place
      ptx::bulk_wait_read<0>();
      ptx::mbar_arrive(memory.empty(Memory::kQuery, tiles - 1));
    }

    for (int j = 1; j < count; j++, n++) {
      memory.wait_full(Memory::kKey, n + 1);
      ptx::bar_sync(kTurnBarrier + group, 256);
      issue_scores<Tile>(s, queries, memory.keys(n + 1));
      memory.wait_full(Memory::kValue, n);
      issue_values<Tile>(o, p, memory.values(n), j > 1);
      ptx::bar_arrive(kTurnBarrier + 1 - group, 256);
      ptx::wgmma_wait<1>(s);
      release(Memory::kKey, n + 1);
      soften(j);
      ptx::wgmma_wait<0>(o);
      release(Memory::kValue, n);
      FSV_UNROLL
      for (int i = 0; i < Tile::kKeys / 16; i++) pack_columns(p[i], s, i);
      scale_rows(o, keep);
    }

    memory.wait_full(Memory::kValue, n);
    issue_values<Tile>(o, p, memory.values(n), count > 1);
    float share[2];
    softmax.finish(share);
    ptx::wgmma_wait<0>(o);
    release(Memory::kValue, n++);
    scale_rows(o, share);
    store_result<Tile>(o, queries, out_map, group, row, tile.head, tile.sample,
                       static_cast<int>(problem.queries));
  }
  if (leader) ptx::bulk_wait<0>();
}

/// Maps of [B, N, H, D] as (D, H, N, B), in boxes of one head: 64 columns by 64 queries (q, out) or kKeys
/// keys.
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 1)
    attention_sm90(FSV_GRID_CONSTANT ptx::TensorMap query_map, FSV_GRID_CONSTANT ptx::TensorMap key_map,
                   FSV_GRID_CONSTANT ptx::TensorMap value_map, FSV_GRID_CONSTANT ptx::TensorMap out_map,
                   FSV_GRID_CONSTANT AttentionProblem problem) {
#if FSV_SM90A
  const AttentionSm90Memory<Tile> memory;
  if (threadIdx.x == 0) memory.init();
  ptx::syncthreads();
  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<24>();
    if (threadIdx.x == 0) attention_load(memory, &query_map, &key_map, &value_map, problem);
    if (threadIdx.x / 32 == 1) attention_clear(memory, problem);
  } else {
    ptx::setmaxnreg_inc<240>();
    attention_compute(memory, &out_map, problem);
  }
#endif
}

}  // namespace fsv::cuda::kernels

// conv3d on Hopper: an implicit matrix product with wgmma, bf16, whose A operand TMA lays straight from the
// picture into shared memory.
//
// A tile is a box of output pixels, box_t frames of box_h rows of box_w columns (8 or more, powers of two),
// times N output channels. For every tap across (kt, kw) and every slice of channels, one load a frame brings
// a *brick*: the box's columns shifted by kw, and all the rows that the taps down the picture need. 64 pixels
// are eight runs of eight pixels, the core matrices of wgmma, and the next tap down is the same brick one row
// of pixels further: another start address, always aligned to the swizzle. So a brick is read kh times and
// the traffic of A falls to almost a third. What lies beside the picture TMA fills with zeros; frames before,
// after or of another group are a choice of the tensor map and the frame coordinate (Conv::source), so
// carried frames and replicated ones cost nothing.
//
// One warp loads, through two rings of slots: bricks, and tiles of the weight ([taps][N][slice]). Two
// warpgroups multiply, `Blocks` blocks of 64 pixels each. Results go through shared memory and out by TMA,
// which leaves out what lies beside the result. A norm over the channels of a pixel is taken of the sums in
// registers, by tiles that have them all.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/conv.h"
#include "cuda/kernels/quad.cuh"
#include "cuda/kernels/ring.cuh"

namespace fsv::cuda::kernels {

/// What the plan (launch/conv3d_plan.h) decides.
struct ConvBox {
  int box_t = 1, box_h = 1, box_w = 64;  ///< output pixels of a tile
  int slice = 64, slices = 1;            ///< channels of a brick, and bricks that make up a group's channels
  int taps = 1;                          ///< taps down the picture that share a brick: kh, or 1
  int rows = 1;                          ///< of a brick: box_h + taps - 1
  int weight_taps = 1;                   ///< of a slot of the weight
  int brick_slots = 2, weight_slots = 2;
  int tiles_n = 1, tiles_w = 1, tiles_h = 1, tiles_t = 1;  ///< tiles_n: of all groups
  bool store_by_tma = true;

  constexpr int row_bytes() const { return box_w * slice * 2; }
  constexpr int frame_bytes() const { return rows * row_bytes(); }
  constexpr int brick_bytes() const { return box_t * frame_bytes(); }
  constexpr int brick_pitch() const { return (brick_bytes() + 1023) / 1024 * 1024; }
  constexpr int weight_bytes(int n) const { return weight_taps * n * slice * 2; }
  constexpr int weight_pitch(int n) const { return (weight_bytes(n) + 1023) / 1024 * 1024; }
  constexpr int tiles(int batch) const { return tiles_n * tiles_w * tiles_h * tiles_t * batch; }
};

inline constexpr int kMostConvSlots = 8;

template <int kBlocks_, int kN_>
struct Conv3dTile {
  static constexpr int kBlocks = kBlocks_;  ///< of 64 pixels, a consumer
  static constexpr int kN = kN_;
  static constexpr int kConsumers = 2;
  static constexpr int kPixels = 64 * kBlocks * kConsumers;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kPanel = kN < 64 ? kN : 64;  ///< channels that are stored together
  static constexpr int kStageBytes = 64 * kPanel * 2;
  static constexpr int kStages = 2;  ///< of the store, a consumer
  static constexpr int kBarrierBytes = 8 * 4 * kMostConvSlots;
  static constexpr int kFixedBytes = kConsumers * kStages * kStageBytes + kBarrierBytes + 1024;

  static constexpr int shared_bytes(const ConvBox& b) {
    return kFixedBytes + b.brick_slots * b.brick_pitch() + b.weight_slots * b.weight_pitch(kN);
  }
};

struct Conv3dTask {
  Conv conv;
  ConvBox box;
  ConvEpilogue epilogue;
};

namespace conv3d_sm90_detail {

/// Where a tile lies: its first output pixel, its group and its first output channel there.
struct ConvTileAt {
  int group, n, w, h, t, sample;
};

template <int kN>
FSV_DEVICE ConvTileAt tile_at(const Conv3dTask& k, int index) {
  const ConvBox& b = k.box;
  ConvTileAt at;
  // Tiles that share pixels follow each other, then those that share the halo.
  const int of_group = b.tiles_n / k.conv.groups;
  at.group = index % b.tiles_n / of_group;
  at.n = index % b.tiles_n % of_group * kN;
  index /= b.tiles_n;
  at.w = index % b.tiles_w * b.box_w;
  index /= b.tiles_w;
  at.h = index % b.tiles_h * b.box_h;
  index /= b.tiles_h;
  at.t = index % b.tiles_t * b.box_t;
  at.sample = index / b.tiles_t;
  return at;
}

/// Addresses in shared memory.
template <class Tile>
struct Layout {
  uint32_t bricks, weights, stage, full_bricks, empty_bricks, full_weights, empty_weights;

  FSV_DEVICE Layout(uint32_t base, const ConvBox& b) {
    bricks = ptx::align_up(base, 1024);
    weights = bricks + b.brick_slots * b.brick_pitch();
    stage = weights + b.weight_slots * b.weight_pitch(Tile::kN);
    full_bricks = stage + Tile::kConsumers * Tile::kStages * Tile::kStageBytes;
    empty_bricks = full_bricks + 8 * kMostConvSlots;
    full_weights = empty_bricks + 8 * kMostConvSlots;
    empty_weights = full_weights + 8 * kMostConvSlots;
  }
};

/// The producer: one thread. All tiles of this block, bricks and weights in the order in which they are
/// multiplied.
template <class Tile>
FSV_DEVICE void load(const Conv3dTask& k, const Layout<Tile>& shared, const ptx::TensorMap* x,
                     const ptx::TensorMap* before, const ptx::TensorMap* weight) {
  const Conv& c = k.conv;
  const ConvBox& b = k.box;
  const int tiles = b.tiles(c.batch), chunks = c.kt * c.kw * b.slices * c.kh;
  RingPlace brick, slot;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
    const ConvTileAt at = tile_at<Tile::kN>(k, index);
    int chunk = at.group * chunks;
    for (int kt = 0; kt < c.kt; kt++)
      for (int kw = 0; kw < c.kw; kw++)
        for (int s = 0; s < b.slices; s++)
          for (int kh = 0; kh < c.kh; kh += b.taps) {
            ptx::mbar_wait(shared.empty_bricks + 8 * brick.slot, brick.parity ^ 1);
            const uint32_t full = shared.full_bricks + 8 * brick.slot;
            ptx::mbar_arrive_expect_tx(full, b.brick_bytes());
            for (int i = 0; i < b.box_t; i++) {
              const int frame = c.source(at.t + i, kt);  // -1 is outside of every map, and so zeros
              const bool carried = frame >= 0 && frame < c.before;
              ptx::tma_load_5d(shared.bricks + brick.slot * b.brick_pitch() + i * b.frame_bytes(),
                               carried ? before : x, full, at.group * c.in + s * b.slice,
                               at.w * c.stride_w + kw - c.pad_w, at.h * c.stride_h + kh - c.pad_h,
                               carried || frame < 0 ? frame : frame - c.before, at.sample);
            }
            brick.advance(b.brick_slots);
            for (int tap = 0; tap < b.taps; tap += b.weight_taps) {
              ptx::mbar_wait(shared.empty_weights + 8 * slot.slot, slot.parity ^ 1);
              const uint32_t filled = shared.full_weights + 8 * slot.slot;
              ptx::mbar_arrive_expect_tx(filled, b.weight_bytes(Tile::kN));
              ptx::tma_load_3d(shared.weights + slot.slot * b.weight_pitch(Tile::kN), weight, filled, 0, at.n,
                               chunk + tap);
              slot.advance(b.weight_slots);
            }
            chunk += b.taps;
          }
  }
}

/// The sums of one tile, kSlice channels at once. Slots are given back one step late, when the next products
/// are already on their way.
template <int kSlice, class Tile>
FSV_DEVICE void multiply(const Conv3dTask& k, const Layout<Tile>& shared, int consumer, RingPlace& brick,
                         RingPlace& slot, float (&sums)[Tile::kBlocks][Tile::kN / 2]) {
  constexpr ptx::Swizzle kSwizzle = kSlice == 64 ? ptx::SW_128 : kSlice == 32 ? ptx::SW_64 : ptx::SW_32;
  constexpr uint32_t kPixelBytes = kSlice * 2, kCoreBytes = 8 * kPixelBytes;
  const Conv& c = k.conv;
  const ConvBox& b = k.box;
  const int products = c.kt * c.kw * c.kh * b.slices;
  const bool releases = threadIdx.x % 128 == 0;

  uint32_t block_at[Tile::kBlocks];  // of the blocks' first pixels in a brick
  FSV_UNROLL for (int i = 0; i < Tile::kBlocks; i++) {
    const int pixel = (consumer * Tile::kBlocks + i) * 64, of_frame = b.box_h * b.box_w;
    block_at[i] = pixel / of_frame * b.frame_bytes() + pixel % of_frame * kPixelBytes;
  }

  RingPlace brick_done = brick, slot_done = slot;
  uint32_t row = 0, weight = 0;
  int tap = 0, tap_of_slot = 0;
  for (int i = 0; i < products; i++) {
    const bool new_brick = tap == 0, new_slot = tap_of_slot == 0;
    if (new_brick) {
      ptx::mbar_wait(shared.full_bricks + 8 * brick.slot, brick.parity);
      row = shared.bricks + brick.slot * b.brick_pitch();
    }
    if (new_slot) {
      ptx::mbar_wait(shared.full_weights + 8 * slot.slot, slot.parity);
      weight = shared.weights + slot.slot * b.weight_pitch(Tile::kN);
    }
    ptx::wgmma_fence();
    FSV_UNROLL for (int step = 0; step < kSlice / 16; step++)
        FSV_UNROLL for (int j = 0; j < Tile::kBlocks; j++) ptx::wgmma_bf16<Tile::kN>(
            sums[j], ptx::gmma_desc(row + block_at[j] + 32 * step, 16, kCoreBytes, kSwizzle),
            ptx::gmma_desc(weight + 32 * step, 16, kCoreBytes, kSwizzle), i > 0 || step > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();  // what product i - 1 read is free
    if (new_slot && i > 0) {
      if (releases) ptx::mbar_arrive(shared.empty_weights + 8 * slot_done.slot);
      slot_done.advance(b.weight_slots);
    }
    if (new_brick && i > 0) {
      if (releases) ptx::mbar_arrive(shared.empty_bricks + 8 * brick_done.slot);
      brick_done.advance(b.brick_slots);
    }
    row += b.row_bytes();
    weight += Tile::kN * kPixelBytes;
    tap++, tap_of_slot++;
    if (tap == b.taps || tap_of_slot == b.weight_taps) {
      tap_of_slot = 0;
      slot.advance(b.weight_slots);
    }
    if (tap == b.taps) {
      tap = 0;
      brick.advance(b.brick_slots);
    }
  }
  FSV_UNROLL for (int j = 0; j < Tile::kBlocks; j++) ptx::wgmma_wait<0>(sums[j]);
  if (releases) {
    ptx::mbar_arrive(shared.empty_weights + 8 * slot_done.slot);
    ptx::mbar_arrive(shared.empty_bricks + 8 * brick_done.slot);
  }
}

/// The two pixels, eight rows of the block apart, that a thread has sums of.
struct Pixels {
  bool inside[2];
  int64_t at[2];  ///< pixel of the result
  float noise[2];
  float factor[2];  ///< of the norm
};

FSV_DEVICE Pixels pixels_of(const Conv3dTask& k, const ConvTileAt& at, int first) {
  const Conv& c = k.conv;
  const ConvBox& b = k.box;
  Pixels p;
  FSV_UNROLL for (int r = 0; r < 2; r++) {
    const int pixel = first + threadIdx.x % 128 / 32 * 16 + ptx::lane_id() / 4 + 8 * r;
    const int w = at.w + pixel % b.box_w, h = at.h + pixel / b.box_w % b.box_h,
              t = at.t + pixel / b.box_w / b.box_h;
    p.inside[r] = w < c.out_width && h < c.out_height && t < c.out_frames;
    p.at[r] = ((int64_t{at.sample} * c.out_frames + t) * c.out_height + h) * c.out_width + w;
    p.noise[r] = 0;
    if (k.epilogue.noise && p.inside[r])
      p.noise[r] = k.epilogue.noise_weight * ptx::ldg(k.epilogue.noise + int64_t{h} * c.out_width + w);
  }
  return p;
}

/// A number of a vector [channels], or `otherwise` where there is none.
FSV_DEVICE float of_channel(const float* vector, int channel, int channels, float otherwise = 0) {
  return vector && channel < channels ? ptx::ldg(vector + channel) : otherwise;
}

/// The factors of the norm, from the sums of a block: a quad has all channels of its two pixels. What a tile
/// has beyond them does not count.
template <int kSums>
FSV_DEVICE void norm_pixels(const Conv3dTask& k, const float (&sums)[kSums], Pixels& p) {
  const ConvEpilogue& e = k.epilogue;
  const int channels = k.conv.out;
  float squares[2] = {0, 0};
  FSV_UNROLL for (int j = 0; j < kSums / 2; j++) {
    const int channel = j / 2 * 8 + ptx::lane_id() % 4 * 2 + j % 2;
    if (channel >= channels) continue;
    const float bias = of_channel(e.bias, channel, channels);
    FSV_UNROLL for (int r = 0; r < 2; r++) {
      const float v = sums[j / 2 * 4 + r * 2 + j % 2] + bias + p.noise[r];
      squares[r] = fmaf(v, v, squares[r]);
    }
  }
  FSV_UNROLL for (int r = 0; r < 2; r++) p.factor[r] =
      1.0f / sqrtf(quad_sum(squares[r]) / static_cast<float>(channels) + e.norm_eps);
}

/// The residual of the values of `finish`, two channels at once where that many divide everything.
FSV_DEVICE void add_residual(const Conv3dTask& k, const ConvTileAt& at, const Pixels& p, int n,
                             float (&v)[8]) {
  const Conv& c = k.conv;
  const uint16_t* residual = static_cast<const uint16_t*>(k.epilogue.residual);
  const bool pairs = c.out % 2 == 0 && reinterpret_cast<uintptr_t>(residual) % 4 == 0;
  FSV_UNROLL for (int i = 0; i < 8; i += 2) {
    const int channel = n + i / 4 * 8, r = i / 2 % 2;
    if (channel >= c.out || !p.inside[r]) continue;
    const uint16_t* from = residual + p.at[r] * c.out_channels + at.group * c.out + channel;
    if (pairs) {
      const uint32_t pair = ptx::ldg(reinterpret_cast<const uint32_t*>(from));
      v[i] += ptx::bf16_lo(pair);
      v[i + 1] += ptx::bf16_hi(pair);
    } else {
      v[i] += ptx::bf16_lo(ptx::ldg(from));
      if (channel + 1 < c.out) v[i + 1] += ptx::bf16_lo(ptx::ldg(from + 1));
    }
  }
}

/// Sums of channels n, n + 1 (of the group), n + 8, n + 9, of both pixels each, to results: v[pixel pairs of
/// j][channel].
FSV_DEVICE void finish(const Conv3dTask& k, const ConvTileAt& at, const Pixels& p, int n, float (&v)[8]) {
  const Conv& c = k.conv;
  const ConvEpilogue& e = k.epilogue;
  const float* group_bias = e.bias ? e.bias + at.group * c.out : nullptr;
  FSV_UNROLL for (int j = 0; j < 4; j++) {
    const int channel = n + j / 2 * 8 + j % 2;
    const float bias = of_channel(group_bias, channel, c.out);
    FSV_UNROLL for (int r = 0; r < 2; r++) {
      float& x = v[j / 2 * 4 + r * 2 + j % 2];
      x = x + bias + p.noise[r];
    }
  }
  if (e.norm) FSV_UNROLL for (int j = 0; j < 4; j++) {
      const int channel = n + j / 2 * 8 + j % 2;
      const float weight = of_channel(e.norm_weight, channel, c.out, 1);
      const float bias = of_channel(e.norm_bias, channel, c.out);
      FSV_UNROLL for (int r = 0; r < 2; r++) {
        float& x = v[j / 2 * 4 + r * 2 + j % 2];
        x = fmaf(x * p.factor[r], weight, bias);
      }
    }
  activate(e.activation, v);
  if (e.residual) add_residual(k, at, p, n, v);
}

/// Results of one block whose pixels or channels TMA cannot address.
FSV_DEVICE void store_elements(const Conv3dTask& k, const ConvTileAt& at, const Pixels& p, int n,
                               const float (&v)[8]) {
  const Conv& c = k.conv;
  uint16_t* out = static_cast<uint16_t*>(k.epilogue.out);
  FSV_UNROLL for (int i = 0; i < 8; i++) {
    const int channel = n + i / 4 * 8 + i % 2;
    if (channel < c.out && p.inside[i / 2 % 2])
      ptx::stg(out + p.at[i / 2 % 2] * c.out_channels + at.group * c.out + channel,
               static_cast<uint16_t>(ptx::pack_bf16(v[i], 0)));
  }
}

template <class Tile>
FSV_DEVICE void store(const Conv3dTask& k, const Layout<Tile>& shared, const ConvTileAt& at, int consumer,
                      uint32_t& stores, const ptx::TensorMap* out,
                      float (&sums)[Tile::kBlocks][Tile::kN / 2]) {
  const ConvBox& b = k.box;
  constexpr ptx::Swizzle kSwizzle = Tile::kPanel == 64   ? ptx::SW_128
                                    : Tile::kPanel == 32 ? ptx::SW_64
                                                         : ptx::SW_32;
  const int lane = ptx::lane_id();
  const bool leads = threadIdx.x % 128 == 0;
  const uint32_t row = (threadIdx.x % 128 / 32 * 16 + lane % 16) * Tile::kPanel * 2 + lane / 16 * 16;

  FSV_UNROLL for (int i = 0; i < Tile::kBlocks; i++) {
    const int first = (consumer * Tile::kBlocks + i) * 64;
    Pixels pixels = pixels_of(k, at, first);
    if (k.epilogue.norm) norm_pixels(k, sums[i], pixels);
    FSV_UNROLL for (int panel = 0; panel < Tile::kN; panel += Tile::kPanel) {
      if (at.n + panel >= k.conv.out) break;
      const uint32_t stage =
          shared.stage + (consumer * Tile::kStages + stores % Tile::kStages) * Tile::kStageBytes;
      if (b.store_by_tma) {
        if (leads) ptx::bulk_wait_read<Tile::kStages - 1>();  // the store before the last has left this stage
        ptx::bar_sync(1 + consumer, 128);
      }
      FSV_UNROLL for (int n = 0; n < Tile::kPanel; n += 16) {
        float v[8];
        FSV_UNROLL for (int j = 0; j < 8; j++) v[j] = sums[i][(panel + n) / 2 + j];
        finish(k, at, pixels, at.n + panel + n + lane % 4 * 2, v);
        if (b.store_by_tma)
          ptx::stmatrix_x4(ptx::swizzle(kSwizzle, stage + row + n * 2), ptx::pack_bf16(v[0], v[1]),
                           ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]),
                           ptx::pack_bf16(v[6], v[7]));
        else
          store_elements(k, at, pixels, at.n + panel + n + lane % 4 * 2, v);
      }
      if (!b.store_by_tma) continue;
      ptx::fence_proxy_async();
      ptx::bar_sync(1 + consumer, 128);
      if (leads) {
        ptx::tma_store_5d(out, stage, at.group * k.conv.out + at.n + panel, at.w + first % b.box_w,
                          at.h + first / b.box_w % b.box_h, at.t + first / b.box_w / b.box_h, at.sample);
        ptx::bulk_commit();
      }
      stores++;
    }
  }
}

}  // namespace conv3d_sm90_detail

/// x and before: [B, T, H, W, C] by boxes of a brick's frame; weight: [chunks][out][slice] by boxes of a
/// slot; out: boxes of 64 pixels and a panel.
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 1)
    conv3d_sm90(FSV_GRID_CONSTANT ptx::TensorMap x, FSV_GRID_CONSTANT ptx::TensorMap before,
                FSV_GRID_CONSTANT ptx::TensorMap weight, FSV_GRID_CONSTANT ptx::TensorMap out,
                FSV_GRID_CONSTANT Conv3dTask k) {
#if FSV_SM90A
  using namespace conv3d_sm90_detail;
  const Layout<Tile> shared(ptx::smem_base(), k.box);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kMostConvSlots; i++) {
      ptx::mbar_init(shared.full_bricks + 8 * i, 1);
      ptx::mbar_init(shared.empty_bricks + 8 * i, Tile::kConsumers);
      ptx::mbar_init(shared.full_weights + 8 * i, 1);
      ptx::mbar_init(shared.empty_weights + 8 * i, Tile::kConsumers);
    }
    ptx::fence_mbar_init();
  }
  ptx::syncthreads();

  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<56>();
    if (threadIdx.x < 32 && ptx::elect_one()) {
      ptx::tma_prefetch_desc(&x);
      ptx::tma_prefetch_desc(&weight);
      load(k, shared, &x, &before, &weight);
    }
    return;
  }
  ptx::setmaxnreg_inc<224>();
  const int consumer = threadIdx.x / 128 - 1, tiles = k.box.tiles(k.conv.batch);
  RingPlace brick, slot;
  uint32_t stores = 0;
  for (int index = blockIdx.x; index < tiles; index += gridDim.x) {
    const ConvTileAt at = tile_at<Tile::kN>(k, index);
    float sums[Tile::kBlocks][Tile::kN / 2];
    switch (k.box.slice) {
      case 64:
        multiply<64>(k, shared, consumer, brick, slot, sums);
        break;
      case 32:
        multiply<32>(k, shared, consumer, brick, slot, sums);
        break;
      default:
        multiply<16>(k, shared, consumer, brick, slot, sums);
    }
    store(k, shared, at, consumer, stores, &out, sums);
  }
  if (threadIdx.x % 128 == 0) ptx::bulk_wait<0>();
#endif
}

}  // namespace fsv::cuda::kernels

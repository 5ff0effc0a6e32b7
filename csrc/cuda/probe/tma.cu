// TMA: what a box of a tensor looks like in shared memory, and what a store of it changes in the tensor.
#include <algorithm>
#include <cstring>

#include "cuda/probe/probe.h"
#include "cuda/ptx/ptx.cuh"
#include "cuda/tensor_map.h"

namespace fsv::cuda::probe {
namespace {

using namespace fsv::ptx;

constexpr uint32_t kTile = 32 << 10;

struct Place {
  int at[5] = {};
  uint16_t offsets[3] = {};
};

/// Loads a box; kRank 0 stands for im2col.
template <int kRank>
FSV_KERNEL void load_box(FSV_GRID_CONSTANT TensorMap map, Place place, uint32_t bytes, uint4* out) {
#if FSV_SM90A
  const uint32_t tile = align_up(smem_base(), 1024), bar = tile + kTile;
  const int* c = place.at;
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    fence_mbar_init();
    mbar_arrive_expect_tx(bar, bytes);
    if constexpr (kRank == 1) tma_load_1d(tile, &map, bar, c[0]);
    if constexpr (kRank == 2) tma_load_2d(tile, &map, bar, c[0], c[1]);
    if constexpr (kRank == 3) tma_load_3d(tile, &map, bar, c[0], c[1], c[2]);
    if constexpr (kRank == 4) tma_load_4d(tile, &map, bar, c[0], c[1], c[2], c[3]);
    if constexpr (kRank == 5) tma_load_5d(tile, &map, bar, c[0], c[1], c[2], c[3], c[4]);
    if constexpr (kRank == 0) {
      tma_load_im2col_5d(tile, &map, bar, c[0], c[1], c[2], c[3], c[4], place.offsets[0], place.offsets[1],
                         place.offsets[2]);
    }
  }
  syncthreads();
  mbar_wait(bar, 0);
  for (uint32_t i = threadIdx.x; i < bytes / 16; i += blockDim.x) stg(out + i, lds<uint4>(tile + 16 * i));
#endif
}

template <int kRank>
FSV_KERNEL void store_box(FSV_GRID_CONSTANT TensorMap map, Place place, uint32_t bytes, const uint4* image) {
#if FSV_SM90A
  const uint32_t tile = align_up(smem_base(), 1024);
  for (uint32_t i = threadIdx.x; i < bytes / 16; i += blockDim.x) sts(tile + 16 * i, ldg(image + i));
  fence_proxy_async();
  syncthreads();
  if (threadIdx.x == 0) {
    const int* c = place.at;
    if constexpr (kRank == 1) tma_store_1d(&map, tile, c[0]);
    if constexpr (kRank == 2) tma_store_2d(&map, tile, c[0], c[1]);
    if constexpr (kRank == 3) tma_store_3d(&map, tile, c[0], c[1], c[2]);
    if constexpr (kRank == 4) tma_store_4d(&map, tile, c[0], c[1], c[2], c[3]);
    if constexpr (kRank == 5) tma_store_5d(&map, tile, c[0], c[1], c[2], c[3], c[4]);
    bulk_commit();
    bulk_wait<0>();
  }
#endif
}

/// A tensor of bytes in which neighbours differ, with a gap after each row.
struct Tensor {
  DType dtype;
  int rank;
  std::array<int64_t, 5> dims = {1, 1, 1, 1, 1};
  std::array<int64_t, 4> strides = {};
  std::vector<uint8_t> bytes;

  Tensor(DType type, std::vector<int64_t> extents) : dtype(type), rank(static_cast<int>(extents.size())) {
    std::copy(extents.begin(), extents.end(), dims.begin());
    int64_t stride = (dims[0] * element() + 16 + 15) / 16 * 16;
    for (size_t d = 1; d < 5; d++) {
      strides[d - 1] = stride;
      stride *= dims[d];
    }
    bytes.resize(static_cast<size_t>(stride));
    for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i * 37 / 16 + i);
  }

  int64_t element() const { return static_cast<int64_t>(size_of(dtype)); }

  /// Where an element is, or -1 outside.
  int64_t find(const std::array<int64_t, 5>& at) const {
    int64_t offset = at[0] * element();
    for (size_t d = 0; d < 5; d++) {
      if (at[d] < 0 || at[d] >= dims[d]) return -1;
      if (d) offset += at[d] * strides[d - 1];
    }
    return offset;
  }
};

/// Calls visit(position in the unswizzled box, coordinates) for all of its elements.
template <class Visit>
void for_each_of_box(const std::array<int, 5>& box, const Place& place, int64_t element, Visit visit) {
  int64_t position = 0;
  for (int e = 0; e < box[4]; e++) {
    for (int d = 0; d < box[3]; d++) {
      for (int c = 0; c < box[2]; c++) {
        for (int b = 0; b < box[1]; b++) {
          for (int a = 0; a < box[0]; a++, position += element) {
            visit(position, std::array<int64_t, 5>{place.at[0] + a, place.at[1] + b, place.at[2] + c,
                                                   place.at[3] + d, place.at[4] + e});
          }
        }
      }
    }
  }
}

std::vector<uint4> words(const std::vector<uint8_t>& bytes) {
  std::vector<uint4> out(bytes.size() / 16);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}
std::vector<uint8_t> bytes_of(const std::vector<uint4>& words) {
  std::vector<uint8_t> out(words.size() * 16);
  std::memcpy(out.data(), words.data(), out.size());
  return out;
}

size_t swizzled(Swizzle mode, int64_t position) { return swizzle(mode, static_cast<uint32_t>(position)); }

std::string text_of(const Place& place, int rank) {
  std::string text;
  for (int d = 0; d < rank; d++) text += (d ? "," : "") + std::to_string(place.at[d]);
  return text;
}

template <int kRank>
void try_box(Probe& probe, Tensor tensor, std::array<int, 5> box, Swizzle mode, const Place& place) {
  for (size_t d = kRank; d < 5; d++) box[d] = 1;
  int64_t size = tensor.element();
  for (const int extent : box) size *= extent;
  const Array<uint8_t> global(tensor.bytes);
  const CUtensorMap map = make(TiledMap{.dtype = tensor.dtype,
                                        .data = global.data(),
                                        .rank = kRank,
                                        .dims = tensor.dims,
                                        .strides = tensor.strides,
                                        .box = box,
                                        .swizzle = mode});
  const auto bytes = static_cast<uint32_t>(size);
  const std::string claim = std::to_string(kRank) + "-D box at " + text_of(place, kRank) + ", elements of " +
                            std::to_string(tensor.element()) + " bytes, swizzle mode " + std::to_string(mode);

  const Array<uint4> out(bytes / 16);
  run(load_box<kRank>, 1, 128, kTile + 2048, map, place, bytes, out.data());
  std::vector<uint8_t> image(bytes);
  const auto element = static_cast<size_t>(tensor.element());
  for_each_of_box(box, place, tensor.element(), [&](int64_t position, const std::array<int64_t, 5>& at) {
    const int64_t offset = tensor.find(at);
    if (offset >= 0)
      std::memcpy(&image[swizzled(mode, position)], &tensor.bytes[static_cast<size_t>(offset)], element);
  });
  probe.equal("load of a " + claim, bytes_of(out.read()), image);

  for (size_t i = 0; i < image.size(); i++) image[i] = static_cast<uint8_t>(i * 11 + 5);
  const Array<uint4> source(words(image));
  run(store_box<kRank>, 1, 128, kTile + 2048, map, place, bytes, source.data());
  for_each_of_box(box, place, tensor.element(), [&](int64_t position, const std::array<int64_t, 5>& at) {
    const int64_t offset = tensor.find(at);
    if (offset >= 0)
      std::memcpy(&tensor.bytes[static_cast<size_t>(offset)], &image[swizzled(mode, position)], element);
  });
  probe.equal("store of a " + claim, global.read(), tensor.bytes);
}

/// The pixels that an im2col load brings, by the definition: the window's first position walks through the
/// bounding box, w fastest, and goes on in the next sample; the tap moves each.
void try_im2col(Probe& probe, const Tensor& tensor, std::array<int, 3> lower, std::array<int, 3> upper,
                std::array<int, 5> steps, int channels, int pixels, const Place& place) {
  const Array<uint8_t> global(tensor.bytes);
  const Swizzle mode = channels * tensor.element() == 128  ? SW_128
                       : channels * tensor.element() == 64 ? SW_64
                                                           : SW_32;
  const CUtensorMap map = make(Im2colMap{.dtype = tensor.dtype,
                                         .data = global.data(),
                                         .rank = 5,
                                         .dims = tensor.dims,
                                         .strides = tensor.strides,
                                         .lower = lower,
                                         .upper = upper,
                                         .channels = channels,
                                         .pixels = pixels,
                                         .window_strides = steps,
                                         .swizzle = mode});
  const int64_t row = channels * tensor.element();
  std::vector<uint8_t> image(static_cast<size_t>(row * pixels));
  std::array<int64_t, 5> at = {place.at[0], place.at[1], place.at[2], place.at[3], place.at[4]};
  for (int pixel = 0; pixel < pixels; pixel++) {
    for (int c = 0; c < channels; c++) {
      const int64_t offset = tensor.find(
          {at[0] + c, at[1] + place.offsets[0], at[2] + place.offsets[1], at[3] + place.offsets[2], at[4]});
      if (offset < 0) continue;
      std::memcpy(&image[swizzled(mode, pixel * row + c * tensor.element())],
                  &tensor.bytes[static_cast<size_t>(offset)], static_cast<size_t>(tensor.element()));
    }
    for (size_t d = 1; d < 5; d++) {
      at[d] += steps[d];
      if (d == 4 || at[d] < tensor.dims[d] + upper[d - 1]) break;
      at[d] = lower[d - 1];
    }
  }
  const auto bytes = static_cast<uint32_t>(image.size());
  const Array<uint4> out(bytes / 16);
  run(load_box<0>, 1, 128, kTile + 2048, map, place, bytes, out.data());
  probe.equal("im2col of " + std::to_string(pixels) + " pixels from " + text_of(place, 5) + ", tap " +
                  std::to_string(place.offsets[0]) + "," + std::to_string(place.offsets[1]) + "," +
                  std::to_string(place.offsets[2]) + ", steps of " + std::to_string(steps[1]),
              bytes_of(out.read()), image);
}

}  // namespace

void tiled_facts(Probe& probe) {
  probe.topic("TMA: boxes of tensors, at their borders too");
  try_box<1>(probe, Tensor(DType::bf16, {100}), {64}, SW_NONE, {{0}});
  try_box<1>(probe, Tensor(DType::bf16, {100}), {64}, SW_NONE, {{-10}});
  try_box<1>(probe, Tensor(DType::f32, {100}), {32}, SW_128, {{90}});
  try_box<2>(probe, Tensor(DType::bf16, {100, 40}), {64, 16}, SW_128, {{0, 0}});
  try_box<2>(probe, Tensor(DType::bf16, {100, 40}), {64, 16}, SW_128, {{64, 30}});
  try_box<2>(probe, Tensor(DType::bf16, {100, 40}), {32, 24}, SW_64, {{-3, -5}});
  try_box<2>(probe, Tensor(DType::bf16, {100, 40}), {16, 64}, SW_32, {{33, -1}});
  try_box<2>(probe, Tensor(DType::u8, {130, 40}), {128, 8}, SW_128, {{-1, 2}});
  try_box<2>(probe, Tensor(DType::u8, {130, 40}), {48, 7}, SW_NONE, {{100, 38}});
  try_box<2>(probe, Tensor(DType::bf16, {100, 40}), {64, 16}, SW_128, {{200, 3}});
  try_box<3>(probe, Tensor(DType::bf16, {70, 9, 5}), {64, 4, 3}, SW_128, {{8, -2, 3}});
  try_box<3>(probe, Tensor(DType::f32, {70, 9, 5}), {16, 5, 2}, SW_64, {{60, 7, -1}});
  try_box<4>(probe, Tensor(DType::bf16, {40, 9, 5, 3}), {32, 4, 3, 2}, SW_64, {{-8, 6, 3, 2}});
  try_box<5>(probe, Tensor(DType::bf16, {64, 9, 5, 3, 2}), {64, 4, 3, 2, 1}, SW_128, {{0, -1, 4, -1, 1}});
  try_box<5>(probe, Tensor(DType::bf16, {20, 7, 5, 3, 4}), {16, 8, 2, 3, 2}, SW_32, {{4, 3, -1, 1, 3}});
}

void im2col_facts(Probe& probe) {
  probe.topic("TMA: columns of a convolution");
  const Tensor x(DType::bf16, {72, 9, 7, 5, 3});  // c, w, h, d, n
  const std::array<int, 5> ones = {1, 1, 1, 1, 1};
  // Three taps a side with a border of one.
  const std::array<int, 3> lower = {-1, -1, -1}, upper = {-1, -1, -1};
  for (const uint16_t tap : {0, 1, 2}) {
    try_im2col(probe, x, lower, upper, ones, 64, 128,
               {{0, -1, -1, -1, 0}, {tap, static_cast<uint16_t>(2 - tap), 1}});
  }
  try_im2col(probe, x, lower, upper, ones, 64, 64, {{8, 5, 3, 2, 1}, {2, 0, 2}});
  try_im2col(probe, x, lower, upper, ones, 32, 200, {{64, -1, 5, 3, 2}, {1, 1, 1}});  // past the last sample
  // Causal in time: two frames before, none after; different borders tell w, h and d apart.
  try_im2col(probe, x, {-1, -1, -2}, {-1, -1, -2}, ones, 64, 100, {{0, 2, 0, -2, 0}, {2, 1, 0}});
  try_im2col(probe, x, {-3, 0, 0}, {-3, 0, 0}, ones, 16, 90, {{16, -3, 0, 0, 0}, {6, 0, 0}});
  try_im2col(probe, x, {0, -2, 0}, {0, -2, -4}, ones, 16, 90, {{0, 0, -2, 0, 0}, {0, 4, 4}});
  // Strides of the window.
  try_im2col(probe, x, lower, upper, {1, 2, 2, 2, 1}, 64, 60, {{0, -1, -1, -1, 0}, {1, 2, 0}});
  try_im2col(probe, x, {-1, -1, 0}, {0, -1, 0}, {1, 3, 1, 2, 1}, 64, 50, {{0, 2, 1, 2, 1}, {1, 1, 0}});
}

}  // namespace fsv::cuda::probe

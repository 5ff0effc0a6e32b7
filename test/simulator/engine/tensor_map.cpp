// Encodes tensor maps by the rules of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col.
#include "simulator/tensor_map.h"

#include <stdexcept>
#include <string>

#include "cuda/ptx/layout.cuh"
#include "simulator/engine/global.h"

namespace sim {
namespace {

void require(bool condition, const char* rule) {
  if (!condition) throw std::invalid_argument(std::string("tensor map: ") + rule);
}

TensorMap encode(void* base, int element, const std::vector<int64_t>& extents,
                 const std::vector<int64_t>& strides, int swizzle, const std::vector<int>& steps) {
  TensorMap map{};
  const size_t rank = extents.size();
  require(rank >= 1 && rank <= 5, "1 to 5 dimensions");
  require(strides.size() + 1 == rank, "a stride for each dimension but the innermost");
  require(steps.empty() || steps.size() == rank, "a traversal stride for each dimension");
  require(element == 1 || element == 2 || element == 4 || element == 8, "elements of 1, 2, 4 or 8 bytes");
  require(reinterpret_cast<uintptr_t>(base) % 16 == 0, "the address is a multiple of 16 bytes");
  map.base = static_cast<uint8_t*>(base);
  map.rank = static_cast<uint8_t>(rank);
  map.element = static_cast<uint8_t>(element);
  map.swizzle = static_cast<uint8_t>(swizzle);
  uint64_t end = static_cast<uint64_t>(element);
  for (size_t d = 0; d < rank; d++) {
    require(extents[d] >= 1 && extents[d] <= int64_t{1} << 32, "extents of 1 to 2^32");
    map.last[d] = static_cast<uint32_t>(extents[d] - 1);
    map.strides[d] = static_cast<uint64_t>(d ? strides[d - 1] : element);
    require(d == 0 || (map.strides[d] % 16 == 0 && map.strides[d] < uint64_t{1} << 40),
            "strides are multiples of 16 bytes, below 2^40");
    const int step = steps.empty() ? 1 : steps[d];
    require(step >= 1 && step <= 8, "traversal strides of 1 to 8");
    map.steps[d] = static_cast<uint8_t>(step);
    end += map.last[d] * map.strides[d];
  }
  const Allocation* allocation = find_allocation(base);
  require(allocation && end <= allocation->bytes - (reinterpret_cast<uintptr_t>(base) - allocation->begin),
          "the tensor is inside its allocation");
  return map;
}

void require_row(const TensorMap& map) {
  require(map.row_bytes() % 16 == 0, "the box's innermost extent is a multiple of 16 bytes");
  const auto swizzle = static_cast<fsv::ptx::Swizzle>(map.swizzle);
  // The driver takes narrower boxes too; how those lie in shared memory is not modelled.
  require(swizzle == fsv::ptx::SW_NONE || map.row_bytes() == fsv::ptx::swizzle_span(swizzle),
          "a swizzled box's innermost extent is the swizzle's span");
}

}  // namespace

TensorMap encode_tiled(void* base, int element, const std::vector<int64_t>& extents,
                       const std::vector<int64_t>& strides, const std::vector<int>& box, int swizzle,
                       const std::vector<int>& steps) {
  TensorMap map = encode(base, element, extents, strides, swizzle, steps);
  require(box.size() == extents.size(), "a box extent for each dimension");
  for (size_t d = 0; d < box.size(); d++) {
    require(box[d] >= 1 && box[d] <= 256, "box extents of 1 to 256");
    if (d == 0) map.steps[0] = 1;  // ignored
    map.box[d] = static_cast<uint16_t>((box[d] + map.steps[d] - 1) / map.steps[d]);
  }
  require_row(map);
  return map;
}

TensorMap encode_im2col(void* base, int element, const std::vector<int64_t>& extents,
                        const std::vector<int64_t>& strides, const std::vector<int>& lower,
                        const std::vector<int>& upper, int channels, int pixels, int swizzle,
                        const std::vector<int>& steps) {
  TensorMap map = encode(base, element, extents, strides, swizzle, steps);
  require(map.rank >= 3, "3 to 5 dimensions");
  const size_t spatial = map.rank - 2u;
  require(lower.size() == spatial && upper.size() == spatial, "a corner for each spatial dimension");
  // The hardware has 16 bits for the corners together. (It can hold -32768 where one dimension has them all.)
  const int bound = spatial == 1 ? 128 : 1 << (16 / spatial - 1);
  for (size_t i = 0; i < spatial; i++) {
    require(lower[i] >= -bound && lower[i] < bound && upper[i] >= -bound && upper[i] < bound,
            "corners within [-16, 15] of 3 spatial dimensions, [-128, 127] of fewer");
    require(extents[i + 1] + upper[i] > lower[i], "the bounding box is not empty");
    map.lower[i] = static_cast<int8_t>(lower[i]);
    map.upper[i] = static_cast<int8_t>(upper[i]);
  }
  require(channels >= 1 && channels <= 256, "1 to 256 channels a pixel");
  require(pixels >= 1 && pixels <= 1024, "1 to 1024 pixels a column");
  map.im2col = true;
  map.box[0] = static_cast<uint16_t>(channels);
  map.box[1] = static_cast<uint16_t>(pixels);
  require_row(map);
  return map;
}

}  // namespace sim

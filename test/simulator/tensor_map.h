// Tensor maps of the simulator: what a CUtensorMap says, in as many bytes, encoded by the driver's rules.
#pragma once

#include <cstdint>
#include <vector>

namespace sim {

struct alignas(64) TensorMap {
  uint8_t* base;
  uint64_t strides[5];  // bytes; strides[0] is the element's size
  uint32_t last[5];     // the greatest coordinate in each dimension
  uint16_t box[5];      // tiled: elements of the box; im2col: channels, then pixels
  uint8_t steps[5];     // traversal strides
  int8_t lower[3], upper[3];
  uint8_t rank, element, swizzle;
  bool im2col;

  int64_t extent(int dimension) const { return int64_t{last[dimension]} + 1; }
  uint32_t rows() const {
    uint32_t rows = 1;
    for (int i = 1; i < (im2col ? 2 : rank); i++) rows *= box[i];
    return rows;
  }
  uint32_t row_bytes() const { return uint32_t{box[0]} * element; }
  uint32_t bytes() const { return rows() * row_bytes(); }
};
static_assert(sizeof(TensorMap) == 128);

/// Tiled map; `strides` are the bytes of all dimensions but the innermost. Throws std::invalid_argument on
/// what cuTensorMapEncodeTiled rejects, and on tensors that leave their allocation.
TensorMap encode_tiled(void* base, int element, const std::vector<int64_t>& extents,
                       const std::vector<int64_t>& strides, const std::vector<int>& box, int swizzle,
                       const std::vector<int>& steps = {});

/// im2col map of a tensor with dimensions (channels, w, [h, [d,]] n); corners in the order w, h, d. Throws as
/// cuTensorMapEncodeIm2col rejects.
TensorMap encode_im2col(void* base, int element, const std::vector<int64_t>& extents,
                        const std::vector<int64_t>& strides, const std::vector<int>& lower,
                        const std::vector<int>& upper, int channels, int pixels, int swizzle,
                        const std::vector<int>& steps = {});

}  // namespace sim

// What an op sees of a tensor: a pointer, an element type and a shape. Tensors are always contiguous, the
// last dimension fastest; who owns the memory is the business of ops/device.h.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"

namespace fsv {

inline constexpr int kMaxRank = 8;

struct Shape {
  int rank = 0;
  int64_t dims[kMaxRank] = {};

  Shape() = default;
  Shape(std::initializer_list<int64_t> list) {
    for (int64_t d : list) dims[rank++] = d;
  }
  int64_t operator[](int axis) const { return dims[axis < 0 ? rank + axis : axis]; }
  int64_t& operator[](int axis) { return dims[axis < 0 ? rank + axis : axis]; }
  /// Number of elements of dims[from .. to).
  int64_t elements(int from, int to) const {
    int64_t n = 1;
    for (int i = from; i < to; i++) n *= dims[i];
    return n;
  }
  int64_t elements() const { return elements(0, rank); }
  bool operator==(const Shape& other) const {
    if (rank != other.rank) return false;
    for (int i = 0; i < rank; i++)
      if (dims[i] != other.dims[i]) return false;
    return true;
  }
  /// "[2, 3, 4]"
  std::string text() const;
};

/// How the elements lie in memory. A packed weight is in whatever order its backend likes best; only `linear`
/// or `conv3d` of the same backend can read it, and its shape still tells the original dimensions.
enum class Layout : uint8_t { plain, packed_linear, packed_conv };

struct TensorSpec {
  DType dtype = DType::f32;
  Shape shape;
  Layout layout = Layout::plain;
  int64_t elements() const { return shape.elements(); }
  int64_t bytes() const { return elements() * static_cast<int64_t>(size_of(dtype)); }
};

/// Not owning. A default-constructed view stands for an optional argument that was not given.
struct TensorView : TensorSpec {
  void* data = nullptr;
  bool given = false;

  TensorView() = default;
  TensorView(const TensorSpec& spec, void* data) : TensorSpec(spec), data(data), given(true) {}
  explicit operator bool() const { return given; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace fsv

// The words that ops/check_*.cpp are written in: each function states one thing that must hold of an argument
// and throws ERR_FSVIDEO_INVALID_ARGUMENT with the field "<op>.<argument>", what was got and what is expected
// when it does not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "ops/ops.h"

namespace fsv {

/// A set of element types.
class DTypes {
 public:
  constexpr DTypes(DType dtype) : bits_(1u << static_cast<unsigned>(dtype)) {}
  constexpr DTypes operator|(DTypes other) const { return DTypes(bits_ | other.bits_); }
  constexpr bool has(DType dtype) const {
    return static_cast<unsigned>(dtype) < 32 && (bits_ >> static_cast<unsigned>(dtype) & 1u);
  }
  /// "f32 or bf16"
  std::string text() const;

 private:
  constexpr explicit DTypes(uint32_t bits) : bits_(bits) {}
  uint32_t bits_;
};

inline constexpr DTypes kFloats = DTypes(DType::f32) | DType::bf16;
inline constexpr DTypes kAnyFloats = kFloats | DType::f8e4m3;
inline constexpr DTypes kAnyDType = kAnyFloats | DType::i32 | DType::u8;

/// The most elements a tensor may have: what a JavaScript number counts exactly. Sizes in bytes and sums of a
/// few dimensions then fit 64 bits; products of dimensions go through `times`.
inline constexpr int64_t kMaxElements = int64_t{1} << 53;

/// a * b for a, b >= 0, or the largest number there is, which no result may have.
inline int64_t times(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/// "[3, 4] bf16", "[8, 8] f32 packed_linear", or "nothing" for an argument that was not given.
std::string describe(const TensorView& view);

/// True when `view` is given, plain, and has this dtype and shape.
inline bool is(const TensorView& view, DType dtype, const Shape& shape) {
  return view.given && view.layout == Layout::plain && view.dtype == dtype && view.shape == shape;
}

/// "layer_memory" -> "layerMemory": errors name ops and arguments as JavaScript does.
std::string camel_case(std::string_view name);

class Contract {
 public:
  constexpr explicit Contract(const char* op) : op_(op) {}

  /// `view` is given, plain, of one of `dtypes`, and has the rank of `pattern`: one name a dimension, "..."
  /// for any number of them, as in "[B, ..., C]".
  void operand(const char* name, const TensorView& view, const char* pattern, DTypes dtypes) const;

  /// `view` is given, plain, and has this dtype and shape.
  void exactly(const char* name, const TensorView& view, DType dtype, const Shape& shape) const;

  /// Like `exactly`, or not given at all.
  void optional(const char* name, const TensorView& view, DType dtype, const Shape& shape) const {
    if (view) exactly(name, view, dtype, shape);
  }

  /// Like `operand` for a weight, which may also be in the packed `layout`.
  void weight(const char* name, const TensorView& view, const char* pattern, DTypes dtypes,
              Layout layout) const;

  /// The scales of an x of fp8: of its rows or of its groups.
  void scales(const char* name, const TensorView& view, const Shape& x) const;
  /// What goes with a result of `dtype` and shape `y`: scales for fp8, which an op gives like its result, so
  /// they are not there yet when the caller asks for shapes; else nothing.
  void out_scales(const TensorView& view, DType dtype, const Shape& y) const;

  void range(const char* name, int64_t value, int64_t least, int64_t most) const;
  /// Finite and at least `least`.
  void number(const char* name, double value, double least) const;
  void finite(const char* name, double value) const;
  void dtype(const char* name, DType value, DTypes allowed) const;
  void activation(Activation value) const;

  /// `divisor` is at least 1 and divides `size`, which `of` describes.
  void divides(const char* name, int64_t divisor, int64_t size, const char* of) const;

  /// The general form: `got` and the parts of `expected` are put into words only when `holds` is false,
  /// tensors as `describe` does.
  template <class Got, class... Expected>
  void require(bool holds, const char* name, const Got& got, const Expected&... expected) const {
    if (!holds) fail(name, text(shown(got)), text(shown(expected)...));
  }

  /// What the op gives. Sizes must be neither negative nor more than kMaxElements together.
  TensorSpec result(DType dtype, const Shape& shape, Layout layout = Layout::plain) const;

 private:
  [[noreturn]] void fail(const char* name, std::string got, std::string expected) const;

  static std::string shown(const TensorView& view) { return describe(view); }
  static std::string shown(const Shape& shape) { return shape.text(); }
  template <class Value>
  static const Value& shown(const Value& value) {
    return value;
  }

  const char* op_;
};

}  // namespace fsv

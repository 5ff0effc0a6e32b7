#include "ops/contract.h"

#include <cctype>
#include <cmath>
#include <cstring>

namespace fsv {

std::string camel_case(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); i++) {
    const bool word = i > 0 && name[i] == '_' && i + 1 < name.size();
    out += word ? static_cast<char>(std::toupper(static_cast<unsigned char>(name[++i]))) : name[i];
  }
  return out;
}

namespace {

const char* name_of(Layout layout) {
  switch (layout) {
    case Layout::plain:
      return "plain";
    case Layout::packed_linear:
      return "packed_linear";
    case Layout::packed_conv:
      return "packed_conv";
  }
  return "unknown layout";
}

/// True when `shape` has as many dimensions as `pattern` has names, or at least as many beside an ellipsis.
bool matches(const Shape& shape, const char* pattern) {
  const bool open = std::strstr(pattern, "...") != nullptr;
  int names = 1;
  for (const char* c = pattern; *c; c++) names += *c == ',';
  return shape.rank <= kMaxRank && (open ? shape.rank >= names - 1 : shape.rank == names);
}

/// True when no dimension is negative and the dimensions that are not zero multiply to kMaxElements at most.
bool countable(const Shape& shape) {
  if (shape.rank < 0 || shape.rank > kMaxRank) return false;
  int64_t elements = 1;
  for (int i = 0; i < shape.rank; i++) {
    if (shape.dims[i] < 0) return false;
    if (shape.dims[i] > 0) elements = times(elements, shape.dims[i]);
  }
  return elements <= kMaxElements;
}

}  // namespace

std::string DTypes::text() const {
  std::string out;
  for (DType dtype : kDTypes) {
    if (!has(dtype)) continue;
    if (!out.empty()) out += " or ";
    out += fsv::name_of(dtype);
  }
  return out;
}

std::string describe(const TensorView& view) {
  if (!view) return "nothing";
  std::string out = text(view.shape.text(), " ", fsv::name_of(view.dtype));
  if (view.layout != Layout::plain) out += text(" ", name_of(view.layout));
  return out;
}

void Contract::fail(const char* name, std::string got, std::string expected) const {
  throw invalid_argument(text(camel_case(op_), ".", camel_case(name)), std::move(got), std::move(expected));
}

void Contract::operand(const char* name, const TensorView& view, const char* pattern, DTypes dtypes) const {
  weight(name, view, pattern, dtypes, Layout::plain);
}

void Contract::weight(const char* name, const TensorView& view, const char* pattern, DTypes dtypes,
                      Layout layout) const {
  const bool fits = view.given && dtypes.has(view.dtype) && matches(view.shape, pattern) &&
                    countable(view.shape) && (view.layout == Layout::plain || view.layout == layout);
  if (fits) return;
  std::string expected = text(pattern, " ", dtypes.text());
  if (layout != Layout::plain) expected += text(", plain or ", name_of(layout));
  fail(name, describe(view), std::move(expected));
}

void Contract::exactly(const char* name, const TensorView& view, DType dtype, const Shape& shape) const {
  if (!is(view, dtype, shape)) fail(name, describe(view), text(shape.text(), " ", fsv::name_of(dtype)));
}

void Contract::scales(const char* name, const TensorView& view, const Shape& x) const {
  require(is(view, DType::f32, row_scales(x)) || is(view, DType::f32, group_scales(x)), name, view,
          row_scales(x), " or ", group_scales(x), " f32");
}

void Contract::out_scales(const TensorView& view, DType dtype, const Shape& y) const {
  if (dtype == DType::f8e4m3) return optional("out_scales", view, DType::f32, group_scales(y));
  require(!view, "out_scales", view, "nothing beside a result that is not f8e4m3");
}

void Contract::range(const char* name, int64_t value, int64_t least, int64_t most) const {
  if (value < least || value > most) fail(name, text(value), text("from ", least, " to ", most));
}

void Contract::number(const char* name, double value, double least) const {
  if (!std::isfinite(value) || value < least) fail(name, text(value), text("finite and at least ", least));
}

void Contract::finite(const char* name, double value) const {
  if (!std::isfinite(value)) fail(name, text(value), "finite");
}

void Contract::dtype(const char* name, DType value, DTypes allowed) const {
  if (allowed.has(value)) return;
  const bool known = kAnyDType.has(value);
  fail(name, known ? std::string(fsv::name_of(value)) : text("code ", int{static_cast<uint8_t>(value)}),
       allowed.text());
}

void Contract::activation(Activation value) const {
  if (value > Activation::gelu_tanh)
    fail("activation", text("code ", int{static_cast<uint8_t>(value)}),
         "none, silu, relu, gelu or gelu_tanh");
}

void Contract::divides(const char* name, int64_t divisor, int64_t size, const char* of) const {
  if (divisor < 1 || size % divisor != 0) fail(name, text(divisor), text("a divisor of ", size, ", ", of));
}

TensorSpec Contract::result(DType dtype, const Shape& shape, Layout layout) const {
  if (!countable(shape))
    fail("result", shape.text(), text("no negative size and at most ", kMaxElements, " elements"));
  return {dtype, shape, layout};
}

}  // namespace fsv

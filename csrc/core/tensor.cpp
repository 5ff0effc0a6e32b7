#include "core/tensor.h"

namespace fsv {

std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank; i++) {
    if (i > 0) out += ", ";
    out += std::to_string(dims[i]);
  }
  return out + "]";
}

}  // namespace fsv

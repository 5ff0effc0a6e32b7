// The activations that ops apply, alone or in their epilogues; apart from ops.h for device code.
#pragma once

#include <cstdint>

namespace fsv {

/// gelu is the exact (erf) form, gelu_tanh the approximation that Wan and T5 use.
enum class Activation : uint8_t { none, silu, relu, gelu, gelu_tanh };

}  // namespace fsv

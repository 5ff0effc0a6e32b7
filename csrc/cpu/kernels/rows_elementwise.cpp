// Ops on elements: sums of tensors, activations, conversions between element types, and the few that reduce a
// row.
#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

/// body(float{}), body(uint16_t{}) or body(F8{}).
template <class Body>
void with_float(DType dtype, const Body& body) {
  if (dtype == DType::f8e4m3)
    body(F8{});
  else
    with_stored(dtype, body);
}

/// Added to |v| <= 2^22, leaves the nearest integer, ties to even, in the low bits.
constexpr float kRound = 0x1.8p23f;

Floats load_term(const CombineTask& task, int term, int64_t i, int64_t n) {
  if (task.dtypes[term] == DType::bf16)
    return load_some(static_cast<const uint16_t*>(task.terms[term]) + i, n);
  return load_some(static_cast<const float*>(task.terms[term]) + i, n);
}

void from_i32(const int32_t* x, float* out, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) out[i] = static_cast<float>(x[i]);
}

void to_i32(const float* x, int32_t* out, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    const float v = __builtin_rintf(x[i]);
    out[i] = v >= 0x1p31f ? INT32_MAX : v >= -0x1p31f ? static_cast<int32_t>(v) : v < 0 ? INT32_MIN : 0;
  }
}

/// Largest |v|. A NaN may get lost.
template <class T>
float largest_magnitude(const T* x, int64_t size) {
  Floats best = {};
  each_vector(size,
              [&](int64_t i, int64_t n) FSV_INLINE { best = max(absolute(load_some(x + i, n)), best); });
  return largest(best);
}

}  // namespace

void combine(const CombineTask& task, int64_t begin, int64_t end) {
  with_stored(task.out_dtype, [&](auto stored) {
    auto* out = static_cast<decltype(stored)*>(task.out);
    each_vector(end - begin, [&](int64_t offset, int64_t n) FSV_INLINE {
      const int64_t i = begin + offset;
      Floats sum = load_term(task, 0, i, n) * task.coefficients[0];
      for (int term = 1; term < task.count; term++)
        sum = fma(load_term(task, term, i, n), set(task.coefficients[term]), sum);
      store_some(out + i, sum, n);
    });
  });
}

void cast(const CastTask& task, int64_t begin, int64_t end) {
  if (task.from == task.to) {
    const int64_t size = static_cast<int64_t>(size_of(task.from));
    std::memcpy(static_cast<char*>(task.out) + begin * size, static_cast<const char*>(task.x) + begin * size,
                static_cast<size_t>((end - begin) * size));
  } else if (task.from == DType::i32) {
    from_i32(static_cast<const int32_t*>(task.x), static_cast<float*>(task.out), begin, end);
  } else if (task.to == DType::i32) {
    to_i32(static_cast<const float*>(task.x), static_cast<int32_t*>(task.out), begin, end);
  } else {
    with_float(task.from, [&](auto from) {
      with_float(task.to, [&](auto to) {
        const auto* x = static_cast<const decltype(from)*>(task.x) + begin;
        auto* out = static_cast<decltype(to)*>(task.out) + begin;
        each_vector(end - begin,
                    [&](int64_t i, int64_t n) FSV_INLINE { store_some(out + i, load_some(x + i, n), n); });
      });
    });
  }
}

void activate(const ActivateTask& task, int64_t begin, int64_t end) {
  with_activation(task.activation, [&](auto act) {
    with_stored(task.dtype, [&](auto stored) {
      const auto* x = static_cast<const decltype(stored)*>(task.x) + begin;
      auto* out = static_cast<decltype(stored)*>(task.out) + begin;
      each_vector(end - begin,
                  [&](int64_t i, int64_t n) FSV_INLINE { store_some(out + i, act(load_some(x + i, n)), n); });
    });
  });
}

void glu(const GluTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    for (int64_t row = begin; row < end; row++) {
      const auto* x = static_cast<const decltype(stored)*>(task.x) + row * 2 * task.channels;
      const auto* gate = x + task.channels;
      auto* out = static_cast<decltype(stored)*>(task.out) + row * task.channels;
      each_vector(task.channels, [&](int64_t c, int64_t n) FSV_INLINE {
        store_some(out + c, load_some(x + c, n) * silu(load_some(gate + c, n)), n);
      });
    }
  });
}

void from_rgb8(const Rgb8Task& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    const uint8_t* x = static_cast<const uint8_t*>(task.x) + begin;
    auto* out = static_cast<decltype(stored)*>(task.out) + begin;
    each_vector(end - begin, [&](int64_t i, int64_t n) FSV_INLINE {
      store_some(out + i, __builtin_convertvector((Ints)load_bytes(x + i, n), Floats) / 127.5f - 1.0f, n);
    });
  });
}

void to_rgb8(const Rgb8Task& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    const auto* x = static_cast<const decltype(stored)*>(task.x) + begin;
    uint8_t* out = static_cast<uint8_t*>(task.out) + begin;
    each_vector(end - begin, [&](int64_t i, int64_t n) FSV_INLINE {
      Floats v = (load_some(x + i, n) + 1.0f) * 127.5f;
      v = max(v, Floats{});  // of a NaN the zero
      v = v < 255.0f ? v : set(255.0f);
      store_bytes(out + i, (Words)(v + kRound) & 0xffu, n);
    });
  });
}

/// body(scale, first element, elements) of every group of the rows. A row without elements has a scale too.
template <class Body>
void each_group(const Fp8Task& task, int64_t begin, int64_t end, const Body& body) {
  const int64_t groups = task.group == 0 ? 1 : (task.channels + task.group - 1) / task.group;
  for (int64_t row = begin; row < end; row++)
    for (int64_t g = 0; g < groups; g++) {
      const int64_t c = g * task.group, left = task.channels - c;
      body(task.scales[row * groups + g], row * task.channels + c, left < task.group ? left : task.group);
    }
}

void quantize_fp8(const Fp8Task& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    each_group(task, begin, end, [&](float& scale, int64_t at, int64_t count) {
      const auto* x = static_cast<const decltype(stored)*>(task.x) + at;
      F8* out = static_cast<F8*>(task.out) + at;
      scale = largest_magnitude(x, count) / kF8e4m3Max;
      if (scale == 0) scale = 1;
      each_vector(count, [&](int64_t c, int64_t n)
                             FSV_INLINE { store_some(out + c, load_some(x + c, n) / scale, n); });
    });
  });
}

void dequantize_fp8(const Fp8Task& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    each_group(task, begin, end, [&](float scale, int64_t at, int64_t count) {
      const F8* x = static_cast<const F8*>(task.x) + at;
      auto* out = static_cast<decltype(stored)*>(task.out) + at;
      each_vector(count, [&](int64_t c, int64_t n)
                             FSV_INLINE { store_some(out + c, load_some(x + c, n) * scale, n); });
    });
  });
}

void all_finite(const AllFiniteTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    const auto* x = static_cast<const decltype(stored)*>(task.x) + begin;
    Words largest_bits = {};
    each_vector(end - begin, [&](int64_t i, int64_t n) FSV_INLINE {
      const Words bits = (Words)load_some(x + i, n) & 0x7fffffffu;
      largest_bits = bits > largest_bits ? bits : largest_bits;
    });
    for (int i = 0; i < kLanes; i++)
      if (largest_bits[i] >= 0x7f800000u) __atomic_store_n(task.finite, 0, __ATOMIC_RELAXED);
  });
}

void mean_abs_difference(const DifferenceTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) {
    for (int64_t row = begin; row < end; row++) {
      const auto* a = static_cast<const decltype(stored)*>(task.a) + row * task.channels;
      const auto* b = static_cast<const decltype(stored)*>(task.b) + row * task.channels;
      task.means[row] = sum_vectors(task.channels,
                                    [&](int64_t c, int64_t n) FSV_INLINE {
                                      return absolute(load_some(a + c, n) - load_some(b + c, n));
                                    }) /
                        static_cast<float>(task.channels);
    }
  });
}

}  // namespace fsv::cpu::FSV_ISA

// wgmma: a warpgroup multiplies 64 rows of A by N columns of B in the background. Lane l of warp w holds rows
// 16 w + l / 4 and + 8 of D; d[4 j + i] is column 8 j + 2 (l % 4) + i % 2 of the upper (i < 2) or lower row.
//
// fence, then one or more products, then commit; registers of D and of A belong to the hardware until wait.
#pragma once

#include <cstdint>

#include "cuda/ptx/layout.cuh"

namespace fsv::ptx {

namespace detail {

/// Pins accumulators to this point of the program: the compiler moves none of their uses across.
template <int R>
FSV_DEVICE void pin(float (&d)[R]) {
  FSV_UNROLL for (int i = 0; i < R; i++) asm volatile("" : "+f"(d[i])::"memory");
}

}  // namespace detail

/// Before the first product after registers of D or A were written; name the accumulators that were.
template <int... R>
FSV_DEVICE void wgmma_fence(float (&... d)[R]) {
  (detail::pin(d), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

FSV_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most Pending of the latest groups are unfinished; name the accumulators that are used after
/// it.
template <int Pending, int... R>
FSV_DEVICE void wgmma_wait(float (&... d)[R]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
  (detail::pin(d), ...);
}

namespace detail {

template <int N>
struct Wgmma;

// One specialisation of Wgmma for each N. A statement's first N / 2 operands are D; its other operands are
// numbered from there, so the table below gives, besides N, the seven numbers that follow.
// clang-format off
#define FSV_D_NAMES_8 "%0, %1, %2, %3"
#define FSV_D_NAMES_16 FSV_D_NAMES_8 ", %4, %5, %6, %7"
#define FSV_D_NAMES_24 FSV_D_NAMES_16 ", %8, %9, %10, %11"
#define FSV_D_NAMES_32 FSV_D_NAMES_24 ", %12, %13, %14, %15"
#define FSV_D_NAMES_40 FSV_D_NAMES_32 ", %16, %17, %18, %19"
#define FSV_D_NAMES_48 FSV_D_NAMES_40 ", %20, %21, %22, %23"
#define FSV_D_NAMES_56 FSV_D_NAMES_48 ", %24, %25, %26, %27"
#define FSV_D_NAMES_64 FSV_D_NAMES_56 ", %28, %29, %30, %31"
#define FSV_D_NAMES_72 FSV_D_NAMES_64 ", %32, %33, %34, %35"
#define FSV_D_NAMES_80 FSV_D_NAMES_72 ", %36, %37, %38, %39"
#define FSV_D_NAMES_88 FSV_D_NAMES_80 ", %40, %41, %42, %43"
#define FSV_D_NAMES_96 FSV_D_NAMES_88 ", %44, %45, %46, %47"
#define FSV_D_NAMES_104 FSV_D_NAMES_96 ", %48, %49, %50, %51"
#define FSV_D_NAMES_112 FSV_D_NAMES_104 ", %52, %53, %54, %55"
#define FSV_D_NAMES_120 FSV_D_NAMES_112 ", %56, %57, %58, %59"
#define FSV_D_NAMES_128 FSV_D_NAMES_120 ", %60, %61, %62, %63"
#define FSV_D_NAMES_136 FSV_D_NAMES_128 ", %64, %65, %66, %67"
#define FSV_D_NAMES_144 FSV_D_NAMES_136 ", %68, %69, %70, %71"
#define FSV_D_NAMES_152 FSV_D_NAMES_144 ", %72, %73, %74, %75"
#define FSV_D_NAMES_160 FSV_D_NAMES_152 ", %76, %77, %78, %79"
#define FSV_D_NAMES_168 FSV_D_NAMES_160 ", %80, %81, %82, %83"
#define FSV_D_NAMES_176 FSV_D_NAMES_168 ", %84, %85, %86, %87"
#define FSV_D_NAMES_184 FSV_D_NAMES_176 ", %88, %89, %90, %91"
#define FSV_D_NAMES_192 FSV_D_NAMES_184 ", %92, %93, %94, %95"
#define FSV_D_NAMES_200 FSV_D_NAMES_192 ", %96, %97, %98, %99"
#define FSV_D_NAMES_208 FSV_D_NAMES_200 ", %100, %101, %102, %103"
#define FSV_D_NAMES_216 FSV_D_NAMES_208 ", %104, %105, %106, %107"
#define FSV_D_NAMES_224 FSV_D_NAMES_216 ", %108, %109, %110, %111"
#define FSV_D_NAMES_232 FSV_D_NAMES_224 ", %112, %113, %114, %115"
#define FSV_D_NAMES_240 FSV_D_NAMES_232 ", %116, %117, %118, %119"
#define FSV_D_NAMES_248 FSV_D_NAMES_240 ", %120, %121, %122, %123"
#define FSV_D_NAMES_256 FSV_D_NAMES_248 ", %124, %125, %126, %127"

#define FSV_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define FSV_D_8 FSV_D4(0)
#define FSV_D_16 FSV_D_8, FSV_D4(4)
#define FSV_D_24 FSV_D_16, FSV_D4(8)
#define FSV_D_32 FSV_D_24, FSV_D4(12)
#define FSV_D_40 FSV_D_32, FSV_D4(16)
#define FSV_D_48 FSV_D_40, FSV_D4(20)
#define FSV_D_56 FSV_D_48, FSV_D4(24)
#define FSV_D_64 FSV_D_56, FSV_D4(28)
#define FSV_D_72 FSV_D_64, FSV_D4(32)
#define FSV_D_80 FSV_D_72, FSV_D4(36)
#define FSV_D_88 FSV_D_80, FSV_D4(40)
#define FSV_D_96 FSV_D_88, FSV_D4(44)
#define FSV_D_104 FSV_D_96, FSV_D4(48)
#define FSV_D_112 FSV_D_104, FSV_D4(52)
#define FSV_D_120 FSV_D_112, FSV_D4(56)
#define FSV_D_128 FSV_D_120, FSV_D4(60)
#define FSV_D_136 FSV_D_128, FSV_D4(64)
#define FSV_D_144 FSV_D_136, FSV_D4(68)
#define FSV_D_152 FSV_D_144, FSV_D4(72)
#define FSV_D_160 FSV_D_152, FSV_D4(76)
#define FSV_D_168 FSV_D_160, FSV_D4(80)
#define FSV_D_176 FSV_D_168, FSV_D4(84)
#define FSV_D_184 FSV_D_176, FSV_D4(88)
#define FSV_D_192 FSV_D_184, FSV_D4(92)
#define FSV_D_200 FSV_D_192, FSV_D4(96)
#define FSV_D_208 FSV_D_200, FSV_D4(100)
#define FSV_D_216 FSV_D_208, FSV_D4(104)
#define FSV_D_224 FSV_D_216, FSV_D4(108)
#define FSV_D_232 FSV_D_224, FSV_D4(112)
#define FSV_D_240 FSV_D_232, FSV_D4(116)
#define FSV_D_248 FSV_D_240, FSV_D4(120)
#define FSV_D_256 FSV_D_248, FSV_D4(124)

#define FSV_WGMMA_BODY(N, SHAPE, SCALE, A, B, IMMEDIATES, ...)                                        \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " SCALE ", 0; wgmma.mma_async.sync.aligned.m64n" #N SHAPE " {" \
               FSV_D_NAMES_##N "}, " A ", " B ", p, 1, 1" IMMEDIATES ";}"                              \
               : FSV_D_##N : __VA_ARGS__)

#define FSV_WGMMA(N, i0, i1, i2, i3, i4, i5, i6)                                                              \
  template <>                                                                                                 \
  struct Wgmma<N> {                                                                                           \
    template <Major TA, Major TB>                                                                             \
    static FSV_DEVICE void bf16_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {                  \
      FSV_WGMMA_BODY(N, "k16.f32.bf16.bf16", "%" #i2, "%" #i0, "%" #i1, ", %" #i3 ", %" #i4,                  \
                     "l"(a), "l"(b), "r"(scale_d), "n"(int{TA}), "n"(int{TB}));                               \
    }                                                                                                         \
    template <Major TB>                                                                                       \
    static FSV_DEVICE void bf16_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {      \
      FSV_WGMMA_BODY(N, "k16.f32.bf16.bf16", "%" #i5, "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}", "%" #i4,    \
                     ", %" #i6, "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d),             \
                     "n"(int{TB}));                                                                           \
    }                                                                                                         \
    static FSV_DEVICE void e4m3_ss(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {                  \
      FSV_WGMMA_BODY(N, "k32.f32.e4m3.e4m3", "%" #i2, "%" #i0, "%" #i1, , "l"(a), "l"(b), "r"(scale_d));      \
    }                                                                                                         \
    static FSV_DEVICE void e4m3_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {      \
      FSV_WGMMA_BODY(N, "k32.f32.e4m3.e4m3", "%" #i5, "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}", "%" #i4, ,  \
                     "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d));                       \
    }                                                                                                         \
  };
FSV_WGMMA(8, 4, 5, 6, 7, 8, 9, 10)
FSV_WGMMA(16, 8, 9, 10, 11, 12, 13, 14)
FSV_WGMMA(24, 12, 13, 14, 15, 16, 17, 18)
FSV_WGMMA(32, 16, 17, 18, 19, 20, 21, 22)
FSV_WGMMA(40, 20, 21, 22, 23, 24, 25, 26)
FSV_WGMMA(48, 24, 25, 26, 27, 28, 29, 30)
FSV_WGMMA(56, 28, 29, 30, 31, 32, 33, 34)
FSV_WGMMA(64, 32, 33, 34, 35, 36, 37, 38)
FSV_WGMMA(72, 36, 37, 38, 39, 40, 41, 42)
FSV_WGMMA(80, 40, 41, 42, 43, 44, 45, 46)
FSV_WGMMA(88, 44, 45, 46, 47, 48, 49, 50)
FSV_WGMMA(96, 48, 49, 50, 51, 52, 53, 54)
FSV_WGMMA(104, 52, 53, 54, 55, 56, 57, 58)
FSV_WGMMA(112, 56, 57, 58, 59, 60, 61, 62)
FSV_WGMMA(120, 60, 61, 62, 63, 64, 65, 66)
FSV_WGMMA(128, 64, 65, 66, 67, 68, 69, 70)
FSV_WGMMA(136, 68, 69, 70, 71, 72, 73, 74)
FSV_WGMMA(144, 72, 73, 74, 75, 76, 77, 78)
FSV_WGMMA(152, 76, 77, 78, 79, 80, 81, 82)
FSV_WGMMA(160, 80, 81, 82, 83, 84, 85, 86)
FSV_WGMMA(168, 84, 85, 86, 87, 88, 89, 90)
FSV_WGMMA(176, 88, 89, 90, 91, 92, 93, 94)
FSV_WGMMA(184, 92, 93, 94, 95, 96, 97, 98)
FSV_WGMMA(192, 96, 97, 98, 99, 100, 101, 102)
FSV_WGMMA(200, 100, 101, 102, 103, 104, 105, 106)
FSV_WGMMA(208, 104, 105, 106, 107, 108, 109, 110)
FSV_WGMMA(216, 108, 109, 110, 111, 112, 113, 114)
FSV_WGMMA(224, 112, 113, 114, 115, 116, 117, 118)
FSV_WGMMA(232, 116, 117, 118, 119, 120, 121, 122)
FSV_WGMMA(240, 120, 121, 122, 123, 124, 125, 126)
FSV_WGMMA(248, 124, 125, 126, 127, 128, 129, 130)
FSV_WGMMA(256, 128, 129, 130, 131, 132, 133, 134)
// clang-format on

}  // namespace detail

/// d = a b (+ d if scale_d), 16 of k at once. a and b are descriptors of bfloat16 in shared memory, b as
/// [n][k].
template <int N, Major TA = K_MAJOR, Major TB = K_MAJOR>
FSV_DEVICE void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {
  detail::Wgmma<N>::template bf16_ss<TA, TB>(d, a, b, scale_d);
}

/// The same with A from registers, laid out as the bfloat16 pairs of an accumulator.
template <int N, Major TB = K_MAJOR>
FSV_DEVICE void wgmma_bf16_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {
  detail::Wgmma<N>::template bf16_rs<TB>(d, a, b, scale_d);
}

/// The same of fp8 e4m3, 32 of k at once, both operands K-major. The hardware keeps only about 14 bits while
/// it adds: promote the sums to other registers every 128 of k.
template <int N>
FSV_DEVICE void wgmma_e4m3(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d) {
  detail::Wgmma<N>::e4m3_ss(d, a, b, scale_d);
}
template <int N>
FSV_DEVICE void wgmma_e4m3_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d) {
  detail::Wgmma<N>::e4m3_rs(d, a, b, scale_d);
}

}  // namespace fsv::ptx

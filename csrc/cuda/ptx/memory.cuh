// Plain loads and stores of shared and global memory, 1 to 16 bytes at once.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

/// The block's dynamic shared memory. Only 16-byte alignment is promised: swizzled buffers align_up.
FSV_DEVICE uint32_t smem_base() {
  extern __shared__ uint8_t dynamic_smem[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(dynamic_smem));
}

namespace detail {

template <int Bytes>
struct WordOf;
template <>
struct WordOf<1> {
  using Type = unsigned char;
};
template <>
struct WordOf<2> {
  using Type = unsigned short;
};
template <>
struct WordOf<4> {
  using Type = unsigned;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

/// The type in which CUDA's own loads and stores move a T.
template <class T>
using Word = typename WordOf<sizeof(T)>::Type;

template <class To, class From>
FSV_DEVICE To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace detail

/// Load from shared memory; the address is a multiple of sizeof(T).
template <class T>
FSV_DEVICE T lds(uint32_t address) {
  detail::Word<T> word;
  if constexpr (sizeof(T) == 1) {
    unsigned wide;
    asm volatile("ld.shared.u8 %0, [%1];" : "=r"(wide) : "r"(address) : "memory");
    word = static_cast<unsigned char>(wide);
  } else if constexpr (sizeof(T) == 2) {
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(word) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(word.x), "=r"(word.y) : "r"(address) : "memory");
  } else {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "r"(address)
                 : "memory");
  }
  return detail::bits<T>(word);
}

/// Store to shared memory.
template <class T>
FSV_DEVICE void sts(uint32_t address, T value) {
  const auto word = detail::bits<detail::Word<T>>(value);
  if constexpr (sizeof(T) == 1) {
    asm volatile("st.shared.u8 [%0], %1;" ::"r"(address), "r"(static_cast<unsigned>(word)) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(address), "h"(word) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(word.x), "r"(word.y) : "memory");
  } else {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(word.x), "r"(word.y),
                 "r"(word.z), "r"(word.w)
                 : "memory");
  }
}

/// Load through the non-coherent path: of data that nobody writes during this kernel before this load.
template <class T>
FSV_DEVICE T ldg(const T* p) {
  return detail::bits<T>(__ldg(reinterpret_cast<const detail::Word<T>*>(p)));
}

/// Load of data that this kernel may have written.
template <class T>
FSV_DEVICE T ldg_coherent(const T* p) {
  return detail::bits<T>(*reinterpret_cast<const detail::Word<T>*>(p));
}

/// Load of data that is read once, first to leave the caches.
template <class T>
FSV_DEVICE T ldg_stream(const T* p) {
  return detail::bits<T>(__ldcs(reinterpret_cast<const detail::Word<T>*>(p)));
}

/// Store to global memory.
template <class T>
FSV_DEVICE void stg(T* p, std::type_identity_t<T> value) {
  *reinterpret_cast<detail::Word<T>*>(p) = detail::bits<detail::Word<T>>(static_cast<T>(value));
}

/// Store of data that is not soon read again.
template <class T>
FSV_DEVICE void stg_stream(T* p, std::type_identity_t<T> value) {
  __stcs(reinterpret_cast<detail::Word<T>*>(p), detail::bits<detail::Word<T>>(value));
}

}  // namespace fsv::ptx

#include "cpu/isa.h"

#include <algorithm>

#include "core/error.h"
#include "cpu/kernels/kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The tables that the kernel files define, one namespace an instruction set.
#define FSV_DECLARE_ROWS(isa)          \
  namespace fsv::cpu::isa {            \
  extern const RowKernels row_kernels; \
  }
#define FSV_DECLARE_MATRIX(isa)                    \
  namespace fsv::cpu::isa {                        \
  extern const GemmKernels gemm_kernels;           \
  extern const AttentionKernels attention_kernels; \
  extern const ConvKernels conv_kernels;           \
  }

FSV_DECLARE_ROWS(portable)
FSV_DECLARE_MATRIX(portable)
#if FSV_HAVE_X86_KERNELS
FSV_DECLARE_ROWS(avx2)
FSV_DECLARE_ROWS(avx512)
FSV_DECLARE_ROWS(avx512bf16)
FSV_DECLARE_MATRIX(avx2)
FSV_DECLARE_MATRIX(avx512)
FSV_DECLARE_MATRIX(avx512bf16)
FSV_DECLARE_MATRIX(amx)
#endif

namespace fsv::cpu {
namespace {

#define FSV_TABLE(isa, rows)                                                                  \
  Kernels {                                                                                   \
#isa, &isa::gemm_kernels, &isa::attention_kernels, &isa::conv_kernels, &rows::row_kernels \
  }

struct Level {
  Kernels kernels;
  bool usable;
};

#if FSV_HAVE_X86_KERNELS
bool amx_granted() {
#if FSV_AMX_EMULATED
  return true;
#elif defined(__linux__)
  // CPUID leaf 7: EDX bit 22 AMX-BF16, bit 24 AMX-TILE. Linux then wants to be asked for the tile state, once
  // a process.
  unsigned a = 7, b, c = 0, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (!(d >> 22 & 1) || !(d >> 24 & 1)) return false;
  constexpr int kArchReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}
#endif

const std::vector<Level>& levels() {
  static const std::vector<Level> list = [] {
    std::vector<Level> l;
    l.push_back({FSV_TABLE(portable, portable), true});
#if FSV_HAVE_X86_KERNELS
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    l.push_back({FSV_TABLE(avx2, avx2), avx2});
    l.push_back({FSV_TABLE(avx512, avx512), avx512});
    l.push_back({FSV_TABLE(avx512bf16, avx512bf16), bf16});
    l.push_back({FSV_TABLE(amx, avx512bf16), bf16 && amx_granted()});
#endif
    return l;
  }();
  return list;
}

}  // namespace

const std::vector<std::string>& usable_isas() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> n;
    for (const Level& level : levels())
      if (level.usable) n.emplace_back(level.kernels.isa);
    return n;
  }();
  return names;
}

const Kernels& kernels_for(const std::string& isa) {
  const Level* best = nullptr;
  for (const Level& level : levels()) {
    if (!level.usable) continue;
    if (isa.empty()) {
#if FSV_AMX_EMULATED
      if (best && std::string(level.kernels.isa) == "amx")
        continue;  // only when named: emulation is for tests
#endif
      best = &level;
    } else if (isa == level.kernels.isa) {
      best = &level;
    }
  }
  if (best) return best->kernels;
  std::string all;
  for (const std::string& name : usable_isas()) all += (all.empty() ? "" : ", ") + name;
  Error error(code::kUnsupportedDevice,
              text("FSVIDEO_CPU_ISA must be one of ", all, " on this machine, got ", isa));
  error.field = "FSVIDEO_CPU_ISA";
  error.got = isa;
  error.expected = all;
  throw error;
}

}  // namespace fsv::cpu

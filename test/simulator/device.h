// devsim.h - functional models of the fsv::ptx:: wrappers for a host C++ compiler.
// Included by ptx.cuh; tests additionally use sim::launch / sim::Global.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include "fiber.h"

namespace sim {
struct Dim3 { unsigned x = 1, y = 1, z = 1; };
struct Loc { const char* file; int line; };

enum class Sched { InOrder, RandomWarp, RandomLane };
enum class Async { Eager, Lazy, Random };
struct Options {
  uint64_t seed = 1;
  Sched sched = Sched::InOrder;
  Async async = Async::Random;
  bool hb = true;        // happens-before race + proxy-fence checker (schedule independent)
  bool memcheck = true;  // bounds, alignment, uninitialised bytes
  bool banks = false;    // shared-memory wavefront counters per source line
  bool stop_on_error = true;
  size_t stack = 64 << 10;
  uint32_t max_smem = 232448;
};
struct BankStat { uint64_t requests = 0, wavefronts = 0, ideal = 0; };
struct Report {
  std::vector<std::string> errors;
  uint64_t switches = 0, async_steps = 0, wgmmas = 0, tma_bytes = 0;
  std::map<std::string, BankStat> banks;
  bool ok() const { return errors.empty(); }
  std::string first() const { return errors.empty() ? "" : errors[0]; }
};
Report launch(Dim3 grid, Dim3 block, uint32_t smem_bytes, const Options&, const std::function<void()>& kernel);

// Registered global memory: the only thing ldg/stg/TMA/cp.async may touch.
class GlobalMem {
 public:
  GlobalMem(size_t bytes, bool initialised);
  ~GlobalMem();
  void* data() { return (void*)(((uintptr_t)raw_.get() + 255) & ~uintptr_t(255)); }
 private:
  std::unique_ptr<char[]> raw_;
};
template <class T> struct Global : GlobalMem {
  size_t n;
  explicit Global(size_t n_) : GlobalMem(n_ * sizeof(T), false), n(n_) { memset(data(), 0xFB, n * sizeof(T)); }
  explicit Global(const std::vector<T>& v) : GlobalMem(v.size() * sizeof(T), true), n(v.size()) { memcpy(data(), v.data(), n * sizeof(T)); }
  T* ptr() { return (T*)data(); }
};

struct TensorMap {  // same information as CUtensorMap (tiled mode)
  uint8_t* base; int rank, elem; int64_t dim[5], stride[5]; int box[5]; int swz; uint32_t box_bytes;
};
// Mirrors cuTensorMapEncodeTiled's argument rules; throws on what the driver would reject.
TensorMap encode_tiled(void* base, int elem, std::vector<int64_t> dims, std::vector<int64_t> strides_bytes /*rank-1*/,
                       std::vector<int> box, int swizzle);

// ---- engine entry points used by the wrappers --------------------------------
struct Ctx { Dim3 tid, bid, bdim, gdim; };
extern thread_local const Ctx* ctx;   // of the running fiber

uint32_t e_smem_base();
int e_lane();
void* e_smem(uint32_t a, uint32_t n, bool write, Loc);      // checked access to shared bytes
void e_global(const void* p, uint32_t n, bool write, Loc);  // checked access to global bytes
void e_bar(int id, int n, bool sync, Loc);
void e_syncwarp(uint32_t mask, Loc);
uint32_t e_shfl(uint32_t v, int src, bool is_xor, Loc);
bool e_elect(Loc);
void e_setmaxnreg(int r, Loc);
void e_mbar_init(uint32_t b, uint32_t n, Loc);
void e_mbar_arrive(uint32_t b, int64_t tx, Loc);
void e_mbar_wait(uint32_t b, uint32_t parity, Loc);
void e_fence_proxy(bool mbar_only, Loc);
void e_tma(bool load, uint32_t saddr, const TensorMap* m, uint32_t bar, int rank, const int* c, Loc);
void e_bulk_commit(Loc);
void e_bulk_wait(int n, bool read_only, Loc);
void e_wgmma_fence(Loc);
void e_wgmma(float* d, int n, const uint32_t* areg, uint64_t a, uint64_t b, int scale_d, int ta, int tb, Loc);
void e_wgmma_commit(Loc);
void e_wgmma_wait(int n, Loc);
void e_mma16816(float* d, const uint32_t* a, const uint32_t* b, Loc);
void e_ldmatrix(uint32_t* r, uint32_t a, Loc);
void e_stmatrix(const uint32_t* r, uint32_t a, Loc);
void e_cp_async(uint32_t dst, const void* src, bool valid, Loc);
void e_cp_commit(Loc);
void e_cp_wait(int n, Loc);
}  // namespace sim

#define threadIdx (::sim::ctx->tid)
#define blockIdx (::sim::ctx->bid)
#define blockDim (::sim::ctx->bdim)
#define gridDim (::sim::ctx->gdim)

namespace fsv::ptx {
using TensorMap = sim::TensorMap;
#define SIM_AT const char *f_ = __builtin_FILE(), int l_ = __builtin_LINE()
#define SIM_HERE (::sim::Loc{f_, l_})
inline uint32_t smem_base() { return sim::e_smem_base(); }
inline int lane_id() { return sim::e_lane(); }
template <class T> T lds(uint32_t a, SIM_AT) { T t; memcpy(&t, sim::e_smem(a, sizeof(T), false, SIM_HERE), sizeof(T)); return t; }
template <class T> void sts(uint32_t a, T t, SIM_AT) { memcpy(sim::e_smem(a, sizeof(T), true, SIM_HERE), &t, sizeof(T)); }
template <class T> T ldg(const T* p, SIM_AT) { sim::e_global(p, sizeof(T), false, SIM_HERE); return *p; }
template <class T> void stg(T* p, T v, SIM_AT) { sim::e_global(p, sizeof(T), true, SIM_HERE); *p = v; }
inline void syncthreads(SIM_AT) { sim::e_bar(0, 0, true, SIM_HERE); }
inline void syncwarp(uint32_t m = ~0u, SIM_AT) { sim::e_syncwarp(m, SIM_HERE); }
inline void bar_sync(int id, int n, SIM_AT) { sim::e_bar(id, n, true, SIM_HERE); }
inline void bar_arrive(int id, int n, SIM_AT) { sim::e_bar(id, n, false, SIM_HERE); }
template <class T> T shfl_xor(T v, int m, SIM_AT) { static_assert(sizeof(T) == 4); uint32_t u; memcpy(&u, &v, 4); u = sim::e_shfl(u, m, true, SIM_HERE); memcpy(&v, &u, 4); return v; }
template <class T> T shfl(T v, int s, SIM_AT) { static_assert(sizeof(T) == 4); uint32_t u; memcpy(&u, &v, 4); u = sim::e_shfl(u, s, false, SIM_HERE); memcpy(&v, &u, 4); return v; }
inline bool elect_one(SIM_AT) { return sim::e_elect(SIM_HERE); }
template <int R> void setmaxnreg_inc(SIM_AT) { sim::e_setmaxnreg(R, SIM_HERE); }
template <int R> void setmaxnreg_dec(SIM_AT) { sim::e_setmaxnreg(R, SIM_HERE); }
inline void mbar_init(uint32_t b, uint32_t n, SIM_AT) { sim::e_mbar_init(b, n, SIM_HERE); }
inline void mbar_arrive(uint32_t b, SIM_AT) { sim::e_mbar_arrive(b, 0, SIM_HERE); }
inline void mbar_arrive_expect_tx(uint32_t b, uint32_t bytes, SIM_AT) { sim::e_mbar_arrive(b, bytes, SIM_HERE); }
inline void mbar_wait(uint32_t b, uint32_t p, SIM_AT) { sim::e_mbar_wait(b, p, SIM_HERE); }
inline void fence_mbar_init(SIM_AT) { sim::e_fence_proxy(true, SIM_HERE); }
inline void fence_proxy_async(SIM_AT) { sim::e_fence_proxy(false, SIM_HERE); }
inline void tma_prefetch_desc(const TensorMap*) {}
inline void tma_load_2d(uint32_t dst, const TensorMap* m, uint32_t bar, int c0, int c1, SIM_AT) { int c[2] = {c0, c1}; sim::e_tma(true, dst, m, bar, 2, c, SIM_HERE); }
inline void tma_load_5d(uint32_t dst, const TensorMap* m, uint32_t bar, int c0, int c1, int c2, int c3, int c4, SIM_AT) { int c[5] = {c0, c1, c2, c3, c4}; sim::e_tma(true, dst, m, bar, 5, c, SIM_HERE); }
inline void tma_store_2d(const TensorMap* m, uint32_t src, int c0, int c1, SIM_AT) { int c[2] = {c0, c1}; sim::e_tma(false, src, m, 0, 2, c, SIM_HERE); }
inline void bulk_commit(SIM_AT) { sim::e_bulk_commit(SIM_HERE); }
template <int N> void bulk_wait_read(SIM_AT) { sim::e_bulk_wait(N, true, SIM_HERE); }
template <int N> void bulk_wait(SIM_AT) { sim::e_bulk_wait(N, false, SIM_HERE); }
inline void wgmma_fence(SIM_AT) { sim::e_wgmma_fence(SIM_HERE); }
inline void wgmma_commit(SIM_AT) { sim::e_wgmma_commit(SIM_HERE); }
template <int N, int R> void wgmma_wait(float (&)[R], SIM_AT) { sim::e_wgmma_wait(N, SIM_HERE); }
template <int N, Major TA = K_MAJOR, Major TB = K_MAJOR>
void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, int s, SIM_AT) { sim::e_wgmma(d, N, nullptr, a, b, s, TA, TB, SIM_HERE); }
template <int N, Major TB = K_MAJOR>
void wgmma_bf16_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int s, SIM_AT) { sim::e_wgmma(d, N, a, 0, b, s, 0, TB, SIM_HERE); }
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIM_AT) { sim::e_mma16816(d, a, b, SIM_HERE); }
inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t a, SIM_AT) { sim::e_ldmatrix(r, a, SIM_HERE); }
inline void stmatrix_x4(uint32_t a, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3, SIM_AT) { uint32_t r[4] = {r0, r1, r2, r3}; sim::e_stmatrix(r, a, SIM_HERE); }
inline void cp_async16(uint32_t dst, const void* src, bool valid, SIM_AT) { sim::e_cp_async(dst, src, valid, SIM_HERE); }
inline void cp_async_commit(SIM_AT) { sim::e_cp_commit(SIM_HERE); }
template <int N> void cp_async_wait(SIM_AT) { sim::e_cp_wait(N, SIM_HERE); }

inline float tanh_fast(float x) { return std::tanh(x); }
inline uint32_t bf16_bits(float f) {  // round to nearest even
  uint32_t u; memcpy(&u, &f, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return (u >> 16) | 0x40;
  return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
inline uint32_t pack_bf16(float lo, float hi) { return bf16_bits(lo) | bf16_bits(hi) << 16; }
inline float bf16_lo(uint32_t v) { v <<= 16; float f; memcpy(&f, &v, 4); return f; }
inline float bf16_hi(uint32_t v) { v &= 0xffff0000u; float f; memcpy(&f, &v, 4); return f; }
}  // namespace fsv::ptx

// The engine: a block at a time, one fiber a CUDA thread; asynchronous units (TMA,
// bulk stores, cp.async, wgmma) are queued and executed by the scheduler later.
#include "simulator/simulator.h"

#include <array>

#include "cuda/ptx/layout.cuh"
#include "simulator/fiber.h"
#include "simulator/units.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <unordered_map>

#if SIM_ASM_SWITCH
asm(R"(
.text
.p2align 4
.globl sim_switch
.type sim_switch,@function
sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rdx
  jmp *%rdx
.size sim_switch,.-sim_switch
)");
#endif

constinit thread_local uint3 threadIdx{}, blockIdx{};
constinit thread_local dim3 blockDim, gridDim;

namespace sim {
void fiber_make(Fiber& f, char* stack, size_t size, void (*entry)()) {
  f.stack = stack;
  f.stack_size = size;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack + 4096,
                                size - 4096);  // frames of an earlier block may have left it poisoned
#endif
#if SIM_ASM_SWITCH
  // stagger the tops so that 384 stacks do not all alias the same cache sets
  size_t skew = ((uintptr_t)stack / size % 16) * 64;
  void** p = (void**)(((uintptr_t)stack + size - 64 - skew) & ~15ull);
  *--p = nullptr;
  *--p = (void*)entry;
  for (int i = 0; i < 6; i++) *--p = nullptr;
  f.sp = p;
#else
  getcontext(&f.uc);
  f.uc.uc_stack.ss_sp = stack;
  f.uc.uc_stack.ss_size = size;
  f.uc.uc_link = nullptr;
  makecontext(&f.uc, entry, 0);
#endif
}

using Loc = Location;
using Dim3 = dim3;
struct Ctx {
  uint3 tid, bid;
  dim3 bdim, gdim;
};
namespace {

struct Abort {};
constexpr uint32_t kCell = 2;  // bytes per shadow cell
constexpr uint32_t kPoisonAcc =
    0x7FADBEEF;  // signalling NaN shown in accumulators while a wgmma owns them: any arithmetic changes it
constexpr uint16_t kNone = 0xFFFF;

// ---- global memory registry ---------------------------------------------------
struct GAlloc {
  uintptr_t lo, hi;
  std::vector<uint32_t> sh;
};  // per 2 bytes: 0 uninit, kOutside, else epoch<<20 | block+2
constexpr uint32_t kOutside = ~0u;
std::map<uintptr_t, std::unique_ptr<GAlloc>> g_allocs;
std::mutex g_mu;
uint32_t g_epoch = 1;
GAlloc* g_find(const void* p) {
  auto it = g_allocs.upper_bound((uintptr_t)p);
  if (it == g_allocs.begin()) return nullptr;
  GAlloc* a = (--it)->second.get();
  return (uintptr_t)p < a->hi ? a : nullptr;
}

struct Clk {
  std::vector<uint32_t> c, p;
};  // c: happens-before clock, p: "made visible to the async proxy" clock
void vmax(std::vector<uint32_t>& d, const std::vector<uint32_t>& s) {
  uint32_t* __restrict a = d.data();
  const uint32_t* __restrict b = s.data();
  for (size_t i = 0, n = d.size(); i < n; i++) a[i] = std::max(a[i], b[i]);
}
void vmin(std::vector<uint32_t>& d, const std::vector<uint32_t>& s) {
  uint32_t* __restrict a = d.data();
  const uint32_t* __restrict b = s.data();
  for (size_t i = 0, n = d.size(); i < n; i++) a[i] = std::min(a[i], b[i]);
}

struct Cell {  // shadow of kCell shared bytes
  uint32_t wclk;
  uint32_t rclk[3];
  uint16_t wag, wloc;
  uint16_t rag[3], rloc[3];
  uint8_t init : 1, mbar : 1, generic : 1, nr;
};

struct Thread : Fiber {
  Ctx cx;
  int idx, warp, lane;
  bool done;
  const char* why;
  Loc at;
  uint32_t wa, wb;  // what it is blocked on
  Clk k;
  uint64_t ver;  // clocks and a change counter
  bool wg_fenced;
  int bulk_agent, cp_agent;
  uint32_t bulk_committed, bulk_waited, cp_committed;
  bool bulk_open, cp_open;
  std::vector<int> bulk_rd, bulk_wr, cp_left;  // outstanding operations per group
};
struct Coll {
  uint32_t mask, arrived;
  int kind;
  Loc at;
  void* arg[32];
};
struct Warp {
  uint32_t runnable = 0;
  uint64_t stall = 0;
  Coll coll[4] = {};
  int regs = 0;
};
struct NBar {
  int expect = 0, arrived = 0;
  std::vector<Thread*> wait;
  Clk acc;
};
struct MBar {
  uint32_t addr, count, pending, phase = 0;
  int64_t tx = 0;
  int agent;
  bool fenced = false;
  int init_agent;
  uint32_t init_clk;
  Clk acc, rel;
  std::vector<Thread*> wait;
};
struct Acc {
  std::vector<float*> ptr;
  std::vector<float> d;
  int n;
  uint32_t last_group;
  std::vector<char> restored;
  int nrest;
};
struct Wg {
  int arrived = 0, kind = 0;
  Loc at{};
  void* arg[128];
  int agent = -1;
  uint32_t committed = 0;
  uint32_t waited[128] = {};
  std::map<float*, std::unique_ptr<Acc>> accs;
  std::vector<Thread*> wait;
  Clk mn;
  uint64_t mnver = ~0ull;
  int inflight = 0;
};
enum OpKind { TMA_LD, TMA_ST, WGMMA, CP };
struct Op {
  OpKind kind;
  uint64_t id;
  Loc at;
  Thread* t;
  uint32_t lazy = 0;  // lazy: random reluctance to run
  // tma
  const TensorMap* m;
  uint32_t sa;
  int c[5];
  MBar* bar;
  uint32_t bar_phase;
  int row = 0, rows = 0;
  bool wr_phase = false;
  std::vector<char> stage;
  uint32_t group = 0;
  // wgmma
  int wg, n, ta, tb, scale;
  uint64_t a, b;
  std::vector<uint32_t> areg;
  Acc* acc;
  // cp.async
  const void* src;
  int valid, size;
};
struct WgArg {
  float* d;
  int n;
  const uint32_t* areg;
  uint64_t a, b;
  int scale, ta, tb;
  Thread* t;
  Loc at;
};

struct Engine {
  Options o;
  Report& rep;
  const std::function<void()>& kernel;
  Dim3 bdim, gdim;
  uint3 bid{};
  int T;
  uint32_t base, bytes;
  uint32_t block_lin = 0;
  std::vector<uint8_t> smem;
  std::vector<Cell> sh;
  std::vector<Thread> th;
  std::vector<Warp> warps;
  NBar bars[16];
  std::vector<Wg> wgs;
  std::map<uint32_t, std::unique_ptr<MBar>> mbars;
  std::vector<std::unique_ptr<Op>> ops;
  uint64_t op_seq = 0;
  uint32_t active = 0;
  int live = 0;
  int next_warp = 0;
  Fiber main;
  Thread* cur = nullptr;
  bool aborting = false;
  uint64_t step = 0, rng;
  int NA, nagents;
  std::vector<std::pair<const char*, int>> locs;
  uint32_t elect_rot;
  std::unordered_map<uint64_t, std::pair<std::vector<uint32_t>, int>> bank_pend;
  std::unordered_map<uint64_t, uint32_t> bank_occ;
  GAlloc* gcache = nullptr;
  static thread_local StackPool stacks;

  Engine(const Options& opt, Report& r, const std::function<void()>& k, Dim3 g, Dim3 b, uint32_t smem_bytes)
      : o(opt),
        rep(r),
        kernel(k),
        bdim(b),
        gdim(g),
        T(b.x * b.y * b.z),
        bytes(smem_bytes),
        rng(opt.seed * 0x9E3779B97F4A7C15ull + 0x1234567) {}

  uint64_t rnd() {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng * 0x2545F4914F6CDD1Dull >> 16;
  }
  bool random() const { return o.schedule != Schedule::order; }

  // ---- diagnostics ------------------------------------------------------------
  uint16_t loc_id(Loc l) {
    for (size_t i = locs.size(); i-- > 0;)
      if (locs[i].second == l.line && locs[i].first == l.file) return i;
    locs.push_back({l.file, l.line});
    return locs.size() - 1;
  }
  static std::string ls(Loc l) {
    const char* s = strrchr(l.file, '/');
    return std::string(s ? s + 1 : l.file) + ":" + std::to_string(l.line);
  }
  std::string ls(uint16_t id) { return id < locs.size() ? ls(Loc{locs[id].first, locs[id].second}) : "?"; }
  void err(Loc at, const char* f, ...) {
    char b[1024];
    va_list ap;
    va_start(ap, f);
    vsnprintf(b, sizeof b, f, ap);
    va_end(ap);
    std::string s = ls(at) + ": " + b;
    if (cur)
      s += " [block " + std::to_string(block_lin) + " warp " + std::to_string(cur->warp) + " lane " +
           std::to_string(cur->lane) + "]";
    if (rep.errors.size() < 64) rep.errors.push_back(s);
    aborting = true;
    if (cur) throw Abort{};
  }
  std::string agent_name(int a) {
    return a < T ? "thread " + std::to_string(a) + " (warp " + std::to_string(a / 32) + ")" : names[a - T];
  }
  std::vector<std::string> names;
  int new_agent(const std::string& nm) {
    names.push_back(nm);
    if (nagents == NA) {
      NA += 128;
      for (auto& t : th) grow(t.k);
      for (auto& b : bars) grow(b.acc);
      for (auto& m : mbars) {
        grow(m.second->acc);
        grow(m.second->rel);
      }
      for (auto& w : wgs) w.mnver = ~0ull;
    }
    return nagents++;
  }
  void grow(Clk& k) {
    k.c.resize(NA);
    k.p.resize(NA);
  }

  // ---- clocks -----------------------------------------------------------------
  void release(Thread& t, Clk& into) {
    if (!o.check) return;
    vmax(into.c, t.k.c);
    vmax(into.p, t.k.p);
    t.k.c[t.idx]++;
    t.ver++;
  }
  void acquire(Thread& t, const Clk& from) {
    if (!o.check) return;
    vmax(t.k.c, from.c);
    vmax(t.k.p, from.p);
    t.ver++;
  }

  // ---- shared memory ----------------------------------------------------------
  bool in_smem(uint32_t a, uint32_t n) const { return a >= base && a + n >= a && a + n <= base + bytes; }
  // `ag`/`clk` is the epoch recorded for this access; `k` the clock it is checked against.
  void touch(uint32_t a, uint32_t n, bool write, bool async, int ag, uint32_t clk, const Clk& k, Loc at,
             const char* what) {
    if (!o.check) return;
    uint16_t li = loc_id(at);
    for (uint32_t i = a / kCell, e = (a + n + kCell - 1) / kCell; i < e; i++) {
      Cell& c = sh[i];
      if (c.mbar) {
        err(at, "%s touches a live mbarrier at smem+0x%x", what, i * kCell - base);
        return;
      }
      if (!write && !c.init && o.check) {
        err(at, "%s reads uninitialised shared memory at smem+0x%x", what, i * kCell - base);
        return;
      }
      if (o.check) {
        if (c.wag != kNone && k.c[c.wag] < c.wclk) {
          err(at, "RACE %s at smem+0x%x is not ordered after the write at %s by %s", what, i * kCell - base,
              ls(c.wloc).c_str(), agent_name(c.wag).c_str());
          return;
        }
        if (async && c.generic && c.wag != kNone && k.p[c.wag] < c.wclk) {
          err(at, "PROXY %s at smem+0x%x needs fence.proxy.async after the generic write at %s", what,
              i * kCell - base, ls(c.wloc).c_str());
          return;
        }
        if (write) {
          for (int r = 0; r < c.nr; r++)
            if (k.c[c.rag[r]] < c.rclk[r]) {
              err(at, "RACE %s at smem+0x%x overwrites data still being read at %s by %s", what,
                  i * kCell - base, ls(c.rloc[r]).c_str(), agent_name(c.rag[r]).c_str());
              return;
            }
        }
      }
      if (write) {
        c.init = 1;
        c.generic = !async;
        c.wag = ag;
        c.wclk = clk;
        c.wloc = li;
        c.nr = 0;
      } else {
        int s = -1;
        for (int r = 0; r < c.nr; r++)
          if (c.rag[r] == ag || (o.check && k.c[c.rag[r]] >= c.rclk[r])) {
            s = r;
            break;
          }
        if (s < 0) s = c.nr < 3 ? c.nr++ : rnd() % 3;
        c.rag[s] = ag;
        c.rclk[s] = clk;
        c.rloc[s] = li;
      }
    }
  }

  // ---- scheduling -------------------------------------------------------------
  void ready(Thread* t) {
    warps[t->warp].runnable |= 1u << t->lane;
    active |= 1u << t->warp;
  }
  void block(Thread& t, const char* why, Loc at, uint32_t a = 0, uint32_t b = 0) {
    t.why = why;
    t.at = at;
    t.wa = a;
    t.wb = b;
    fiber_switch(t, main);
  }
  void maybe_yield(Thread& t, Loc at) {
    if (random() && rnd() % 4 == 0) {
      ready(&t);
      block(t, "yield", at);
    }
  }
  void resume(Thread& t) {
    Warp& w = warps[t.warp];
    w.runnable &= ~(1u << t.lane);
    if (!w.runnable) active &= ~(1u << t.warp);
    cur = &t;
    threadIdx = t.cx.tid;
    blockIdx = t.cx.bid;
    blockDim = t.cx.bdim;
    gridDim = t.cx.gdim;
    rep.switches++;
    fiber_switch(main, t);
    cur = nullptr;
  }
  static void entry();
  void deadlock() {
    std::string s = "DEADLOCK:";
    std::string prev;
    int shown = 0;
    for (auto& t : th)
      if (!t.done) {
        char b[256];
        snprintf(b, sizeof b, "%s(0x%x,%u) at %s", t.why, t.wa, t.wb, ls(t.at).c_str());
        if (b != prev && shown++ < 8) {
          s += "\n    warp " + std::to_string(t.warp) + " lane " + std::to_string(t.lane) + ".. in " + b;
          if (!strcmp(t.why, "mbar_wait")) {
            auto& m = *mbars[t.wa];
            snprintf(b, sizeof b, " {phase %u, pending %u/%u, tx %lld}", m.phase, m.pending, m.count,
                     (long long)m.tx);
            s += b;
            snprintf(b, sizeof b, "%s(0x%x,%u) at %s", t.why, t.wa, t.wb, ls(t.at).c_str());
          }
          prev = b;
        }
      }
    rep.errors.push_back(s);
    aborting = true;
  }
  void run() {
    setup();
    while (live && !aborting) {
      step++;
      bool a = !ops.empty() &&
               (!active || o.async == Async::eager || (o.async == Async::random && rnd() % 8 == 0));
      if (a) {
        async_step();
        continue;
      }
      if (!active) {
        deadlock();
        break;
      }
      int w;
      if (!random()) {
        w = next_warp;
        while (!(active >> w & 1)) w = (w + 1) % warps.size();
        next_warp = (w + 1) % warps.size();
      } else {
        if (rnd() % 64 == 0) warps[rnd() % warps.size()].stall = step + rnd() % 400;  // a slow warp
        uint32_t m = 0;
        for (size_t i = 0; i < warps.size(); i++)
          if (active >> i & 1 && warps[i].stall <= step) m |= 1u << i;
        if (!m) m = active;
        int n = rnd() % __builtin_popcount(m);
        while (n--) m &= m - 1;
        w = __builtin_ctz(m);
      }
      uint32_t m = warps[w].runnable;
      if (o.schedule == Schedule::lanes) {
        int n = rnd() % __builtin_popcount(m);
        while (n--) m &= m - 1;
        m &= -m;
      }
      bool down = random() && rnd() % 2;
      while (m && !aborting) {
        int l = down ? 31 - __builtin_clz(m) : __builtin_ctz(m);
        m &= ~(1u << l);
        resume(th[w * 32 + l]);
      }
    }
    if (aborting) return;
    uint64_t regs = 0;
    int dflt = std::min(255, 65536 / T / 8 * 8);
    for (auto& w : warps) regs += 32 * (w.regs ? w.regs : dflt);
    if (regs > uint64_t(T) * dflt)
      err(Loc{"kernel", 0}, "setmaxnreg oversubscribes the block's register pool (%llu > %d): would hang",
          (unsigned long long)regs, T * dflt);
    for (auto& p : ops) err(p->at, "block exited with an asynchronous operation still in flight");
    flush_banks();
  }
  void setup() {
    base = 1024 + 16 * (rnd() % 8);  // dynamic smem is only guaranteed 16-byte aligned
    smem.assign(base + bytes + 64, 0);
    for (auto& b : smem) b = 0xFF;  // bf16/f32 NaN
    Cell z{};
    z.wag = kNone;
    sh.assign(smem.size() / kCell + 1, z);
    warps.assign((T + 31) / 32, {});
    wgs.clear();
    wgs.resize((T + 127) / 128);
    for (auto& b : bars) b = NBar{};
    mbars.clear();
    ops.clear();
    names.clear();
    elect_rot = rnd() % 32;
    NA = T + 64;
    nagents = T;
    live = T;
    active = 0;
    next_warp = 0;
    cur = nullptr;
    if ((int)th.size() != T) {
      th.clear();
      th.resize(T);
    }
    stacks.init(T, o.stack);
    for (int i = 0; i < T; i++) {
      Thread& t = th[i];
      t.idx = i;
      t.warp = i / 32;
      t.lane = i % 32;
      t.done = false;
      t.why = "start";
      t.at = Loc{"kernel", 0};
      t.cx.tid = {i % bdim.x, i / bdim.x % bdim.y, i / (bdim.x * bdim.y)};
      t.cx.bid = bid;
      t.cx.bdim = bdim;
      t.cx.gdim = gdim;
      t.k.c.assign(NA, 0);
      t.k.p.assign(NA, 0);
      t.k.c[i] = 1;
      t.ver = 0;
      t.wg_fenced = false;
      t.bulk_agent = t.cp_agent = -1;
      t.bulk_committed = t.bulk_waited = t.cp_committed = 0;
      t.bulk_open = t.cp_open = false;
      t.bulk_rd.clear();
      t.bulk_wr.clear();
      t.cp_left.clear();
      fiber_make(t, stacks.at(i), o.stack, entry);
      ready(&t);
    }
    for (auto& b : bars) {
      b.acc.c.assign(NA, 0);
      b.acc.p.assign(NA, 0);
    }
  }
  void exit_thread(Thread& t) {
    if (t.bulk_open || t.bulk_waited < t.bulk_committed)
      err(t.at, "thread exits with bulk stores it never waited for");
    if (wgs[t.idx / 128].inflight && wgs[t.idx / 128].waited[t.idx % 128] < wgs[t.idx / 128].committed)
      err(t.at, "thread exits with wgmma in flight");
    t.done = true;
    live--;
  }

  // ---- warp / warpgroup collectives --------------------------------------------
  enum { C_SYNC = 1, C_SHFL, C_VOTE, C_ELECT, C_REG, C_LDSM, C_STSM, C_MMA, C_WG, C_WGCOMMIT };
  template <class F>
  void warp_coll(Thread& t, uint32_t mask, int kind, void* arg, Loc at, const char* nm, F f) {
    int nl = std::min(32, T - t.warp * 32);
    if (nl < 32) mask &= (1u << nl) - 1;
    if (!(mask >> t.lane & 1)) err(at, "%s: calling lane not in mask 0x%x", nm, mask);
    Coll* s = nullptr;
    for (auto& c : warps[t.warp].coll)
      if (c.mask) {
        if (c.mask == mask && c.kind == kind && c.at.line == at.line && !(c.arrived >> t.lane & 1)) {
          s = &c;
          break;
        }
        if (c.mask & mask) {
          err(at, "%s: warp diverged, other lanes wait at %s", nm, ls(c.at).c_str());
        }
      }
    if (!s) {
      for (auto& c : warps[t.warp].coll)
        if (!c.mask) {
          s = &c;
          break;
        }
      if (!s) err(at, "too many open warp collectives");
      *s = Coll{mask, 0, kind, at, {}};
    }
    s->arg[t.lane] = arg;
    s->arrived |= 1u << t.lane;
    if (s->arrived != mask) {
      block(t, nm, at);
      return;
    }
    Coll c = *s;
    s->mask = 0;
    f(c);
    for (uint32_t m = mask & ~(1u << t.lane); m; m &= m - 1) ready(&th[t.warp * 32 + __builtin_ctz(m)]);
  }
  template <class F>
  void wg_coll(Thread& t, int kind, void* arg, Loc at, const char* nm, F f) {
    Wg& g = wgs[t.idx / 128];
    int l = t.idx % 128;
    if (g.arrived && (g.kind != kind || g.at.line != at.line))
      err(at, "%s: warpgroup diverged, others wait at %s", nm, ls(g.at).c_str());
    if (!g.arrived) {
      g.kind = kind;
      g.at = at;
    }
    g.arg[l] = arg;
    if (++g.arrived < 128) {
      block(t, nm, at);
      return;
    }
    g.arrived = 0;
    f(g);
    for (int i = 0; i < 128; i++)
      if (i != l) ready(&th[t.idx / 128 * 128 + i]);
  }

  // ---- mbarrier -----------------------------------------------------------------
  MBar& bar(uint32_t a, Thread* t, bool async, Loc at) {
    auto it = mbars.find(a);
    if (it == mbars.end()) {
      err(at, "mbarrier at 0x%x is not initialised", a);
      throw Abort{};
    }
    MBar& b = *it->second;
    if (o.check && t && t->k.c[b.init_agent] < b.init_clk)
      err(at, "RACE mbarrier 0x%x used without ordering after its init", a);
    if (o.check && async && !b.fenced)
      err(at, "PROXY mbarrier 0x%x used by the async proxy without fence.mbarrier_init", a);
    return b;
  }
  void bar_check(MBar& b, Loc at) {
    if (b.tx < 0 && b.pending == 0)
      err(at, "mbarrier 0x%x received %lld bytes more than expect_tx announced", b.addr, -(long long)b.tx);
    if (b.tx > 0xFFFFF || b.tx < -0xFFFFF) err(at, "mbarrier 0x%x tx-count out of range", b.addr);
    if (b.pending || b.tx) return;
    b.phase++;
    b.pending = b.count;
    if (o.check) {
      vmax(b.rel.c, b.acc.c);
      vmax(b.rel.p, b.acc.p);
      b.rel.c[b.agent] = b.phase;
    }
    for (Thread* t : b.wait) ready(t);
    b.wait.clear();
  }

  // ---- asynchronous operations ---------------------------------------------------
  void async_step() {
    rep.async_steps++;
    // candidates: everything except wgmma that is not the oldest of its warpgroup; the least reluctant
    // one runs, so that a few operations are starved until nothing else can make progress
    size_t n = ops.size(), best = n, start = rnd() % n;
    for (size_t q = 0; q < n; q++) {
      size_t i = (start + q) % n;
      Op& p = *ops[i];
      bool okc = true;
      if (!p.lazy) p.lazy = o.async == Async::eager ? 1 : 1 + rnd() % 8;
      if (p.kind == WGMMA)
        for (auto& r : ops)
          if (r->kind == WGMMA && r->wg == p.wg && r->id < p.id) {
            okc = false;
            break;
          }
      if (okc && (best == n || p.lazy < ops[best]->lazy)) best = i;
    }
    size_t i = best;
    Op& p = *ops[i];
    bool fin = false;
    try {
      switch (p.kind) {
        case TMA_LD:
        case TMA_ST:
          fin = tma_step(p);
          break;
        case WGMMA:
          wgmma_run(p);
          fin = true;
          break;
        case CP: {
          memcpy(&smem[p.sa], p.src, p.valid);
          memset(&smem[p.sa] + p.valid, 0, p.size - p.valid);
          Thread* t = p.t;
          if (--t->cp_left[p.group] == 0 && !strcmp(t->why, "cp_wait") && !t->done) ready_if_blocked(t);
          fin = true;
        }
      }
    } catch (Abort&) {
      aborting = true;
      return;
    }
    if (fin) {
      int wg = p.kind == WGMMA ? p.wg : -1;
      ops.erase(ops.begin() + i);
      if (wg >= 0) {
        for (Thread* t : wgs[wg].wait) ready(t);
        wgs[wg].wait.clear();
      }
    }
  }
  void ready_if_blocked(Thread* t) { ready(t); }  // waiters re-check their condition

  // Visit the box row by row: (row index) -> smem linear offset and global address; elements outside are zero
  // / skipped.
  bool tma_step(Op& p) {
    const TensorMap& m = *p.m;
    int inner = m.box[0] * m.element;
    int todo = o.async == Async::eager ? p.rows : 1 + rnd() % p.rows;
    if (rnd() % 2) todo = p.rows;
    if (p.kind == TMA_ST && p.stage.empty()) p.stage.resize(m.bytes());
    uint32_t bytes_done = 0;
    for (; todo-- && p.row < p.rows; p.row++) {
      int r = p.row;
      int64_t off = 0;
      bool inb = true;
      for (int d = 1; d < m.rank; d++) {
        int64_t x = p.c[d] + r % m.box[d];
        r /= m.box[d];
        if (x < 0 || x >= m.extent(d)) inb = false;
        off += x * m.strides[d];
      }
      for (int b = 0; b < inner; b += 16) {
        uint32_t s = fsv::ptx::swizzle((fsv::ptx::Swizzle)m.swizzle, p.sa + p.row * inner + b);
        char* st = p.kind == TMA_ST ? &p.stage[p.row * inner + b] : nullptr;
        if (p.kind == TMA_ST && !p.wr_phase) {
          memcpy(st, &smem[s], 16);
          continue;
        }
        for (int e = 0; e < 16; e += m.element) {
          int64_t x = p.c[0] + (b + e) / m.element;
          bool ok = inb && x >= 0 && x < m.extent(0);
          uint8_t* g = m.base + off + x * m.element;
          if (p.kind == TMA_LD) {
            if (ok) {
              global(g, m.element, false, p.at);
              memcpy(&smem[s + e], g, m.element);
            } else
              memset(&smem[s + e], 0, m.element);
          } else if (ok) {
            global(g, m.element, true, p.at);
            memcpy(g, st + e, m.element);
          }
        }
      }
      bytes_done += inner;
    }

    if (p.kind == TMA_LD) {
      if (p.bar->phase != p.bar_phase)
        err(p.at,
            "TMA bytes arrived after their mbarrier phase had completed (expect_tx too small or missing)");
      p.bar->tx -= bytes_done;
      bar_check(*p.bar, p.at);
      return p.row == p.rows;
    }
    if (p.row < p.rows) return false;
    Thread* t = p.t;
    if (!p.wr_phase) {
      p.wr_phase = true;
      p.row = 0;
      if (--t->bulk_rd[p.group] == 0 && !strcmp(t->why, "bulk_wait") && !t->done) ready(t);
      return false;
    }
    if (--t->bulk_wr[p.group] == 0 && !strcmp(t->why, "bulk_wait") && !t->done) ready(t);
    return true;
  }

  // Canonical wgmma operand layouts: byte address of the 16-byte unit holding element (mn, k).
  static uint32_t gmma_unit(uint64_t d, int mn, int k, int major) {
    uint32_t a = (d & 0x3FFF) << 4, lbo = (d >> 16 & 0x3FFF) << 4, sbo = (d >> 32 & 0x3FFF) << 4;
    int sw = d >> 62;
    int w = sw == fsv::ptx::SW_128  ? 8
            : sw == fsv::ptx::SW_64 ? 4
            : sw == fsv::ptx::SW_32 ? 2
                                    : 1;  // units per swizzle row
    if (major == fsv::ptx::K_MAJOR)
      a += (mn / 8) * sbo + (mn % 8) * 16 * w + (sw ? (k / 8) * 16 : (k / 8) * lbo);
    else if (sw)
      a += (mn / (8 * w)) * lbo + (mn / 8 % w) * 16 + (k % 8) * 16 * w + (k / 8) * sbo;
    else
      a += (mn / 8) * sbo + (k % 8) * 16 + (k / 8) * lbo;
    return fsv::ptx::swizzle((fsv::ptx::Swizzle)sw, a);
  }
  template <class F>
  static void gmma_units(uint64_t d, int mn, int major, F f) {
    if (major == fsv::ptx::K_MAJOR) {
      for (int i = 0; i < mn; i++)
        for (int k = 0; k < 16; k += 8) f(gmma_unit(d, i, k, major), i, k);
    } else
      for (int k = 0; k < 16; k++)
        for (int i = 0; i < mn; i += 8) f(gmma_unit(d, i, k, major), i, k);
  }
  void gmma_gather(uint64_t d, int mn, int major, float* out /* [16][mn] */) {
    gmma_units(d, mn, major, [&](uint32_t a, int i, int k) {
      uint16_t h[8];
      memcpy(h, &smem[a], 16);
      for (int e = 0; e < 8; e++) {
        uint32_t u = uint32_t(h[e]) << 16;
        float v;
        memcpy(&v, &u, 4);
        major == fsv::ptx::K_MAJOR ? out[(k + e) * mn + i] = v : out[k * mn + i + e] = v;
      }
    });
  }
  static int frag_row(int t, int i) { return t / 32 * 16 + t % 32 / 4 + (i >> 1 & 1) * 8; }
  static int frag_col(int t, int i) { return i / 4 * 8 + t % 4 * 2 + (i & 1); }
  void wgmma_run(Op& p) {
    rep.wgmmas++;
    static thread_local std::vector<float> A(16 * 64), B(16 * 256);
    if (p.areg.empty())
      gmma_gather(p.a, 64, p.ta, A.data());
    else
      for (int t = 0; t < 128; t++)
        for (int r = 0; r < 4; r++)
          for (int h = 0; h < 2; h++) {
            uint32_t u = h ? p.areg[t * 4 + r] & 0xffff0000u : p.areg[t * 4 + r] << 16;
            float v;
            memcpy(&v, &u, 4);
            A[(t % 4 * 2 + h + (r >> 1) * 8) * 64 + t / 32 * 16 + t % 32 / 4 + (r & 1) * 8] = v;
          }
    gmma_gather(p.b, p.n, p.tb, B.data());
    float* D = p.acc->d.data();
    const int n = p.n;
    if (!p.scale) std::fill(D, D + 64 * n, 0.f);
    for (int i = 0; i < 64; i++)
      for (int k = 0; k < 16; k++) {
        const float a = A[k * 64 + i];
        const float* __restrict b = &B[k * n];
        float* __restrict d = D + i * n;
        for (int j = 0; j < n; j++) d[j] += a * b[j];
      }
    wgs[p.wg].inflight--;
  }
  uint32_t wg_done(int wg) {  // number of fully completed groups
    uint32_t g = wgs[wg].committed;
    for (auto& q : ops)
      if (q->kind == WGMMA && q->wg == wg) g = std::min(g, q->group - 1);
    return g;
  }

  // ---- global memory --------------------------------------------------------------
  void global(const void* p, uint32_t n, bool write, Loc at) {
    if (!o.check) return;
    uintptr_t u = (uintptr_t)p;
    if (!gcache || u < gcache->lo || u + n > gcache->hi) {
      gcache = g_find(p);
      if (!gcache || u + n > gcache->hi) {
        gcache = nullptr;
        err(at, "global %s of %u bytes out of bounds", write ? "write" : "read", n);
        return;
      }
    }
    if (u % n) err(at, "misaligned global access");
    for (uintptr_t i = (u - gcache->lo) / 2; i <= (u + n - 1 - gcache->lo) / 2; i++) {
      uint32_t& s = gcache->sh[i];
      if (s == kOutside) {
        err(at, "global %s of %u bytes outside any tensor", write ? "write" : "read", n);
        return;
      }
      bool same_launch = s >> 20 == g_epoch && (s & 0xFFFFF) >= 2, mine = (s & 0xFFFFF) == block_lin + 2;
      if (!write && !s) {
        err(at, "read of uninitialised global memory");
        return;
      }
      if (same_launch && !mine) {
        err(at, "global %s conflicts with a write by block %u of the same launch", write ? "write" : "read",
            (s & 0xFFFFF) - 2);
        return;
      }
      if (write) s = g_epoch << 20 | (block_lin + 2);
    }
  }

  // ---- bank model: wavefronts of one warp-wide access --------------------------------
  static int wavefronts(const uint32_t* a, int n, uint32_t w) {
    int total = 0, per = w <= 4 ? 32 : w == 8 ? 16 : 8;
    for (int s = 0; s < n; s += per) {
      std::vector<uint32_t> words[32];
      int mx = 0;
      for (int i = s; i < std::min(n, s + per); i++)
        for (uint32_t b = 0; b < std::max(w, 4u); b += 4) {
          uint32_t wd = (a[i] + b) / 4;
          auto& v = words[wd % 32];
          if (std::find(v.begin(), v.end(), wd) == v.end()) {
            v.push_back(wd);
            mx = std::max(mx, (int)v.size());
          }
        }
      total += mx;
    }
    return total;
  }
  void bank_add(Loc at, const uint32_t* a, int n, uint32_t w) {
    auto& b = rep.shared[ls(at)];
    b.requests++;
    b.units += wavefronts(a, n, w);
    b.bytes += uint64_t(n) * w;
    b.least += (n * w + 127) / 128;
  }
  void bank_lane(Thread& t, uint32_t a, uint32_t w, Loc at) {
    uint64_t site = uint64_t(loc_id(at)) << 8 | w, occ = bank_occ[site << 16 | t.idx]++,
             key = (site << 6 | t.warp) << 32 | occ;
    auto& e = bank_pend[key];
    e.first.push_back(a);
    if (e.first.size() == 32) {
      bank_add(at, e.first.data(), 32, w);
      bank_pend.erase(key);
    }
  }
  void flush_banks() {
    bank_pend.clear();
    bank_occ.clear();
  }
};
thread_local StackPool Engine::stacks;
thread_local Engine* E;

void Engine::entry() {
  Thread& t = *E->cur;
#if defined(__SANITIZE_ADDRESS__)
  const void* b;
  size_t s;
  __sanitizer_finish_switch_fiber(nullptr, &b, &s);
  E->main.bottom = b;
  E->main.bottom_size = s;
#endif
  try {
    E->kernel();
    E->exit_thread(t);
  } catch (Abort&) {
    t.done = true;
    E->live--;
  } catch (std::exception& e) {
    E->rep.errors.push_back(std::string("exception: ") + e.what());
    E->aborting = true;
    t.done = true;
    E->live--;
  }
  fiber_switch(t, E->main, true);
  abort();
}
Thread& me() { return *E->cur; }
}  // namespace

// ---- entry points ---------------------------------------------------------------------
uint32_t smem_base() { return E->base; }

void* shared_access(uint32_t a, uint32_t n, Access access, Loc at) {
  const bool write = access == Access::write;
  Engine& e = *E;
  Thread& t = me();
  static thread_local char sink[16];
  if (!e.in_smem(a, n)) {
    e.err(at, "shared %s at 0x%x outside the block's %u bytes", write ? "store" : "load", a - e.base,
          e.bytes);
    return sink;
  }
  if (a % n) {
    e.err(at, "misaligned shared access 0x%x", a);
    return sink;
  }
  e.touch(a, n, write, false, t.idx, t.k.c[t.idx], t.k, at, write ? "shared store" : "shared load");
  if (e.o.count) e.bank_lane(t, a, n, at);
  return &e.smem[a];
}
void global_access(const void* p, uint32_t n, Access access, Loc at) {
  E->global(p, n, access == Access::write, at);
}

void barrier(int id, int n, bool sync, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  e.maybe_yield(t, at);
  if (!n) n = e.T;
  if (id < 0 || id > 15 || n % 32 || n > e.T) e.err(at, "bad barrier id %d / count %d", id, n);
  NBar& b = e.bars[id];
  if (b.arrived && b.expect != n) e.err(at, "barrier %d used with counts %d and %d", id, b.expect, n);
  b.expect = n;
  e.release(t, b.acc);
  if (++b.arrived == n) {
    for (Thread* w : b.wait) {
      e.acquire(*w, b.acc);
      e.ready(w);
    }
    if (sync) e.acquire(t, b.acc);
    b.wait.clear();
    b.arrived = 0;
    std::fill(b.acc.c.begin(), b.acc.c.end(), 0);
    std::fill(b.acc.p.begin(), b.acc.p.end(), 0);
  } else if (sync) {
    b.wait.push_back(&t);
    e.block(t, "bar", at, id, n);
  }
}
void sync_warp(uint32_t mask, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  e.warp_coll(t, mask, Engine::C_SYNC, nullptr, at, "syncwarp", [&](Coll& c) {
    if (!e.o.check) return;
    Clk k;
    k.c.assign(e.NA, 0);
    k.p.assign(e.NA, 0);
    for (int l = 0; l < 32; l++)
      if (c.arrived >> l & 1) e.release(e.th[t.warp * 32 + l], k);
    for (int l = 0; l < 32; l++)
      if (c.arrived >> l & 1) e.acquire(e.th[t.warp * 32 + l], k);
  });
}
uint64_t shuffle(uint64_t v, Shuffle kind, int x, Loc at) {
  struct A {
    uint64_t v, out;
    int from;
  } a{v, 0, 0};
  int l = me().lane;
  a.from = kind == Shuffle::index          ? x & 31
           : kind == Shuffle::exclusive_or ? l ^ x
           : kind == Shuffle::up           ? l - x
                                           : l + x;
  if (a.from < 0 || a.from > 31) a.from = l;
  E->warp_coll(me(), ~0u, Engine::C_SHFL, &a, at, "shuffle", [&](Coll& c) {
    for (int l = 0; l < 32; l++)
      if (c.arrived >> l & 1) {
        A* p = (A*)c.arg[l];
        p->out = c.arrived >> p->from & 1 ? ((A*)c.arg[p->from])->v : 0xDEADBEEFDEADBEEFull;
      }
  });
  return a.out;
}
uint32_t ballot(bool predicate, Loc at) {
  struct A {
    bool p;
    uint32_t out;
  } a{predicate, 0};
  E->warp_coll(me(), ~0u, Engine::C_VOTE, &a, at, "vote", [&](Coll& c) {
    uint32_t out = 0;
    for (int l = 0; l < 32; l++)
      if (c.arrived >> l & 1) out |= uint32_t(((A*)c.arg[l])->p) << l;
    for (int l = 0; l < 32; l++)
      if (c.arrived >> l & 1) ((A*)c.arg[l])->out = out;
  });
  return a.out;
}
bool elect(Loc at) {
  Engine& e = *E;
  bool r = false;
  e.warp_coll(me(), ~0u, Engine::C_ELECT, &r, at, "elect", [&](Coll& c) {
    int l = e.random() ? e.elect_rot : 0;
    while (!(c.arrived >> l & 1)) l = (l + 1) % 32;
    *(bool*)c.arg[l] = true;
  });
  return r;
}
void set_registers(int r, bool, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  if (r % 8 || r < 24 || r > 256) e.err(at, "setmaxnreg %d: must be a multiple of 8 in [24,256]", r);
  e.warp_coll(t, ~0u, Engine::C_REG, nullptr, at, "setmaxnreg", [&](Coll&) { e.warps[t.warp].regs = r; });
}

void mbarrier_init(uint32_t a, uint32_t n, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  if (a % 8 || !e.in_smem(a, 8)) e.err(at, "bad mbarrier address 0x%x", a);
  auto it = e.mbars.find(a);
  if (it != e.mbars.end())
    for (uint32_t i = 0; i < 8; i += kCell) e.sh[(a + i) / kCell].mbar = 0;
  e.touch(a, 8, true, false, t.idx, t.k.c[t.idx], t.k, at, "mbarrier.init");
  for (uint32_t i = 0; i < 8; i += kCell) e.sh[(a + i) / kCell].mbar = 1;
  auto b = std::make_unique<MBar>();
  b->addr = a;
  b->count = b->pending = n;
  b->init_agent = t.idx;
  b->init_clk = t.k.c[t.idx];
  char nm[48];
  snprintf(nm, sizeof nm, "TMA load on mbarrier smem+0x%x", a - e.base);
  b->agent = it != e.mbars.end() ? it->second->agent : e.new_agent(nm);
  b->acc.c.assign(e.NA, 0);
  b->acc.p.assign(e.NA, 0);
  b->rel = b->acc;
  e.mbars[a] = std::move(b);
}
void mbarrier_arrive(uint32_t a, uint32_t n, uint32_t tx, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  e.maybe_yield(t, at);
  MBar& b = e.bar(a, &t, false, at);
  if (b.pending < n) {
    e.err(at, "mbarrier 0x%x: more arrivals than its count %u in one phase", a, b.count);
    return;
  }
  b.tx += tx;
  if (n) {
    e.release(t, b.acc);
    b.pending -= n;
    e.bar_check(b, at);
  }
}
bool mbarrier_test(uint32_t a, uint32_t parity, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  MBar& b = e.bar(a, &t, false, at);
  if ((b.phase & 1) == parity) {
    e.ready(&t);
    e.block(t, "mbar_try_wait", at, a, parity);
  }
  if ((b.phase & 1) == parity) return false;
  e.acquire(t, b.rel);
  return true;
}
void mbarrier_invalidate(uint32_t a, Loc at) {
  Engine& e = *E;
  e.bar(a, &me(), false, at);
  for (uint32_t i = 0; i < 8; i += kCell) e.sh[(a + i) / kCell].mbar = 0;
  e.mbars.erase(a);
}
void mbarrier_wait(uint32_t a, uint32_t parity, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  e.maybe_yield(t, at);
  MBar& b = e.bar(a, &t, false, at);
  if (parity > 1) e.err(at, "mbarrier parity must be 0 or 1");
  if ((b.phase & 1) == parity) {
    uint32_t ph = b.phase;
    b.wait.push_back(&t);
    e.block(t, "mbar_wait", at, a, parity);
    if (b.phase - ph > 1)
      e.err(at, "mbarrier 0x%x ran %u phases ahead of this waiter: a real poll would miss it", a,
            b.phase - ph);
  }
  e.acquire(t, b.rel);
}
void fence(Fence kind, Loc) {
  const bool mbar_only = kind == Fence::mbarrier_init;
  Engine& e = *E;
  Thread& t = me();
  for (auto& m : e.mbars)
    if (m.second->init_agent == t.idx) m.second->fenced = true;
  if (mbar_only || !e.o.check) return;
  t.k.p[t.idx] = t.k.c[t.idx];
  if (t.cp_agent >= 0) t.k.p[t.cp_agent] = t.k.c[t.cp_agent];
  t.k.c[t.idx]++;
  t.ver++;
}

static void tma(bool load, uint32_t sa, const TensorMap* m, uint32_t bar, int rank, const int* c, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  if (rank != m->rank) e.err(at, "tensor map rank %d used as %dd", m->rank, rank);
  if (!e.in_smem(sa, m->bytes())) {
    e.err(at, "TMA box (%u bytes at smem+0x%x) outside shared memory", m->bytes(), sa - e.base);
    return;
  }
  uint32_t al = m->swizzle == fsv::ptx::SW_128  ? 1024
                : m->swizzle == fsv::ptx::SW_64 ? 512
                : m->swizzle == fsv::ptx::SW_32 ? 256
                                                : 128;
  if (sa % al) e.err(at, "TMA smem address 0x%x not aligned to %u", sa, al);
  auto p = std::make_unique<Op>();
  p->kind = load ? TMA_LD : TMA_ST;
  p->id = e.op_seq++;
  p->at = at;
  p->t = &t;
  p->m = m;
  p->sa = sa;
  p->rows = 1;
  for (int d = 0; d < rank; d++) {
    p->c[d] = c[d];
    if (d) p->rows *= m->box[d];
  }
  if (load) {
    MBar& b = e.bar(bar, &t, true, at);
    p->bar = &b;
    p->bar_phase = b.phase;
    e.touch(sa, m->bytes(), true, true, b.agent, b.phase + 1, t.k, at, "TMA load");
  } else {
    if (t.bulk_agent < 0) t.bulk_agent = e.new_agent("TMA store of thread " + std::to_string(t.idx));
    if (t.bulk_rd.size() <= t.bulk_committed + 1) {
      t.bulk_rd.resize(t.bulk_committed + 2);
      t.bulk_wr.resize(t.bulk_committed + 2);
    }
    p->group = t.bulk_committed + 1;
    t.bulk_rd[p->group]++;
    t.bulk_wr[p->group]++;
    t.bulk_open = true;
    e.touch(sa, m->bytes(), false, true, t.bulk_agent, p->group, t.k, at, "TMA store");
  }
  e.ops.push_back(std::move(p));
}
void tma_load(uint32_t dst, const TensorMap* m, uint32_t bar, uint16_t blocks, int rank, const int* c,
              Loc at) {
  if (blocks > 1) E->err(at, "multicast is not modelled yet");
  tma(true, dst, m, bar, rank, c, at);
}
void tma_store(const TensorMap* m, uint32_t src, int rank, const int* c, Loc at) {
  tma(false, src, m, 0, rank, c, at);
}
static void not_yet(Loc at) {
  E->err(at, "this instruction is not modelled yet");
  throw Abort{};
}
void tma_load_im2col(uint32_t, const TensorMap*, uint32_t, uint16_t, const int*, const uint16_t*, Loc at) {
  not_yet(at);
}
void bulk_load(uint32_t, const void*, uint32_t, uint32_t, Loc at) { not_yet(at); }
void bulk_store(void*, uint32_t, uint32_t, Loc at) { not_yet(at); }
unsigned cluster_rank() { return 0; }
unsigned cluster_size() { return 1; }
void cluster_arrive(Loc at) { not_yet(at); }
void cluster_wait(Loc at) { not_yet(at); }
uint32_t map_shared(uint32_t, uint32_t, Loc at) {
  not_yet(at);
  return 0;
}
void bulk_commit(Loc) {
  Thread& t = me();
  t.bulk_committed++;
  t.bulk_open = false;
  if (t.bulk_rd.size() <= t.bulk_committed) {
    t.bulk_rd.resize(t.bulk_committed + 1);
    t.bulk_wr.resize(t.bulk_committed + 1);
  }
}
void bulk_wait(int n, bool rd, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  uint32_t target = t.bulk_committed > (uint32_t)n ? t.bulk_committed - n : 0;
  auto pend = [&] {
    for (uint32_t g = 1; g <= target; g++)
      if ((rd ? t.bulk_rd : t.bulk_wr)[g]) return true;
    return false;
  };
  while (pend()) e.block(t, "bulk_wait", at, n, rd);
  t.why = "";
  t.bulk_waited = std::max(t.bulk_waited, target);
  if (t.bulk_agent >= 0 && e.o.check) {
    t.k.c[t.bulk_agent] = std::max(t.k.c[t.bulk_agent], target);
    t.ver++;
  }
}

void wgmma_fence(Loc) { me().wg_fenced = true; }
void wgmma(const Wgmma& w, Loc at) {
  if (w.element != Element::bf16) not_yet(at);
  float* d = w.d;
  const int n = w.n, scale = w.add, ta = w.major_a, tb = w.major_b;
  const uint32_t* areg = w.registers;
  const uint64_t a = w.a, b = w.b;
  Engine& e = *E;
  Thread& t = me();
  e.maybe_yield(t, at);
  WgArg arg{d, n, areg, a, b, scale, ta, tb, &t, at};
  e.wg_coll(t, Engine::C_WG, &arg, at, "wgmma", [&](Wg& g) {
    WgArg* f = (WgArg*)g.arg[0];
    int wgi = t.idx / 128;
    uint64_t ver = 0;
    for (int i = 0; i < 128; i++) {
      WgArg* q = (WgArg*)g.arg[i];
      if (q->a != f->a || q->b != f->b || q->n != f->n || q->scale != f->scale)
        e.err(at, "wgmma operands differ across the warpgroup");
      if (!q->t->wg_fenced) e.err(at, "wgmma without a wgmma.fence since the last commit");
      ver += q->t->ver;
    }
    if (g.agent < 0) g.agent = e.new_agent("wgmma of warpgroup " + std::to_string(wgi));
    if (e.o.check && ver != g.mnver) {
      g.mn = e.th[wgi * 128].k;
      for (int i = 1; i < 128; i++) {
        vmin(g.mn.c, e.th[wgi * 128 + i].k.c);
        vmin(g.mn.p, e.th[wgi * 128 + i].k.p);
      }
      g.mnver = ver;
    }
    auto check = [&](uint64_t desc, int mn, int major, const char* nm) {
      Engine::gmma_units(desc, mn, major, [&](uint32_t ad, int, int) {
        if (!e.in_smem(ad, 16)) {
          e.err(at, "wgmma %s descriptor reaches smem+0x%x, outside shared memory", nm, ad - e.base);
          throw Abort{};
        }
        e.touch(ad, 16, false, true, g.agent, g.committed + 1, g.mn, at, nm);
      });
    };
    if (!areg) check(a, 64, ta, "wgmma A read");
    check(b, n, tb, "wgmma B read");
    auto& ac = g.accs[f->d];
    if (ac && ac->nrest) e.err(at, "wgmma.wait_group was executed by only part of the warpgroup");
    if (!ac) {
      ac = std::make_unique<Acc>();
      ac->n = n;
      ac->d.resize(64 * n);
      ac->nrest = 0;
      ac->restored.assign(128, 0);
      ac->ptr.resize(128);
      for (int i = 0; i < 128; i++) {
        float* r = ac->ptr[i] = ((WgArg*)g.arg[i])->d;
        for (int j = 0; j < n / 2; j++) {
          if (scale) ac->d[Engine::frag_row(i, j) * n + Engine::frag_col(i, j)] = r[j];
          memcpy(&r[j], &kPoisonAcc, 4);
        }
      }
    }
    ac->last_group = g.committed + 1;
    g.inflight++;
    auto p = std::make_unique<Op>();
    p->kind = WGMMA;
    p->id = e.op_seq++;
    p->at = at;
    p->t = &t;
    p->wg = wgi;
    p->n = n;
    p->ta = ta;
    p->tb = tb;
    p->scale = scale;
    p->a = a;
    p->b = b;
    p->acc = ac.get();
    p->group = g.committed + 1;
    if (areg) {
      p->areg.resize(512);
      for (int i = 0; i < 128; i++) memcpy(&p->areg[i * 4], ((WgArg*)g.arg[i])->areg, 16);
    }
    e.ops.push_back(std::move(p));
  });
}
void wgmma_commit(Loc at) {
  Engine& e = *E;
  Thread& t = me();
  e.wg_coll(t, Engine::C_WGCOMMIT, nullptr, at, "wgmma_commit", [&](Wg& g) {
    g.committed++;
    for (int i = 0; i < 128; i++) e.th[t.idx / 128 * 128 + i].wg_fenced = false;
  });
}
void wgmma_wait(int n, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  Wg& g = e.wgs[t.idx / 128];
  int l = t.idx % 128;
  uint32_t target = g.committed > (uint32_t)n ? g.committed - n : 0;
  while (e.wg_done(t.idx / 128) < target) {
    g.wait.push_back(&t);
    e.block(t, "wgmma_wait", at, n);
  }
  g.waited[l] = std::max(g.waited[l], target);
  if (g.agent >= 0 && e.o.check && t.k.c[g.agent] < target) {
    t.k.c[g.agent] = target;
    t.ver++;
  }
  for (auto it = g.accs.begin(); it != g.accs.end();) {
    Acc& a = *it->second;
    if (a.last_group <= target && !a.restored[l]) {
      for (int j = 0; j < a.n / 2; j++) {
        uint32_t u;
        memcpy(&u, &a.ptr[l][j], 4);
        if (u != kPoisonAcc) {
          e.err(at, "accumulator %d was modified while wgmma owned it", j);
          break;
        }
        a.ptr[l][j] = a.d[Engine::frag_row(l, j) * a.n + Engine::frag_col(l, j)];
      }
      a.restored[l] = 1;
      if (++a.nrest == 128) {
        it = g.accs.erase(it);
        continue;
      }
    }
    ++it;
  }
}

void mma(float* d, const uint32_t* a, const uint32_t* b, Element element, Loc at) {
  if (element != Element::bf16) not_yet(at);
  struct A {
    float* d;
    const uint32_t *a, *b;
  } arg{d, a, b};
  E->warp_coll(me(), ~0u, Engine::C_MMA, &arg, at, "mma.sync", [&](Coll& c) {
    float X[16][16], Y[16][8];
    auto f = [](uint32_t v, int h) {
      uint32_t u = h ? v & 0xffff0000u : v << 16;
      float r;
      memcpy(&r, &u, 4);
      return r;
    };
    for (int l = 0; l < 32; l++) {
      A* p = (A*)c.arg[l];
      for (int r = 0; r < 4; r++)
        for (int h = 0; h < 2; h++) {
          X[l / 4 + (r & 1) * 8][l % 4 * 2 + h + (r >> 1) * 8] = f(p->a[r], h);
          if (r < 2) Y[l % 4 * 2 + h + r * 8][l / 4] = f(p->b[r], h);
        }
    }
    for (int l = 0; l < 32; l++)
      for (int i = 0; i < 4; i++) {
        float s = 0;
        int r = l / 4 + (i >> 1) * 8, q = l % 4 * 2 + (i & 1);
        for (int k = 0; k < 16; k++) s += X[r][k] * Y[k][q];
        ((A*)c.arg[l])->d[i] += s;
      }
  });
}
namespace {
struct LA {
  uint32_t* r;
  uint32_t a;
};
}  // namespace
static void matrix(uint32_t* r, int n, uint32_t a, bool trans, bool store, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  LA arg{r, a};
  const char* name = store ? "stmatrix" : "ldmatrix";
  if (t.lane < 8 * n) {
    if (!e.in_smem(a, 16) || a % 16)
      e.err(at, "%s row address smem+0x%x out of bounds or misaligned", name, a - e.base);
    e.touch(a, 16, store, false, t.idx, t.k.c[t.idx], t.k, at, name);
  }
  e.warp_coll(t, ~0u, store ? Engine::C_STSM : Engine::C_LDSM, &arg, at, name, [&](Coll& c) {
    for (int m = 0; m < n; m++) {
      uint32_t ad[8];
      for (int i = 0; i < 8; i++) ad[i] = ((LA*)c.arg[m * 8 + i])->a;
      for (int row = 0; row < 8; row++)
        for (int col = 0; col < 8; col++) {
          const int i = trans ? col : row, j = trans ? row : col;
          void* reg = (char*)&((LA*)c.arg[i * 4 + j / 2])->r[m] + j % 2 * 2;
          void* s = &e.smem[ad[row] + col * 2];
          store ? memcpy(s, reg, 2) : memcpy(reg, s, 2);
        }
      if (e.o.count) e.bank_add(at, ad, 8, 16);
    }
  });
}
void matrix_load(uint32_t* r, int n, uint32_t a, bool trans, Loc at) { matrix(r, n, a, trans, false, at); }
void matrix_store(const uint32_t* r, int n, uint32_t a, bool trans, Loc at) {
  matrix(const_cast<uint32_t*>(r), n, a, trans, true, at);
}

void cp_async(uint32_t dst, const void* src, int size, int valid, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  if (!e.in_smem(dst, size) || dst % size || (uintptr_t)src % size) {
    e.err(at, "cp.async destination smem+0x%x out of bounds or misaligned", dst - e.base);
    return;
  }
  for (int i = 0; i + 1 < valid; i += 2) e.global((const char*)src + i, 2, false, at);
  if (t.cp_agent < 0) t.cp_agent = e.new_agent("cp.async of thread " + std::to_string(t.idx));
  e.touch(dst, size, true, false, t.cp_agent, t.cp_committed + 1, t.k, at, "cp.async");
  auto p = std::make_unique<Op>();
  p->kind = CP;
  p->id = e.op_seq++;
  p->at = at;
  p->t = &t;
  p->sa = dst;
  p->src = src;
  p->valid = valid;
  p->size = size;
  p->group = t.cp_committed + 1;
  if (t.cp_left.size() <= p->group) t.cp_left.resize(p->group + 1);
  t.cp_left[p->group]++;
  e.ops.push_back(std::move(p));
}
void cp_async_commit(Loc) {
  Thread& t = me();
  t.cp_committed++;
  if (t.cp_left.size() <= t.cp_committed) t.cp_left.resize(t.cp_committed + 1);
}
void cp_async_wait(int n, Loc at) {
  Engine& e = *E;
  Thread& t = me();
  uint32_t target = t.cp_committed > (uint32_t)n ? t.cp_committed - n : 0;
  auto pend = [&] {
    for (uint32_t g = 1; g <= target; g++)
      if (t.cp_left[g]) return true;
    return false;
  };
  while (pend()) e.block(t, "cp_wait", at, n);
  t.why = "";
  if (t.cp_agent >= 0 && e.o.check) {
    t.k.c[t.cp_agent] = std::max(t.k.c[t.cp_agent], target);
    t.ver++;
  }
}

// ---- host side ---------------------------------------------------------------------------
void* allocate(size_t n) {
  std::lock_guard l(g_mu);
  auto a = std::make_unique<GAlloc>();
  a->lo = (uintptr_t)std::aligned_alloc(256, (n + 256) / 256 * 256);
  a->hi = a->lo + n;
  a->sh.assign(n / 2 + 1, 0);
  void* p = (void*)a->lo;
  g_allocs[a->lo] = std::move(a);
  return p;
}
void release(void* p) {
  std::lock_guard l(g_mu);
  g_allocs.erase((uintptr_t)p);
  std::free(p);
}
void mark(const void* p, size_t n, Mark m) {
  std::lock_guard l(g_mu);
  GAlloc* a = g_find(p);
  if (!a || !n) return;
  size_t i = ((uintptr_t)p - a->lo) / 2, e = ((uintptr_t)p - a->lo + n - 1) / 2;
  for (; i <= e; i++) a->sh[i] = m == Mark::outside ? kOutside : m == Mark::undefined ? 0 : 1;
}
void mark_initialised(const void* p, size_t n) { mark(p, n, Mark::defined); }
bool is_allocated(const void* p, size_t n) {
  std::lock_guard l(g_mu);
  GAlloc* a = g_find(p);
  return a && (uintptr_t)p + n <= a->hi;
}
TensorMap encode_im2col(void*, int, const std::vector<int64_t>&, const std::vector<int64_t>&,
                        const std::vector<int>&, const std::vector<int>&, int, int, int,
                        const std::vector<int>&) {
  throw std::invalid_argument("im2col is not modelled yet");
}
Options Options::from_environment() { return {}; }

TensorMap encode_tiled(void* base, int elem, const std::vector<int64_t>& dims, const std::vector<int64_t>& st,
                       const std::vector<int>& box, int swz, const std::vector<int>&) {
  auto bad = [](const char* s) { throw std::invalid_argument(std::string("tensor map: ") + s); };
  TensorMap m{};
  m.base = (uint8_t*)base;
  m.rank = dims.size();
  m.element = elem;
  m.swizzle = swz;
  if (m.rank < 1 || m.rank > 5 || st.size() + 1 != dims.size() || box.size() != dims.size()) bad("rank");
  if ((uintptr_t)base % 16) bad("global address must be 16-byte aligned");
  int64_t last = (dims[0] - 1) * elem;
  for (int i = 0; i < m.rank; i++) {
    m.last[i] = dims[i] - 1;
    m.box[i] = box[i];
    m.strides[i] = i ? st[i - 1] : elem;
    if (dims[i] < 1 || dims[i] > (1ll << 32)) bad("dimension");
    if (box[i] < 1 || box[i] > 256) bad("box dimension must be 1..256");
    if (i && (st[i - 1] % 16 || st[i - 1] >= (1ll << 40))) bad("stride must be a multiple of 16");
    if (i) last += (dims[i] - 1) * st[i - 1];
  }
  int inner = box[0] * elem, span = swz == fsv::ptx::SW_128  ? 128
                                    : swz == fsv::ptx::SW_64 ? 64
                                    : swz == fsv::ptx::SW_32 ? 32
                                                             : 0;
  if (inner % 16) bad("inner box bytes must be a multiple of 16");
  if (span && inner != span)
    bad("swizzled inner box must equal the swizzle span (simulator restriction: the driver allows <=)");
  GAlloc* g = g_find(base);
  if (!g || (uintptr_t)base + last + elem > g->hi) bad("tensor extends past its allocation");
  return m;
}

Report launch(Dim3 grid, Dim3 block, Dim3 cluster, uint32_t smem, const Options& o,
              const std::function<void()>& k) {
  Report rep;
  if (cluster.x * cluster.y * cluster.z != 1) {
    rep.errors.push_back("clusters are not modelled yet");
    return rep;
  }
  if (smem > o.max_smem) {
    rep.errors.push_back("dynamic shared memory " + std::to_string(smem) + " exceeds " +
                         std::to_string(o.max_smem));
    return rep;
  }
  if (block.x * block.y * block.z > 1024) {
    rep.errors.push_back("more than 1024 threads per block");
    return rep;
  }
  if (++g_epoch >= 0xFFF) {
    g_epoch = 1;
    for (auto& a : g_allocs)
      for (auto& x : a.second->sh)
        if (x != kOutside) x = x != 0;
  }
  Engine e(o, rep, k, grid, block, smem);
  E = &e;
  std::vector<uint32_t> order(grid.x * grid.y * grid.z);
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  if (e.random())
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[e.rnd() % i]);
  for (uint32_t b : order) {
    e.block_lin = b;
    e.bid = uint3{b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
    e.run();
    if (e.aborting) break;
  }
  E = nullptr;
  return rep;
}
}  // namespace sim

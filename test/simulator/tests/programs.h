// Tables of small programs: for each mistake that the simulator knows, one that makes it and must be reported
// in every schedule, and beside it a correct one, which must pass in every schedule.
#pragma once

#include "cuda/ptx/ptx.cuh"
#include "simulator/check.h"

namespace programs {

using namespace fsv::ptx;

struct Program {
  const char* name;
  const char* kind;  // of the report, "a|b" where the schedule decides; null where there must be none
  unsigned threads;
  void (*kernel)();
  unsigned cluster = 1, blocks = 1;
};

// The global memory that programs may use, the first written before, the second not; and a map of the first
// as rows of 32 words, in boxes of 4 rows.
inline sim::Global<uint32_t>* given;
inline sim::Global<uint32_t>* fresh;
inline TensorMap map;
constexpr uint32_t kBox = 4 * 128;

constexpr uint32_t kSmem = 48 << 10;
inline uint32_t tile() { return align_up(smem_base(), 1024); }
inline uint32_t thread() { return threadIdx.x; }

/// An mbarrier that everybody has seen.
inline void init_barrier(uint32_t bar, uint32_t count = 1) {
  if (thread() == 0) {
    mbar_init(bar, count);
    fence_mbar_init();
  }
  syncthreads();
}

inline void load_box(uint32_t bar, uint32_t announced = kBox, sim::Location at = sim::here()) {
  mbar_arrive_expect_tx(bar, announced, at);
  tma_load_2d(tile(), &map, bar, 0, 0, at);
}

inline void run(const Program& program) {
  for (const sim::Options& options : sim::check::schedules(2)) {
    sim::Global<uint32_t> first(std::vector<uint32_t>(1026, 7)), second(1024);
    given = &first;
    fresh = &second;
    map = sim::encode_tiled(first.ptr(), 4, {32, 32}, {128}, {32, 4}, SW_128);
    const sim::Report report =
        sim::launch(program.blocks, program.threads, program.cluster, kSmem, options, program.kernel);
    sim::check::checks++;
    const std::string kind = report.first().substr(0, report.first().find(':'));
    const std::string wanted = std::string("|") + (program.kind ? program.kind : "") + "|";
    if (wanted.find("|" + kind + "|") == std::string::npos) {
      sim::check::fail("values", "\"%s\" (%s): %s", program.name, sim::check::name_of(options).c_str(),
                       report.ok() ? "not reported" : report.first().c_str());
      return;
    }
  }
}

template <size_t N>
int run_all(const char* name, const Program (&programs)[N]) {
  for (const Program& program : programs) run(program);
  return sim::check::finish(name);
}

}  // namespace programs

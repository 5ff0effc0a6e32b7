// The simulator as host code sees it: what it counts, what it refuses to launch, its options, and that a seed
// says all.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <stdexcept>

#include "cuda/ptx/ptx.cuh"
#include "simulator/check.h"

namespace {

using namespace fsv::ptx;
using sim::check::equal;
using sim::check::fail;

sim::Options counting() {
  sim::Options options;
  options.count = true;
  return options;
}

/// The only counter of a map.
sim::Counter only(const std::map<std::string, sim::Counter>& counters, const char* what) {
  equal(static_cast<long long>(counters.size()), 1, std::string(what) + ": lines that count");
  return counters.empty() ? sim::Counter() : counters.begin()->second;
}

// ---- bank conflicts: a warp loads `width` bytes a lane from where `place` says

template <class Word>
void banks(const char* what, uint32_t (*place)(uint32_t), int wavefronts) {
  const auto report = sim::launch(1, 32, 1, 32768, counting(), [&] {
    const uint32_t base = align_up(smem_base(), 128);
    if (threadIdx.x == 0) {
      for (uint32_t i = 0; i < 4096; i += 16) sts(base + i, uint4{});
    }
    syncthreads();
    lds<Word>(base + place(threadIdx.x));
  });
  sim::check::ok(report, what);
  for (const auto& [line, counter] : report.shared) {
    if (counter.requests == 1) equal(static_cast<long long>(counter.units), wavefronts, what);  // the loads
  }
}

void count_banks() {
  banks<float>(
      "neighbouring words", [](uint32_t t) { return 4 * t; }, 1);
  banks<float>(
      "one word for all", [](uint32_t) { return 0u; }, 1);
  banks<float>(
      "every second word", [](uint32_t t) { return 8 * t; }, 2);
  banks<float>(
      "one bank", [](uint32_t t) { return 128 * t; }, 32);
  banks<uint16_t>(
      "neighbouring halves", [](uint32_t t) { return 2 * t; }, 1);
  banks<uint64_t>(
      "neighbouring double words", [](uint32_t t) { return 8 * t; }, 2);
  banks<uint4>(
      "neighbouring vectors", [](uint32_t t) { return 16 * t; }, 4);
  banks<uint4>(
      "a vector for each eight lanes", [](uint32_t t) { return 16 * (t / 8); }, 4);
  banks<uint4>(
      "a column of vectors", [](uint32_t t) { return 128 * t; }, 32);
  banks<uint4>(
      "a swizzled column of vectors", [](uint32_t t) { return 128 * t + 16 * (t % 8); }, 4);
}

// ---- traffic

void count_traffic() {
  sim::Global<float> in(std::vector<float>(4096)), out(4096);
  const auto sectors = [&](const char* what, uint32_t (*place)(uint32_t), long long wanted) {
    const auto report = sim::launch(1, 64, 1, 0, counting(), [&] { ldg(in.ptr() + place(threadIdx.x)); });
    sim::check::ok(report, what);
    const sim::Counter counter = only(report.global, what);
    equal(static_cast<long long>(counter.requests), 2, std::string(what) + ": requests");
    equal(static_cast<long long>(counter.units), 2 * wanted, std::string(what) + ": sectors");
    equal(static_cast<long long>(counter.bytes), 256, std::string(what) + ": bytes");
    equal(static_cast<long long>(report.global_read), 256, std::string(what) + ": read");
  };
  sectors(
      "neighbours", [](uint32_t t) { return t; }, 4);
  sectors(
      "neighbours across a sector", [](uint32_t t) { return t + 1; }, 5);
  sectors(
      "every eighth", [](uint32_t t) { return 8 * t; }, 32);
  sectors(
      "the same", [](uint32_t) { return 5u; }, 1);

  const auto half = sim::launch(1, 32, 1, 0, counting(), [&] {
    if (threadIdx.x < 16) stg(out.ptr() + threadIdx.x, 1.0f);
  });
  equal(static_cast<long long>(only(half.global, "half a warp").units), 2, "half a warp: sectors");
  equal(static_cast<long long>(half.global_written), 64, "half a warp: written");

  const TensorMap map = sim::encode_tiled(in.ptr(), 4, {32, 100}, {128}, {32, 8}, SW_128);
  const auto box = sim::launch(1, 32, 1, 8192, counting(), [&] {
    const uint32_t tile = align_up(smem_base(), 1024), bar = tile + 4096;
    if (threadIdx.x == 0) {
      mbar_init(bar, 1);
      fence_mbar_init();
      mbar_arrive_expect_tx(bar, 1024);
      tma_load_2d(tile, &map, bar, 0, 96);  // half of the rows exist
    }
    syncthreads();
    mbar_wait(bar, 0);
  });
  sim::check::ok(box, "a box over the border");
  equal(static_cast<long long>(box.global_read), 512, "a box over the border: bytes read");
}

// ---- launches and options

void refuse_launches() {
  const std::function<void()> nothing = [] {};
  const auto refused = [&](dim3 grid, dim3 block, dim3 cluster, uint32_t smem, const char* what) {
    const auto report = sim::launch(grid, block, cluster, smem, {}, nothing);
    sim::check::checks++;
    if (report.first().rfind("launch: ", 0) != 0) fail("values", "%s is not refused", what);
  };
  refused({1}, {1025}, {1}, 0, "a block of 1025 threads");
  refused({1}, {1}, {1}, 232449, "too much shared memory");
  refused({3}, {32}, {2}, 0, "half a cluster");
  refused({16}, {32}, {16}, 0, "a cluster of 16");
  refused({0}, {32}, {1}, 0, "an empty grid");
  refused({1, 65536}, {32}, {1}, 0, "a tall grid");
  sim::check::ok(sim::launch({2, 2}, {33, 2}, {2, 2}, 232448, {}, nothing), "an odd launch that is allowed");
}

void read_options() {
  const char* before = std::getenv("FSVIDEO_SIM");
  const std::string kept = before ? before : "";
  setenv("FSVIDEO_SIM", "seed=7,schedule=lanes,async=lazy,check=0,count=1,threads=3,fp8_bits=14", 1);
  const sim::Options options = sim::Options::from_environment();
  equal(static_cast<long long>(options.seed), 7, "seed");
  equal(options.schedule == sim::Schedule::lanes && options.async == sim::Async::lazy, 1,
        "schedule and async");
  equal(!options.check && options.count && options.threads == 3 && options.fp8_bits == 14, 1, "the others");
  for (const char* bad : {"seed", "seed=", "seed=x", "schedule=none", "speed=1", "seed=1;check=0"}) {
    setenv("FSVIDEO_SIM", bad, 1);
    sim::check::checks++;
    try {
      sim::Options::from_environment();
      fail("values", "FSVIDEO_SIM=%s is accepted", bad);
    } catch (const std::invalid_argument&) {
    }
  }
  before ? setenv("FSVIDEO_SIM", kept.c_str(), 1) : unsetenv("FSVIDEO_SIM");
}

void refuse_maps() {
  sim::Global<uint16_t> memory(4096);
  uint16_t* p = memory.ptr();
  const auto refused = [](const char* what, const std::function<void()>& encode) {
    sim::check::checks++;
    try {
      encode();
      fail("values", "a tensor map with %s is accepted", what);
    } catch (const std::invalid_argument&) {
    }
  };
  sim::encode_tiled(p, 2, {64, 64}, {128}, {64, 8}, SW_128);
  refused("a base off 16 bytes", [&] { sim::encode_tiled(p + 1, 2, {64, 32}, {128}, {64, 8}, SW_128); });
  refused("a stride off 16 bytes", [&] { sim::encode_tiled(p, 2, {60, 32}, {120}, {64, 8}, SW_128); });
  refused("a box of 257", [&] { sim::encode_tiled(p, 2, {4096}, {}, {257}, SW_NONE); });
  refused("a box row of 24 bytes", [&] { sim::encode_tiled(p, 2, {64, 32}, {128}, {12, 8}, SW_NONE); });
  refused("a row over the swizzle's span", [&] {
    sim::encode_tiled(p, 2, {128, 32}, {256}, {128, 8}, SW_128);
  });
  refused("rows past the allocation", [&] { sim::encode_tiled(p, 2, {64, 65}, {128}, {64, 8}, SW_128); });
  refused("six dimensions", [&] {
    sim::encode_tiled(p, 2, {8, 1, 1, 1, 1, 1}, {16, 16, 16, 16, 16}, {8, 1, 1, 1, 1, 1}, SW_NONE);
  });
  refused("steps of 9", [&] { sim::encode_tiled(p, 2, {64, 64}, {128}, {64, 8}, SW_128, {1, 9}); });

  const std::vector<int64_t> extents = {64, 4, 4, 2, 1}, strides = {128, 512, 2048, 4096};
  const auto columns = [&](std::vector<int> lower, std::vector<int> upper, int channels, int pixels) {
    sim::encode_im2col(p, 2, extents, strides, lower, upper, channels, pixels, SW_128);
  };
  columns({-1, -1, -1}, {-1, -1, -1}, 64, 128);
  refused("a corner of -17", [&] { columns({-17, 0, 0}, {0, 0, 0}, 64, 128); });
  refused("a corner of 16", [&] { columns({0, 0, 0}, {0, 0, 16}, 64, 128); });
  refused("an empty bounding box", [&] { columns({0, 0, 0}, {0, 0, -2}, 64, 128); });
  refused("1025 pixels", [&] { columns({0, 0, 0}, {0, 0, 0}, 64, 1025); });
  refused("two corners", [&] { columns({0, 0}, {0, 0}, 64, 128); });
}

// ---- results

/// Many small blocks, some work in each.
void sum_blocks(const float* in, float* out) {
  sts(smem_base() + 4 * threadIdx.x, ldg(in + blockIdx.x * 64 + threadIdx.x));
  syncthreads();
  float sum = lds<float>(smem_base() + 4 * (63 - threadIdx.x));
  for (int m = 16; m; m /= 2) sum += shfl_xor(sum, m);
  if (threadIdx.x % 32 == 0) stg(out + blockIdx.x * 2 + threadIdx.x / 32, sum);
}

void repeat_runs() {
  std::vector<float> values(64 * 50);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i % 101);
  const auto run = [&](const sim::Options& options) {
    sim::Global<float> in(values), out(100);
    const auto report = sim::launch(50, 64, 1, 256, options, [&] { sum_blocks(in.ptr(), out.ptr()); });
    sim::check::ok(report, sim::check::name_of(options));
    return std::pair(std::vector<float>(out.ptr(), out.ptr() + 100), report.switches);
  };
  sim::Options options;
  const auto [plain, switches] = run(options);
  options.check = false;
  options.threads = 4;
  const auto [parallel, parallel_switches] = run(options);
  sim::check::near(parallel, plain, 100, 0, "four OS threads without checks");
  equal(static_cast<long long>(parallel_switches), static_cast<long long>(switches), "switches of both");
  options = {};
  options.schedule = sim::Schedule::lanes;
  options.seed = 3;
  const auto [first, first_switches] = run(options);
  const auto [again, again_switches] = run(options);
  options.seed = 4;
  const auto [other, other_switches] = run(options);
  sim::check::near(first, plain, 100, 0, "random lanes");
  equal(static_cast<long long>(again_switches), static_cast<long long>(first_switches),
        "the same seed again");
  equal(other_switches != first_switches, 1, "another seed is another schedule");
}

/// Blocks run in order, or in an order of the seed.
void shuffle_blocks() {
  const auto order_of = [](sim::Schedule schedule) {
    sim::Options options;
    options.schedule = schedule;
    std::vector<unsigned> order;
    sim::launch(20, 1, 1, 0, options, [&] { order.push_back(blockIdx.x); });
    return order;
  };
  const auto in_order = order_of(sim::Schedule::order), shuffled = order_of(sim::Schedule::warps);
  equal(std::is_sorted(in_order.begin(), in_order.end()), 1, "blocks in order");
  equal(std::is_sorted(shuffled.begin(), shuffled.end()), 0, "blocks of a random schedule");
  equal(static_cast<long long>(shuffled.size()), 20, "blocks of a random schedule: their number");
}

/// fp8 sums: 2^16 + 1 needs 17 bits.
void cut_fp8_sums() {
  const auto sum = [](int bits) {
    sim::Options options;
    options.fp8_bits = bits;
    float result = 0;
    const auto report = sim::launch(1, 128, 1, 32768, options, [&] {
      const uint32_t a = align_up(smem_base(), 1024), b = a + 8192;
      for (uint32_t i = 4 * threadIdx.x; i < 16384; i += 512) sts(a + i, 0u);
      syncthreads();
      if (threadIdx.x == 0) {
        const uint32_t pair = pack_e4m3(256, 1);
        sts(a, static_cast<uint16_t>(pair));
        sts(b, static_cast<uint16_t>(pair));
      }
      fence_proxy_async();
      syncthreads();
      float d[4];
      wgmma_fence(d);
      wgmma_e4m3<8>(d, gmma_desc(a, 16, 1024, SW_128), gmma_desc(b, 16, 1024, SW_128), 0);
      wgmma_commit();
      wgmma_wait<0>(d);
      if (threadIdx.x == 0) result = d[0];
    });
    sim::check::ok(report, "fp8 sums");
    return static_cast<long long>(result);
  };
  equal(sum(0), 65537, "fp8 sums as floats");
  equal(sum(17), 65537, "fp8 sums of 17 bits");
  equal(sum(16), 65536, "fp8 sums of 16 bits");
  equal(sum(14), 65536, "fp8 sums of 14 bits");
}

/// What an unchecked launch wrote is no longer known to be undefined.
void trust_unchecked() {
  sim::Global<float> memory(32);
  sim::Options options;
  options.check = false;
  sim::check::ok(sim::launch(1, 32, 1, 0, options, [&] { stg(memory.ptr() + threadIdx.x, 1.0f); }),
                 "unchecked");
  sim::check::ok(sim::launch(1, 32, 1, 0, {}, [&] { ldg(memory.ptr() + threadIdx.x); }),
                 "checked after unchecked");
}

/// A pool marks what is a tensor.
void mark_tensors() {
  void* pool = sim::allocate(4096);
  auto* words = static_cast<uint32_t*>(pool);
  sim::mark(pool, 4096, sim::Mark::outside);
  sim::mark(words + 64, 256, sim::Mark::defined);
  sim::mark(words + 128, 128, sim::Mark::undefined);
  const auto kind = [&](const std::function<void()>& kernel) {
    const std::string text = sim::launch(1, 32, 1, 0, {}, kernel).first();
    return text.substr(0, text.find(':'));
  };
  equal(kind([&] { ldg(words + 64 + threadIdx.x); }).empty(), 1, "a defined tensor");
  equal(kind([&] { ldg(words + 32 + threadIdx.x); }) == "bounds", 1, "between tensors");
  equal(kind([&] { stg(words + 130 + threadIdx.x, 1u); }) == "bounds", 1, "over the end of a tensor");
  equal(kind([&] { ldg(words + 128 + threadIdx.x); }) == "uninitialised", 1, "an undefined tensor");
  equal(kind([&] { stg(words + 128 + threadIdx.x, 1u); }).empty(), 1, "a store to it");
  equal(kind([&] { ldg(words + 128 + threadIdx.x); }).empty(), 1, "defined by the store");
  sim::release(pool);
}

}  // namespace

int main() {
  count_banks();
  count_traffic();
  refuse_launches();
  read_options();
  refuse_maps();
  repeat_runs();
  shuffle_blocks();
  cut_fp8_sums();
  trust_unchecked();
  mark_tensors();
  return sim::check::finish("engine");
}

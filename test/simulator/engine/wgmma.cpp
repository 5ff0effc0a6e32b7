// wgmma: products of a warpgroup, in order, out of shared memory and registers that belong to them until
// waited for.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "simulator/engine/descriptor.h"
#include "simulator/engine/engine.h"
#include "simulator/engine/multiply.h"

namespace sim {
namespace {

// What threads see in accumulators that are not theirs: a signalling NaN, because any arithmetic changes its
// bits.
constexpr uint32_t kTaken = 0x7FADBEEF;
constexpr int kThreads = 128, kRows = 64;

int row_of(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + (i >> 1 & 1) * 8; }
int column_of(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + (i & 1); }

struct Product : Operation {
  Product(Location location, Warpgroup& owner, Accumulator& d)
      : Operation(location), group(owner), accumulator(d) {}

  bool step(Engine& engine) override {
    engine.report().wgmmas++;
    const int depth = depth_of(element);
    static thread_local std::vector<float> left, right;
    left.resize(static_cast<size_t>(kRows * depth));
    right.resize(static_cast<size_t>(n * depth));
    const std::vector<uint8_t>& smem = group.threads->block->smem;
    if (fragment.empty()) {
      a.gather(smem, kRows, element, left.data());
    } else {
      gather_fragment(left.data(), depth);
    }
    b.gather(smem, n, element, right.data());
    float* d = accumulator.values.data();
    if (!add) std::fill(accumulator.values.begin(), accumulator.values.end(), 0.0f);
    const int bits = element == Element::e4m3 ? engine.options().fp8_bits : 0;
    if (bits) {
      multiply_truncated(d, left.data(), right.data(), depth, n, bits);
    } else {
      multiply(d, left.data(), right.data(), depth, n);
    }
    group.unfinished.pop_front();
    engine.wake(group.waiting);
    if (!group.queued.empty()) {
      std::unique_ptr<Operation> next = std::move(group.queued.front());
      group.queued.pop_front();
      engine.issue(std::move(next));
    }
    return true;
  }

  /// Register r of lane l holds row l / 4, or 8 more, and one of two runs of 4-byte words of k.
  void gather_fragment(float* left, int depth) const {
    const int each = depth / 8;
    for (int t = 0; t < kThreads; t++) {
      for (int r = 0; r < 4; r++) {
        const int row = t / 32 * 16 + t % 32 / 4 + (r & 1) * 8, k = t % 4 * each + (r >> 1) * 4 * each;
        float values[4];
        expand(&fragment[static_cast<size_t>(t * 4 + r)], each, element, values);
        for (int e = 0; e < each; e++) left[(k + e) * kRows + row] = values[e];
      }
    }
  }

  Warpgroup& group;
  Accumulator& accumulator;
  Element element = Element::bf16;
  int n = 0;
  bool add = false;
  Operand a, b;
  std::vector<uint32_t> fragment;
};

/// Takes the registers from the threads.
Accumulator& take(Warpgroup& group, const Wgmma& first) {
  Accumulator& accumulator = group.accumulators[first.d];
  if (accumulator.n) return accumulator;  // still with the hardware
  const int n = first.n;
  accumulator.n = n;
  accumulator.values.resize(static_cast<size_t>(kRows * n));
  for (int t = 0; t < kThreads; t++) {
    float* registers = accumulator.registers[t] = static_cast<const Wgmma*>(group.argument[t])->d;
    for (int i = 0; i < n / 2; i++) {
      accumulator.values[static_cast<size_t>(row_of(t, i) * n + column_of(t, i))] = registers[i];
      std::memcpy(&registers[i], &kTaken, sizeof kTaken);
    }
  }
  return accumulator;
}

/// Gives them back to one.
void give_back(Engine& engine, Accumulator& accumulator, int thread, Location at) {
  const int n = accumulator.n;
  float* registers = accumulator.registers[thread];
  for (int i = 0; i < n / 2; i++) {
    if (std::bit_cast<uint32_t>(registers[i]) != kTaken) {
      engine.fail(at, "race", "accumulator register %d was touched while wgmma owned it", i);
    }
    registers[i] = accumulator.values[static_cast<size_t>(row_of(thread, i) * n + column_of(thread, i))];
  }
  accumulator.returned[thread] = true;
  accumulator.returned_count++;
}

/// All threads agree, and may let go of their registers.
void check_threads(Engine& engine, const Warpgroup& group, const Wgmma& first, bool fresh, Location at) {
  for (int t = 0; t < kThreads; t++) {
    const Wgmma& other = *static_cast<const Wgmma*>(group.argument[t]);
    if (other.a != first.a || other.b != first.b || other.add != first.add || other.n != first.n) {
      engine.fail(at, "protocol", "operands of wgmma differ within the warpgroup");
    }
    const Thread& thread = group.threads[t];
    if ((fresh && !thread.accumulators_fenced) || (first.registers && !thread.fragments_fenced)) {
      engine.fail(at, "fence", "wgmma on registers without a wgmma.fence since they were the threads'");
    }
  }
}

void check_operand(Engine& engine, Warpgroup& group, const Operand& operand, int extent, Element element,
                   Location at, const char* name) {
  Block& block = *group.threads->block;
  if (operand.starts_mid_atom() && !engine.options().mid_atom_descriptors) {
    engine.fail(at, "protocol", "%s starts in the middle of a swizzle atom (address 0x%x, base offset %u)",
                name, operand.address(), operand.base_offset());
  }
  Touch touch;
  touch.async = true;
  touch.agent = group.agent;
  touch.tick = group.committed + 1;
  touch.knows = &group.common;
  operand.for_each_run(extent, element, [&](uint32_t offset, uint32_t bytes) {
    if (!engine.inside(offset, bytes)) {
      engine.fail(at, "bounds", "%s reaches %s, outside shared memory", name,
                  engine.shared_name(offset).c_str());
    }
    engine.touch_shared(block, offset, bytes, touch, at, name);
  });
}

/// What all threads of the warpgroup have seen: a product may rely on no more.
void meet_clocks(Warpgroup& group) {
  uint64_t version = 0;
  for (int t = 0; t < kThreads; t++) version += group.threads[t].version;
  if (version == group.common_version) return;
  group.common_version = version;
  group.common = group.threads[0].clock;
  for (int t = 1; t < kThreads; t++) group.common.meet(group.threads[t].clock);
}

}  // namespace

// Nobody sees a thread write its registers. Accumulators count as written once a wait has given some back,
// fragments of A once a group has been committed.
void wgmma_fence(Location) {
  Thread& self = Engine::thread();
  self.accumulators_fenced = self.fragments_fenced = true;
}

void wgmma(const Wgmma& mine, Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Warpgroup* group = engine.meet_warpgroup("wgmma", &mine, at);
  if (!group) return;
  const Wgmma& first = *static_cast<const Wgmma*>(group->argument[0]);
  const auto found = group->accumulators.find(first.d);
  const bool fresh = found == group->accumulators.end();
  if (!fresh && found->second.returned_count) {
    engine.fail(at, "protocol", "wgmma.wait_group was executed by only part of the warpgroup");
  }
  if (!fresh && found->second.n != first.n) {
    engine.fail(at, "protocol", "products of different shapes into registers that wgmma owns");
  }
  check_threads(engine, *group, first, fresh, at);
  if (group->agent == kNobody && engine.checking()) {
    group->agent = engine.new_agent("wgmma of warpgroup " + std::to_string(group->index));
  }

  Accumulator& accumulator = take(*group, first);
  auto product = std::make_unique<Product>(at, *group, accumulator);
  product->element = first.element;
  product->n = first.n;
  product->add = first.add;
  product->a = Operand(first.a, first.major_a);
  product->b = Operand(first.b, first.major_b);
  if (first.registers) {
    product->fragment.resize(4 * kThreads);
    for (size_t t = 0; t < kThreads; t++) {
      std::memcpy(&product->fragment[4 * t], static_cast<const Wgmma*>(group->argument[t])->registers, 16);
    }
  }
  if (engine.checking()) {
    meet_clocks(*group);
    if (!first.registers) check_operand(engine, *group, product->a, kRows, first.element, at, "wgmma A");
    check_operand(engine, *group, product->b, first.n, first.element, at, "wgmma B");
  }
  accumulator.last_group = group->committed + 1;
  const bool busy = !group->unfinished.empty();
  group->unfinished.push_back(group->committed + 1);
  if (busy) {
    group->queued.push_back(std::move(product));
  } else {
    engine.issue(std::move(product));
  }
  engine.part(*group);
}

void wgmma_commit(Location at) {
  Engine& engine = Engine::current();
  Warpgroup* group = engine.meet_warpgroup("wgmma.commit_group", nullptr, at);
  if (!group) return;
  group->committed++;
  for (int t = 0; t < kThreads; t++) group->threads[t].fragments_fenced = false;
  engine.part(*group);
}

void wgmma_wait(int pending, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  if (!self.warpgroup)
    engine.fail(at, "protocol", "wgmma.wait_group by a thread that is in no whole warpgroup");
  Warpgroup& group = *self.warpgroup;
  const int me = self.rank % kThreads;
  const uint32_t left = static_cast<uint32_t>(pending);
  const uint32_t target = group.committed > left ? group.committed - left : 0;
  while (group.finished() < target) {
    group.waiting.push_back(&self);
    engine.suspend("wgmma.wait_group", at, left);
  }
  if (engine.checking() && group.agent != kNobody && self.clock.seen[group.agent] < target) {
    engine.saw(self, group.agent, target);
  }
  for (auto it = group.accumulators.begin(); it != group.accumulators.end();) {
    Accumulator& accumulator = it->second;
    if (accumulator.last_group <= target && !accumulator.returned[me]) {
      give_back(engine, accumulator, me, at);
      self.accumulators_fenced = false;
      if (accumulator.returned_count == kThreads) {
        it = group.accumulators.erase(it);
        continue;
      }
    }
    ++it;
  }
}

}  // namespace sim

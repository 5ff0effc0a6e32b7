// What a warp does in one instruction: shuffles, votes, matrices of shared memory and products of fragments.
#include <bit>
#include <cstring>

#include "simulator/engine/engine.h"
#include "simulator/engine/multiply.h"

namespace sim {

void sync_warp(uint32_t mask, Location at) {
  Engine& engine = Engine::current();
  Collective* all = engine.meet(mask, "syncwarp", nullptr, at);
  if (!all) return;
  if (engine.checking()) {
    Clock together;
    Thread* lanes = Engine::thread().warp->threads;
    for (uint32_t m = all->mask; m; m &= m - 1) engine.release(lanes[std::countr_zero(m)], together);
    for (uint32_t m = all->mask; m; m &= m - 1) engine.acquire(lanes[std::countr_zero(m)], together);
  }
  engine.part(*all);
}

uint64_t shuffle(uint64_t value, Shuffle kind, int operand, Location at) {
  struct Lane {
    uint64_t value, result;
    int source;
  };
  Engine& engine = Engine::current();
  const Thread& self = Engine::thread();
  int source = self.lane;
  switch (kind) {
    case Shuffle::index:
      source = operand & 31;
      break;
    case Shuffle::exclusive_or:
      source ^= operand;
      break;
    case Shuffle::up:
      source -= operand;
      break;
    case Shuffle::down:
      source += operand;
      break;
  }
  if (source < 0 || source > 31) source = self.lane;
  if (!(self.warp->lanes >> source & 1))
    engine.fail(at, "protocol", "shuffle from lane %d, which does not exist", source);
  Lane mine = {value, 0, source};
  if (Collective* all = engine.meet(~0u, "shuffle", &mine, at)) {
    for (uint32_t m = all->mask; m; m &= m - 1) {
      Lane& lane = *static_cast<Lane*>(all->argument[std::countr_zero(m)]);
      lane.result = static_cast<const Lane*>(all->argument[lane.source])->value;
    }
    engine.part(*all);
  }
  return mine.result;
}

uint32_t ballot(bool predicate, Location at) {
  struct Lane {
    bool predicate;
    uint32_t result;
  };
  Engine& engine = Engine::current();
  Lane mine = {predicate, 0};
  if (Collective* all = engine.meet(~0u, "vote", &mine, at)) {
    uint32_t result = 0;
    for (uint32_t m = all->mask; m; m &= m - 1) {
      const int lane = std::countr_zero(m);
      result |= uint32_t{static_cast<const Lane*>(all->argument[lane])->predicate} << lane;
    }
    for (uint32_t m = all->mask; m; m &= m - 1) {
      static_cast<Lane*>(all->argument[std::countr_zero(m)])->result = result;
    }
    engine.part(*all);
  }
  return mine.result;
}

bool elect(Location at) {
  Engine& engine = Engine::current();
  bool mine = false;
  if (Collective* all = engine.meet(~0u, "elect", &mine, at)) {
    // Any lane: kernels may not count on the first.
    uint32_t lanes = all->mask;
    if (engine.random_schedule()) {
      for (uint64_t skip = engine.random() % static_cast<uint64_t>(std::popcount(lanes)); skip; skip--)
        lanes &= lanes - 1;
    }
    *static_cast<bool*>(all->argument[std::countr_zero(lanes)]) = true;
    engine.part(*all);
  }
  return mine;
}

// ---- matrices

namespace {

struct MatrixLane {
  uint32_t* registers;
  uint32_t offset;
};

/// Element (row, column) of matrix `matrix` lies in a half of the register of one lane.
uint8_t* half_of(const Collective& all, int matrix, int row, int column) {
  const auto* lane = static_cast<const MatrixLane*>(all.argument[row * 4 + column / 2]);
  return reinterpret_cast<uint8_t*>(&lane->registers[matrix]) + column % 2 * 2;
}

void move_matrices(uint32_t* registers, int count, uint32_t row, bool transposed, bool store, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  const char* name = store ? "stmatrix" : "ldmatrix";
  MatrixLane mine = {registers, 0};
  Block& block = engine.block_at(row, mine.offset, at);
  if (self.lane < 8 * count) {  // the other lanes' addresses do not count
    if (mine.offset % 16) engine.fail(at, "alignment", "%s of a row at address 0x%x", name, row);
    if (!engine.inside(mine.offset, 16)) {
      engine.fail(at, "bounds", "%s of a row at %s", name, engine.shared_name(mine.offset).c_str());
    }
    if (engine.checking()) engine.touch_shared(block, mine.offset, 16, engine.ordinary(store, at), at, name);
  }
  Collective* all = engine.meet(~0u, name, &mine, at);
  if (!all) return;
  if (all->mask != ~0u) engine.fail(at, "protocol", "%s by a warp of fewer than 32 lanes", name);
  for (int m = 0; m < count; m++) {
    uint64_t offsets[8];
    for (int r = 0; r < 8; r++) {
      const uint32_t offset = static_cast<const MatrixLane*>(all->argument[m * 8 + r])->offset;
      offsets[r] = offset;
      for (int c = 0; c < 8; c++) {
        uint8_t* memory = &block.smem[offset + 2 * static_cast<uint32_t>(c)];
        uint8_t* half = transposed ? half_of(*all, m, c, r) : half_of(*all, m, r, c);
        std::memcpy(store ? memory : half, store ? half : memory, 2);
      }
    }
    engine.count_warp(at, offsets, 8, 16);
  }
  engine.part(*all);
}

}  // namespace

void matrix_load(uint32_t* r, int count, uint32_t row, bool transposed, Location at) {
  move_matrices(r, count, row, transposed, false, at);
}

void matrix_store(const uint32_t* r, int count, uint32_t row, bool transposed, Location at) {
  move_matrices(const_cast<uint32_t*>(r), count, row, transposed, true, at);
}

// ---- products

namespace {

struct MmaLane {
  float* d;
  const uint32_t *a, *b;
};

/// The product for all lanes; which element lies in whose register is that of PTX's figures for m16n8k16 and
/// m16n8k32.
template <Element kElement>
void multiply_fragments(const Collective& all) {
  constexpr int kDepth = depth_of(kElement), kEach = kDepth / 8;  // of k, and elements of a register
  typedef float Row __attribute__((vector_size(32)));
  float left[16][kDepth];  // [m][k]
  Row right[kDepth];       // [k][n]
  const auto lane_of = [&](int l) { return static_cast<const MmaLane*>(all.argument[l]); };
  for (int l = 0; l < 32; l++) {
    const MmaLane lane = *lane_of(l);
    for (int r = 0; r < 4; r++)
      expand(&lane.a[r], kEach, kElement, &left[l / 4 + (r & 1) * 8][l % 4 * kEach + (r >> 1) * 4 * kEach]);
    for (int r = 0; r < 2; r++) {
      float values[kEach];
      expand(&lane.b[r], kEach, kElement, values);
      for (int e = 0; e < kEach; e++) right[(l % 4 + r * 4) * kEach + e][l / 4] = values[e];
    }
  }
  for (int m = 0; m < 16; m++) {
    Row sums = {};
    for (int k = 0; k < kDepth; k++) sums += left[m][k] * right[k];
    for (int n = 0; n < 8; n++) lane_of(m % 8 * 4 + n / 2)->d[m / 8 * 2 + n % 2] += sums[n];
  }
}

}  // namespace

void mma(float* d, const uint32_t* a, const uint32_t* b, Element element, Location at) {
  Engine& engine = Engine::current();
  MmaLane mine = {d, a, b};
  Collective* all = engine.meet(~0u, "mma.sync", &mine, at);
  if (!all) return;
  if (all->mask != ~0u) engine.fail(at, "protocol", "mma.sync by a warp of fewer than 32 lanes");
  if (element == Element::bf16)
    multiply_fragments<Element::bf16>(*all);
  else
    multiply_fragments<Element::e4m3>(*all);
  engine.part(*all);
}

}  // namespace sim

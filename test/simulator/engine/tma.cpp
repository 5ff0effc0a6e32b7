// Copies of boxes by tensor map. A box is a number of rows, one run of the innermost dimension each, that lie
// one after another in shared memory, swizzled; the map says where each is in global memory and which part of
// it exists.
#include <algorithm>
#include <cstring>

#include "cuda/ptx/layout.cuh"
#include "simulator/engine/copies.h"

namespace sim {
namespace {

/// A row of a box: `bytes` of global memory at `global`, from byte `begin` of the row; the rest is outside
/// the tensor.
struct Row {
  uint8_t* global = nullptr;
  uint32_t begin = 0, bytes = 0;
};

struct Box {
  TensorMap map = {};  // a copy: the kernel's is on the stack of a thread that may end first
  int at[5] = {};
  uint16_t offsets[3] = {};  // im2col

  Row row(uint32_t index) const {
    int64_t where[5] = {at[0], at[1], at[2], at[3], at[4]};
    if (map.im2col) {
      walk(where, index);
    } else {
      for (int d = 1; d < map.rank; d++) {
        where[d] += int64_t{index % map.box[d]} * map.steps[d];
        index /= map.box[d];
      }
    }
    return run(where);
  }

 private:
  /// The pixel `index` steps after the first one: through the bounding box along w, h, d, then to the next
  /// sample.
  void walk(int64_t* where, uint32_t index) const {
    const int spatial = map.rank - 2;
    int64_t carry = index;
    for (int i = 0; i < spatial; i++) {
      const int d = i + 1;
      const int64_t size = map.extent(d) + map.upper[i] - map.lower[i], step = map.steps[d];
      const int64_t count = (size + step - 1) / step, steps = (where[d] - map.lower[i]) / step + carry;
      where[d] = map.lower[i] + steps % count * step + offsets[i];
      carry = steps / count;
    }
    where[map.rank - 1] += carry;
  }

  Row run(const int64_t* where) const {
    int64_t distance = 0;
    for (int d = 1; d < map.rank; d++) {
      if (where[d] < 0 || where[d] >= map.extent(d)) return {};
      distance += where[d] * static_cast<int64_t>(map.strides[d]);
    }
    const int64_t first = std::max<int64_t>(where[0], 0),
                  end = std::min(where[0] + map.box[0], map.extent(0));
    if (first >= end) return {};
    return {map.base + distance + first * map.element,
            static_cast<uint32_t>((first - where[0]) * map.element),
            static_cast<uint32_t>((end - first) * map.element)};
  }
};

uint8_t* chunk(Block& block, const TensorMap& map, uint32_t offset) {
  return &block.smem[fsv::ptx::swizzle(static_cast<fsv::ptx::Swizzle>(map.swizzle), offset)];
}

/// How many of the rows that are left come next.
uint32_t some(Engine& engine, uint32_t left) {
  if (engine.options().async == Async::eager || engine.random() % 2) return left;
  return 1 + static_cast<uint32_t>(engine.random() % left);
}

struct TmaLoad : Operation {
  using Operation::Operation;

  bool step(Engine& engine) override {
    const TensorMap& map = box.map;
    const uint32_t row_bytes = map.row_bytes(), rows = some(engine, map.rows() - done);
    std::vector<uint8_t> buffer(row_bytes);
    for (uint32_t i = 0; i < rows; i++, done++) {
      const Row row = box.row(done);
      std::fill(buffer.begin(), buffer.end(), uint8_t{0});
      if (row.bytes) std::memcpy(&buffer[row.begin], row.global, row.bytes);
      for (uint32_t b = 0; b < row_bytes; b += 16) {
        std::memcpy(chunk(*block, map, offset + done * row_bytes + b), &buffer[b], 16);
      }
    }
    arrived(engine, *barrier, phase, rows * row_bytes, at);
    return done == map.rows();
  }

  Box box;
  Block* block = nullptr;
  MBarrier* barrier = nullptr;
  uint32_t phase = 0, offset = 0, done = 0;
};

struct TmaStore : Operation {
  TmaStore(Location location, Thread& issuer) : Operation(location), thread(issuer) {}

  /// First reads all of the box, then writes it, both in pieces.
  bool step(Engine& engine) override {
    const TensorMap& map = box.map;
    const uint32_t row_bytes = map.row_bytes(), all = map.rows();
    stage.resize(map.bytes());
    for (uint32_t i = some(engine, all - done); i; i--, done++) {
      uint8_t* buffer = &stage[done * row_bytes];
      if (writing) {
        if (const Row row = box.row(done); row.bytes) std::memcpy(row.global, buffer + row.begin, row.bytes);
      } else {
        for (uint32_t b = 0; b < row_bytes; b += 16) {
          std::memcpy(buffer + b, chunk(*thread.block, map, offset + done * row_bytes + b), 16);
        }
      }
    }
    if (done < all) return false;
    done = 0;
    if (writing) {
      finished(engine, thread, thread.bulk, group);
      return true;
    }
    writing = true;
    finished_reading(engine, thread, thread.bulk, group);
    return false;
  }

  Thread& thread;
  Box box;
  uint32_t offset = 0, group = 0, done = 0;
  bool writing = false;
  std::vector<uint8_t> stage;
};

void check_box(Engine& engine, const Box& box, uint32_t offset, Location at) {
  const TensorMap& map = box.map;
  if (!engine.inside(offset, map.bytes())) {
    engine.fail(at, "bounds", "TMA box of %u bytes at %s, outside the block's %u bytes", map.bytes(),
                engine.shared_name(offset).c_str(), engine.launch().smem_bytes);
  }
  const auto swizzle = static_cast<fsv::ptx::Swizzle>(map.swizzle);
  const uint32_t alignment = swizzle == fsv::ptx::SW_NONE ? 128 : 8 * fsv::ptx::swizzle_span(swizzle);
  if (offset % alignment) {
    engine.fail(at, "alignment", "TMA box at %s (address 0x%x) is not aligned to %u bytes",
                engine.shared_name(offset).c_str(), offset, alignment);
  }
}

/// All rows of the box in global memory.
void touch_rows(Engine& engine, const Box& box, const Touch& touch, Location at, const char* what) {
  for (uint32_t i = 0; i < box.map.rows(); i++) {
    const Row row = box.row(i);
    if (!row.bytes) continue;
    engine.touch_global(row.global, row.bytes, touch, at, what);
    engine.count_row(at, row.global, row.bytes);
  }
}

void load(const Box& box, uint32_t dst, uint32_t bar, uint16_t blocks, Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Thread& self = Engine::thread();
  uint32_t offset, barrier_offset;
  Block& own = engine.block_at(dst, offset, at);
  engine.block_at(bar, barrier_offset, at);
  check_box(engine, box, offset, at);
  if (blocks >> engine.blocks().size()) {
    engine.fail(at, "protocol", "multicast to blocks 0x%x of a cluster of %zu", blocks,
                engine.blocks().size());
  }
  if (blocks == 0) blocks = static_cast<uint16_t>(1u << own.rank);
  bool first = true;
  for (Block& block : engine.blocks()) {
    if (!(blocks >> block.rank & 1)) continue;
    if (block.live == 0) {
      engine.fail(at, "protocol", "TMA load to block %d of the cluster, which has ended", block.rank);
    }
    auto operation = std::make_unique<TmaLoad>(at);
    operation->box = box;
    operation->block = &block;
    operation->barrier = &engine.mbarrier(block, barrier_offset, at, true);
    operation->phase = operation->barrier->phase;
    operation->offset = offset;
    if (engine.checking()) {
      const Agent agent = operation->barrier->agent;
      const uint32_t tick = operation->barrier->tick();
      engine.touch_shared(block, offset, box.map.bytes(), by_copies(self, true, agent, tick), at, "TMA load");
      if (first) touch_rows(engine, box, by_copies(self, false, agent, tick), at, "TMA load");
      engine.owe(block, agent, tick, at);
    }
    first = false;
    engine.issue(std::move(operation));
  }
}

}  // namespace

void tma_load(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int rank, const int* at,
              Location location) {
  if (map->im2col || map->rank != rank) {
    Engine::current().fail(location, "protocol", "tiled load of rank %d by a map of rank %d%s", rank,
                           map->rank, map->im2col ? " for im2col" : "");
  }
  Box box = {.map = *map};
  std::copy(at, at + rank, box.at);
  load(box, dst, bar, blocks, location);
}

void tma_load_im2col(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, const int* at,
                     const uint16_t* offsets, Location location) {
  Engine& engine = Engine::current();
  if (!map->im2col) engine.fail(location, "protocol", "im2col load by a tiled map");
  const int spatial = map->rank - 2;
  Box box = {.map = *map};
  std::copy(at, at + map->rank, box.at);
  std::copy(offsets, offsets + spatial, box.offsets);
  for (int i = 0; i < spatial; i++) {
    const int64_t last = map->extent(i + 1) - 1 + map->upper[i];
    if (at[i + 1] < map->lower[i] || at[i + 1] > last) {
      engine.fail(location, "protocol",
                  "im2col starts at %d, outside its bounding box %d..%lld, in dimension %d", at[i + 1],
                  map->lower[i], static_cast<long long>(last), i + 1);
    }
    if ((at[i + 1] - map->lower[i]) % map->steps[i + 1]) {
      engine.fail(location, "protocol", "im2col starts between the steps of its traversal, in dimension %d",
                  i + 1);
    }
    if (offsets[i] >> (16 / spatial))
      engine.fail(location, "protocol", "im2col offset %u is too large", offsets[i]);
  }
  load(box, dst, bar, blocks, location);
}

void tma_store(const TensorMap* map, uint32_t src, int rank, const int* at, Location location) {
  Engine& engine = Engine::current();
  engine.give_way(location);
  Thread& self = Engine::thread();
  if (map->im2col || map->rank != rank) {
    engine.fail(location, "protocol", "tiled store of rank %d by a map of rank %d", rank, map->rank);
  }
  uint32_t offset;
  Block& block = engine.block_at(src, offset, location);
  auto operation = std::make_unique<TmaStore>(location, self);
  operation->box.map = *map;
  std::copy(at, at + rank, operation->box.at);
  operation->offset = offset;
  check_box(engine, operation->box, offset, location);
  add_to_group(engine, self, self.bulk, "bulk stores");
  const uint32_t group = operation->group = self.bulk.committed + 1;
  if (engine.checking()) {
    engine.touch_shared(block, offset, map->bytes(), by_copies(self, false, self.bulk.reader, group),
                        location, "TMA store");
    touch_rows(engine, operation->box, by_copies(self, true, self.bulk.writer, group), location, "TMA store");
  }
  engine.issue(std::move(operation));
}

}  // namespace sim

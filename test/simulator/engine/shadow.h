// Shadow memory: who wrote and read each byte last, and whether it was ever written. Bytes that are always
// accessed together share a cell: a page starts with cells of 16 bytes and is split when a smaller access
// comes, so that bytes of neighbours are told apart and a tile costs few cells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "simulator/engine/clock.h"
#include "simulator/simulator.h"

namespace sim {

struct Cell {
  struct Read {
    uint32_t tick;
    Agent agent;
    uint16_t site;
  };
  static constexpr int kReads =
      3;  // more unordered readers replace one another: may miss a race, never invents one

  uint32_t unit = 0;  // of the launch, to whose agents the rest refers; 0: untouched in this launch
  uint32_t write_tick = 0;
  Agent writer = kNobody;
  uint16_t write_site = 0;
  Read reads[kReads];
  uint8_t read_count = 0;
  Mark state = Mark::undefined;
  bool mbarrier = false;     // part of a live mbarrier
  bool generic = false;      // last written by an ordinary store
  bool written = false;      // in this launch
  bool other_reads = false;  // other units of the launch read it too
};

/// One access, by whom, and what that agent's issuer knows.
struct Touch {
  bool write = false, async = false, noncoherent = false;
  Agent agent = kNobody;
  uint32_t tick = 0;
  uint16_t site = 0;
  const Clock* knows = nullptr;
};

struct Violation {
  enum Kind {
    none,
    outside,
    uninitialised,
    on_mbarrier,
    after_write,
    over_read,
    unfenced,
    stale,
    other_unit_wrote,
    other_unit_read
  };
  Kind kind = none;
  size_t offset = 0;
  Agent agent = kNobody;  // the other party, where it is of this unit
  uint16_t site = 0;
  uint32_t unit = 0;  // the other party's
  explicit operator bool() const { return kind != none; }
};

class ShadowMemory {
 public:
  explicit ShadowMemory(bool global = false) : global_(global) {}

  void reset(size_t bytes);
  size_t bytes() const { return bytes_; }

  /// Checks an access to [offset, offset + count) and records it. `launch` and `unit` count from 1; what an
  /// earlier launch did is ordered before everything.
  Violation touch(size_t offset, size_t count, const Touch& touch, uint32_t launch, uint32_t unit);

  void mark(size_t offset, size_t count, Mark state);
  /// Bytes may have been written unseen: from now on undefined ones may be read.
  void trust_undefined() { undefined_is_error_ = false; }
  void mark_mbarrier(size_t offset, bool live);

 private:
  static constexpr size_t kPage = 256;
  struct Page {
    std::unique_ptr<Cell[]> cells;  // null: nobody touched it in this launch
    uint32_t launch = 0;
    uint8_t width = 16;            // bytes of a cell
    Mark state = Mark::undefined;  // where there are no cells
  };

  Page& page(size_t index, uint32_t launch);
  static void split(Page& page, size_t width);
  static size_t widest(size_t offset, size_t count);
  Violation check(Cell& cell, const Touch& touch, uint32_t unit) const;
  void record(Cell& cell, const Touch& touch);

  bool global_, undefined_is_error_ = true;
  size_t bytes_ = 0;
  uint32_t victim_ = 0;
  std::vector<Page> pages_;
};

}  // namespace sim

// Counts what a warp's accesses cost: bank conflicts in shared memory, sectors of global memory. Lanes come
// one after another here, so the n-th access of each lane at a line of source is taken as one warp-wide
// access.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "simulator/simulator.h"

namespace sim {

class Counters {
 public:
  /// One lane's access. `site` is the line's number, `name` its text.
  void lane(bool global, uint16_t site, int warp, int thread, uint64_t address, uint32_t bytes);

  /// One warp-wide access of n addresses.
  void warp(bool global, uint16_t site, const uint64_t* addresses, int n, uint32_t bytes);

  /// A copy of a contiguous row of global memory.
  void row(uint16_t site, uint64_t address, uint64_t bytes);

  /// Counts accesses that not all lanes took part in. At the end of a block.
  void flush();

  /// Adds everything to a report.
  void report(Report& report, const std::vector<std::string>& sites) const;

  /// Wavefronts of shared memory that serve n addresses: its 32 banks give one word each, and lanes are
  /// served in groups of 32, 16 or 8 for accesses of 4, 8 or 16 bytes.
  static int wavefronts(const uint64_t* addresses, int n, uint32_t bytes);

  /// 32-byte sectors that n accesses touch.
  static int sectors(const uint64_t* addresses, int n, uint32_t bytes);

 private:
  struct Open {
    int count = 0;
    uint32_t bytes = 0;
    uint16_t site = 0;
    bool global = false;
    uint8_t lanes[32];  // ascending
    uint64_t addresses[32];
  };
  std::unordered_map<uint64_t, uint32_t> occurrences_;  // by site and thread
  std::unordered_map<uint64_t, Open> open_;             // by site, warp and occurrence
  std::map<std::pair<bool, uint16_t>, Counter> totals_;
};

}  // namespace sim

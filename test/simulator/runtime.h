// What tests may do to the simulated cards besides using them.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sim {

struct Faults {
  std::atomic<int64_t> allocation{-1};  ///< the how-manieth cudaMalloc from now fails, once; negative: none
  std::atomic<int64_t> launch{
      -1};  ///< the how-manieth kernel from now faults and takes its card with it; negative: none
  std::atomic<int64_t> capture{-1};  ///< the how-manieth captured launch from now is refused; negative: none
  std::atomic<int64_t> launch_microseconds{0};  ///< that every kernel takes at least
  std::atomic<bool> no_driver{false};
  std::atomic<int64_t> launched{0};  ///< kernels so far
};
Faults& faults();

/// What kernels did while they were counted.
struct Counts {
  uint64_t launches = 0;
  uint64_t read = 0, written = 0;                 ///< bytes of global memory, copies included
  uint64_t sectors = 0, least_sectors = 0;        ///< of 32 bytes, and as few as could carry them
  uint64_t wavefronts = 0, least_wavefronts = 0;  ///< of shared memory: more than least are bank conflicts
};
/// Counts from zero on, or no longer; gives what was counted up to now. Call it when the card rests.
Counts count(bool on);

/// Bytes of a card that has not been used yet.
void set_card_memory(size_t bytes);

/// As if their contexts were new: nothing is left of a fault.
void revive_cards();

}  // namespace sim

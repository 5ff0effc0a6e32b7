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

/// Bytes of a card that has not been used yet.
void set_card_memory(size_t bytes);

/// As if their contexts were new: nothing is left of a fault.
void revive_cards();

}  // namespace sim

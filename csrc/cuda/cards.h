// The cards of this machine.
#pragma once

#include <string>

#include "ops/ops.h"

namespace fsv::cuda {

/// What a plan may know of a card.
struct Card {
  std::string name;
  int index = 0;
  int capability = 80;      ///< 90 for compute capability 9.0
  int processors = 1;       ///< SMs
  size_t shared_bytes = 0;  ///< dynamic shared memory that a block may have
  size_t total_bytes = 0;
  /// Kernels with wgmma: they exist on this architecture alone.
  bool hopper() const { return capability == 90; }
  /// About how long an op takes, rather too long than too short.
  double seconds(const Cost& cost) const;
};

/// Throws ERR_FSVIDEO_NO_DEVICE where it is not there, saying why, ERR_FSVIDEO_UNSUPPORTED_DEVICE where it is
/// too old.
Card card_at(int index);

}  // namespace fsv::cuda

// Asynchronous operations: issued by a thread, carried out by the scheduler whenever it likes.
#pragma once

#include <cstdint>

#include "simulator/units.h"

namespace sim {

class Engine;

struct Operation {
  explicit Operation(Location location) : at(location) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;

  /// Does some of the work; true when all is done.
  virtual bool step(Engine& engine) = 0;

  Location at;
  uint8_t reluctance = 0;  // the scheduler's lot
};

}  // namespace sim

// Vector clocks: what an agent knows of the others. An agent is a thread or something asynchronous (the
// copies that report to an mbarrier, the products of a warpgroup, a thread's bulk copies); its clock counts
// releases, phases or groups. An event (agent, clock) is ordered before everything of whoever has seen that
// clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace sim {

using Agent = uint16_t;
inline constexpr Agent kNobody = 0xffff;

class Ticks {
 public:
  uint32_t operator[](Agent agent) const { return agent < ticks_.size() ? ticks_[agent] : 0; }
  void raise(Agent agent, uint32_t tick) {
    if (agent >= ticks_.size()) ticks_.resize(agent + 1);
    ticks_[agent] = std::max(ticks_[agent], tick);
  }
  void join(const Ticks& other) {
    if (ticks_.size() < other.ticks_.size()) ticks_.resize(other.ticks_.size());
    uint32_t* mine = ticks_.data();
    const uint32_t* theirs = other.ticks_.data();
    for (size_t i = 0, n = other.ticks_.size(); i < n; i++) mine[i] = std::max(mine[i], theirs[i]);
  }
  /// What both have seen.
  void meet(const Ticks& other) {
    ticks_.resize(std::min(ticks_.size(), other.ticks_.size()));
    for (size_t i = 0; i < ticks_.size(); i++) ticks_[i] = std::min(ticks_[i], other.ticks_[i]);
  }
  void clear() { ticks_.clear(); }

 private:
  std::vector<uint32_t> ticks_;
};

struct Clock {
  Ticks seen;
  // Writes that their own thread has fenced towards the asynchronous proxy: an agent's before this tick.
  Ticks fenced_shared, fenced_global;

  void join(const Clock& other) {
    seen.join(other.seen);
    fenced_shared.join(other.fenced_shared);
    fenced_global.join(other.fenced_global);
  }
  void meet(const Clock& other) {
    seen.meet(other.seen);
    fenced_shared.meet(other.fenced_shared);
    fenced_global.meet(other.fenced_global);
  }
  void clear() {
    seen.clear();
    fenced_shared.clear();
    fenced_global.clear();
  }
};

}  // namespace sim
